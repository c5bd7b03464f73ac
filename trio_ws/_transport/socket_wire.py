"""`SocketWire`: the wire of a plain socket, served by the shared poller."""

import logging
import os
from collections.abc import Sequence
from typing import ClassVar

import trio

from trio_ws._transport.alarms import Entry, current_alarms
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.poller import Poller, current_poller
from trio_ws._transport.streams import BROKEN
from trio_ws._transport.watchers import READ, WRITE
from trio_ws._transport.wire import Wire, WireOwner

MAX_WRITES = 4  # writes to one socket in a round, of up to 64 KiB or of one frame each

_logger = logging.getLogger("trio_ws.wire")


class SocketWire(Wire):
    """Reads and writes without a task of its own.

    Args:
        stream: The stream; the wire closes it.
        outgoing: What there is to write.
        owner: The connection.
        poller: The poller of this run.
        client: Whether this side is the client, which waits for the server to end the line.
        write_timeout: Seconds without progress after which the peer is dropped.
        close_timeout: Seconds for everything from `begin_close` to the end.
    """

    kind = "poller"

    _READS_AHEAD: ClassVar[bool] = True
    """Whether what is `expected` is read at once, however much it is."""

    __slots__ = (
        "_entry",
        "_fd",
        "_poller",
        "_progress",
        "_socket",
        "_unwritten",
        "interest",
    )

    def __init__(
        self,
        stream: trio.SocketStream,
        outgoing: Outgoing,
        owner: WireOwner,
        *,
        poller: Poller,
        client: bool,
        write_timeout: float,
        close_timeout: float,
    ) -> None:
        super().__init__(
            stream,
            outgoing,
            owner,
            client=client,
            write_timeout=write_timeout,
            close_timeout=close_timeout,
        )
        self._poller = poller
        self._socket = stream.socket
        self._fd = self._socket.fileno()
        self.interest = 0
        # What a write has left of what was taken; at most two buffers.
        self._unwritten: Sequence[bytes | memoryview] = ()
        self._progress = 0.0
        # The alarm that is set while the peer takes nothing.
        self._entry: Entry | None = None

    def _start_reading(self, rest: bytes) -> None:
        if self._fd < 0:
            self._reading_ended(trio.ClosedResourceError("the socket is closed"))
            return
        if self._poller.ended:
            # Its last socket has left between the making of this wire and its start.
            poller = current_poller()
            if poller is None:
                self._reading_ended(trio.BrokenResourceError("no socket can be watched now"))
                return
            self._poller = poller
        self._poller.add(self._fd, self)
        try:
            if not rest or self._hand_over(rest, self.heard):
                self._watch(READ)
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._failed(failure)

    def _watch(self, interest: int) -> None:
        # A socket that was closed by somebody else the system has forgotten already, or will, when
        # the poller sees that its events are of no use.
        if interest != self.interest and self._is_ours():
            self._poller.watch(self._fd, interest, self.interest)
        self.interest = interest

    def ready(self, interest: int, now: float) -> bool:
        """Read once, or write on; see `Polled`."""
        interest &= self.interest
        try:
            if interest & WRITE:
                self.flush()
            # Writing may have brought the end of reading.
            if not interest & self.interest & READ:
                return interest != 0
            if self._socket.fileno() != self._fd:
                text = "the socket was closed by somebody else"
                self._end_reading(trio.ClosedResourceError(text))
                return False
            try:
                data = self._poller.read(self._fd, self.expected if self._READS_AHEAD else 0)
            except BlockingIOError:
                return False
            except OSError as error:
                self._end_reading(_broken(error))
                return True
            if not data:
                self._end_reading(None)
            elif not self._take_in(data, now):
                self._watch(self.interest & ~READ)
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._failed(failure)
        return True

    def _failed(self, failure: Exception) -> None:
        # A fault of ours costs this connection, and no other one.
        _logger.error("reading failed; the connection is dropped", exc_info=failure)
        self._end_reading(failure)

    # What was read is what the owner gets. A kind with something between has a method of its own.
    _take_in = Wire._hand_over  # noqa: SLF001 - this class is one, too

    def _is_ours(self) -> bool:
        """Tell whether the descriptor is still this socket's.

        Whoever made the stream may have closed it, and the system may have given the number to
        another socket since.
        """
        return self._socket.fileno() == self._fd

    def replaced(self) -> None:
        """Note that another socket has the descriptor; see `Polled`."""
        self.interest = 0
        self._end_reading(trio.ClosedResourceError("the socket was closed by somebody else"))

    def _end_reading(self, error: BaseException | None) -> None:
        self._watch(self.interest & ~READ)
        if self._reading:
            self._reading_ended(error)

    def _go_on(self) -> None:
        if not self._reading:
            return
        try:
            self._watch(self.interest | READ)
        except OSError as error:
            # Whoever has just received a message is not to be blamed for that.
            self._end_reading(_broken(error))

    def _start_writing(self) -> None:
        self._poller.flush_soon(self)

    def flush(self) -> None:
        """Write what waits, as far as the system takes it; see `Polled`."""
        if not self.writing:
            return
        outgoing = self._outgoing
        try:
            for _ in range(MAX_WRITES):
                buffers = self._unwritten or outgoing.take()
                if buffers and not self._write(buffers):
                    self._wait_writable()
                    return
                if not (buffers and outgoing.size):
                    self._written()
                    return
            self._poller.flush_soon(self)
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._flush_failed(failure)

    def _flush_failed(self, failure: Exception) -> None:
        if isinstance(failure, OSError):
            failure = _broken(failure)
        else:
            _logger.error("writing failed; the connection is dropped", exc_info=failure)
        self._writing_broke(failure)

    def _write(self, buffers: Sequence[bytes | memoryview]) -> bool:
        """Write as much as the system takes; tell whether that was all."""
        if self._socket.fileno() != self._fd:
            raise OSError("the socket is closed")
        # What was taken is whole frames, and has to leave whole; should this fail, the line ends.
        self._unwritten = buffers
        try:
            if len(buffers) == 1:
                count = os.write(self._fd, buffers[0])
            else:
                count = os.writev(self._fd, buffers)
        except BlockingIOError:
            return False
        self._outgoing.written(count)
        if self._entry is not None:
            self._progress = trio.current_time()
        if count == len(buffers[0]) and len(buffers) == 1:
            self._unwritten = ()
            return True
        self._unwritten = rest_of(buffers, count)
        return not self._unwritten

    def _written(self) -> None:
        if self.interest & WRITE:
            self._watch(self.interest & ~WRITE)
        self._unwritten = ()
        if self._entry is not None:
            current_alarms().cancel(self._entry)
            self._entry = None
        self._writing_ended()

    def _wait_writable(self) -> None:
        self._watch(self.interest | WRITE)
        self._expect_progress()

    def _expect_progress(self) -> None:
        """Begin to count the time in which the peer takes nothing."""
        if self._entry is None:
            self._progress = trio.current_time()
            self._set_alarm()

    def _set_alarm(self) -> None:
        self._entry = current_alarms().at(self._progress + self._write_timeout, self)

    def due(self) -> None:
        """Drop the peer if it took nothing for too long; see `Alarm`."""
        self._entry = None
        if trio.current_time() < self._progress + self._write_timeout:
            self._set_alarm()
        else:
            self._owner.line_stuck()

    def _writing_broke(self, error: BaseException) -> None:
        self._outgoing.clear()
        self._write_error = error
        self._written()
        # Reading finds out by itself, after what the peer sent before the line broke, its Close
        # perhaps, was handed over. It does not while it is paused, when the socket is closed, or
        # when the fault is ours.
        if self.paused or not self._is_ours() or not isinstance(error, BROKEN):
            self._end_reading(error)

    def _stop(self) -> None:
        self._watch(0)
        self._poller.remove(self._fd, self)
        self._end_reading(None)
        if self.writing:
            self._written()

    def _advance(self) -> None:
        closing = self._closing
        assert closing is not None
        if self.stopped:
            return
        over = closing.aborted
        if closing.flushed and closing.answered:
            over = over or closing.ended
            if self._half_close_first and not (over or closing.half_closed):
                closing.half_closed = True
                over = not (self._half_close() and closing.linger)
        if over:
            self._cut()
        elif closing.deadline is None:
            time = trio.current_time() + self._close_timeout
            closing.deadline = current_alarms().at(time, _Deadline(self))

    def _half_close(self) -> bool:
        """End this side's direction; tell whether that was possible."""
        try:
            self._socket.shutdown(trio.socket.SHUT_WR)
        except OSError:
            return False
        return True

    def _cut(self) -> None:
        """Close the socket; that waits for nobody."""
        closing = self._closing
        assert closing is not None
        if closing.deadline is not None:
            current_alarms().cancel(closing.deadline)
        # First of all, because what follows comes back to `_advance`.
        self.stopped = True
        self._outgoing.clear()
        for end in (self._stop, self._socket.close):
            try:
                end()
            except Exception:
                _logger.exception("cutting a line failed")
        self._has_stopped()


class _Deadline:
    """The alarm that cuts a line whose end takes too long.

    Args:
        wire: Its wire.
    """

    __slots__ = ("_wire",)

    def __init__(self, wire: SocketWire) -> None:
        self._wire = wire

    def due(self) -> None:
        """Wait no longer; see `Alarm`."""
        self._wire.abort()


def rest_of(buffers: Sequence[bytes | memoryview], count: int) -> Sequence[bytes | memoryview]:
    """Return what is left of buffers, without a copy, when so many bytes of them have left."""
    for index, data in enumerate(buffers):
        if count < len(data):
            return (memoryview(data)[count:], *buffers[index + 1 :])
        count -= len(data)
    return ()


def _broken(error: OSError) -> trio.BrokenResourceError:
    broken = trio.BrokenResourceError(f"socket connection broken: {error}")
    broken.__cause__ = error
    return broken
