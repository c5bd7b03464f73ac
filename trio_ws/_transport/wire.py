"""`StreamWire`: reads and writes for one connection, by tasks, over any Trio stream.

Theory of operation
-------------------
A wire knows bytes, not frames. It hands what it reads to its owner, writes what waits in the
outgoing queue, and ends the transport. A reader task lives as long as the line; a writer task
lives while there is something to write.

Ending goes through `begin_close`, once, and then takes its course, whoever is cancelled:

    flush ──> wait for the peer's answer ──> half-close ──> wait for the peer's end ──> cut

All of it together has `close_timeout`; then, or after `abort`, the line is cut at once. A server
half-closes first and a client waits for that (RFC 6455 §7.1.1). Half-closing and reading on until
the peer has ended, instead of just closing, keeps the kernel from answering data that is still
under way with a reset, which would destroy the Close frame before the peer has read it. Behind the
peer's own Close nothing may be under way, so then a server does not wait for its end; some clients
never end by themselves.
"""

import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal, Protocol

import trio
import trio.abc

from trio_ws._transport.endpoint import beneath_tls
from trio_ws._transport.outgoing import Outgoing

READ_SIZE = 128 * 1024  # bytes of one read: one with a message of 64 KiB takes all of it
_SLICE = 16 * 1024  # bytes of one send_all on a stream that does not tell its progress

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

_logger = logging.getLogger("trio_ws.wire")


