"""Fuzz targets: frames, and the payload of a Close, as the engine reads them."""

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

from tests.fakes import raw_frame
from tests.fuzz.bounds import counted, held
from tests.fuzz.haste import sample
from tests.fuzz.implementations import IMPLEMENTATIONS, using
from tests.fuzz.reference import Deflated, Expected, expected
from tests.fuzz.splits import splits
from trio_ws._config import Deflate
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.extensions import Agreement
from trio_ws._transport.inbox import message_size
from trio_ws._types import Message, check_close

CLIENT, CLOSING, TIGHT, COMPRESSED, NO_TAKEOVER = 1, 2, 4, 8, 16
"""What the bits of the first byte of an input for `frames` say."""

# Bytes of the largest thing that is kept unparsed: a control frame.
_MAX_UNPARSED = 2 + 4 + 125

_PEER_CLOSED = {ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED}


@dataclass
class _Found:
    messages: list[Message]
    control: list[Event]
    close: tuple[int, str] | None
    fault: CloseConnection | None


def _settings(options: int) -> tuple[tuple[float, float], Deflated | None]:
    """Return the limits, and how messages are compressed."""
    if options & COMPRESSED:
        # A few bytes may mean very many. The window is the largest: what refers beyond a smaller
        # one is a fault or none, as the pieces have it.
        deflated = Deflated(takeover=not options & NO_TAKEOVER)
        return (300, 4) if options & TIGHT else (70_000, inf), deflated
    return (300, 4) if options & TIGHT else (inf, inf), None


def _agreement(deflated: Deflated) -> Agreement:
    return Agreement(
        send_window_bits=15,
        send_context_takeover=True,
        receive_window_bits=deflated.window_bits,
        receive_context_takeover=deflated.takeover,
        text="",
        settings=Deflate(),
    )


class _Reader:
    """An engine, and what came out of it."""

    def __init__(self, options: int, seed: int = 0) -> None:
        self.limits, self.deflated = _settings(options)
        max_message, max_fragments = self.limits
        self.engine = Engine(
            client=bool(options & CLIENT),
            max_message=max_message,
            max_fragments=max_fragments,
            agreement=None if self.deflated is None else _agreement(self.deflated),
        )
        if options & CLOSING:
            self.engine.send(CloseConnection(code=1000))
        self.found = _Found([], [], None, None)
        # S311: repeatable, not secret.
        self.numbers = random.Random(seed)  # noqa: S311

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        found = self.found
        assert found.fault is None, "nothing follows a fault"
        if isinstance(event, (TextMessage, BytesMessage)):
            assert event.message_finished
            assert isinstance(event.data, (str, bytes))
            found.messages.append(event.data)
        elif not isinstance(event, CloseConnection):
            assert found.close is None, "no control frame follows a Close"
            found.control.append(event)
        elif self.engine.state in _PEER_CLOSED:
            assert found.close is None, "there is one Close"
            found.close = int(event.code), event.reason or ""
        else:
            found.fault = event

    def read_on(self) -> None:
        """Take everything, in the way a link does that has room."""
        while True:
            messages, size = self.engine.messages(inf, inf)
            assert size == sum(map(message_size, messages))
            self.found.messages += messages
            event = next(self.engine.events(), None)
            if event is not None:
                self._take(event)
            elif self.engine.stalled:
                self.engine.go_on()
            else:
                return


def _by_events(reader: _Reader, piece: bytes) -> None:
    reader.engine.receive_data(piece)
    reader.take(reader.engine.events())


def _lent(reader: _Reader, piece: bytes) -> None:
    """Give bytes in a buffer that is used for other things afterwards, as the poller does."""
    buffer = bytearray(piece)
    with memoryview(buffer) as view:
        messages, size, whole = reader.engine.receive_messages(view, 3, 1000)
        assert not (whole and reader.engine.buffered)
        assert (len(messages) <= 3, size) == (True, sum(map(message_size, messages)))
        reader.found.messages += messages
        reader.read_on()
        reader.engine.keep()
    buffer[:] = b"\xff" * len(buffer)


def _late(reader: _Reader, piece: bytes) -> None:
    """Take a few messages and events, if any, and look for control frames early."""
    engine = reader.engine
    before = engine.buffered
    engine.receive_data(piece)
    assert engine.buffered <= before + len(piece)
    for step in reader.numbers.choices("mec", k=reader.numbers.randrange(4)):
        if step == "m":
            reader.found.messages += engine.messages(1, 100)[0]
        elif step == "e":
            reader.take(itertools.islice(engine.events(), 1))
        else:
            reader.take(engine.early_control())


_Way: TypeAlias = Callable[[_Reader, bytes], None]

_WAYS: tuple[tuple[_Way, int], ...] = ((_by_events, 0), (_lent, 0), (_late, 1), (_late, 2))
"""Each with a seed."""


