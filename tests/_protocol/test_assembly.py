"""A message that is put together, of frames that arrive in any pieces."""

import zlib
from math import inf

import pytest

from trio_ws._config import Deflate
from trio_ws._protocol.assembly import Assembly, check_frame
from trio_ws._protocol.deflate import STEP, TAIL, Deflater, Inflater
from trio_ws._protocol.extensions import Agreement
from trio_ws._protocol.frames import BINARY, TEXT, FrameError
from trio_ws._protocol.masking import mask

KEY = b"\x11\x22\x33\x44"

AGREEMENT = Agreement(15, True, 15, True, "", Deflate())


def assembly(
    opcode: int = BINARY,
    *,
    max_message: float = inf,
    max_fragments: float = inf,
    inflater: Inflater | None = None,
) -> Assembly:
    return Assembly(opcode, max_message=max_message, max_fragments=max_fragments, inflater=inflater)


def add(message: Assembly, payload: bytes, *, fin: bool, step: int = 1) -> None:
    """Add a frame, step by step, as it would arrive with a mask."""
    message.begin_frame(len(payload), KEY, fin=fin)
    arrived = b""
    masked = mask(payload, KEY)
    for start in range(0, len(masked), step):
        arrived += masked[start : start + step]
        position = message.take(arrived, 0)
        arrived = arrived[position:]
    message.take(arrived, 0)


def deflated(payload: bytes) -> bytes:
    data = Deflater(AGREEMENT).compress(payload)
    assert data is not None
    return data


