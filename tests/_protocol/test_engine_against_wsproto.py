"""The engine and wsproto agree on every stream of frames, sound or broken, however it is cut.

Where they are meant to differ: the engine refuses some things a few bytes earlier, and it knows
the close code 1014. Tests at the end of this module show each of these differences; the generated
streams leave out half surrogates and that code.
"""

import itertools
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from tests.fakes import WholeMessages, raw_frame
from trio_ws._protocol.engine import Engine

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

# More bytes than the longest header: wsproto looks at some faults only when it has it whole.
PADDING = bytes(16)


@dataclass(frozen=True)
class Frame:
    """A frame to generate; the defaults are those of a sound one."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0
    wrong_mask: bool = False
    long_length: int = 0
    """How many bytes to waste on the length: none, two or eight."""

    def encoded(self, *, masked: bool) -> bytes:
        data = raw_frame(
            self.opcode,
            self.payload,
            masked=masked is not self.wrong_mask,
            fin=self.fin,
            reserved=self.reserved,
        )
        if not self.long_length or len(self.payload) > 125:
            return data
        marker = 126 if self.long_length == 2 else 127
        length = len(self.payload).to_bytes(self.long_length, "big")
        return data[:1] + bytes([data[1] & 0x80 | marker]) + length + data[2:]


def mostly(value: int, rarely: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return st.integers(0, 19).flatmap(lambda draw: rarely if draw == 19 else st.just(value))


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=(), max_codepoint=0xCFFF)) | (
    st.sampled_from(["🦜", "\ue000", "\U0010ffff"])
)
PAYLOADS = (
    TEXTS.map(str.encode)
    | st.binary(max_size=8).map(lambda data: data.replace(b"\xed", b"\xee"))
    | st.sampled_from([125, 126, 127, 300, 65535, 65536]).map(bytes)
    | TEXTS.map(lambda text: text.encode()[:1])
)
CODES = st.sampled_from([0, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1013])
MORE_CODES = st.sampled_from([1015, 1016, 2999, 3000, 4999, 5000, 65535])
CLOSES = (
    st.just(b"")
    | st.just(b"\x03")
    | st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason[:123],
        CODES | MORE_CODES,
        st.binary(max_size=4) | TEXTS.map(str.encode),
    )
)
SHORT = PAYLOADS.map(lambda payload: payload[:125])
FLAWS = {
    "reserved": mostly(0, st.integers(1, 7)),
    "wrong_mask": mostly(0, st.just(1)).map(bool),
    "long_length": mostly(0, st.sampled_from([2, 8])),
}
FRAMES = (
    st.builds(Frame, st.sampled_from([TEXT, BINARY, CONT]), PAYLOADS, st.booleans(), **FLAWS)
    | st.builds(Frame, st.just(CONT), PAYLOADS, st.booleans(), **FLAWS)
    | st.builds(Frame, st.sampled_from([PING, PONG]), SHORT, **FLAWS)
    | st.builds(Frame, st.just(CLOSE), CLOSES, **FLAWS)
    | st.builds(Frame, st.integers(0, 15), PAYLOADS, st.booleans())
)


@st.composite
def sound_messages(draw: st.DrawFn) -> list[Frame]:
    """Make the frames of one sound message, control frames between its fragments."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(TEXTS.map(str.encode) if opcode == TEXT else PAYLOADS)
    pieces = cut(payload, draw(st.lists(st.integers(0, 10**6), max_size=4))) or [b""]
    frames: list[Frame] = []
    for index, piece in enumerate(pieces):
        frames.append(Frame(CONT if index else opcode, piece, fin=index == len(pieces) - 1))
        frames += draw(st.lists(st.builds(Frame, st.sampled_from([PING, PONG]), SHORT), max_size=1))
    return frames


STREAMS = st.lists(sound_messages() | st.lists(FRAMES, max_size=3), max_size=5)


def outcome(
    engine: Engine | WholeMessages, pieces: list[bytes], *, in_runs: bool = False
) -> list[object]:
    """Return what came of the pieces: messages, control events, and a fault as its code alone.

    Args:
        engine: Who parses.
        pieces: What it is given.
        in_runs: Take runs of messages first and between events, in the way a link does.
    """
    result: list[object] = []
    for piece in pieces:
        engine.receive_data(piece)
        while in_runs:
            result += map(message_event, engine.messages(inf, inf)[0])
            event = next(engine.events(), None)
            if event is None:
                break
            result.append(plain(engine, event))
        result += [plain(engine, event) for event in engine.events()]
    return result


def message_event(message: str | bytes) -> Event:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


def plain(engine: Engine | WholeMessages, event: Event) -> object:
    if isinstance(event, CloseConnection):
        closed = engine.state in {ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED}
        return (int(event.code), event.reason) if closed else int(event.code)
    return event