class WireOwner(Protocol):
    """What a wire needs from the connection it serves."""

    @abstractmethod
    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what was read; return whether to read on, or to wait for `StreamWire.resume`.

        The bytes may lie in a buffer that is used again when this returns.
        """

    def line_ended(self, error: BaseException | None) -> None:
        """Note that nothing will be read any more; None means the peer ended it in order."""

    def line_stuck(self) -> None:
        """Note that the peer took no byte within the write timeout; the line is being cut."""


class Wire(ABC):
    """What all wires have in common: the pause of reading, and the course of the end.

    Args:
        stream: The stream; the wire closes it.
        outgoing: What there is to write.
        owner: The connection.
        client: Whether this side is the client, which waits for the server to end the line.
        write_timeout: Seconds without progress after which the peer is dropped.
        close_timeout: Seconds for everything from `begin_close` to the end.
    """

    kind: ClassVar[Literal["poller", "tasks"]] = "tasks"
    """What reads and writes."""

    __slots__ = (
        "_close_timeout",
        "_closing",
        "_half_close_first",
        "_nursery",
        "_outgoing",
        "_owner",
        "_reading",
        "_stopped",
        "_stream",
        "_write_error",
        "_write_timeout",
        "_writing",
        "heard",
        "paused",
        "stopped",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        outgoing: Outgoing,
        owner: WireOwner,
        *,
        client: bool,
        write_timeout: float,
        close_timeout: float,
    ) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._owner = owner
        self._write_timeout = write_timeout
        self._close_timeout = close_timeout
        self._nursery: trio.Nursery | None = None
        self._reading = True
        self._writing = False
        self._write_error: BaseException | None = None
        self._closing: _Closing | None = None
        self._half_close_first = not client
        self.paused = False
        """Whether reading waits for the application: this side's own back-pressure."""
        self.heard = 0.0
        """When the last byte came in, or reading was resumed; `trio.current_time`."""
        self.stopped = False
        """Whether the line is cut and no task is left."""
        # Made when somebody waits, which is at the very end.
        self._stopped: trio.Event | None = None

    def start(self, nursery: trio.Nursery, rest: bytes) -> None:
        """Start reading and writing.

        Args:
            nursery: Where the tasks live. Cancellation of whoever uses the connection must
                not reach it.
            rest: What was read behind the peer's head, to be handed over first.
        """
        self._nursery = nursery
        self.heard = trio.current_time()
        self._start_reading(rest)
        self.write_soon()

    @abstractmethod
    def _start_reading(self, rest: bytes) -> None:
        """Begin to read."""

    @abstractmethod
    def _start_writing(self) -> None:
        """Begin to write what waits; `_writing` was set."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop reading and writing, soon; `_reading_ended` and `_writing_ended` follow."""

    @abstractmethod
    def _go_on(self) -> None:
        """Read on after a pause."""

    def _hand_over(self, data: bytes | bytearray | memoryview, now: float) -> bool:
        """Give the owner what was read; tell whether to read on."""
        self.heard = now
        self.paused = not self._owner.receive_bytes(data)
        return not self.paused

    def resume(self) -> None:
        """Read on after `receive_bytes` asked to wait."""
        if not self.paused:
            return
        self.paused = False
        self.heard = trio.current_time()
        self._go_on()

    def _reading_ended(self, error: BaseException | None) -> None:
        self._reading = False
        self.resume()
        self._owner.line_ended(error or self._write_error)
        if self._closing is not None:
            self._closing.answered.set()
            self._closing.ended.set()

    def write_soon(self) -> None:
        """Have what waits written, after every task of this tick has had its step."""
        if not self._writing and self._nursery is not None and not self._outgoing.empty:
            self._writing = True
            self._start_writing()

    def _writing_ended(self) -> None:
        self._writing = False
        if self._closing is not None:
            self._closing.flushed.set()

    def begin_close(
        self, *, answered: bool, linger: bool = True, half_close_first: bool = False
    ) -> None:
        """Begin to end the line; further calls change nothing.

        Args:
            answered: Whether the peer's Close is here already, or none is expected.
            linger: Whether the peer may still be sending, so that its end has to be waited for.
            half_close_first: Half-close as a server does, although this is a client.
        """
        if self._closing is not None or self._nursery is None:
            return
        self.write_soon()
        self._half_close_first = self._half_close_first or half_close_first
        self._closing = _Closing(self._close_timeout)
        self._closing.linger = linger
        if not self._writing:
            self._closing.flushed.set()
        if answered or not self._reading:
            self._closing.answered.set()
        if not self._reading:
            self._closing.ended.set()
        self._nursery.start_soon(self._close, self._closing)

    def answer_arrived(self, *, linger: bool = False) -> None:
        """Note that the peer's Close is here, or that it will not come any more.

        Args:
            linger: As for `begin_close`: it will not come, and the peer may still be sending.
        """
        if self._closing is not None:
            self._closing.linger = linger
            self._closing.answered.set()

    def abort(self) -> None:
        """Cut the line at once."""
        self.begin_close(answered=True)
        if self._closing is not None:
            self._closing.scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _close(self, closing: "_Closing") -> None:
        try:
            try:
                with closing.scope:
                    await closing.flushed.wait()
                    await closing.answered.wait()
                    if not self._half_close_first or (
                        await half_close(self._stream) and closing.linger
                    ):
                        await closing.ended.wait()
            finally:
                # Should a fault of ours end all tasks, the poller must not keep the socket.
                self._outgoing.clear()
                self._stop()
                await cut(self._stream)
            await closing.ended.wait()
            await closing.flushed.wait()
        finally:
            # Whoever waits for this must not wait for ever, should a fault of ours end all tasks.
            self.stopped = True
            if self._stopped is not None:
                self._stopped.set()

    async def wait_stopped(self) -> None:
        """Wait until the line is cut and no task is left."""
        if self._stopped is None:
            self._stopped = trio.Event()
            if self.stopped:
                self._stopped.set()
        await self._stopped.wait()


