"""`Link`: the working half of a connection, between the wire and the application.

Theory of operation
-------------------
A link owns the engine, the inbox, the outgoing queue and the wire of one connection, and knows how
the connection ends. Everything that changes its state is synchronous; waiting is left to the inbox,
the outgoing queue and the wire, so nothing awaits while state is half changed.

In: the wire calls `receive_bytes`. Until the inbox is full, the engine is asked for runs of plain
messages, and for an event whenever something else comes next. What remains are raw bytes, at most
`READ_AHEAD` and one read, in which control frames are still looked for. Taking messages out of the
inbox sets it going again. The same happens when the engine says that a step has cost enough; then
it goes on after all other tasks have had their turn. No other step is begun for that, but by a
read: whoever takes messages in a loop would do the work of many turns in one. Should the line end
meanwhile, its end is noted when the last control frame was seen, because that may be a Close.

A fault of the peer fails the connection as soon as the application has had what came before it: it
takes effect when the application asks for more, or after `Limits.close_timeout`. Until then answers
can still be sent; what follows the fault is read and ignored.

The end comes once, as a `Closure`: by the peer's Close, by a Close of ours, by a fault, or by the
loss of the line. From then on nothing can be sent. The inbox ends when nothing more can come: at
once, or, after a Close of ours, when the peer's has arrived.
"""

import logging
import os

import trio
import trio.abc
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from trio_ws._config import Keepalive, Limits, Rate
from trio_ws._errors import CloseReason, close_error
from trio_ws._transport.alarms import current_alarms
from trio_ws._transport.closure import Closure, PendingFault
from trio_ws._transport.engine_like import EngineLike
from trio_ws._transport.inbox import Inbox
from trio_ws._transport.keepalive import Watch
from trio_ws._transport.metered import MeteredInbox
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.pings import Pings
from trio_ws._transport.wires import make_wire
from trio_ws._types import CloseCode, Sendable

_logger = logging.getLogger("trio_ws.link")

READ_AHEAD = 64 * 1024
"""Raw bytes read on while the inbox is full, for the sake of the control frames among them."""


