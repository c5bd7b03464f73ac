"""`StreamWire`: the wire of any Trio stream, served by tasks of its own."""

import logging

import trio

from trio_ws._protocol.messages import forget_message
from trio_ws._transport.alarms import Entry, current_alarms
from trio_ws._transport.streams import BROKEN, cut, half_close, sender
from trio_ws._transport.wire import Closing, Wire

READ_SIZE = 128 * 1024  # bytes of one read: one with a message of 64 KiB takes all of it

_IDLE = 10.0  # seconds without anything to write after which a writer task ends

_logger = logging.getLogger("trio_ws.wire")


class StreamWire(Wire):
    """Reads and writes with tasks.

    A reader task lives as long as the line. A writer task begins with the first write, and ends
    some seconds after the last one: to start one for each would take as long as the writing.
    """

    __slots__ = (
        "_advanced",
        "_course",
        "_entry",
        "_idle_writer",
        "_progress",
        "_reader",
        "_running",
        "_send",
        "_writer",
    )

    def _start_reading(self, rest: bytes) -> None:
        assert self._nursery is not None
        self._reader = trio.CancelScope()
        self._writer: trio.CancelScope | None = None
        self._idle_writer: trio.lowlevel.Task | None = None
        self._send = sender(self._stream)
        self._progress = 0.0
        # The alarm that is set as long as there is a writer.
        self._entry: Entry | None = None
        self._running: trio.Event | None = None
        # The end, once it has begun, and those who wait for it to go on.
        self._course: trio.CancelScope | None = None
        self._advanced = trio.lowlevel.ParkingLot()
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

    @trio.lowlevel.enable_ki_protection
    def _start_writing(self) -> None:
        assert self._nursery is not None
        self._progress = trio.current_time()
        if self._entry is None:
            self._look_again(self._progress)
        if self._idle_writer is not None:
            self._wake_writer(self._idle_writer)
        elif self._writer is None:
            self._nursery.start_soon(self._write)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        try:
            with trio.CancelScope() as self._writer:
                while self.writing:
                    await self._write_all()
                    self._writing_ended()
                    if self._closing is None:
                        self._idle_writer = trio.lowlevel.current_task()
                        await trio.lowlevel.wait_task_rescheduled(self._end_idling)
        except BROKEN as error:
            self._writing_broke(error)
        except Exception as failure:
            _logger.exception("writing failed; the connection is dropped")
            self._writing_broke(failure)
        finally:
            self._writer = None
            self._writing_ended()
            self._advanced.unpark_all()

    async def _write_all(self) -> None:
        """Write all that waits."""
        while buffers := self._outgoing.take():
            # Whatever was sent to many in one tick has been sent by now.
            forget_message()
            for data in buffers:
                with memoryview(data) as view:
                    start = 0
                    while start < len(view):
                        count = await self._send(view[start:])
                        start += count
                        self._progress = trio.current_time()
                        self._outgoing.written(count)

    def _wake_writer(self, idle_writer: trio.lowlevel.Task) -> None:
        """Have the writer look whether there is something to write, and else end."""
        trio.lowlevel.reschedule(idle_writer)
        self._idle_writer = None

    def _end_idling(self, _: object) -> trio.lowlevel.Abort:
        self._idle_writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _look_again(self, now: float) -> None:
        """Set the alarm for the next time that somebody should look at the writing."""
        time = self._progress + _IDLE
        if self.writing:
            time = min(now + _IDLE, self._progress + self._write_timeout)
        self._entry = current_alarms().at(time, self)

    def due(self) -> None:
        """Drop the peer if it took nothing for too long, or end an idle writer; see `Alarm`."""
        self._entry = None
        now = trio.current_time()
        if self.writing and now >= self._progress + self._write_timeout:
            self._owner.line_stuck()
        elif self.writing or (self._idle_writer is not None and now < self._progress + _IDLE):
            self._look_again(now)
        elif self._idle_writer is not None:
            self._wake_writer(self._idle_writer)

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
        if self._entry is not None:
            current_alarms().cancel(self._entry)
            self._entry = None

    def _advance(self) -> None:
        assert self._closing is not None
        if self._course is None:
            assert self._nursery is not None
            self._course = trio.move_on_after(self._close_timeout)
            self._nursery.start_soon(self._close, self._closing, self._course)
        if self._closing.aborted:
            self._course.cancel()
        self._advanced.unpark_all()

    @trio.lowlevel.enable_ki_protection
    async def _close(self, closing: Closing, course: trio.CancelScope) -> None:
        try:
            try:
                with course:
                    while not (closing.flushed and closing.answered):
                        await self._advanced.park()
                    if not self._half_close_first or (
                        await half_close(self._stream) and closing.linger
                    ):
                        while not closing.ended:
                            await self._advanced.park()
            finally:
                self._outgoing.clear()
                self._stop()
                await cut(self._stream)
            while not (closing.ended and closing.flushed and self._writer is None):
                await self._advanced.park()
        finally:
            # Whoever waits for this must not wait for ever, should a fault of ours end all tasks.
            self._has_stopped()
