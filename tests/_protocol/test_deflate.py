"""Compressing and inflating, with bytes alone."""

import hashlib
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode

from trio_ws._config import Deflate
from trio_ws._protocol.deflate import PIECE, STEP, TAIL, Deflater, Inflater
from trio_ws._protocol.extensions import Agreement
from trio_ws._protocol.frames import FrameError

SENTENCE = b"O rato roeu a roupa do rei de Roma. "


def noise(size: int) -> bytes:
    """Make bytes that cannot be compressed, the same each time."""
    return hashlib.shake_128(b"trio_ws").digest(size)


def agreement(
    bits: int = 15,
    *,
    takeover: bool = True,
    settings: Deflate = Deflate(),  # noqa: B008 - immutable
) -> Agreement:
    return Agreement(bits, takeover, bits, takeover, "", settings)


def compressed(*messages: bytes, bits: int = 15, takeover: bool = True) -> list[bytes]:
    deflater = Deflater(agreement(bits, takeover=takeover))
    return [deflater.compress(message) or b"" for message in messages]


def inflate(inflater: Inflater, data: bytes, limit: int = 2**30) -> bytes:
    """Inflate a whole message, as the engine does."""
    output = b""
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    for piece in [*pieces, TAIL]:
        inflater.feed(piece)
        while inflater.waiting:
            output += inflater.read(limit)
    inflater.end_message()
    return output