class Link:
    """One connection's state and queues.

    Args:
        stream: The stream, its opening handshake done; the link's wire closes it.
        engine: The engine.
        limits: What the peer may cost.
        peer: How messages for people call the peer.
        rate: How fast the peer may send; None for as fast as it can.
    """

    __slots__ = (
        "_deaf",
        "_lost",
        "_over",
        "_patience",
        "_pending",
        "_probe",
        "_scopes",
        "_turn",
        "_watch",
        "bytes_received",
        "closure",
        "engine",
        "inbox",
        "outgoing",
        "over",
        "peer",
        "pings",
        "received",
        "sent",
        "wire",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        engine: EngineLike,
        limits: Limits,
        peer: str,
        rate: Rate | None = None,
    ) -> None:
        self.engine = engine
        self.peer = peer
        self.inbox = self._make_inbox(limits, rate)
        self.outgoing = Outgoing(limits.outgoing_bytes)
        self.wire = make_wire(stream, self.outgoing, self, limits, client=engine.client)
        self.closure: Closure | None = None
        self.over = False
        """Whether the closing handshake is done, or the line is gone."""
        self._over: trio.Event | None = None
        self.pings: Pings | None = None
        self.received = self.sent = 0
        self.bytes_received = 0
        self._deaf = False
        # The end of the line, with its error, while control frames may still be found before it.
        self._lost: tuple[BaseException | None] | None = None
        self._patience = limits.close_timeout
        self._pending: PendingFault | None = None
        self._probe = b""
        # Whether an alarm will go on with what has stalled, or was not seen.
        self._turn = False
        self._scopes: set[trio.CancelScope] | None = None
        self._watch: Watch | None = None

    def _make_inbox(self, limits: Limits, rate: Rate | None) -> Inbox:
        if rate is not None:
            return MeteredInbox(
                rate,
                limits,
                self.peer,
                on_room=self._unblock,
                on_tokens=self._unblock_alone,
                on_excess=self._break_rule,
            )
        return Inbox(
            max_messages=limits.inbox_messages,
            max_bytes=limits.inbox_bytes,
            on_room=self._unblock,
        )

    def start(
        self, nursery: trio.Nursery, keepalive: Keepalive, *, head: bytes, rest: bytes
    ) -> None:
        """Start reading, writing and the keepalive.

        Args:
            nursery: Where the tasks live.
            keepalive: When to probe the peer.
            head: The response head to write first; a client has none.
            rest: Bytes that were read behind the peer's head.
        """
        self.outgoing.push_head(head)
        self.wire.start(nursery, rest)
        # What was read behind the head may have ended the connection already.
        if self.closure is None and keepalive.interval != float("inf"):
            self._watch = Watch(self, keepalive)
            self._watch.start()

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what the wire has read; see `WireOwner`."""
        self.bytes_received += len(data)
        # After the end a line that is being cut may still bring something.
        if self._deaf or self.over:
            return True
        engine, inbox = self.engine, self.inbox
        messages, size, all_taken = engine.receive_messages(data, *inbox.room)
        try:
            if messages:
                self.received += len(messages)
                inbox.extend(messages, size)
                if all_taken:
                    return True
            return self._parse()
        finally:
            if not all_taken:
                engine.keep()

    def _parse(self) -> bool:
        """Fill the inbox from the raw bytes; tell whether the wire may read on."""
        engine, inbox = self.engine, self.inbox
        while not (self._deaf or inbox.full):
            messages, size = engine.messages(*inbox.room)
            if messages:
                self.received += len(messages)
                inbox.extend(messages, size)
                if not engine.buffered:
                    break
                continue
            event = next(engine.events(), None)
            if event is None:
                break
            self._handle(event)
        held_up = inbox.full or engine.stalled
        # What is held up is raw bytes, and there are not to be many.
        self.wire.expected = 0 if held_up else engine.missing
        if self._deaf or not held_up:
            if self.over:
                self.inbox.end(self.error)
            return True
        for event in engine.early_control():
            self._handle(event)
        if (engine.stalled or engine.unseen) and not self._turn:
            current_alarms().at(trio.current_time(), self)
            self._turn = True
        # After the peer's Close whatever comes is ignored; the end of the line has to be seen.
        return self.over or engine.buffered < READ_AHEAD

    def _unblock(self) -> None:
        """Go on after the inbox was full."""
        if not self._deaf and self._parse():
            self.wire.resume()

    def _unblock_alone(self) -> None:
        """Go on like `_unblock`, where nobody who calls would know what to do with a failure."""
        try:
            self._unblock()
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._parsing_failed(failure)

    def due(self) -> None:
        """Go on when others have had their turn; see `Alarm`."""
        self._turn = False
        try:
            if not self._deaf:
                self.engine.go_on()
            self._unblock()
            if self._lost is not None:
                self.line_ended(*self._lost)
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._parsing_failed(failure)

    def _parsing_failed(self, failure: Exception) -> None:
        # A fault of ours costs this connection, and no other one.
        _logger.error("parsing failed; the connection is dropped", exc_info=failure)
        self.line_ended(failure)

    def _handle(self, event: Event) -> None:
        if isinstance(event, TextMessage):
            self.received += 1
            self.inbox.put(event.data)
        elif isinstance(event, BytesMessage):
            self.received += 1
            self.inbox.put(bytes(event.data))
        elif isinstance(event, Ping):
            # It may be found after the end of the line.
            if self.closure is None:
                self.outgoing.push_pong(self.engine.send(Pong(payload=bytes(event.payload))))
                self.wire.write_soon()
        elif isinstance(event, Pong):
            if self.pings is not None:
                self.pings.pong(bytes(event.payload))
        else:
            assert isinstance(event, CloseConnection)
            self._handle_close(event)

    def _handle_close(self, event: CloseConnection) -> None:
        state = self.engine.state
        if state is ConnectionState.REMOTE_CLOSING:
            # trio-websocket's word for no reason is None.
            reason = CloseReason(int(event.code), event.reason or None)
            self._end(Closure(reason, "remote", f"{self.peer} closed the connection"))
            # RFC 6455 §5.5.1: the answer echoes the code. What was sent before it is flushed first.
            self.outgoing.push_close(self.engine.send(CloseConnection(code=event.code)))
            self.wire.begin_close(answered=True, linger=False)
            self._settle()
        elif state is ConnectionState.CLOSED:
            self.wire.answer_arrived()
            self._settle()
        else:
            self._fault(int(event.code), event.reason or "")

    def _fault(self, code: int, what: str) -> None:
        """Fail the connection, because the peer broke the protocol (RFC 6455 §7.1.7)."""
        self._deaf = True
        if self.engine.state is not ConnectionState.OPEN:
            self.wire.answer_arrived(linger=True)
            self._settle()
            return
        detail = f"{self.peer} broke the protocol: {what}"
        closure = Closure(CloseReason(code, what), "local", detail)
        if self.received:
            # What came before was valid, and may be answered. Whoever waits for the next message is
            # woken, and has it settled at once.
            self._pending = PendingFault(closure, self._patience, self.settle_fault)
            self.inbox.end(self.settle_fault)
        else:
            self._fail(closure, drop_messages=False)

    def settle_fault(self) -> Exception:
        """Fail the connection for a fault that waited, and return the error for using it."""
        if (pending := self._pending) is not None:
            self._fail(pending.closure, drop_messages=False)
        return self.error()

    def _break_rule(self, what: str) -> bool:
        """Fail the connection, because the peer broke a rule; tell whether it was open."""
        if self.closure is not None:
            return False
        self._deaf = True
        reason = CloseReason(int(CloseCode.POLICY_VIOLATION), what)
        closure = Closure(reason, "local", f"{self.peer} was dropped: {what}")
        self._fail(closure, drop_messages=True)
        return True

    def _fail(self, closure: Closure, *, drop_messages: bool) -> None:
        """Say a Close, and expect nothing more."""
        self._end(closure)
        event = CloseConnection(code=closure.reason.code, reason=str(closure.reason))
        self.outgoing.push_close(self.engine.send(event), drop_messages=drop_messages)
        self.wire.begin_close(answered=True, half_close_first=True)
        self._settle()

    def line_ended(self, error: BaseException | None) -> None:
        """Note the end of reading; see `WireOwner`."""
        if self.engine.unseen and self._turn:
            self._lost = (error,)
            return
        self._lost = None
        if self._pending is not None:
            self.settle_fault()
        how = "ended the connection without a Close frame"
        if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
            how = f"lost the connection: {error.__cause__}"
        elif error is not None:
            how = f"lost the connection: {error}".rstrip(": ")
        self._end(Closure(CloseReason(1006, None), None, f"{self.peer} {how}"))
        if error is not None:
            self.outgoing.clear()
        self.wire.begin_close(answered=True)
        self._settle()

    def line_stuck(self) -> None:
        """Note that the peer takes no byte; see `WireOwner`."""
        detail = f"{self.peer} took nothing of what was sent to it for too long, and was dropped"
        self._end(Closure(CloseReason(1006, None), "local", detail))
        self.wire.abort()
        self._settle()

    def close(self, code: int, reason: str | None, detail: str, *, own: bool = False) -> None:
        """Begin the closing handshake, unless it has begun.

        Args:
            code: The close code; it was checked.
            reason: The close reason; it was checked.
            detail: What happened, for people.
            own: The application itself closes; messages that wait are thrown away.
        """
        if self._pending is not None:
            self.settle_fault()
        if self.closure is None:
            self._end(Closure(CloseReason(code, reason), "local", detail, own=own))
            event = CloseConnection(code=code, reason=reason)
            self.outgoing.push_close(self.engine.send(event))
            self.wire.begin_close(answered=False)
        if own:
            self.abandon()

    def abandon(self) -> None:
        """Throw away what was not received: nobody will ask for it."""
        self.inbox.end(self.error, discard=True)
        if self.over:
            # Nor is a Close awaited among it, which would be a reason to inflate what is left.
            self._deaf = True
            self.wire.resume()
        else:
            # All is still parsed, and inflated, until the peer's Close: by the same steps as ever,
            # and no longer than the wire waits for that Close.
            self._unblock()

    def _end(self, closure: Closure) -> None:
        """Note how the connection ended, and stop all that depends on its being open."""
        if self.closure is not None:
            return
        self.closure = closure
        if self._pending is not None:
            self._pending.withdraw()
            self._pending = None
        # The scopes first: a task of the connection's nursery is cancelled, not told of an error.
        for scope in self._scopes or ():
            scope.cancel()
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        self.outgoing.release()
        if self.pings is not None:
            self.pings.end()

    def _settle(self) -> None:
        """Note that nothing more can come from the peer."""
        self.over = True
        if self.closure is not None and self.closure.own:
            # See `abandon`.
            self._deaf = True
        if self._over is not None:
            self._over.set()
        # Else, once no message is left among the raw bytes.
        if self._deaf or not (self.inbox.holds_up or self.engine.stalled):
            self.inbox.end(self.error)

    async def wait_over(self) -> None:
        """Wait until the closing handshake is done, or the line is gone."""
        if self.over:
            await trio.lowlevel.checkpoint()
        else:
            if self._over is None:
                self._over = trio.Event()
            await self._over.wait()

    def error(self) -> Exception:
        """Make the error for using the connection after its end."""
        closure = self.closure
        assert closure is not None
        if closure.own:
            return trio.ClosedResourceError("this side has closed the connection")
        error = close_error(closure.reason, closure.detail)
        error.source = self
        return error

    @trio.lowlevel.enable_ki_protection
    def push_message(self, message: Sendable, compress: bool | None = None) -> None:
        """Serialise and queue a message."""
        # Nothing may come between: a compressed message that is not sent would garble the next.
        self.outgoing.push(self.engine.send_message(message, compress))
        self.sent += 1
        wire = self.wire
        # Asked here, because most messages of a stream follow one that waits already.
        if not wire.writing:
            wire.write_soon()

    async def ping(self, payload: bytes | None) -> float:
        """Send a ping and wait for its pong; see `Connection.ping`."""
        if self.pings is None:
            self.pings = Pings()
        frames: dict[bytes, bytes] = {}

        def send(data: bytes) -> None:
            if self.closure is not None:
                raise self.error()
            frames[data] = self.engine.send(Ping(payload=data))
            self.outgoing.push_ping(frames[data])
            self.wire.write_soon()

        def withdraw(data: bytes) -> None:
            self.outgoing.withdraw_ping(frames[data])

        round_trip = await self.pings.round_trip(payload, send, withdraw)
        if round_trip is None:
            raise self.error()
        return round_trip

    def push_pong(self, payload: bytes) -> None:
        """Queue an unsolicited pong."""
        self.outgoing.push_pong(self.engine.send(Pong(payload=payload)))
        self.wire.write_soon()

    def add_scope(self, scope: trio.CancelScope) -> None:
        """Have a scope cancelled when the connection ends; at once if it has."""
        if self._scopes is None:
            self._scopes = set()
        self._scopes.add(scope)
        if self.closure is not None:
            scope.cancel()

    def discard_scope(self, scope: trio.CancelScope) -> None:
        """Forget a scope."""
        if self._scopes is not None:
            self._scopes.discard(scope)

    # What the keepalive asks for; see `Probed`.

    @property
    def heard(self) -> float:
        """When the last byte came in, or reading was resumed."""
        return self.wire.heard

    @property
    def paused(self) -> bool:
        """Whether reading waits for the application."""
        return self.wire.paused

    def probe(self) -> None:
        """Send a ping of the keepalive; its pong is life like any other byte."""
        if self.closure is not None:
            return
        # One that was not even written is replaced: the lane stays bounded, however long it lasts.
        self.outgoing.withdraw_ping(self._probe)
        self._probe = self.engine.send(Ping(payload=os.urandom(4)))
        self.outgoing.push_ping(self._probe)
        self.wire.write_soon()

    def give_up(self, silence: float) -> None:
        """Drop a peer that stayed silent."""
        if self.closure is not None:
            return
        text = f"nothing was heard for {silence:g} seconds"
        detail = f"{self.peer} was dropped by the keepalive: {text}"
        self._deaf = True
        closure = Closure(CloseReason(1011, f"keepalive: {text}"), "local", detail)
        self._fail(closure, drop_messages=True)
