"""The engine: bytes in, events out, and events in, bytes out."""

import array
import codecs
import itertools
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

from tests.fakes import raw_frame
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.frames import read_header
from trio_ws._protocol.masking import mask, mask_in_place
from trio_ws._protocol.messages import Frame
from trio_ws._transport.inbox import message_size
from trio_ws._types import Message

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

CLOSE_1001 = CloseConnection(code=1001, reason="bye")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Make a frame as a client sends it."""
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved)


def close_frame(code: int = 1001, reason: bytes = b"bye") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def server(max_message: float = float("inf"), max_fragments: float = float("inf")) -> Engine:
    return Engine(client=False, max_message=max_message, max_fragments=max_fragments)


def test_what_is_missing_of_a_payload_is_known_until_it_is_there() -> None:
    engine = server()
    message = frame(BINARY, bytes(1000))
    missing: list[int] = []
    for piece in (message[:3], message[3:8], message[8:108], message[108:1007], message[1007:]):
        engine.receive_data(piece)
        before = engine.missing
        list(engine.events())
        missing += [before, engine.missing]

    # The header of 8 bytes is not whole before the second piece.
    assert missing == [0, 0, 0, 1000, 900, 900, 1, 1, 0, 0]


def feed(engine: Engine, *pieces: bytes) -> list[Event]:
    """Give the engine bytes piece by piece, and take all events each time."""
    events: list[Event] = []
    for piece in pieces:
        engine.receive_data(piece)
        events += engine.events()
    return events


def feed_in_runs(engine: Engine, *pieces: bytes) -> list[Event]:
    """Do the same, but take runs of messages first and between the events."""
    events: list[Event] = []
    for piece in pieces:
        engine.receive_data(piece)
        while True:
            events += map(message_event, engine.messages(inf, inf)[0])
            event = next(engine.events(), None)
            if event is None:
                break
            events.append(event)
    return events


def message_event(message: Message) -> Event:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


def one_by_one(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


def code_of(events: list[Event]) -> int | None:
    """Return the code of a fault or Close that is the last of the events."""
    last = events[-1] if events else None
    return last.code if isinstance(last, CloseConnection) else None


def fault_of(engine: Engine, data: bytes) -> int | None:
    """Return the code of the fault, which leaves the state as it is."""
    state = engine.state
    code = code_of(feed(engine, data))
    assert engine.state is state
    return code


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the places at which a frame header was looked for."""
    places: list[int] = []

    def counting(data: bytes, start: int, **options: Any) -> Any:  # noqa: ANN401 - as it is
        places.append(start)
        return read_header(data, start, **options)

    monkeypatch.setattr("trio_ws._protocol.engine.read_header", counting)
    return places


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_binary_message_of_any_length_is_received(size: int, client: bool) -> None:
    payload = bytes(index % 251 for index in range(size))

    events = feed(Engine(client=client), raw_frame(BINARY, payload, masked=not client))

    assert events == [BytesMessage(data=payload)]


@pytest.mark.parametrize("client", [True, False])
def test_fragmented_message_is_received_in_pieces(client: bool) -> None:
    parts = [(BINARY, b"ab", False), (CONT, b"cd", True)]
    data = b"".join(raw_frame(op, part, masked=not client, fin=fin) for op, part, fin in parts)

    assert feed(Engine(client=client), *one_by_one(data)) == [BytesMessage(data=b"abcd")]


@pytest.mark.parametrize("client", [True, False])
def test_text_message_is_received(client: bool) -> None:
    events = feed(Engine(client=client), raw_frame(TEXT, "Olá 🦜".encode(), masked=not client))

    assert events == [TextMessage(data="Olá 🦜")]


def test_every_length_up_to_300_is_received_byte_by_byte() -> None:
    payloads = [bytes([size % 256]) * size for size in range(301)]
    data = b"".join(frame(BINARY, payload) for payload in payloads)

    events = feed(server(), *one_by_one(data))

    assert events == [BytesMessage(data=payload) for payload in payloads]


def test_fragments_are_joined_around_control_frames() -> None:
    data = (
        frame(TEXT, b"ol\xc3", fin=False)
        + frame(PING, b"1")
        + frame(CONT, b"", fin=False)
        + frame(PONG, b"2")
        + frame(CONT, b"\xa1")
    )

    events = feed(server(), data)

    assert events == [Ping(payload=b"1"), Pong(payload=b"2"), TextMessage(data="olá")]


def test_message_after_a_fragmented_one_begins_afresh() -> None:
    data = frame(BINARY, b"\xff", fin=False) + frame(CONT, b"\xfe") + frame(TEXT, b"ok")

    events = feed(server(), data)

    assert events == [BytesMessage(data=b"\xff\xfe"), TextMessage(data="ok")]


def test_text_after_a_fragmented_text_is_decoded_by_itself() -> None:
    fragmented = frame(TEXT, b"a", fin=False) + frame(CONT, b"b")

    events = feed(server(), *one_by_one(fragmented + fragmented))

    assert events == [TextMessage(data="ab"), TextMessage(data="ab")]