@pytest.mark.parametrize("inflate", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_message_in_frames_is_joined(inflate: bool, step: int) -> None:
    text = "Olá, cliente! " * 20
    payload = deflated(text.encode()) if inflate else text.encode()
    message = assembly(TEXT, inflater=Inflater(AGREEMENT) if inflate else None)

    add(message, payload[:5], fin=False, step=step)
    assert (message.in_frame, message.whole) == (False, False)
    add(message, b"", fin=False, step=step)
    add(message, payload[5:], fin=True, step=step)

    assert message.whole
    assert message.message() == text


def test_frame_without_mask_is_taken_as_it_is() -> None:
    message = assembly()
    message.begin_frame(3, b"", fin=True)

    assert message.take(b"xxabcyy", 2) == 5
    assert message.message() == b"abc"


def test_missing_says_how_much_of_a_frame_is_to_come() -> None:
    message = assembly()
    message.begin_frame(5, b"", fin=True)
    message.take(b"ab", 0)

    assert message.missing == 3
    assert message.in_frame


def test_size_is_checked_before_any_of_the_frame_is_here() -> None:
    message = assembly(max_message=10)
    add(message, b"1234567890", fin=False)

    with pytest.raises(FrameError, match="larger than 10 bytes") as caught:
        message.begin_frame(1, KEY, fin=True)

    assert caught.value.code == 1009


def test_fragments_are_counted_empty_ones_too() -> None:
    message = assembly(max_fragments=2)
    add(message, b"", fin=False)
    add(message, b"", fin=False)

    with pytest.raises(FrameError, match="more than 2 fragments") as caught:
        message.begin_frame(0, KEY, fin=True)

    assert caught.value.code == 1009


@pytest.mark.parametrize("size", [999, 1000])
def test_compressed_message_up_to_the_limit_is_inflated(size: int) -> None:
    message = assembly(max_message=1000, inflater=Inflater(AGREEMENT))
    add(message, deflated(bytes(size)), fin=True, step=100)

    assert message.message() == bytes(size)


def test_compressed_message_beyond_the_limit_is_a_fault() -> None:
    message = assembly(max_message=1000, inflater=Inflater(AGREEMENT))

    with pytest.raises(FrameError, match="larger than 1000 bytes") as caught:
        add(message, deflated(bytes(1001)), fin=True, step=100)

    assert caught.value.code == 1009


def test_bomb_is_a_fault_before_all_of_it_has_arrived() -> None:
    message = assembly(max_message=1000, inflater=Inflater(AGREEMENT))
    payload = deflated(bytes(100_000))
    message.begin_frame(len(payload), b"", fin=True)

    with pytest.raises(FrameError, match="larger than 1000 bytes"):
        message.take(payload[:100], 0)


def test_compressed_message_that_is_not_smaller_is_inflated() -> None:
    # A level of 0 adds to what it compresses; so does a peer that flushes after each byte.
    compressor = zlib.compressobj(0, wbits=-15)
    payload = compressor.compress(bytes(100_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    message = assembly(max_message=100_000, inflater=Inflater(AGREEMENT))
    message.begin_frame(len(payload) - len(TAIL), b"", fin=True)

    position = message.take(payload, 0)
    while message.in_frame:
        assert message._inflater is not None  # noqa: SLF001 - what the engine holds
        message._inflater.budget = STEP  # noqa: SLF001
        position = message.take(payload, position)

    assert message.message() == bytes(100_000)


def test_compressed_bytes_are_bounded_too() -> None:
    message = assembly(max_message=1000, inflater=Inflater(AGREEMENT))
    add(message, b"\x00\x00\x00\xff\xff" * 300, fin=False, step=2000)
    add(message, b"\x00\x00\x00\xff\xff" * 300, fin=False, step=2000)

    with pytest.raises(FrameError, match="compressed message is larger than 3024 bytes") as caught:
        message.begin_frame(25, KEY, fin=True)

    assert caught.value.code == 1009


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
def test_message_of_the_largest_size_may_be_flushed_every_few_bytes(flush: int) -> None:
    compressor = zlib.compressobj(wbits=-15)
    pieces = [
        compressor.compress(bytes([n % 251] * 7)) + compressor.flush(flush) for n in range(150)
    ]
    payload = b"".join(pieces)[: -len(TAIL)]
    message = assembly(max_message=1050, inflater=Inflater(AGREEMENT))

    add(message, payload, fin=True, step=100)

    assert len(payload) > 1050
    assert len(message.message()) == 1050


def test_inflating_stops_when_the_budget_is_spent() -> None:
    inflater = Inflater(AGREEMENT)
    message = assembly(inflater=inflater)
    payload = deflated(bytes(STEP * 3))
    message.begin_frame(len(payload), b"", fin=True)

    position = message.take(payload, 0)
    turns = 0
    while message.in_frame:
        inflater.budget = STEP
        position = message.take(payload, position)
        turns += 1

    assert turns >= 3
    assert message.message() == bytes(STEP * 3)


def test_frame_that_was_inflated_already_goes_on_from_there() -> None:
    inflater = Inflater(AGREEMENT)
    inflater.feed(deflated(b"abc" * 1000) + TAIL)
    message = assembly(TEXT, inflater=inflater)

    message.begin_inflated(inflater.read(10))
    message.take(b"", 0)

    assert message.message() == "abc" * 1000


def test_frame_that_was_inflated_already_may_be_too_large() -> None:
    with pytest.raises(FrameError, match="larger than 9 bytes"):
        assembly(max_message=9, inflater=Inflater(AGREEMENT)).begin_inflated(bytes(10))


@pytest.mark.parametrize("inflate", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize(
    "bad", [b"ol\xff", b"ol\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"], ids=repr
)
def test_invalid_text_is_a_fault(inflate: bool, bad: bytes) -> None:
    message = assembly(TEXT, inflater=Inflater(AGREEMENT) if inflate else None)

    with pytest.raises(FrameError, match="not valid UTF-8") as caught:
        add(message, deflated(bad) if inflate else bad, fin=True)

    assert caught.value.code == 1007


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0", b"\xf4\x90"], ids=repr)
def test_invalid_text_is_a_fault_before_its_frame_has_ended(bad: bytes) -> None:
    message = assembly(TEXT)
    message.begin_frame(100, b"", fin=False)

    with pytest.raises(FrameError, match="not valid UTF-8"):
        message.take(b"ol" + bad, 0)


def test_text_may_be_cut_inside_of_a_character() -> None:
    message = assembly(TEXT)
    for byte in "€".encode():
        add(message, bytes([byte]), fin=False)
    add(message, b"", fin=True)

    assert message.message() == "€"


def test_frame_of_the_limits_passes_the_check() -> None:
    check_frame(10, 3, 10, 3)
    check_frame(2 * 10 + 1024, 3, 10, 3, compressed=True)
    with pytest.raises(FrameError):
        check_frame(11, 3, 10, 3)
    with pytest.raises(FrameError):
        check_frame(10, 4, 10, 3)
    with pytest.raises(FrameError):
        check_frame(2 * 10 + 1025, 3, 10, 3, compressed=True)
