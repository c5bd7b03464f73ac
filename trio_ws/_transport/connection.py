"""`Connection`: a live WebSocket, a `trio.abc.Channel` and a trio-websocket connection in one.

This is the one module that touches private names of trio-websocket. A connection is made without
its initialiser, which would build the memory channel, the lock and the events of the data path that
is replaced here. What trio-websocket's own properties read is set instead:

* ``_close_reason`` (by `closed`), kept as a property that asks the link;
* ``_wsproto`` (by `is_client`, `is_server`): the engine;
* ``_path``, ``_subprotocol`` (by the properties of those names);
* ``_handshake_headers`` (by `handshake_headers`), a property as well.
"""

import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import trio
import trio.abc
import trio_websocket
from trio.lowlevel import checkpoint_if_cancelled

from trio_ws._config import Limits, Rate
from trio_ws._errors import CloseReason, ConnectionClosedHere
from trio_ws._protocol.frames import implementation
from trio_ws._transport.endpoint import Endpoint, describe
from trio_ws._transport.engine_like import EngineLike
from trio_ws._transport.interrupts import unbroken
from trio_ws._transport.link import Link
from trio_ws._transport.tasks import open_tasks
from trio_ws._transport.tls_facts import TlsFacts
from trio_ws._types import CloseCode, Headers, Message, Sendable, check_close, escaped

if TYPE_CHECKING:
    from wsproto import WSConnection

PRIVATE_NAMES = (
    "_close_reason",
    "_handshake_headers",
    "_path",
    "_subprotocol",
    "_wsproto",
)
"""What is used of `trio_websocket.WebSocketConnection` beyond its public interface."""

_GIVE_WAY = 32  # messages sent in a row before other tasks get a turn

_WRITING_COUNTS = 7  # a write by the sender itself counts as so many messages


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatistics:
    """What `Connection.statistics` returns."""

    messages_received: int
    """Messages that have arrived, received by the application or not."""
    messages_sent: int
    """Messages that were queued for sending."""
    bytes_received: int
    """Bytes read from the stream after the opening handshake."""
    inbox_messages: int
    """Messages that wait to be received."""
    inbox_bytes: int
    """Bytes of those messages."""
    outgoing_bytes: int
    """Bytes that wait to be written."""
    reading_paused: bool
    """Whether reading waits for the application: this side's own back-pressure."""
    pings_pending: int
    """Calls of `ping` that wait for their pong."""
    frames: Literal["compiled", "python"]
    """What parses and makes frames: compiled code, or Python where that was not built, or was
    turned off by ``TRIO_WS_NO_SPEEDUPS=1``."""
    wire: Literal["poller", "tasks"]
    """What reads and writes: the poller that sockets share, or tasks of its own."""
    compression: str | None
    """What the two sides have agreed on, as RFC 7692 writes it; None if messages are not
    compressed."""