def test_binary_message_is_bytes_however_it_arrives() -> None:
    data = frame(BINARY, b"abc")

    events = feed(server(), data, data[:7], data[7:], data + data[:1], data[1:])

    assert [type(event.data) for event in events if isinstance(event, BytesMessage)] == [bytes] * 4


def test_receive_data_takes_a_bytearray_and_keeps_none_of_it() -> None:
    engine = server()
    data = bytearray(frame(PING, b"abc") + frame(PING, b"def"))

    engine.receive_data(data)
    data[:] = bytes(len(data))

    assert list(engine.events()) == [Ping(payload=b"abc"), Ping(payload=b"def")]


STREAM = (
    frame(TEXT, "á".encode())
    + frame(BINARY, b"x" * 200, fin=False)
    + frame(PING, b"p")
    + frame(CONT, b"", fin=False)
    + frame(CONT, b"y" * 130)
    + frame(PONG)
    + frame(TEXT, "€".encode()[:1], fin=False)
    + frame(CONT, "€".encode()[1:])
    + close_frame()
)
STREAM_EVENTS = [
    TextMessage(data="á"),
    Ping(payload=b"p"),
    BytesMessage(data=b"x" * 200 + b"y" * 130),
    Pong(),
    TextMessage(data="€"),
    CLOSE_1001,
]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_stream_cut_in_two_anywhere_gives_the_same_events(cut: int) -> None:
    assert feed(server(), STREAM[:cut], STREAM[cut:]) == STREAM_EVENTS


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM))))
def test_stream_cut_into_pieces_anywhere_gives_the_same_events(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]

    assert feed(server(), *pieces) == STREAM_EVENTS


@pytest.mark.parametrize("size", range(1, 20))
def test_events_taken_late_are_the_same(size: int) -> None:
    engine = server()
    events: list[Event] = []

    for start in range(0, len(STREAM), size):
        engine.receive_data(STREAM[start : start + size])
        # One event for each piece, so that most of them wait.
        events += itertools.islice(engine.events(), 1)
    events += engine.events()

    assert events == STREAM_EVENTS


def test_events_parses_no_further_than_it_is_asked() -> None:
    engine = server()
    second = frame(TEXT, b"two") + frame(TEXT, b"three")
    engine.receive_data(frame(TEXT, b"one") + second)

    first = next(engine.events())

    assert first == TextMessage(data="one")
    assert engine.buffered == len(second)


def test_events_goes_on_where_another_iteration_of_it_rested() -> None:
    engine = server()
    engine.receive_data(frame(TEXT, b"one") + frame(TEXT, b"two")[:4])
    next(engine.events())

    events = feed(engine, frame(TEXT, b"two")[4:])

    assert events == [TextMessage(data="two")]


def test_same_iteration_goes_on_after_more_was_received() -> None:
    engine = server()
    engine.receive_data(frame(TEXT, b"one") + frame(TEXT, b"two")[:3])
    events = engine.events()
    next(events)

    engine.receive_data(frame(TEXT, b"two")[3:])

    assert list(events) == [TextMessage(data="two")]


def test_buffered_does_not_count_the_payload_of_a_frame_that_is_arriving() -> None:
    engine = server()

    feed(engine, frame(BINARY, bytes(1000))[:900])

    assert engine.buffered == 0


def test_buffered_counts_a_control_frame_that_is_arriving() -> None:
    engine = server()

    feed(engine, frame(PING, b"abc")[:8])

    assert engine.buffered == 8


def test_message_of_exactly_max_message_is_received() -> None:
    data = frame(BINARY, b"abcde") + frame(BINARY, b"ab", fin=False) + frame(CONT, b"cde")

    events = feed(server(max_message=5), data)

    assert events == [BytesMessage(data=b"abcde")] * 2


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, b"abcdef"),
        frame(TEXT, "ááá".encode()),
        frame(BINARY, b"abc", fin=False) + frame(CONT, b"def"),
        frame(BINARY, b"abc", fin=False) + frame(CONT, fin=False) + frame(CONT, b"def"),
    ],
)
def test_message_of_one_byte_more_than_max_message_is_a_fault(data: bytes) -> None:
    assert fault_of(server(max_message=5), data) == 1009


@pytest.mark.parametrize("length", [6, 200, 2**63 - 1])
def test_declared_length_over_max_message_is_refused_before_its_payload(length: int) -> None:
    size = [bytes([0x80 | length])] if length < 126 else []
    size += [b"\xfe" + length.to_bytes(2, "big")] if 126 <= length < 2**16 else []
    size += [b"\xff" + length.to_bytes(8, "big")] if length >= 2**16 else []

    code = fault_of(server(max_message=5), b"\x82" + size[0] + b"mask")

    assert code == 1009


def test_declared_length_of_a_fragment_is_refused_before_its_payload() -> None:
    data = frame(TEXT, b"abc", fin=False) + frame(CONT, b"def")[:6]

    assert fault_of(server(max_message=5), data) == 1009


def test_message_of_exactly_max_fragments_is_received() -> None:
    data = frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c")

    events = feed(server(max_fragments=3), data + data)

    assert events == [TextMessage(data="abc")] * 2


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_one_fragment_more_than_max_fragments_is_a_fault_even_if_empty(payload: bytes) -> None:
    data = frame(TEXT, payload, fin=False) + frame(CONT, payload, fin=False) * 2

    events = feed(server(max_fragments=3), data)
    events += feed(server(max_fragments=3), data + frame(CONT, payload, fin=False))

    assert [code_of([event]) for event in events] == [1009]