class StreamWire(Wire):
    """The wire that serves any Trio stream, by a reader task and, now and then, a writer task."""

    __slots__ = ("_reader", "_running", "_writer")

    def _start_reading(self, rest: bytes) -> None:
        assert self._nursery is not None
        self._reader = trio.CancelScope()
        self._writer: trio.CancelScope | None = None
        self._running: trio.Event | None = None
        self._nursery.start_soon(self._read, rest)

    @trio.lowlevel.enable_ki_protection
    async def _read(self, rest: bytes) -> None:
        error: BaseException | None = None
        try:
            with self._reader:
                while data := rest or await self._stream.receive_some(READ_SIZE):
                    rest = b""
                    if not self._hand_over(data, trio.current_time()):
                        self._running = trio.Event()
                        await self._running.wait()
        except BROKEN as broken:
            error = broken
        except Exception as failure:
            # A stream that breaks its contract, or a fault of ours, costs this connection only.
            _logger.exception("reading failed; the connection is dropped")
            error = failure
        self._reading_ended(error)

    def _go_on(self) -> None:
        assert self._running is not None
        self._running.set()

    def _start_writing(self) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._write)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        try:
            with trio.CancelScope() as self._writer:
                while buffers := self._outgoing.take():
                    for data in buffers:
                        await write_all(
                            self._stream, data, self._write_timeout, self._outgoing.written
                        )
        except trio.TooSlowError:
            self._owner.line_stuck()
        except BROKEN as error:
            self._writing_broke(error)
        except Exception as failure:
            _logger.exception("writing failed; the connection is dropped")
            self._writing_broke(failure)
        finally:
            self._writer = None
            self._writing_ended()

    def _writing_broke(self, error: BaseException) -> None:
        self._outgoing.clear()
        self._write_error = error
        # The reader finds out by itself, after it has handed over what the peer sent before the
        # line broke, its Close perhaps. A paused one would not.
        if self.paused or not isinstance(error, BROKEN):
            self._reader.cancel()

    def _stop(self) -> None:
        self._reader.cancel()
        if self._writer is not None:
            self._writer.cancel()


class _Closing:
    """How far the end of a line has come."""

    __slots__ = ("answered", "ended", "flushed", "linger", "scope")

    def __init__(self, timeout: float) -> None:
        self.scope = trio.move_on_after(timeout)
        self.flushed = trio.Event()
        self.answered = trio.Event()
        self.ended = trio.Event()
        self.linger = True


async def write_all(
    stream: trio.abc.SendStream,
    data: bytes,
    patience: float,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write bytes to a stream, as long as the peer takes some now and then.

    Args:
        stream: Where to.
        data: What.
        patience: Seconds in which one byte, or 16 KiB on streams that are no plain sockets, has
            to be taken.
        progress: Called with the number of bytes that have left just now.

    Raises:
        trio.TooSlowError: There was no progress.
        trio.BrokenResourceError: The line broke.
    """
    send: Callable[[memoryview], Awaitable[int]]
    send = stream.socket.send if isinstance(stream, trio.SocketStream) else _slice_sender(stream)
    with memoryview(data) as view, trio.fail_after(patience) as scope:
        start = 0
        while start < len(view):
            try:
                count = await send(view[start:])
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            start += count
            scope.deadline = trio.current_time() + patience
            progress(count)


def _slice_sender(stream: trio.abc.SendStream) -> Callable[[memoryview], Awaitable[int]]:
    async def send(view: memoryview) -> int:
        part = view[:_SLICE]
        await stream.send_all(part)
        return len(part)

    return send


async def half_close(stream: trio.abc.Stream) -> bool:
    """End this side's direction of a stream, below TLS if there is TLS.

    The Close frame has told the peer already that all is said; a TLS alert would add nothing.

    Returns:
        False when the stream cannot do that.
    """
    inner = beneath_tls(stream)
    if not isinstance(inner, trio.abc.HalfCloseableStream):
        return False
    try:
        await inner.send_eof()
    except (*BROKEN, OSError, ssl.SSLError):
        return False
    except Exception:
        # A stream that breaks its contract costs its own connection only.
        _logger.exception("half-closing the stream failed")
        return False
    return True


async def cut(stream: trio.abc.AsyncResource) -> None:
    """Close a stream at once, whatever comes of it.

    Cancellation:
        It is closed all the same.
    """
    try:
        if isinstance(stream, trio.SocketStream):
            # What its own closing does, without a checkpoint; three scopes would cost a fifth of a
            # short connection, and most are cut more than once on their way out.
            stream.socket.close()
            return
        # It waits for nobody, so the shield needs no deadline. Without it a cancellation would
        # take the place of the error that is on its way out, a KeyboardInterrupt for one.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
    except Exception:
        _logger.exception("closing the stream failed")
