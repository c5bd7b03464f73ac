"""The engine with compressed messages."""

import hashlib
import zlib
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import (
    CloseConnection,
    Event,
    Message,
    Ping,
    TextMessage,
)

from tests.fakes import raw_frame
from trio_ws._config import Deflate
from trio_ws._protocol.deflate import PIECE, STEP, TAIL
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.extensions import Agreement, answer_offers, make_offer, read_answer
from trio_ws._protocol.messages import Frame, forget_message, recall_deflated

CONT, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9

RSV1, RSV2, RSV3 = 4, 2, 1

TALK = "O rato roeu a roupa do rei de Roma. " * 8


def pair(
    settings: Deflate = Deflate(),  # noqa: B008 - immutable
    *,
    max_message: float = inf,
    max_fragments: float = inf,
) -> tuple[Engine, Engine]:
    """Return a client and a server that have agreed."""
    ours = answer_offers([make_offer(settings)], settings)
    assert ours is not None
    theirs = read_answer([ours.text], settings)
    return (
        Engine(client=True, agreement=theirs, max_message=max_message),
        Engine(client=False, agreement=ours, max_message=max_message, max_fragments=max_fragments),
    )


def server(max_message: float = inf, max_fragments: float = inf) -> Engine:
    return pair(max_message=max_message, max_fragments=max_fragments)[1]