def test_control_frames_do_not_count_as_fragments() -> None:
    data = frame(TEXT, b"a", fin=False) + frame(PING) * 9 + frame(CONT, b"b")

    events = feed(server(max_fragments=2), data)

    assert events[-1] == TextMessage(data="ab")


def test_pieces_in_which_a_frame_arrives_do_not_count_as_fragments() -> None:
    events = feed(server(max_fragments=1), *one_by_one(frame(TEXT, b"abcdef")))

    assert events == [TextMessage(data="abcdef")]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, reserved=4),
        frame(BINARY, reserved=2),
        frame(PING, reserved=1),
        frame(3),
        frame(11),
        frame(PING, fin=False),
        frame(CLOSE, fin=False),
        raw_frame(PING, bytes(126), masked=True),
        raw_frame(TEXT, b"x", masked=False),
        frame(CONT),
        frame(CONT, fin=False),
        frame(TEXT, fin=False) + frame(TEXT),
        frame(TEXT, fin=False) + frame(BINARY, fin=False),
        frame(TEXT, b"a") + frame(CONT),
        frame(TEXT, fin=False) + frame(CONT) + frame(CONT),
        frame(CLOSE, b"\x03"),
    ],
)
def test_frame_out_of_place_is_a_protocol_error(data: bytes) -> None:
    assert fault_of(server(), data) == 1002


def test_masked_frame_is_a_protocol_error_for_a_client() -> None:
    assert fault_of(Engine(client=True), frame(TEXT)) == 1002


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_with_a_code_that_is_not_for_the_wire_is_a_protocol_error(code: int) -> None:
    assert fault_of(server(), close_frame(code)) == 1002


def test_close_reason_that_is_not_utf8_is_invalid_data() -> None:
    assert fault_of(server(), close_frame(1000, b"\xff")) == 1007


BAD_TEXTS = [
    b"\xff",
    b"ab\x80",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x28\xa1",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed",
]


@pytest.mark.parametrize("text", [*BAD_TEXTS, "€".encode()[:2]])
def test_text_that_is_not_utf8_is_invalid_data(text: bytes) -> None:
    assert fault_of(server(), frame(TEXT, text)) == 1007


@pytest.mark.parametrize("text", [*BAD_TEXTS, "€".encode()[:2]])
def test_text_that_is_not_utf8_is_invalid_data_in_fragments(text: bytes) -> None:
    fragments = [frame(CONT, bytes([byte]), fin=False) for byte in text]
    data = frame(TEXT, fin=False) + b"".join(fragments) + frame(CONT)

    assert fault_of(server(), data) == 1007


def test_invalid_text_in_the_first_fragment_is_refused_before_the_last() -> None:
    assert fault_of(server(), frame(TEXT, b"ok\xff", fin=False)) == 1007


@pytest.mark.parametrize(
    ("text", "place"), [(b"ok\xff", 3), (b"\xe2\x28", 2), (b"\xed\xa0", 2), (b"\xed\xbf\xbf", 2)]
)
def test_invalid_text_is_refused_at_its_bad_byte_in_an_incomplete_frame(
    text: bytes, place: int
) -> None:
    engine = server()
    data = frame(TEXT, text + bytes(100))
    header = len(data) - len(text) - 100

    quiet = feed(engine, *one_by_one(data[: header + place - 1]))
    loud = feed(engine, data[header + place - 1 : header + place])

    assert (quiet, code_of(loud)) == ([], 1007)


@pytest.mark.parametrize("text", ["\ud7ff", "\ue000", "\U0010ffff", "\x00", "\x7f\x80\u07ff\u0800"])
def test_valid_text_is_received_byte_by_byte(text: str) -> None:
    assert feed(server(), *one_by_one(frame(TEXT, text.encode()))) == [TextMessage(data=text)]


def test_text_whose_character_is_cut_by_the_end_of_its_message_is_invalid_data() -> None:
    data = frame(TEXT, b"a", fin=False) + frame(CONT, "€".encode()[:2])

    assert fault_of(server(), data) == 1007


def test_reason_of_a_fault_fits_into_a_close_frame() -> None:
    engine = server(max_message=1)
    (fault,) = feed(engine, frame(TEXT, b"ab"))

    answer = engine.send(fault)

    assert answer[2:4] == (1009).to_bytes(2, "big")
    assert answer[4:] == b"message is larger than 1 bytes"


def test_messages_before_a_fault_are_received() -> None:
    events = feed(server(), frame(TEXT, b"a") + frame(PING) + frame(CONT))

    assert events[:2] == [TextMessage(data="a"), Ping()]
    assert code_of(events) == 1002