def is_fault(result: list[object]) -> bool:
    return bool(result) and isinstance(result[-1], int)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def run_both(
    data: bytes, places: list[int], *, client: bool, closing: bool = False, in_runs: bool = False
) -> tuple[list[object], list[object]]:
    """Give both the same bytes, in the same pieces; return what came of it, and the states."""
    ours, theirs = Engine(client=client), WholeMessages(client=client)
    if closing:
        ours.send(CloseConnection(code=1000))
        theirs.send(CloseConnection(code=1000))
    pieces = cut(data, places)
    results = outcome(ours, pieces, in_runs=in_runs), outcome(theirs, pieces)
    if is_fault(results[0]) and not is_fault(results[1]):
        results[1].extend(outcome(theirs, [PADDING]))
    return [*results[0], ours.state], [*results[1], theirs.state]


@settings(deadline=None, max_examples=400)
@given(
    frames=STREAMS.map(lambda parts: [frame for part in parts for frame in part]),
    places=st.lists(st.integers(0, 10**6), max_size=12),
    missing=st.just(0) | st.integers(0, 20),
    client=st.booleans(),
    closing=st.booleans(),
    in_runs=st.booleans(),
)
def test_engine_and_wsproto_agree_on_every_stream_of_frames(
    *,
    frames: list[Frame],
    places: list[int],
    missing: int,
    client: bool,
    closing: bool,
    in_runs: bool,
) -> None:
    data = b"".join(frame.encoded(masked=not client) for frame in frames)

    ours, theirs = run_both(
        data[: len(data) - missing], places, client=client, closing=closing, in_runs=in_runs
    )

    event(f"ended by {type(ours[-2]).__name__ if ours[1:] else 'nothing'}")
    event(f"{sum(isinstance(each, (TextMessage, BytesMessage)) for each in ours)} messages")
    assert ours == theirs


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=60),
    places=st.lists(st.integers(0, 60)),
    client=st.booleans(),
    in_runs=st.booleans(),
)
def test_engine_and_wsproto_agree_on_noise(
    *, data: bytes, places: list[int], client: bool, in_runs: bool
) -> None:
    sound = data.replace(b"\xed", b"\xee")

    ours, theirs = run_both(sound, places, client=client, in_runs=in_runs)

    assert ours == theirs


@settings(deadline=None)
@given(st.lists(st.text() | st.binary(), max_size=5), st.booleans())
def test_wsproto_receives_what_the_engine_sends(messages: list[str | bytes], client: bool) -> None:
    events = map(message_event, messages)
    sent: list[Event] = [Ping(payload=b"1"), *events, Pong(), CloseConnection(4000, "até")]
    ours, theirs = Engine(client=client), WholeMessages(client=not client)

    received = outcome(theirs, [ours.send(each) for each in sent])

    assert received == [*sent[:-1], (4000, "até")]


@settings(deadline=None)
@given(st.lists(st.text() | st.binary(), max_size=5), st.booleans())
def test_engine_receives_what_wsproto_sends(messages: list[str | bytes], client: bool) -> None:
    events = map(message_event, messages)
    sent: list[Event] = [Ping(payload=b"1"), *events, Pong(), CloseConnection(4000, "até")]
    ours, theirs = Engine(client=client), WholeMessages(client=not client)

    received = outcome(ours, [theirs.send(each) for each in sent])

    assert received == [*sent[:-1], (4000, "até")]


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_engine_and_wsproto_agree_on_every_length(opcode: int, client: bool) -> None:
    for size in (*range(301), 65534, 65535, 65536, 65537):
        payload = bytes(index % 127 for index in range(size))
        data = Frame(opcode, payload).encoded(masked=not client)
        ours, theirs = run_both(data, [], client=client, in_runs=True)
        assert ours == theirs == [*ours[:1], ConnectionState.OPEN]


def test_difference_the_engine_knows_the_close_code_1014() -> None:
    data = Frame(CLOSE, (1014).to_bytes(2, "big")).encoded(masked=True)

    ours, theirs = run_both(data, [], client=False)

    assert ours == [(1014, ""), ConnectionState.REMOTE_CLOSING]
    assert theirs == [1002, ConnectionState.OPEN]


def test_difference_the_engine_refuses_half_a_surrogate_one_byte_earlier() -> None:
    frames = [Frame(TEXT, b"\xed\xa0", fin=False), Frame(PING), Frame(CONT, b"\x80")]
    data = b"".join(frame.encoded(masked=True) for frame in frames)

    assert outcome(Engine(client=False), [data]) == [1007]
    assert outcome(WholeMessages(client=False), [data]) == [Ping(), 1007]


@pytest.mark.parametrize(
    ("start", "code"),
    [
        # A bad first byte; a missing mask; a frame out of place.
        (b"\x83", 1002),
        (b"\x81\x7e", 1002),
        (b"\x80\x81mask", 1002),
    ],
)
def test_difference_the_engine_refuses_a_header_before_it_is_whole(start: bytes, code: int) -> None:
    theirs = WholeMessages(client=False)

    assert outcome(Engine(client=False), [start]) == [code]
    assert outcome(theirs, [start]) == []
    assert outcome(theirs, [PADDING]) == [code]
