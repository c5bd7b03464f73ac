"""`Engine`: one open WebSocket as a state machine, bytes in, wsproto's events out.

Theory of operation
-------------------
The engine begins where the opening handshake ends and has wsproto's interface: `receive_data`
takes what was read, `events` yields what it means, `send` turns an event into bytes to write.
It differs in four ways; three of them are stricter, and the last is faster:

* A message event is always a whole message. Fragments are joined (see `Assembly`), because only
  here is the declared length of a frame known before its payload has arrived, and limits are
  checked then.
* `events` parses no further than it is iterated. Whoever stops asking (a full inbox) leaves the
  rest as raw bytes, and `buffered` says how many.
* `early_control` finds control frames in those raw bytes, so that pings are answered and a close
  is seen although the messages before them still have to wait.
* `messages` takes a run of plain messages at once, without an event for each. It stops in front
  of everything else, so that whatever has a meaning beyond itself goes through `events` alone.

What a peer sends is for it to choose, so parsing goes by steps: when one has cost enough, in frames
or in what was inflated, `events` ends and `stalled` says why. `early_control` has the same frames
to spend, and tells by `unseen` that it would need more. Both go on where they were, after `go_on`
or when more was received.

States are wsproto's (RFC 6455 §7.1):

    OPEN ── Close received ──> REMOTE_CLOSING ── Close sent ──────> CLOSED
    OPEN ── Close sent ──────> LOCAL_CLOSING  ── Close received ──> CLOSED

When the peer breaks the protocol, `events` ends with a `CloseConnection` that holds the code to
answer with, and the state does not change: that is how a fault is told from the peer's Close.
"""

from collections.abc import Iterator

from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from trio_ws._protocol.assembly import CHUNK, Assembly, check_frame
from trio_ws._protocol.close_payload import make_close, read_close
from trio_ws._protocol.deflate import PIECE, STEP, TAIL, Deflater, Inflater
from trio_ws._protocol.extensions import Agreement
from trio_ws._protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATED,
    MESSAGES_A_FRAME,
    PING,
    PONG,
    TEXT,
    FrameError,
    read_header,
    serialise,
    split,
)
from trio_ws._protocol.masking import mask
from trio_ws._protocol.messages import Frame, other_frame, small_frame
from trio_ws._types import Message, Sendable

FRAMES = 256
"""Frames of one connection that are taken apart before others get their turn: a millisecond, or two
if all of them are pings. Fragments and control frames cost most for their size, and 256 KiB of
them, as much as comes in one read, would hold everything up for up to a fifth of a second. Plain
messages count less; see `MESSAGES_A_FRAME`."""

_RUN = FRAMES * MESSAGES_A_FRAME  # plain messages that one read may begin with, for the same reason