def test_everything_after_a_fault_is_ignored_and_not_kept() -> None:
    engine = server()

    feed(engine, frame(CONT) + frame(TEXT, b"a"))

    assert engine.buffered == 0
    assert feed(engine, frame(TEXT, b"b")) == []
    assert engine.buffered == 0


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_close_of_the_peer_is_received(code: int) -> None:
    engine = server()

    events = feed(engine, close_frame(code, "até".encode()))

    assert events == [CloseConnection(code=code, reason="até")]
    assert engine.state is ConnectionState.REMOTE_CLOSING


def test_close_without_a_code_is_received_as_1005() -> None:
    assert feed(server(), frame(CLOSE)) == [CloseConnection(code=1005, reason="")]


def test_answering_the_close_of_the_peer_closes() -> None:
    engine = server()
    (event,) = feed(engine, frame(CLOSE))

    answer = engine.send(event)

    assert answer == b"\x88\x00"
    assert engine.state is ConnectionState.CLOSED


def test_close_that_answers_ours_closes() -> None:
    engine = server()
    engine.send(CloseConnection(code=1000, reason="bye"))
    between = engine.state

    events = feed(engine, close_frame())

    assert events == [CLOSE_1001]
    assert [between, engine.state] == [ConnectionState.LOCAL_CLOSING, ConnectionState.CLOSED]


def test_messages_and_pings_are_received_after_our_close() -> None:
    engine = server()
    engine.send(CloseConnection(code=1000))

    events = feed(engine, frame(TEXT, b"late") + frame(PING))

    assert events == [TextMessage(data="late"), Ping()]


def test_fault_after_our_close_leaves_the_state() -> None:
    engine = server()
    engine.send(CloseConnection(code=1000))

    assert fault_of(engine, frame(CONT)) == 1002


def test_everything_after_the_close_of_the_peer_is_ignored_and_not_kept() -> None:
    engine = server()

    events = feed(engine, close_frame() + frame(TEXT, b"a"), frame(CONT))

    assert events == [CLOSE_1001]
    assert engine.buffered == 0


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize(
    "event",
    [
        TextMessage(data="olá"),
        BytesMessage(data=b"\xff" * 300),
        Ping(payload=b"1"),
        Pong(payload=b"2"),
        CloseConnection(code=4000, reason="até"),
    ],
)
def test_what_one_side_sends_the_other_receives(event: Event, client: bool) -> None:
    sender, receiver = Engine(client=client), Engine(client=not client)

    assert feed(receiver, sender.send(event)) == [event]


def test_message_is_sent_in_fragments() -> None:
    engine = server()
    parts = [("a", False), ("b", False), ("c", True), ("d", True)]

    frames = [engine.send(TextMessage(data=d, message_finished=end)) for d, end in parts]

    assert frames == [b"\x01\x01a", b"\x00\x01b", b"\x80\x01c", b"\x81\x01d"]


def test_text_and_binary_are_not_mixed_in_one_message() -> None:
    engine = server()
    engine.send(TextMessage(data="a", message_finished=False))

    with pytest.raises(LocalProtocolError, match="cannot be mixed"):
        engine.send(BytesMessage(data=b"b"))

    assert engine.send(TextMessage(data="c")) == b"\x80\x01c"


def test_ping_goes_out_between_the_fragments_of_a_message() -> None:
    engine = server()

    engine.send(BytesMessage(data=b"a", message_finished=False))

    assert engine.send(Ping()) == b"\x89\x00"
    assert engine.send(BytesMessage(data=b"b")) == b"\x80\x01b"


def test_memoryview_is_sent_by_its_bytes() -> None:
    data: Any = memoryview(array.array("H", [1]))

    assert len(server().send(BytesMessage(data=data))) == 4


@pytest.mark.parametrize(
    "event", [TextMessage(data="a"), BytesMessage(data=b""), Ping(), Pong(), CLOSE_1001]
)
def test_nothing_is_sent_after_our_close(event: Event) -> None:
    engine = server()
    engine.send(CloseConnection(code=1000))

    with pytest.raises(LocalProtocolError, match="cannot be sent in state"):
        engine.send(event)


def test_nothing_but_a_close_is_sent_after_the_close_of_the_peer() -> None:
    engine = server()
    feed(engine, close_frame())

    with pytest.raises(LocalProtocolError, match="Pong cannot be sent"):
        engine.send(Pong())

    assert engine.send(CloseConnection(code=1001)) == b"\x88\x02\x03\xe9"


def test_event_of_the_opening_handshake_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="AcceptConnection is no event"):
        server().send(AcceptConnection())


@pytest.mark.parametrize("event", [Ping(payload=bytes(126)), Pong(payload=bytes(126))])
def test_control_payload_that_is_too_long_is_not_sent(event: Event) -> None:
    with pytest.raises(ValueError, match="at most 125 bytes"):
        server().send(event)


def test_close_reason_that_is_too_long_leaves_the_connection_open() -> None:
    engine = server()

    with pytest.raises(ValueError, match="at most 125 bytes"):
        engine.send(CloseConnection(code=1000, reason="x" * 124))

    assert engine.state is ConnectionState.OPEN


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1006, 1015, 2999, 5000, 70000])
def test_close_code_that_is_not_for_the_wire_leaves_the_connection_open(code: int) -> None:
    engine = server()

    with pytest.raises(LocalProtocolError, match=f"close code {code} may not be sent"):
        engine.send(CloseConnection(code=code))

    assert engine.state is ConnectionState.OPEN