def frames(data: bytes) -> None:
    """Frames, behind one byte of options: the engine agrees with the reference, however it is fed.

    It agrees with compiled frames and without; it holds no more than a message, and no more than a
    control frame of what it could not parse; and it works in linear time.
    """
    options, stream = (data[0], data[1:]) if data else (0, b"")
    (max_message, max_fragments), deflated = _settings(options)
    wanted = expected(
        stream,
        client=bool(options & CLIENT),
        max_message=max_message,
        max_fragments=max_fragments,
        deflated=deflated,
    )
    cuts = (*splits(stream), _at(stream, wanted.ends))
    for implementation, pieces, (way, seed) in sample(
        data, itertools.product(IMPLEMENTATIONS, cuts, _WAYS)
    ):
        reader = _Reader(options, seed)
        with using(implementation):
            _read(reader, pieces, way)
            _compare(reader, wanted, early=way is _late)


def _at(stream: bytes, ends: list[int]) -> list[bytes]:
    """Cut a stream between its frames."""
    return [stream[start:end] for start, end in itertools.pairwise((0, *ends, len(stream)))]


def _read(reader: _Reader, pieces: list[bytes], way: _Way) -> None:
    size = sum(map(len, pieces))
    # In Python, with a call for each byte, it is 123 lines a byte, however many bytes there are.
    with counted(limit=300 + 150 * size):
        for piece in pieces:
            way(reader, piece)
        reader.read_on()
    if reader.found.close is None and reader.found.fault is None:
        assert reader.engine.buffered <= _MAX_UNPARSED
    else:
        assert not reader.engine.buffered
    # A growing buffer has an eighth of its size to spare; the last piece is kept until the next.
    pending = reader.limits[0] if reader.deflated is not None else min(reader.limits[0], size)
    last = len(pieces[-1]) if pieces else 0
    assert held(reader.engine) <= 3000 + 1.25 * pending + last


def _compare(reader: _Reader, wanted: Expected, *, early: bool) -> None:
    found = reader.found
    assert found.messages == wanted.messages
    if not early:
        assert (found.control, found.close) == (wanted.control, wanted.close)
    else:
        # Control frames are seen in front of faults, and behind faults as well; and once a Close
        # is seen, a fault in front of it changes nothing any more.
        assert found.control[: len(wanted.control)] == wanted.control
        if not wanted.faults:
            assert (len(found.control), found.close) == (len(wanted.control), wanted.close)
        if found.close is not None:
            assert found.fault is None
            return
    if found.fault is None:
        assert not wanted.faults
    else:
        assert int(found.fault.code) in wanted.faults
    _end(reader)


def _end(reader: _Reader) -> None:
    """Answer as the states allow it (RFC 6455 §5.5.1), after which nothing can be sent."""
    engine, found = reader.engine, reader.found
    answer = found.fault or CloseConnection(code=1000 if found.close is None else found.close[0])
    if engine.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
        assert len(engine.send(answer)) <= _MAX_UNPARSED
    for event in (TextMessage(data=""), Ping(), answer):
        try:
            engine.send(event)
        except LocalProtocolError:
            continue
        raise AssertionError(f"{event} was sent after a Close")


def deflate(data: bytes) -> None:
    """What is to be inflated, behind one byte of options: as `frames`, without their headers.

    Beside those of `frames` the options say whether it is text, and into how many messages and
    fragments it is cut.
    """
    options, body = (data[0], data[1:]) if data else (0, b"")
    opcode = 1 if options & CLIENT else 2
    # Two messages, of which the second may refer to the first; and as many fragments.
    cut = len(body) // 2 if options & CLOSING else 0
    stream = b""
    for message in (body[:cut], body[cut:]) if cut else (body,):
        half = len(message) // 2 if options & 32 else len(message)
        last = half == len(message)
        key = bytes(4)
        stream += raw_frame(opcode, message[:half], masked=True, fin=last, reserved=4, key=key)
        stream += b"" if last else raw_frame(0, message[half:], masked=True, key=key)
    frames(bytes((COMPRESSED | options & (TIGHT | NO_TAKEOVER),)) + stream)


def close_payload(data: bytes) -> None:
    """The payload of a Close: read as the RFC says, and what may be sent is what may be read."""
    payload = data[:125]
    frame = raw_frame(8, payload, masked=True)
    wanted = expected(frame, client=False)
    reader = _Reader(0)
    with counted(limit=1000):
        _by_events(reader, frame)
    _compare(reader, wanted, early=False)

    code = int.from_bytes(data[:2], "big")
    # Text that cannot be encoded is among what an application may give.
    reason = data[2:].decode("utf-8", "surrogateescape")
    try:
        check_close(code, reason)
    except ValueError:
        _refuses_to_send(code, reason)
        return
    sender, receiver = Engine(client=True), Engine(client=False)
    receiver.receive_data(sender.send(CloseConnection(code=code, reason=reason)))
    assert list(receiver.events()) == [CloseConnection(code=code, reason=reason)]
    assert receiver.state is ConnectionState.REMOTE_CLOSING


def _refuses_to_send(code: int, reason: str) -> None:
    engine = Engine(client=True)
    try:
        engine.send(CloseConnection(code=code, reason=reason))
    except (LocalProtocolError, ValueError):
        assert engine.state is ConnectionState.OPEN
    else:
        # It stands for "no code" (RFC 6455 §7.4.1), and nothing is written of it.
        assert code == 1005