def wire(frame: Frame) -> bytes:
    return frame if isinstance(frame, bytes) else b"".join(frame)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Make a frame as a client sends it."""
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved)


def deflated(payload: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def take_all(engine: Engine) -> list[Event]:
    """Take all events, going on whenever it stalls."""
    events = list(engine.events())
    while engine.stalled:
        engine.go_on()
        events += engine.events()
    return events


def feed(engine: Engine, data: bytes, step: int = 2**30) -> list[Event]:
    events: list[Event] = []
    for start in range(0, len(data), step):
        engine.receive_data(data[start : start + step])
        events += take_all(engine)
    return events


def code_of(events: list[Event]) -> int | None:
    closes = [int(each.code) for each in events if isinstance(each, CloseConnection)]
    return closes[0] if closes else None


def content(events: list[Event]) -> list[str | bytes]:
    return [each.data for each in events if isinstance(each, Message)]


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_compressed_messages_travel_both_ways(step: int) -> None:
    client, host = pair()
    messages: list[str | bytes] = [TALK, TALK.encode(), TALK, "short", TALK + "é"]

    for sender, receiver in ((client, host), (host, client)):
        data = b"".join(wire(sender.send_message(each)) for each in messages)
        assert content(feed(receiver, data, step)) == messages
        assert len(data) < len(TALK) * 1.5


def test_first_byte_says_that_a_message_is_compressed() -> None:
    _, host = pair()

    assert wire(host.send_message(TALK))[0] == 0xC1
    assert wire(host.send_message(TALK.encode()))[0] == 0xC2
    assert wire(host.send_message("short"))[0] == 0x81


def test_fragments_are_sent_as_they_are() -> None:
    _, host = pair()

    data = host.send(TextMessage(data=TALK, message_finished=False))

    assert data[0] == 0x01


@pytest.mark.parametrize(
    ("size", "compress", "first"),
    [
        (127, None, 0x82),
        (128, None, 0xC2),
        (127, True, 0xC2),
        (1000, False, 0x82),
        (1024 * 1024, None, 0xC2),
        (1024 * 1024 + 1, None, 0x82),
        (1024 * 1024 + 1, True, 0xC2),
    ],
)
def test_size_decides_and_the_application_overrides(
    size: int, compress: bool | None, first: int
) -> None:
    _, host = pair()

    assert wire(host.send_message(bytes(size), compress))[0] == first


def test_size_of_a_memoryview_is_that_of_its_bytes() -> None:
    _, host = pair()

    assert wire(host.send_message(memoryview(bytes(200)).cast("I")))[0] == 0xC2


def test_text_is_measured_in_utf8() -> None:
    _, host = pair()

    assert wire(host.send_message("é" * 64))[0] == 0xC1
    assert wire(host.send_message("e" * 64))[0] == 0x81


def test_what_is_no_message_is_refused_without_harm() -> None:
    client, host = pair()
    nonsense: Any = 17

    with pytest.raises(TypeError, match="a message is str or bytes-like, not int"):
        host.send_message(nonsense)

    assert content(feed(client, wire(host.send_message(TALK)))) == [TALK]


def test_frame_that_cannot_be_made_makes_the_compressor_begin_afresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, host = pair()
    feed(client, wire(host.send_message(TALK)))

    def fail(*_: object, **__: object) -> Frame:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("trio_ws._protocol.deflate.deflated_frame", fail)
        with pytest.raises(MemoryError):
            host.send_message("something else " * 30)

    again = "something else " * 30
    assert content(feed(client, wire(host.send_message(again)))) == [again]


def test_large_compressed_frame_is_not_copied_behind_its_header() -> None:
    _, host = pair()
    noise = hashlib.shake_128().digest(100_000)

    made = host.send_message(noise)

    assert isinstance(made, tuple)
    assert len(made[1]) > 90_000


def alone(agreement: Agreement | None) -> Engine:
    return Engine(client=False, agreement=agreement)


def test_message_for_many_is_compressed_once_without_context_takeover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agreement = answer_offers(
        ["permessage-deflate"], Deflate(send_context_takeover=False, send_window_bits=15)
    )
    calls: list[bytes] = []

    def counting(*args: object) -> "zlib._Compress":
        calls.append(b"")
        return real(*args)  # type: ignore[arg-type]

    real = zlib.compressobj
    monkeypatch.setattr("trio_ws._protocol.deflate.zlib.compressobj", counting)

    made = {id(alone(agreement).send_message(TALK)) for _ in range(5)}
    assert len(made) == len(calls) == 1
    forget_message()
    alone(agreement).send_message(TALK)
    assert len(calls) == 2


def test_message_that_does_not_become_smaller_is_found_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agreement = answer_offers(["permessage-deflate; server_no_context_takeover"], Deflate())
    noise = hashlib.shake_128().digest(1000)
    calls: list[bytes] = []

    def counting(*args: object) -> "zlib._Compress":
        calls.append(b"")
        return real(*args)  # type: ignore[arg-type]

    real = zlib.compressobj
    monkeypatch.setattr("trio_ws._protocol.deflate.zlib.compressobj", counting)

    made = [wire(alone(agreement).send_message(noise)) for _ in range(5)]

    assert set(made) == {b"\x82\x7e\x03\xe8" + noise}
    assert len(calls) == 1


def test_connections_that_take_turns_share_the_frames_of_their_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [f"permessage-deflate; server_max_window_bits={bits}" for bits in (9, 10, 11)]
    settings = Deflate(send_context_takeover=False)
    kinds = [answer_offers([offer], settings) for offer in offers]
    bits: list[object] = []

    def counting(*args: object) -> "zlib._Compress":
        bits.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    real = zlib.compressobj
    monkeypatch.setattr("trio_ws._protocol.deflate.zlib.compressobj", counting)

    for kind in kinds * 3:
        alone(kind).send_message(TALK)

    assert bits == [-9, -10, -11]


def test_frame_is_shared_only_by_what_is_compressed_the_same_way() -> None:
    offers = ["permessage-deflate; server_no_context_takeover; server_max_window_bits=10"]
    narrow = answer_offers(offers, Deflate())
    wide = answer_offers(["permessage-deflate; server_no_context_takeover"], Deflate())
    keeping = answer_offers(["permessage-deflate"], Deflate())
    repeat = hashlib.shake_128().digest(2000) * 2

    sizes = [len(wire(alone(each).send_message(repeat))) for each in (narrow, wide, keeping, None)]

    found_it = [size < len(repeat) * 0.6 for size in sizes]
    assert found_it == [False, True, True, False]


def test_equal_message_that_is_another_object_is_not_taken_for_the_same() -> None:
    agreement = answer_offers(["permessage-deflate; server_no_context_takeover"], Deflate())
    changing = bytearray(TALK.encode())
    first = alone(agreement).send_message(changing)
    changing[0] ^= 1

    assert alone(agreement).send_message(changing) != first


def test_forgotten_message_is_let_go_of() -> None:
    agreement = answer_offers(["permessage-deflate; server_no_context_takeover"], Deflate())
    made = alone(agreement).send_message(TALK)

    forget_message()

    assert recall_deflated(TALK, (12, 1, 5)) is None
    assert alone(agreement).send_message(TALK) == made


def test_client_frames_have_a_mask_of_their_own_each() -> None:
    settings = Deflate(send_context_takeover=False)
    client, host = pair(settings)

    first, second = client.send_message(TALK), client.send_message(TALK)

    assert first != second
    assert content(feed(host, wire(first) + wire(second))) == [TALK, TALK]


def test_compressed_message_may_come_in_fragments_with_a_ping_between() -> None:
    data = deflated(TALK.encode())
    engine = server()

    events = feed(
        engine,
        frame(TEXT, data[:5], fin=False, reserved=RSV1)
        + frame(PING, b"1")
        + frame(CONT, b"", fin=False)
        + frame(CONT, data[5:]),
    )

    assert events == [Ping(payload=b"1"), TextMessage(data=TALK)]


def test_fragments_may_end_in_any_place() -> None:
    data = deflated(TALK.encode())
    for cut in range(len(data) + 1):
        engine = server()
        events = feed(
            engine,
            frame(BINARY, data[:cut], fin=False, reserved=RSV1) + frame(CONT, data[cut:]),
        )
        assert content(events) == [TALK.encode()]


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, b"", reserved=RSV1),
        frame(CLOSE, b"", reserved=RSV1),
        frame(TEXT, b"", reserved=RSV2),
        frame(TEXT, b"", reserved=RSV3),
        frame(BINARY, b"", reserved=RSV1 | RSV2),
        frame(BINARY, b"", reserved=7),
        frame(3, b"", reserved=RSV1),
    ],
)
def test_reserved_bit_in_the_wrong_place_is_a_fault(data: bytes) -> None:
    assert code_of(feed(server(), data)) == 1002


def test_bit_in_a_continuation_is_a_fault() -> None:
    data = frame(TEXT, b"", fin=False, reserved=RSV1) + frame(CONT, b"", reserved=RSV1)

    assert code_of(feed(server(), data)) == 1002


def test_compressed_message_without_agreement_is_a_fault() -> None:
    engine = Engine(client=False)

    assert code_of(feed(engine, frame(TEXT, deflated(b"a"), reserved=RSV1))) == 1002


@pytest.mark.parametrize("step", [1, 7, 2**30])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_compressed_junk_is_a_fault_with_1007(opcode: int, step: int) -> None:
    data = frame(opcode, b"\xff\xff\xff", reserved=RSV1)

    assert code_of(feed(server(), data, step)) == 1007


@pytest.mark.parametrize("step", [1, 2**30])
def test_compressed_text_that_is_no_utf8_is_a_fault_with_1007(step: int) -> None:
    data = frame(TEXT, deflated(b"ol\xff" * 100), reserved=RSV1)

    assert code_of(feed(server(), data, step)) == 1007


@pytest.mark.parametrize("step", [1, 100, 2**30])
@pytest.mark.parametrize("size", [999, 1000, 1001, 100_000])
def test_size_that_counts_is_the_inflated_one(size: int, step: int) -> None:
    events = feed(
        server(max_message=1000), frame(BINARY, deflated(bytes(size)), reserved=RSV1), step
    )

    assert code_of(events) == (1009 if size > 1000 else None)
    assert content(events) == ([] if size > 1000 else [bytes(size)])


def test_size_that_counts_is_that_of_all_fragments() -> None:
    data = deflated(bytes(1001))
    fragments = frame(BINARY, data[:4], fin=False, reserved=RSV1) + frame(CONT, data[4:])

    assert code_of(feed(server(max_message=1000), fragments)) == 1009


def test_declared_length_that_no_message_of_the_limit_can_have_is_a_fault_at_once() -> None:
    data = frame(BINARY, bytes(60_000), reserved=RSV1)

    assert code_of(feed(server(max_message=1000), data[:20])) == 1009


def test_fragments_of_a_compressed_message_are_counted() -> None:
    engine = server(max_fragments=3)
    first = frame(BINARY, b"", fin=False, reserved=RSV1)

    assert code_of(feed(engine, first + frame(CONT, b"", fin=False) * 2)) is None
    assert code_of(feed(engine, frame(CONT, b"", fin=False))) == 1009


def test_message_that_costs_much_stalls_the_engine_and_goes_on() -> None:
    engine = server()
    engine.receive_data(frame(BINARY, deflated(bytes(STEP * 5)), reserved=RSV1))

    turns = 0
    events = list(engine.events())
    while not events:
        assert engine.stalled
        assert list(engine.events()) == []
        engine.go_on()
        events += engine.events()
        turns += 1

    assert turns >= 4
    assert content(events) == [bytes(STEP * 5)]
    assert not engine.stalled


def test_many_messages_that_cost_little_stall_the_engine_together() -> None:
    engine = server()
    data = frame(BINARY, deflated(bytes(STEP // 2)), reserved=RSV1)
    engine.receive_data(data * 8)

    first = list(engine.events())

    assert engine.stalled
    assert 0 < len(first) < 5
    assert len(take_all(engine)) == 8 - len(first)


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, b"\x00", reserved=RSV1) * 2000,
        frame(BINARY, b"", fin=False, reserved=RSV1)
        + b"".join(
            frame(CONT, bytes([each]), fin=False)
            for each in deflated(hashlib.shake_128().digest(2000))
        ),
        frame(BINARY, b"\x00", fin=False, reserved=RSV1) + frame(CONT, b"", fin=False) * 2000,
    ],
)
def test_many_frames_stall_the_engine_however_short_they_are(data: bytes) -> None:
    engine = server()
    engine.receive_data(data)

    events = list(engine.events())

    assert engine.stalled
    assert len(events) < 200
    assert engine.buffered > len(data) / 2


def test_many_small_messages_stall_the_engine_together() -> None:
    engine = server()
    data = frame(BINARY, deflated(bytes(10_000)), reserved=RSV1)
    engine.receive_data(data * 30)

    first = list(engine.events())

    assert engine.stalled
    assert STEP / 10_000 - 1 < len(first) < STEP / 10_000 + 1
    assert len(take_all(engine)) == 30 - len(first)


def test_each_read_may_cost_as_much_as_the_one_before() -> None:
    engine = server()
    data = frame(BINARY, deflated(bytes(STEP // 3)), reserved=RSV1)

    for _ in range(10):
        engine.receive_data(data)
        assert len(list(engine.events())) == 1


@pytest.mark.parametrize("length", [10, PIECE * 2])
def test_peer_that_may_not_refer_to_earlier_messages_cannot(length: int) -> None:
    agreement = answer_offers(["permessage-deflate; client_no_context_takeover"], Deflate())
    compressor = zlib.compressobj(wbits=-15)
    noise = hashlib.shake_128().digest(length)
    first, second = (
        compressor.compress(noise) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)
    )
    engine = Engine(client=False, agreement=agreement)

    assert content(feed(engine, frame(BINARY, first[:-4], reserved=RSV1))) == [noise]
    assert code_of(feed(engine, frame(BINARY, second[:-4], reserved=RSV1))) == 1007


def test_payload_that_waits_to_be_inflated_is_not_taken_for_frames() -> None:
    # Stored as it is, it holds what looks like a ping; and it is so large that it stalls.
    noise = raw_frame(PING, b"fake", masked=True) * (STEP // 2)
    engine = server()
    engine.receive_data(frame(BINARY, deflated(noise, 0), reserved=RSV1) + frame(PING, b"real"))

    assert list(engine.events()) == []
    assert list(engine.early_control()) == [Ping(payload=b"real")]
    assert content(take_all(engine)) == [noise]


def test_what_is_received_while_stalled_waits_its_turn() -> None:
    engine = server()
    engine.receive_data(frame(BINARY, deflated(bytes(STEP * 3)), reserved=RSV1))
    events = list(engine.events())

    engine.receive_data(frame(TEXT, b"next") + frame(PING, b"1"))

    assert events == []
    assert list(engine.early_control()) == [Ping(payload=b"1")]
    assert content(take_all(engine)) == [bytes(STEP * 3), "next"]


def test_control_frames_are_found_behind_a_message_that_is_being_inflated() -> None:
    engine = server()
    bomb = frame(BINARY, deflated(bytes(STEP * 3)), reserved=RSV1)
    engine.receive_data(bomb + frame(PING, b"1") + bomb + frame(CLOSE, b"\x03\xe9"))
    events = list(engine.events())

    early = list(engine.early_control())

    assert events == []
    assert early[0] == Ping(payload=b"1")
    assert code_of(early) == 1001
    assert content(take_all(engine)) == [bytes(STEP * 3)] * 2


def test_large_frame_is_taken_in_pieces_while_it_is_stalled() -> None:
    # So large that its bytes alone cost more than one step.
    noise = hashlib.shake_128().digest(STEP * 4)
    engine = server()

    engine.receive_data(frame(BINARY, deflated(noise), reserved=RSV1))

    assert list(engine.events()) == []
    assert engine.stalled
    assert 0 < engine.buffered < STEP * 4
    assert content(take_all(engine)) == [noise]


def test_frame_that_is_not_all_here_does_not_stall() -> None:
    engine = server()
    data = frame(BINARY, deflated(TALK.encode()), reserved=RSV1)

    engine.receive_data(data[:-1])

    assert list(engine.events()) == []
    assert not engine.stalled


def test_runs_of_plain_messages_stop_in_front_of_a_compressed_one() -> None:
    engine = server()
    engine.receive_data(
        frame(TEXT, b"a") + frame(TEXT, deflated(b"b"), reserved=RSV1) + frame(TEXT, b"c")
    )

    assert engine.messages(inf, inf) == (["a"], 1)
    assert engine.messages(inf, inf) == ([], 0)
    assert next(engine.events()) == TextMessage(data="b")
    assert engine.messages(inf, inf) == (["c"], 1)


def test_receive_messages_may_cost_as_much_as_the_time_before() -> None:
    engine = server()
    data = frame(BINARY, deflated(bytes(STEP // 3)), reserved=RSV1)

    for _ in range(10):
        assert engine.receive_messages(frame(TEXT, b"a") + data, inf, inf) == (["a"], 1, False)
        assert len(list(engine.events())) == 1
        engine.keep()


def test_lent_bytes_may_change_while_the_engine_is_stalled() -> None:
    noise = hashlib.shake_128().digest(STEP * 2)
    buffer = bytearray(frame(BINARY, deflated(noise), reserved=RSV1))
    engine = server()

    engine.receive_data(memoryview(buffer), lent=True)
    events = list(engine.events())
    engine.keep()
    buffer[:] = bytes(len(buffer))

    assert content(events + take_all(engine)) == [noise]


def test_fault_lets_go_of_what_is_held() -> None:
    engine = server(max_message=STEP * 2)
    engine.receive_data(frame(BINARY, deflated(bytes(STEP * 3)), reserved=RSV1))

    assert code_of(take_all(engine)) == 1009
    assert not engine.stalled
    assert engine.buffered == 0
    engine.receive_data(frame(TEXT, b"a"))
    assert list(engine.events()) == []


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1])
def test_frames_around_the_size_of_a_piece_are_inflated(size: int) -> None:
    noise = hashlib.shake_128().digest(size - 6)

    assert content(feed(server(), frame(BINARY, deflated(noise, 0), reserved=RSV1))) == [noise]


SIZES = st.sampled_from([0, 1, 127, 128, 1000, PIECE, STEP, STEP * 2 + 1])


@settings(deadline=None)
@given(
    st.lists(st.tuples(SIZES, st.booleans(), st.booleans(), st.sampled_from([None, True, False]))),
    st.integers(100, 5000),
    st.booleans(),
)
def test_whatever_is_sent_arrives_in_order(
    plan: list[tuple[int, bool, bool, bool | None]], step: int, takeover: bool
) -> None:
    sender, receiver = pair(Deflate(send_context_takeover=takeover))
    data = b""
    sent: list[str | bytes] = []
    for size, text, noisy, compress in plan:
        payload = hashlib.shake_128().digest(size) if noisy else bytes(size)
        message: str | bytes = payload.hex() if text else payload
        sent.append(message)
        data += wire(sender.send_message(message, compress))

    assert content(feed(receiver, data, step)) == sent


@given(st.data())
def test_any_bytes_behind_the_bit_end_in_messages_or_a_close_code(data: st.DataObject) -> None:
    engine = server(max_message=10_000, max_fragments=10)
    payloads = data.draw(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
    stream = frame(TEXT, payloads[0], fin=False, reserved=RSV1)
    stream += b"".join(frame(CONT, payload, fin=False) for payload in payloads[1:])
    stream += frame(CONT, b"")

    events = feed(engine, stream, data.draw(st.integers(1, 60)))

    assert code_of(events) in {None, 1007, 1009}