def paused(data: bytes, engine: Engine | None = None) -> Engine:
    """Make an engine whose events rest after the first of the messages in the data."""
    engine = engine or server()
    engine.receive_data(data)
    next(engine.events())
    return engine


A, B, C = frame(TEXT, b"a"), frame(BINARY, b"b" * 300), frame(TEXT, b"c")


def test_early_control_finds_pings_and_pongs_behind_waiting_messages() -> None:
    engine = paused(A + B + frame(PING, b"1") + C + frame(PONG, b"2"))

    assert list(engine.early_control()) == [Ping(payload=b"1"), Pong(payload=b"2")]


def test_early_control_finds_a_close_behind_waiting_messages() -> None:
    engine = paused(A + B + close_frame())

    assert list(engine.early_control()) == [CLOSE_1001]
    assert engine.state is ConnectionState.REMOTE_CLOSING


def test_early_close_that_answers_ours_closes() -> None:
    engine = paused(A + B + close_frame())
    engine.send(CloseConnection(code=1000))

    assert list(engine.early_control()) == [CLOSE_1001]
    assert engine.state is ConnectionState.CLOSED


def test_control_frame_is_handed_out_once() -> None:
    engine = paused(A + frame(PING, b"1") + B + frame(PING, b"2") + C)

    early = [*engine.early_control(), *engine.early_control()]

    assert early == [Ping(payload=b"1"), Ping(payload=b"2")]
    assert list(engine.events()) == [BytesMessage(data=b"b" * 300), TextMessage(data="c")]


def test_control_frame_that_was_not_found_early_comes_in_its_turn() -> None:
    engine = paused(A + frame(PING, b"1") + B)
    list(engine.early_control())

    events = feed(engine, frame(PING, b"2"), C)

    assert events == [BytesMessage(data=b"b" * 300), Ping(payload=b"2"), TextMessage(data="c")]


def test_early_control_goes_on_with_what_was_received_since() -> None:
    engine = paused(A + frame(PING, b"1") + B)
    first = list(engine.early_control())

    engine.receive_data(frame(PING, b"2") + C + frame(PING, b"3"))

    assert first == [Ping(payload=b"1")]
    assert list(engine.early_control()) == [Ping(payload=b"2"), Ping(payload=b"3")]


def test_early_control_waits_for_the_rest_of_a_frame() -> None:
    whole = frame(PING, b"1")
    engine = paused(A + B + whole[:4])

    assert list(engine.early_control()) == []
    engine.receive_data(whole[4:])
    assert list(engine.early_control()) == [Ping(payload=b"1")]


def test_early_control_waits_for_the_rest_of_a_message() -> None:
    engine = paused(A + B[:100])

    assert list(engine.early_control()) == []
    engine.receive_data(B[100:] + frame(PING))
    assert list(engine.early_control()) == [Ping()]


def test_early_control_goes_on_when_the_buffer_grows_during_the_iteration() -> None:
    engine = paused(A)
    engine.receive_data(B + frame(PING, b"1"))
    next(engine.events())
    early = engine.early_control()
    found = [next(early)]

    engine.receive_data(C + frame(PING, b"2"))

    assert found + list(early) == [Ping(payload=b"1"), Ping(payload=b"2")]


def test_early_control_takes_no_payload_that_is_arriving_for_frames() -> None:
    engine = server()
    fake_ping = frame(BINARY, raw_frame(PING, b"fake", masked=True) * 9)
    feed(engine, fake_ping[:20])

    engine.receive_data(fake_ping[20:] + frame(PING, b"real"))

    assert list(engine.early_control()) == [Ping(payload=b"real")]
    assert [type(event) for event in engine.events()] == [BytesMessage]


def test_early_control_before_any_byte_finds_nothing() -> None:
    assert list(server().early_control()) == []


def test_early_control_stops_at_a_faulty_frame_and_events_reports_it() -> None:
    engine = paused(A + B + frame(PING, b"1") + frame(3) + frame(PING, b"2"))

    assert list(engine.early_control()) == [Ping(payload=b"1")]
    assert list(engine.early_control()) == []
    assert code_of(list(engine.events())) == 1002


def test_early_control_stops_at_a_close_that_is_faulty() -> None:
    engine = paused(A + B + close_frame(999))

    assert list(engine.early_control()) == []
    assert engine.state is ConnectionState.OPEN
    assert code_of(list(engine.events())) == 1002


def test_early_control_finds_nothing_behind_a_close() -> None:
    engine = paused(A + B + close_frame() + frame(PING))

    early = list(engine.early_control())

    assert early == [CLOSE_1001]
    assert list(engine.events()) == [BytesMessage(data=b"b" * 300)]


def test_early_control_after_the_end_finds_nothing() -> None:
    engine = server()
    feed(engine, close_frame())

    assert list(engine.early_control()) == []


def test_messages_before_an_early_close_are_still_received() -> None:
    engine = paused(A + B + C + close_frame())
    (event,) = engine.early_control()

    engine.send(event)

    assert list(engine.events()) == [BytesMessage(data=b"b" * 300), TextMessage(data="c")]
    assert engine.state is ConnectionState.CLOSED
    assert engine.buffered == 0