class Connection(trio_websocket.WebSocketConnection, trio.abc.Channel[Message]):
    """A live WebSocket connection. Created by `connect` and `Request.accept`.

    It is a `trio.abc.Channel` of ``str`` and ``bytes``, and everything written for
    trio-websocket takes it, too. Any number of tasks may send; one at a time may receive::

        async for message in connection:
            await connection.send(message)

    The block that made it ends it: leaving the block says goodbye with 1000, an error with 1011 (or
    with the error's own ``close_code``), a cancellation with 1001, within `Limits.close_timeout`.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        engine: EngineLike,
        *,
        local: Endpoint | str,
        remote: Endpoint | str,
        limits: Limits,
        peer: str,
        path: str,
        subprotocol: str | None,
        headers: Headers,
        extension: str | None = None,
        tls: TlsFacts | None = None,
        rate: Rate | None = None,
    ) -> None:
        # Typed as the one engine trio-websocket knows; only `client` is asked of it there.
        self._wsproto = cast("WSConnection", engine)
        self._path = path
        self._subprotocol = subprotocol
        self._headers = headers
        self._local = local
        self._remote = remote
        self._tls = tls
        self._close_timeout = limits.close_timeout
        self._extension = extension
        self._link = Link(stream, engine, limits, f"{peer} {describe(remote)}", rate)
        self._unyielded = 0

    @property
    def local(self) -> Endpoint | str:
        """This side's address; it stays after the close."""
        return self._local

    @property
    def remote(self) -> Endpoint | str:
        """The peer's address; it stays after the close."""
        return self._remote

    @property
    def tls(self) -> TlsFacts | None:
        """What the TLS handshake has told of the peer, its certificate for one; None without TLS.

        It stays after the close.
        """
        return self._tls

    @property
    def _handshake_headers(self) -> tuple[tuple[bytes, bytes], ...]:  # type: ignore[override]
        # mypy: an attribute there. Made when it is asked for, because it is large and seldom used.
        return tuple(
            (name.lower().encode("ascii"), value.encode("latin-1"))
            for name, value in self._headers.fields
        )

    @property
    def close_code(self) -> int | None:
        """The close code (RFC 6455 §7.1.5) of whoever closed first; None while open.

        1005 stands for a Close frame without a code, 1006 for none at all.
        """
        closure = self._link.closure
        return None if closure is None else int(closure.reason.code)

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the close code, empty if none; None while open."""
        closure = self._link.closure
        return None if closure is None else str(closure.reason)

    @property
    def closed_by(self) -> Literal["local", "remote"] | None:
        """Who closed first; None while open, and when the line was lost."""
        closure = self._link.closure
        return None if closure is None else closure.by

    @property
    def _close_reason(self) -> CloseReason | None:  # type: ignore[override]
        # mypy: an attribute there, which only trio-websocket's own data path ever sets.
        closure = self._link.closure
        return None if closure is None else closure.reason

    def statistics(self) -> ConnectionStatistics:
        """Return how much has come and gone, and what waits."""
        link = self._link
        return ConnectionStatistics(
            messages_received=link.received,
            messages_sent=link.sent,
            bytes_received=link.bytes_received,
            inbox_messages=len(link.inbox),
            inbox_bytes=link.inbox.size,
            outgoing_bytes=link.outgoing.size,
            reading_paused=link.paused,
            pings_pending=0 if link.pings is None else len(link.pings),
            frames=implementation(),
            wire=link.wire.kind,
            compression=self._extension,
        )

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Receive the next message.

        Messages that arrived before the peer's close can still be received after it. Checks for
        cancellation every time; gives way to other tasks when it blocks, and every 32 messages.

        Returns:
            ``str`` for a text message, ``bytes`` for a binary one.

        Raises:
            ConnectionClosedOK: The peer closed normally. It is a `trio.EndOfChannel`.
            ConnectionClosedError: The connection was lost or closed with an error.
            trio.ClosedResourceError: This side has called `aclose`, or left the block.
            trio.BusyResourceError: Another task is receiving.

        Cancellation:
            Atomic: a cancelled call has taken no message.
        """
        return await self._link.inbox.receive()

    @trio.lowlevel.enable_ki_protection
    # mypy and pyright do not agree on what an async function returns.
    def __anext__(self) -> Coroutine[Any, Any, Message]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # As the channel's own, with two coroutines less to go through for each message.
        return self._link.inbox.receive(iterating=True)

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: Sendable, *, compress: bool | None = None) -> None:
        """Send one message.

        ``str`` goes out as a text message, anything else as a binary one. Blocks while more than
        `Limits.outgoing_bytes` wait to be written; that is the back-pressure. Checks for
        cancellation every time; gives way to other tasks when it blocks, and every 32 messages, or
        every 4 in front of which so much had to be written.

        Args:
            value: The whole message.
            compress: Whether to compress it, where that was agreed on; by default its size decides
                (`Deflate.min_size`, `Deflate.max_size`). All other tasks wait meanwhile, about
                20 ms a MiB. Where it was not agreed on this changes nothing.

        Raises:
            ConnectionClosed: The connection is closed or closing.
            trio.ClosedResourceError: This side has called `aclose`, or left the block.
            TypeError: It is no message.

        Cancellation:
            Atomic: a cancelled call has queued nothing. What was queued is written, whoever is
            cancelled.
        """
        await checkpoint_if_cancelled()
        link = self._link
        if crowded := link.outgoing.crowded:
            # Much is written at once, for as long as the system takes it: a wait would cost more.
            link.wire.flush()
            self._unyielded += _WRITING_COUNTS
            crowded = link.outgoing.crowded
        if crowded:
            await self._send_when_there_is_room(value, compress)
        elif link.closure is not None:
            raise link.error()
        else:
            link.push_message(value, compress)
        self._unyielded += 1
        if self._unyielded >= _GIVE_WAY:
            self._unyielded = 0
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _send_when_there_is_room(self, value: Sendable, compress: bool | None) -> None:
        link = self._link
        await link.outgoing.wait_for_room()
        self._unyielded = 0
        try:
            if link.closure is not None:
                raise link.error()
            link.push_message(value, compress)
        finally:
            link.outgoing.pass_on()

    @trio.lowlevel.enable_ki_protection
    def send_nowait(self, value: Sendable, *, compress: bool | None = None) -> None:
        """Send one message, if that is possible without blocking.

        Args:
            value: The whole message.
            compress: As for `send`.

        Raises:
            trio.WouldBlock: More than `Limits.outgoing_bytes` wait to be written, or it is the turn
                of a task that waits in `send`.
            ConnectionClosed: The connection is closed or closing.
            trio.ClosedResourceError: This side has called `aclose`, or left the block.
            TypeError: It is no message.
        """
        link = self._link
        if link.closure is not None:
            raise link.error()
        if link.outgoing.crowded:
            raise trio.WouldBlock
        link.push_message(value, compress)

    @trio.lowlevel.enable_ki_protection
    async def aclose(self, code: int = CloseCode.NORMAL, reason: str | None = None) -> None:
        """Close the connection: say goodbye, wait for the answer, end the transport.

        What was sent before is written first. Messages not received yet are thrown away. Takes at
        most `Limits.close_timeout`. Closing a closed connection does nothing.

        Args:
            code: The close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: Why, in at most 123 bytes of UTF-8.

        Raises:
            ValueError: The code may not be sent, or the reason is too long.

        Cancellation:
            The line is cut at once. A task of `open_nursery` is cancelled by this call, but not
            before the goodbye is said.
        """
        check_close(code, reason)
        cancelled = trio.current_effective_deadline() == -math.inf
        self._link.close(code, reason, "this side closed the connection", own=True)
        wire = self._link.wire
        if not cancelled and trio.current_effective_deadline() == -math.inf:
            # The caller is a task of the connection's own nursery, and has just cancelled itself.
            with trio.move_on_after(self._close_timeout, shield=True):
                await wire.wait_stopped()
        try:
            await wire.wait_stopped()
        except trio.Cancelled:
            wire.abort()
            raise

    @trio.lowlevel.enable_ki_protection
    async def ping(self, payload: bytes | None = None) -> float:  # type: ignore[override]
        """Send a ping and wait for the pong. Up to 16 at a time are on their way; more wait.

        Args:
            payload: What it carries, at most 125 bytes; random by default.

        Returns:
            The round trip in seconds.

        Raises:
            ConnectionClosed: The connection ended before the pong came. It is also a
                `trio.ClosedResourceError` if this side has called `aclose`, or left the block.
            ValueError: The payload is too long, or on its way already.

        Cancellation:
            The ping may have been sent; nothing of it stays behind on this side.
        """
        # mypy: trio-websocket's returns None; a caller of it does not miss that.
        if self._link.closure is not None:
            raise self._error()
        try:
            return await self._link.ping(payload)
        except trio.ClosedResourceError:
            raise self._error() from None

    @trio.lowlevel.enable_ki_protection
    async def pong(self, payload: bytes | None = None) -> None:
        """Send a pong nobody asked for (RFC 6455 §5.5.3).

        Args:
            payload: What it carries, at most 125 bytes.

        Raises:
            ConnectionClosed: The connection is closed or closing. It is also a
                `trio.ClosedResourceError` if this side has called `aclose`, or left the block.
            ValueError: The payload is too long.

        Cancellation:
            Atomic.
        """
        await trio.lowlevel.checkpoint()
        if self._link.closure is not None:
            raise self._error()
        self._link.push_pong(payload or b"")

    @trio.lowlevel.enable_ki_protection
    async def get_message(self) -> Message:
        """Receive the next message, as trio-websocket does.

        Raises:
            ConnectionClosed: The connection is closed, by whichever side.

        Cancellation:
            Atomic: a cancelled call has taken no message.
        """
        try:
            return await self.receive()
        except trio.ClosedResourceError:
            raise self._error() from None

    @trio.lowlevel.enable_ki_protection
    async def send_message(self, message: Sendable) -> None:
        """Send one message, as trio-websocket does.

        Args:
            message: The whole message.

        Raises:
            ConnectionClosed: The connection is closed or closing, by whichever side.
            TypeError: It is no message.

        Cancellation:
            Atomic: a cancelled call has queued nothing.
        """
        try:
            await self.send(message)
        except trio.ClosedResourceError:
            raise self._error() from None

    def _error(self) -> Exception:
        """Make the error for using the connection after its end as trio-websocket's users do."""
        closure = self._link.closure
        assert closure is not None
        if closure.own:
            return ConnectionClosedHere(closure.reason, closure.detail)
        return self._link.error()

    @trio.lowlevel.enable_ki_protection
    async def wait_closed(self) -> None:
        """Wait until the closing handshake is done, or the connection is lost.

        It does not matter who closes. Messages may still wait to be received.

        Cancellation:
            Changes nothing.
        """
        await self._link.wait_over()

    @unbroken
    @asynccontextmanager
    async def open_nursery(self) -> AsyncGenerator[trio.Nursery, None]:
        """Open a nursery that ends with the connection.

        Its tasks are cancelled as soon as the connection closes or is lost; the block itself is
        not, and can still receive what arrived before. Nor does cancelling the nursery's own scope
        end the block: its tasks alone are in that scope. As with any nursery, leaving the block
        waits for the tasks, and a task that fails cancels the block::

            async with connection.open_nursery() as nursery:
                nursery.start_soon(tick, connection)
                async for message in connection:
                    ...

        Yields:
            The nursery. What is started in it after the close is cancelled at once.

        Cancellation:
            Reaches the block and the tasks, as with any nursery.
        """
        async with open_tasks(self._link) as nursery:
            yield nursery

    def __repr__(self) -> str:
        side = "client" if self.is_client else "server"
        closure = self._link.closure
        if closure is None:
            state = "open"
        else:
            state = f"{'closed' if self._link.over else 'closing'} {int(closure.reason.code)}"
        queued = f", {len(self._link.inbox)} queued" if len(self._link.inbox) else ""
        waiting = self._link.outgoing.size
        outgoing = f", {waiting} bytes outgoing" if waiting else ""
        where = f"{escaped(self._path or '')} {describe(self._remote)}"
        return f"<Connection {side} {where} {state}{queued}{outgoing}>"

    __str__ = __repr__