def raw_deflate(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Compress by hand, without a deflater, and leave the tail if there is one."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(flush)


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_messages_come_out_as_they_went_in(bits: int, takeover: bool) -> None:
    messages = [
        SENTENCE * 5,
        b"",
        SENTENCE * 2000,
        noise(100_000),
        b"a",
        SENTENCE * 5,
        bytes(300_000),
    ]
    inflater = Inflater(agreement(bits, takeover=takeover))
    deflater = Deflater(agreement(bits, takeover=takeover))

    for message in messages:
        data = deflater.compress(message)
        if data is not None:
            assert inflate(inflater, data) == message


def test_later_message_refers_to_an_earlier_one_with_context_takeover() -> None:
    first, second = compressed(SENTENCE, SENTENCE)

    assert len(second) < len(first) / 2
    with pytest.raises(FrameError):
        inflate(Inflater(agreement()), second)


def test_messages_stand_alone_without_context_takeover() -> None:
    long = SENTENCE * 10
    first, second = compressed(long, long, takeover=False)

    assert first == second
    assert inflate(Inflater(agreement()), second) == long


def test_compressor_refers_no_further_back_than_its_window() -> None:
    # What does not repeat fills a window of 9 bits, and not one of 15.
    far = SENTENCE + noise(700) + SENTENCE
    (narrow,), (wide,) = compressed(far, bits=9), compressed(far, bits=15)

    assert len(wide) < len(narrow)
    assert inflate(Inflater(agreement(9)), narrow) == far


def test_what_does_not_become_smaller_is_not_compressed_without_context_takeover() -> None:

    assert Deflater(agreement(takeover=False)).compress(noise(500)) is None


def test_what_does_not_become_smaller_is_compressed_for_the_sake_of_the_context() -> None:
    first, second = compressed(noise(500), noise(500))

    assert len(first) > 500
    assert len(second) < 20


def test_empty_message_is_one_byte() -> None:
    # RFC 7692 §7.2.3.6.
    first, second, _, last = compressed(b"", b"", SENTENCE, b"")

    assert {first, second, last} == {b"\x00"}
    assert inflate(Inflater(agreement()), b"\x00") == b""


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_any_kind_are_compressed(kind: type[bytearray] | type[memoryview]) -> None:
    data = Deflater(agreement()).compress(kind(SENTENCE))

    assert data is not None
    assert inflate(Inflater(agreement()), data) == SENTENCE


def test_deflater_that_begins_afresh_refers_to_nothing_before() -> None:
    deflater = Deflater(agreement())
    deflater.compress(SENTENCE)

    deflater.begin_afresh()

    data = deflater.compress(SENTENCE)
    assert data is not None
    assert inflate(Inflater(agreement()), data) == SENTENCE


def test_what_follows_a_fresh_beginning_is_understood_with_any_context() -> None:
    deflater, inflater = Deflater(agreement()), Inflater(agreement())
    for number in range(10):
        message = SENTENCE * 3 + bytes([number])
        data = deflater.compress(message)
        assert data is not None
        if number in {3, 7}:
            # Lost, before it was sent.
            deflater.begin_afresh()
            continue
        assert inflate(inflater, data) == message


@pytest.mark.parametrize(
    ("size", "wanted"), [(127, False), (128, True), (1024 * 1024, True), (1024 * 1024 + 1, False)]
)
def test_size_decides_what_is_compressed(size: int, wanted: bool) -> None:
    deflater = Deflater(agreement())

    assert deflater.wants(size, None) is wanted
    assert deflater.wants(size, True) is True
    assert deflater.wants(size, False) is False


def test_limits_of_size_are_those_of_the_settings() -> None:
    deflater = Deflater(agreement(settings=Deflate(min_size=1, max_size=10)))

    assert [deflater.wants(size, None) for size in (0, 1, 10, 11)] == [False, True, True, False]


def test_window_of_8_bits_compresses_nothing() -> None:
    narrow = replace(agreement(), send_window_bits=8)

    assert not Deflater(narrow).wants(1000, True)


def test_shared_says_what_makes_two_deflaters_the_same() -> None:
    alone = agreement(takeover=False)

    assert Deflater(alone).shared == Deflater(alone).shared is not None
    assert Deflater(agreement(takeover=True)).shared is None
    others = [
        Deflater(agreement(14, takeover=False)),
        Deflater(agreement(takeover=False, settings=Deflate(level=9))),
        Deflater(agreement(takeover=False, settings=Deflate(memory_level=9))),
    ]
    assert Deflater(alone).shared not in [each.shared for each in others]


def test_settings_of_a_compressor_are_used() -> None:
    words = (b"ana", b"bruno", b"carla", b"diogo")
    text = b" ".join(words[byte % 4] for byte in noise(5000))
    fast = Deflater(agreement(settings=Deflate(level=1))).compress(text)
    small = Deflater(agreement(settings=Deflate(level=9, memory_level=9))).compress(text)

    assert fast is not None
    assert small is not None
    assert len(small) < len(fast)


def test_inflater_gives_no_more_than_it_is_asked_for() -> None:
    (bomb,) = compressed(bytes(100_000))
    inflater = Inflater(agreement())
    inflater.feed(bomb)

    sizes: list[int] = []
    while inflater.waiting:
        sizes.append(len(inflater.read(1000)))

    assert max(sizes) == 1000
    assert sum(sizes) == 100_000


def hidden_output(data: bytes) -> bytes:
    """Return what zlib holds back when it has taken all of its input."""
    decompressor = zlib.decompressobj(-15)
    decompressor.decompress(data, 1)
    return b"" if decompressor.unconsumed_tail else decompressor.decompress(b"", 1000)


def test_inflater_waits_while_zlib_holds_output_back_without_input() -> None:
    # A piece of which all is taken at once, while most of what it stands for is not out yet.
    (data,) = compressed(b"abc" * 500)
    pieces = [data[:end] for end in range(1, len(data))]
    piece = next(each for each in pieces if hidden_output(each))
    inflater = Inflater(agreement())

    inflater.feed(piece)
    output = inflater.read(1)
    while inflater.waiting:
        output += inflater.read(1)

    assert output == zlib.decompressobj(-15).decompress(piece)


def test_budget_is_spent_by_what_comes_out() -> None:
    (bomb,) = compressed(bytes(STEP * 4))
    inflater = Inflater(agreement())
    inflater.feed(bomb)

    inflater.read(STEP)

    assert inflater.budget <= 0
    assert inflater.waiting


def test_budget_is_spent_by_what_goes_in_even_if_nothing_comes_out() -> None:
    inflater = Inflater(agreement())
    spent = 0
    for _ in range(10):
        before = inflater.budget
        inflater.feed(b"\x00\x00\x00\xff\xff" * (PIECE // 5))
        while inflater.waiting:
            assert inflater.read(100) == b""
        spent += before - inflater.budget

    assert spent >= 10 * PIECE


@pytest.mark.parametrize(
    "junk", [b"\xff\xff", b"\x07", b"\x00\x01\x00\x00\x00", b"\x02\x00\x00\x01", b"\x05\xff\xff"]
)
def test_what_cannot_be_inflated_is_a_fault_with_1007(junk: bytes) -> None:
    with pytest.raises(FrameError, match="cannot be inflated") as caught:
        inflate(Inflater(agreement()), junk)

    assert caught.value.code == 1007


def test_reference_before_the_first_message_is_a_fault() -> None:
    _, second = compressed(SENTENCE * 2, SENTENCE * 2)

    with pytest.raises(FrameError):
        inflate(Inflater(agreement()), second)


def test_message_ended_by_a_final_block_is_inflated() -> None:
    # RFC 7692 §7.2.3.4: a final block, and the first byte of an empty one behind it.
    data = raw_deflate(SENTENCE, zlib.Z_FINISH) + b"\x00"
    inflater = Inflater(agreement())

    assert inflate(inflater, data) == SENTENCE
    assert inflate(inflater, data) == SENTENCE


def test_message_goes_on_behind_a_final_block() -> None:
    data = raw_deflate(b"one ", zlib.Z_FINISH) + raw_deflate(b"two")[: -len(TAIL)]
    inflater = Inflater(agreement())

    assert inflate(inflater, data) == b"one two"


def test_final_block_without_anything_behind_it_does_not_garble_the_next_message() -> None:
    inflater = Inflater(agreement())

    assert inflate(inflater, raw_deflate(b"one", zlib.Z_FINISH)) == b"one"
    assert inflate(inflater, compressed(SENTENCE)[0]) == SENTENCE


def test_flood_of_final_blocks_spends_the_budget() -> None:
    inflater = Inflater(agreement())
    inflater.feed(b"\x03\x00" * (PIECE // 2))
    reads = 0

    while inflater.waiting and inflater.budget > 0:
        inflater.read(1000)
        reads += 1

    assert reads < 100
    assert inflater.waiting


def test_bomb_of_a_gigabyte_holds_no_more_than_asked_for() -> None:
    compressor = zlib.compressobj(9, wbits=-15)
    data = b"".join(compressor.compress(bytes(2**20)) for _ in range(1024))
    assert len(data) > 2**19
    inflater = Inflater(agreement())

    tracemalloc.start()
    inflater.feed(data[:PIECE])
    for _ in range(16):
        inflater.read(64 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert inflater.waiting
    assert peak < 256 * 1024


def held(takeover: bool, count: int, settings: Deflate = Deflate()) -> tuple[int, int]:  # noqa: B008 - immutable
    """Return the bytes that a deflater and an inflater hold after so many messages."""
    both = Agreement(
        settings.send_window_bits, takeover, settings.receive_window_bits, takeover, "", settings
    )
    data = Deflater(both).compress(SENTENCE * 3)
    assert data is not None
    tracemalloc.start()
    deflater = Deflater(both)
    for _ in range(count):
        deflater.compress(SENTENCE * 3)
    sending, _ = tracemalloc.get_traced_memory()
    inflater = Inflater(both)
    for _ in range(min(count, 1)):
        inflate(inflater, data)
    receiving, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sending, receiving - sending


# What is nothing: some caches elsewhere may grow meanwhile, and a compressor has 11 KiB at least.
NOTHING = 4096


def test_side_that_only_waits_holds_no_compressor() -> None:
    assert max(held(takeover=True, count=0)) < NOTHING


def test_side_without_context_takeover_holds_nothing_between_messages() -> None:
    assert max(held(takeover=False, count=3)) < NOTHING


def test_side_with_context_takeover_holds_what_the_settings_say() -> None:
    sending, receiving = held(takeover=True, count=3)

    assert 36_000 < sending < 42_000
    assert 9_000 < receiving < 13_000


MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda word, count: word * count, st.binary(max_size=9), st.integers(0, 3000)),
    ),
    max_size=6,
)


def theirs(takeover: bool, bits: int) -> PerMessageDeflate:
    return PerMessageDeflate(not takeover, not takeover, bits, bits, {})


@given(MESSAGES, st.booleans(), st.integers(9, 15))
def test_websockets_inflates_what_we_compress(
    messages: list[bytes], takeover: bool, bits: int
) -> None:
    deflater = Deflater(agreement(bits, takeover=takeover))
    peer = theirs(takeover, bits)

    for message in messages:
        data = deflater.compress(message)
        if data is not None:
            frame = TheirFrame(Opcode.BINARY, data, rsv1=True)
            assert bytes(peer.decode(frame).data) == message


@given(MESSAGES, st.booleans(), st.integers(9, 15), st.integers(1, 500))
def test_we_inflate_what_websockets_compresses(
    messages: list[bytes], takeover: bool, bits: int, step: int
) -> None:
    inflater = Inflater(agreement(bits, takeover=takeover))
    peer = theirs(takeover, bits)

    for message in messages:
        data = bytes(peer.encode(TheirFrame(Opcode.BINARY, message)).data)
        assert inflate(inflater, data, step) == message


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 2000))
def test_whatever_a_peer_sends_is_inflated_or_a_fault(pieces: list[bytes], limit: int) -> None:
    inflater = Inflater(agreement())
    for piece in pieces:
        inflater.feed(piece)
        while inflater.waiting:
            try:
                output = inflater.read(limit)
            except FrameError as fault:
                assert fault.code == 1007  # noqa: PT017 - only some raise
                return
            assert len(output) <= limit