def test_fault_before_an_early_close_ends_the_events_without_a_word() -> None:
    engine = paused(A + B + frame(TEXT, b"\xff") + close_frame())

    assert list(engine.early_control()) == [CLOSE_1001]
    assert list(engine.events()) == [BytesMessage(data=b"b" * 300)]


def test_bytes_after_an_early_close_are_not_kept() -> None:
    engine = paused(A + B + close_frame())
    list(engine.early_control())
    before = engine.buffered

    engine.receive_data(bytes(1000))

    assert engine.buffered == before


def test_messages_takes_the_run_of_plain_messages() -> None:
    engine = server()
    rest = frame(PING, b"1") + frame(TEXT, b"later")
    engine.receive_data(frame(TEXT, "á".encode()) + frame(BINARY, b"b" * 300) + rest)

    assert engine.messages(inf, inf)[0] == ["á", b"b" * 300]
    assert engine.messages(inf, inf)[0] == []
    assert engine.buffered == len(rest)


@pytest.mark.parametrize("client", [True, False])
def test_messages_and_events_go_on_where_the_other_rested(client: bool) -> None:
    engine = Engine(client=client)
    engine.receive_data(b"".join(raw_frame(TEXT, b, masked=not client) for b in (b"1", b"2", b"3")))

    assert engine.messages(1, inf)[0] == ["1"]
    assert next(engine.events()) == TextMessage(data="2")
    assert engine.messages(inf, inf)[0] == ["3"]


def test_messages_stops_at_its_bounds() -> None:
    engine = server()
    engine.receive_data(frame(BINARY, b"abc") * 5)

    assert engine.messages(2, inf)[0] == [b"abc"] * 2
    assert engine.messages(inf, 4)[0] == [b"abc"] * 2
    assert engine.messages(0, inf) == engine.messages(inf, 0) == ([], 0)


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"frag", fin=False),
        frame(TEXT, b"", fin=False),
        frame(BINARY, bytes(9))[:-1],
        frame(BINARY, b"a", fin=False) + frame(PING),
    ],
)
def test_messages_takes_nothing_inside_of_a_message(data: bytes) -> None:
    engine = server()
    events = feed(engine, data)

    engine.receive_data(frame(TEXT, b"would be out of place or payload"))

    assert engine.messages(inf, inf)[0] == []
    assert [event for event in events if is_message(event)] == []


def test_messages_leaves_a_message_above_the_limit_to_the_events() -> None:
    engine = server(max_message=3)
    engine.receive_data(frame(TEXT, b"abc") + frame(TEXT, b"abcd"))

    assert engine.messages(inf, inf)[0] == ["abc"]
    assert code_of(list(engine.events())) == 1009


def test_messages_takes_none_where_no_message_may_have_a_fragment() -> None:
    engine = server(max_fragments=0)
    engine.receive_data(frame(TEXT, b"abc"))

    assert engine.messages(inf, inf)[0] == []
    assert code_of(list(engine.events())) == 1009


def test_messages_takes_nothing_after_the_end() -> None:
    engine = server()
    feed(engine, close_frame())

    engine.receive_data(frame(TEXT, b"too late"))

    assert engine.messages(inf, inf)[0] == []


def test_messages_before_an_early_close_are_taken_in_a_run() -> None:
    engine = paused(A + B + frame(PING, b"1") + C + close_frame())

    assert list(engine.early_control()) == [Ping(payload=b"1"), CLOSE_1001]
    assert engine.messages(inf, inf)[0] == [b"b" * 300]
    assert next(engine.events()) == TextMessage(data="c")
    assert list(engine.events()) == []


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_stream_cut_in_two_anywhere_gives_the_same_in_runs(cut: int) -> None:
    assert feed_in_runs(server(), STREAM[:cut], STREAM[cut:]) == STREAM_EVENTS