class Engine:
    """One side of an open WebSocket connection.

    After calling `receive_data`, iterate over `events`; taking `messages` first, and between them,
    saves an event for each. After calling `send`, write what it returned. None of them ever
    blocks, and nothing but the documented errors is raised.

    Args:
        client: Whether this side is the client: it masks what it sends (RFC 6455 §5.1).
        max_message: Bytes of one incoming message; more is a fault with code 1009.
        max_fragments: Frames of one incoming message; more is a fault with code 1009.
        agreement: How messages are compressed, if they are.
    """

    __slots__ = (
        "_assembly",
        "_base",
        "_data",
        "_deflater",
        "_done",
        "_frames",
        "_inflater",
        "_max_fragments",
        "_max_message",
        "_position",
        "_scanned",
        "_sending",
        "client",
        "stalled",
        "state",
        "unseen",
    )

    def __init__(
        self,
        *,
        client: bool,
        max_message: float = float("inf"),
        max_fragments: float = float("inf"),
        agreement: Agreement | None = None,
    ) -> None:
        self.client = client
        self.state = ConnectionState.OPEN
        self._max_message = max_message
        self._max_fragments = max_fragments
        # What was received and not parsed yet is `_data[_position:]`. `_base` counts the bytes that
        # came before `_data`, so that a place in the stream keeps its number as long as it matters.
        self._data: bytes | bytearray | memoryview = b""
        self._position = 0
        self._base = 0
        self._done = False
        # The message being put together; None between messages.
        self._assembly: Assembly | None = None
        self._deflater = None if agreement is None else Deflater(agreement)
        self._inflater = None if agreement is None else Inflater(agreement)
        # What is left of `FRAMES` in this step.
        self._frames = FRAMES
        self.stalled = False
        """Whether `events` ended because this step has cost enough."""
        self.unseen = False
        """Whether `early_control` did, so that control frames may wait where it has not looked."""
        # Control frames that begin before this place of the stream were handed out early.
        self._scanned = 0
        # The opcode of the message being sent in fragments.
        self._sending: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes received and not parsed yet."""
        return len(self._data) - self._position

    @property
    def missing(self) -> int:
        """Bytes still to come of the payload that is arriving; 0 if it is inflated as it comes."""
        assembly = self._assembly
        if assembly is None or assembly.compressed:
            return 0
        return max(0, assembly.missing - self.buffered)

    def send(self, event: Event) -> bytes:
        """Turn an event into the bytes to write.

        Args:
            event: `TextMessage`, `BytesMessage`, `Ping`, `Pong` or `CloseConnection`. A message
                with ``message_finished=False`` is a fragment; the next message event continues it.

        Raises:
            wsproto.utilities.LocalProtocolError: The event does not fit the state.
            ValueError: The payload of a control frame is too long.
        """
        if isinstance(event, CloseConnection):
            return self._send_close(event)
        if self.state is not ConnectionState.OPEN:
            raise LocalProtocolError(f"{type(event).__name__} cannot be sent in state {self.state}")
        if isinstance(event, (TextMessage, BytesMessage)):
            return self._send_message(event.data, fin=event.message_finished)
        if isinstance(event, Ping):
            return serialise(PING, event.payload, masked=self.client)
        if isinstance(event, Pong):
            return serialise(PONG, event.payload, masked=self.client)
        raise LocalProtocolError(f"{type(event).__name__} is no event of an open connection")

    def send_message(self, message: Sendable, compress: bool | None = None) -> Frame:
        """Make the frame of a whole message: `send` without an event.

        If messages are compressed, the frames have to be sent in the order in which they were made.

        Args:
            message: The message.
            compress: Whether to compress it; None leaves it to its size.

        Raises:
            wsproto.utilities.LocalProtocolError: The connection is not open, or a message was
                begun in fragments and not ended.
            TypeError: It is no message.
        """
        if self.state is not ConnectionState.OPEN:
            raise LocalProtocolError(f"a message cannot be sent in state {self.state}")
        if self._sending is not None:
            raise LocalProtocolError("a message in fragments has to be ended first")
        if self._deflater is not None and compress is not False:
            frame = self._deflater.frame(message, compress, masked=self.client)
            if frame is not None:
                return frame
        # This is `message_frame`, which would be a call more for each message.
        return small_frame(message, self.client) or other_frame(message, masked=self.client)

    def _send_message(self, data: Sendable, *, fin: bool) -> bytes:
        opcode, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
        if self._sending is not None and self._sending != opcode:
            raise LocalProtocolError("text and binary cannot be mixed in one message")
        frame = serialise(
            opcode if self._sending is None else CONTINUATION,
            payload,
            masked=self.client,
            fin=fin,
        )
        self._sending = None if fin else opcode
        return frame

    def _send_close(self, event: CloseConnection) -> bytes:
        if self.state is ConnectionState.OPEN:
            state = ConnectionState.LOCAL_CLOSING
        elif self.state is ConnectionState.REMOTE_CLOSING:
            state = ConnectionState.CLOSED
        else:
            raise LocalProtocolError(f"CloseConnection cannot be sent in state {self.state}")
        payload = make_close(event.code, event.reason)
        frame = serialise(CLOSE, payload, masked=self.client)
        self.state = state
        return frame

    def receive_data(self, data: bytes | bytearray | memoryview, *, lent: bool = False) -> None:
        """Take bytes that were read; `events` tells what they mean.

        Args:
            data: The bytes.
            lent: Whether they lie in a buffer that will be used again. They are not copied then,
                and `keep` has to be called before that.
        """
        if self._done or self.state in _PEER_CLOSED:
            # Whatever follows a Close is ignored, a Close that was seen early as well.
            return
        self.go_on()
        if self._position == len(self._data):
            self._base += len(self._data)
            self._data = data if lent else bytes(data)
            self._position = 0
            return
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        # Deleting at the front and appending are both amortised constant time for a bytearray.
        del self._data[: self._position]
        self._base += self._position
        self._position = 0
        self._data += data

    def keep(self) -> None:
        """Copy what is left of lent bytes."""
        if isinstance(self._data, memoryview):
            self._base += self._position
            self._data = bytes(self._data[self._position :])
            self._position = 0

    def go_on(self) -> None:
        """Begin another step, after `events` has stalled or something is `unseen`."""
        self._frames = FRAMES
        self.stalled = self.unseen = False
        if self._inflater is not None:
            self._inflater.budget = STEP

    def receive_messages(
        self, data: memoryview | bytes | bytearray, max_count: float, max_bytes: float
    ) -> tuple[list[Message], int, bool]:
        """Take lent bytes and, if nothing waits before them, the run of messages they begin with.

        This is `receive_data` and `messages` in one: for most reads there is nothing else to do.

        Args:
            data: The bytes; `keep` has to be called before they change.
            max_count: As for `messages`.
            max_bytes: As for `messages`.

        Returns:
            As `messages`, and whether these are all of the bytes.
        """
        plain = self._position == len(self._data) and self._assembly is None
        if not plain or self._done or self.state in _PEER_CLOSED or self._max_fragments < 1:
            self.receive_data(data, lent=True)
            return [], 0, False
        messages, end, size = split(
            data,
            0,
            masked=not self.client,
            max_message=self._max_message,
            max_count=max_count if max_count < _RUN else _RUN,  # noqa: FURB136 - a call takes longer
            max_bytes=max_bytes,
        )
        # Nothing waited, so nothing was looked at early, and places may be counted anew: large
        # numbers are objects of their own.
        self._base = self._scanned = 0
        if end == len(data):
            self._data = b""
            self._position = 0
            return messages, size, True
        self._data = data
        self._position = end
        self.go_on()
        return messages, size, False

    def messages(self, max_count: float, max_bytes: float) -> tuple[list[Message], int]:
        """Take the run of whole, unfragmented messages that comes next in the stream.

        What it returns `events` does not yield any more; `events` goes on behind it.

        Args:
            max_count: Messages after which to stop.
            max_bytes: Bytes of messages after which to stop; the one that crosses the mark is
                taken.

        Returns:
            The messages, none when something else comes next, or nothing; and their bytes.
        """
        # What `early_control` has handed out are control frames, and those are never passed here.
        if self._assembly is not None or self._max_fragments < 1:
            return [], 0
        messages, self._position, size = split(
            self._data,
            self._position,
            masked=not self.client,
            max_message=self._max_message,
            max_count=min(max_count, self._frames * MESSAGES_A_FRAME),
            max_bytes=max_bytes,
        )
        self._frames -= -(-len(messages) // MESSAGES_A_FRAME)
        return messages, size

    def events(self) -> Iterator[Event]:
        """Yield events in the order of the stream, parsing one only when it is asked for.

        After the peer's Close, or a fault, everything that follows is ignored.
        """
        while not self._done:
            try:
                event = self._next_event()
            except FrameError as fault:
                self._finish()
                if self.state in _PEER_CLOSED:
                    # A fault before a Close that was seen early changes nothing any more.
                    return
                event = CloseConnection(code=fault.code, reason=str(fault))
            if event is None:
                return
            yield event

    def _next_event(self) -> Event | None:
        event: Event | None = None
        while event is None and not self._done:
            if self._in_frame():
                event = self._assemble()
                if self._in_frame():
                    break
                continue
            start = self._position
            header = self._read_header(start)
            if header is None:
                break
            if not self._frames:
                self.stalled = True
                break
            self._frames -= 1
            fin, opcode, length, payload = header
            end = payload + length
            if opcode < CLOSE:
                event = self._take_data(opcode, start, payload, end, fin=fin)
            elif end > len(self._data):
                break
            else:
                event = self._take_control(opcode, start, payload, end)
        return event

    def _in_frame(self) -> bool:
        return self._assembly is not None and self._assembly.in_frame

    def _assemble(self) -> Event | None:
        """Take what has arrived of a frame; return its message once that is whole."""
        assembly = self._assembly
        assert assembly is not None
        self._position = assembly.take(self._data, self._position)
        if assembly.whole:
            self._assembly = None
            return _message_event(assembly.message())
        # What is missing may be bytes, or the leave to inflate them.
        self.stalled = (
            assembly.in_frame and self._inflater is not None and self._inflater.budget <= 0
        )
        return None

    def _read_header(self, start: int) -> tuple[bool, int, int, int] | None:
        return read_header(
            self._data, start, masked=not self.client, deflate=self._inflater is not None
        )

    def _payload(self, start: int, end: int) -> bytes:
        if self.client:
            return bytes(self._data[start:end])
        return mask(self._data[start:end], bytes(self._data[start - 4 : start]))

    def _take_data(
        self, opcode: int, start: int, payload: int, end: int, *, fin: bool
    ) -> Event | None:
        """Return the message of a frame, or nothing when it has to be put together."""
        if opcode == CONTINUATION:
            if self._assembly is None:
                raise FrameError(1002, "continuation without a message to continue")
        elif self._assembly is not None:
            raise FrameError(1002, "new message inside of a fragmented one")
        else:
            deflated = self._data[start] & DEFLATED > 0
            if fin and end <= len(self._data):
                event = self._take_whole(opcode, payload, end, deflated=deflated)
                if event is not None or self._position == end:
                    return event
            self._assembly = self._assembly_for(opcode, deflated=deflated)
        key = b"" if self.client else bytes(self._data[payload - 4 : payload])
        self._assembly.begin_frame(end - payload, key, fin=fin)
        self._position = payload
        return None

    def _assembly_for(self, opcode: int, *, deflated: bool) -> Assembly:
        return Assembly(
            opcode,
            max_message=self._max_message,
            max_fragments=self._max_fragments,
            inflater=self._inflater if deflated else None,
        )

    def _take_whole(self, opcode: int, payload: int, end: int, *, deflated: bool) -> Event | None:
        """Return the message of a frame that is all of it, unless it takes longer to inflate."""
        size = end - payload
        check_frame(size, 1, self._max_message, self._max_fragments, compressed=deflated)
        if not deflated:
            self._position = end
            return self._whole_message(opcode, self._payload(payload, end))
        inflater = self._inflater
        assert inflater is not None
        if size > PIECE or inflater.budget <= 0:
            return None
        self._position = end
        inflater.begin_frame()
        inflater.feed(self._payload(payload, end) + TAIL)
        output = inflater.read(int(min(self._max_message + 1, CHUNK)))
        if inflater.waiting:
            # One byte too many is among what makes it wait.
            self._assembly = self._assembly_for(opcode, deflated=True)
            self._assembly.begin_inflated(output)
            return None
        inflater.end_message()
        return self._whole_message(opcode, output)

    def _whole_message(self, opcode: int, payload: bytes) -> Event:
        if opcode == BINARY:
            return BytesMessage(data=payload)
        try:
            return TextMessage(data=payload.decode())
        except UnicodeDecodeError:
            raise FrameError(1007, "text is not valid UTF-8") from None

    def _take_control(self, opcode: int, start: int, payload: int, end: int) -> Event | None:
        """Parse a control frame; return nothing when `early_control` has handed it out."""
        early = self._base + start < self._scanned
        event = None if early else self._control(opcode, payload, end)
        self._position = end
        if opcode == CLOSE:
            self._finish()
        return event

    def _control(self, opcode: int, payload: int, end: int) -> Event:
        data = self._payload(payload, end)
        if opcode == PING:
            return Ping(payload=data)
        if opcode == PONG:
            return Pong(payload=data)
        code, reason = read_close(data)
        ours_is_out = self.state is ConnectionState.LOCAL_CLOSING
        self.state = ConnectionState.CLOSED if ours_is_out else ConnectionState.REMOTE_CLOSING
        return CloseConnection(code=code, reason=reason)

    def _finish(self) -> None:
        """Parse no more; let go of everything that is held for parsing."""
        self._done = True
        self._data = b""
        self._position = 0
        self._assembly = self._inflater = None
        self.stalled = self.unseen = False

    def early_control(self) -> Iterator[Event]:
        """Yield the control events among the bytes that `events` was not asked for yet.

        Each control frame is handed out once, here or there. The search ends, to be taken up
        when more has arrived, at the first frame that is incomplete, and when the step has cost
        enough; at a faulty frame it ends for good, and `events` will report the fault in its turn.
        """
        while (event := self._next_control()) is not None:
            yield event

    def _next_control(self) -> Event | None:
        """Look for the next control frame; no frame is looked at twice."""
        while not self._done and self.state not in _PEER_CLOSED:
            # Not before the end of the frame whose payload is arriving.
            missing = 0 if self._assembly is None else self._assembly.missing
            start = max(self._scanned - self._base, self._position + missing)
            try:
                header = self._read_header(start)
                if header is None:
                    return None
                _, opcode, length, payload = header
                end = payload + length
                if end > len(self._data):
                    return None
                if not self._frames:
                    self.unseen = True
                    return None
                self._frames -= 1
                event = None if opcode < CLOSE else self._control(opcode, payload, end)
            except FrameError:
                return None
            self._scanned = self._base + end
            if event is not None:
                return event
        return None


def _message_event(message: Message) -> Event:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


# No set: the hash of an enum's member is worked out in Python, and this is asked for each read.
_PEER_CLOSED = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)