FAULTS = [
    (frame(TEXT, reserved=4), 1002),
    (frame(3), 1002),
    (frame(PING, fin=False), 1002),
    (raw_frame(PING, bytes(126), masked=True), 1002),
    (raw_frame(TEXT, b"x", masked=False), 1002),
    (b"\x82\xfe\x00\x7dmask", 1002),
    (b"\x82\xff" + bytes(6) + b"\xff\xff" + b"mask", 1002),
    (b"\x82\xff" + b"\xff" * 8 + b"mask", 1002),
    (frame(CONT), 1002),
    (frame(TEXT, fin=False) + frame(TEXT), 1002),
    (frame(CLOSE, b"\x03"), 1002),
    (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
    (frame(TEXT, b"\xff"), 1007),
    (frame(TEXT, b"\xed\xa0\x80"), 1007),
    (frame(TEXT, "€".encode()[:2]), 1007),
    (frame(TEXT, b"ok", fin=False) + frame(CONT, b"\xff"), 1007),
    (frame(TEXT, bytes(1001)), 1009),
    (frame(BINARY, bytes(1001)), 1009),
    (frame(BINARY, bytes(600), fin=False) + frame(CONT, bytes(600)), 1009),
    (frame(BINARY, fin=False) + frame(CONT, fin=False) * 9, 1009),
]


@pytest.mark.parametrize(("data", "code"), FAULTS)
def test_fault_has_its_code_when_messages_are_taken_in_runs(data: bytes, code: int) -> None:
    before = frame(TEXT, b"before") + frame(BINARY, b"it")
    whole = before + data + frame(TEXT, b"after")

    for cut in (0, len(before) - 1, len(before), len(before) + 1, len(whole) - 30):
        engine = server(max_message=1000, max_fragments=9)
        events = feed_in_runs(engine, whole[:cut], whole[cut:])
        assert events[:-1] == [TextMessage(data="before"), BytesMessage(data=b"it")]
        assert code_of(events) == code
        assert engine.state is ConnectionState.OPEN


STEP = st.tuples(st.integers(0, 60), st.booleans(), st.integers(0, 3), st.integers(0, 3))


@settings(deadline=None)
@given(st.lists(STEP))
def test_every_event_comes_once_and_in_order_however_early_and_late_are_mixed(
    steps: list[tuple[int, bool, int, int]],
) -> None:
    engine, messages, control = server(), list[Event](), list[Event]()
    start = 0
    for size, early, run, count in [*steps, (len(STREAM), True, 9, 9)]:
        engine.receive_data(STREAM[start : start + size])
        start += size
        control += engine.early_control() if early else ()
        messages += map(message_event, engine.messages(run, inf)[0])
        collect(itertools.islice(engine.events(), count), messages, control)

    assert messages == [e for e in STREAM_EVENTS if is_message(e)]
    assert control == [e for e in STREAM_EVENTS if not is_message(e)]


def is_message(event: Event) -> bool:
    return isinstance(event, (TextMessage, BytesMessage))


def collect(events: Iterator[Event], messages: list[Event], control: list[Event]) -> None:
    for event in events:
        (messages if is_message(event) else control).append(event)


def test_early_control_looks_at_no_frame_twice(parsed: list[int]) -> None:
    engine = paused(A)
    engine.receive_data(frame(BINARY, b"") * 1000)
    parsed.clear()

    for _ in range(100):
        list(engine.early_control())
        engine.go_on()

    # Every frame once, and each time the end of the data; or of a step, the frame that begins the
    # next one.
    assert len(parsed) == 1000 + 100


def test_trickle_behind_waiting_messages_costs_one_look_for_each_byte(parsed: list[int]) -> None:
    engine = paused(A + frame(BINARY, b"") * 1000)
    list(engine.early_control())
    while engine.unseen:
        engine.go_on()
        list(engine.early_control())
    parsed.clear()

    for byte in one_by_one(frame(BINARY, bytes(500)) * 3):
        engine.receive_data(byte)
        list(engine.early_control())

    assert len(parsed) <= 3 * 510


def test_trickle_of_a_large_frame_costs_no_look_at_its_header(parsed: list[int]) -> None:
    engine = server()
    data = frame(BINARY, bytes(1000))
    feed(engine, data[:8])
    parsed.clear()

    events = feed(engine, *one_by_one(data[8:]))

    # One look for the next frame, when this one is whole.
    assert len(parsed) == 1
    assert events == [BytesMessage(data=bytes(1000))]


@pytest.mark.parametrize(
    ("opcode", "name", "function"), [(TEXT, "mask", mask), (BINARY, "mask_in_place", mask_in_place)]
)
def test_trickle_unmasks_no_byte_twice(
    opcode: int, name: str, function: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counting(data: memoryview, key: bytes, offset: int = 0) -> object:
        sizes.append(len(data))
        return function(data, key, offset)

    monkeypatch.setattr(f"trio_ws._protocol.assembly.{name}", counting)
    feed(server(), *one_by_one(frame(opcode, b"x" * 1000)))

    assert sum(sizes) == 1000


def test_text_that_arrives_in_pieces_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counting(codecs.getincrementaldecoder("utf-8")):  # type: ignore[misc]
        def decode(self, data: memoryview, final: bool = False) -> str:
            sizes.append(len(data))
            return str(super().decode(data, final))

    monkeypatch.setattr("trio_ws._protocol.assembly._Utf8Decoder", Counting)
    text = "olá \U0001f600" * 1000
    data = frame(TEXT, text.encode())

    assert feed(server(), data[:100], data[100:5000], data[5000:]) == [TextMessage(data=text)]
    assert sum(sizes) == len(text.encode())


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, 105, 106, 112])
def test_lent_bytes_may_change_after_keep(cut: int) -> None:
    data = frame(TEXT, b"x" * 100) + frame(BINARY, b"abc")
    buffer = bytearray(len(data))
    engine = server()

    events: list[Event] = []
    for piece in (data[:cut], data[cut:]):
        buffer[: len(piece)] = piece
        with memoryview(buffer) as view:
            engine.receive_data(view[: len(piece)], lent=True)
        events += map(message_event, engine.messages(inf, inf)[0])
        events += engine.events()
        engine.keep()
        buffer[:] = bytes(len(buffer))

    assert events == [TextMessage(data="x" * 100), BytesMessage(data=b"abc")]
    assert engine.buffered == 0


def test_lent_bytes_are_kept_from_where_they_were_not_parsed() -> None:
    engine = server()
    data = frame(BINARY, b"one") + frame(PING, b"early") + frame(BINARY, b"two")
    buffer = bytearray(data)

    engine.receive_data(memoryview(buffer), lent=True)
    first = engine.messages(1, inf)
    early = list(engine.early_control())
    engine.keep()
    buffer[:] = bytes(len(buffer))

    assert (first, early) == (([b"one"], 3), [Ping(payload=b"early")])
    assert engine.buffered == len(data) - 9
    assert list(engine.events()) == [BytesMessage(data=b"two")]


def test_a_large_message_is_put_together_without_a_copy_at_the_end() -> None:
    engine = server()
    data = frame(BINARY, bytes(1_000_000))

    tracemalloc.start()
    for start in range(0, len(data), 65536):
        engine.receive_data(data[start : start + 65536])
        events = list(engine.events())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert events == [BytesMessage(data=bytes(1_000_000))]
    # It once, an eighth of it to grow, and what was read last.
    assert peak < 1_300_000


def test_send_message_makes_the_frame_that_send_makes() -> None:
    engine = server()

    frames = [engine.send_message(message) for message in ("olá", b"abc", bytearray(b"abc"))]

    assert frames == [engine.send(TextMessage(data="olá"))] + 2 * [
        engine.send(BytesMessage(data=b"abc"))
    ]


def test_send_message_of_a_client_masks() -> None:
    (event,) = feed(server(), _whole(Engine(client=True).send_message("olá")))

    assert event == TextMessage(data="olá")


def _whole(frame: Frame) -> bytes:
    return b"".join(frame) if isinstance(frame, tuple) else frame


def test_send_message_is_refused_between_fragments_and_after_the_close() -> None:
    engine = server()
    engine.send(TextMessage(data="a", message_finished=False))

    with pytest.raises(LocalProtocolError, match="fragments"):
        engine.send_message("b")
    engine.send(CloseConnection(code=1000))
    with pytest.raises(LocalProtocolError, match="LOCAL_CLOSING"):
        engine.send_message("c")


def received_at_once(engine: Engine, pieces: Iterable[bytes]) -> list[Event]:
    """Do as a connection does: runs first, then what comes between, from a buffer used again."""
    buffer = bytearray(4096)
    events: list[Event] = []
    for piece in pieces:
        buffer[: len(piece)] = piece
        with memoryview(buffer) as view:
            messages, size, whole = engine.receive_messages(view[: len(piece)], 3, 250)
            assert not (whole and engine.buffered)
            events += map(message_event, messages)
            assert size == sum(map(message_size, messages))
            while engine.buffered:
                event = next(engine.events(), None)
                if event is None:
                    break
                events.append(event)
            engine.keep()
        buffer[:] = bytes(len(buffer))
    return events


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 109, 1000])
def test_receive_messages_gives_what_events_would(size: int) -> None:
    data = (
        frame(TEXT, b"x" * 100)
        + frame(BINARY, b"abc") * 5
        + frame(PING, b"1")
        + frame(TEXT, b"a", fin=False)
        + frame(PONG)
        + frame(CONT, b"b")
        + frame(TEXT, "é".encode())
        + close_frame()
        + frame(TEXT, b"ignored")
    )
    pieces = [data[start : start + size] for start in range(0, len(data), size)]

    assert received_at_once(server(), pieces) == feed(server(), data)


def test_receive_messages_stops_at_the_limits_it_is_given() -> None:
    engine = server()

    assert engine.receive_messages(A * 5, 2, inf) == (["a", "a"], 2, False)
    engine.keep()
    assert list(engine.events()) == [TextMessage(data="a")] * 3
    assert engine.receive_messages(B * 5, inf, 301)[1:] == (600, False)
    engine.keep()
    assert len(list(engine.events())) == 3
    assert engine.receive_messages(A * 5, 5, inf) == (["a"] * 5, 5, True)


def test_receive_messages_leaves_what_waits_its_turn() -> None:
    engine = paused(A + B)

    assert engine.receive_messages(C, inf, inf) == ([], 0, False)
    engine.keep()

    assert list(engine.events()) == [BytesMessage(data=b"b" * 300), TextMessage(data="c")]


def test_receive_messages_takes_nothing_after_the_close() -> None:
    engine = server()
    feed(engine, close_frame())

    assert engine.receive_messages(A, inf, inf) == ([], 0, False)
    assert engine.buffered == 0


def test_receive_messages_takes_nothing_where_a_message_may_have_no_frame() -> None:
    engine = server(max_fragments=0)

    assert engine.receive_messages(A, inf, inf) == ([], 0, False)
    assert code_of(list(engine.events())) == 1009


def test_places_in_the_stream_are_right_after_receive_messages() -> None:
    # What was handed out early must not come again, wherever it stands.
    engine = server()
    engine.receive_messages(A + B, inf, inf)
    engine.receive_messages(A, 0, inf)
    engine.receive_data(frame(PING, b"1") + A)

    assert list(engine.early_control()) == [Ping(payload=b"1")]
    assert list(engine.events()) == [TextMessage(data="a")] * 2
