"""`StreamWire`: the wire of any Trio stream, served by tasks of its own."""

import logging

import trio

from trio_ws._protocol.frames import forget_message
from trio_ws._transport.streams import BROKEN, cut, half_close, write_all
from trio_ws._transport.wire import Closing, Wire

READ_SIZE = 128 * 1024  # bytes of one read: one with a message of 64 KiB takes all of it

_logger = logging.getLogger("trio_ws.wire")


class StreamWire(Wire):
    """Reads and writes with tasks.

    A reader task lives as long as the line; a writer task while there is something to write.
    """

    __slots__ = ("_advanced", "_course", "_reader", "_running", "_writer")

    def _start_reading(self, rest: bytes) -> None:
        assert self._nursery is not None
        self._reader = trio.CancelScope()
        self._writer: trio.CancelScope | None = None
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

    def _start_writing(self) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._write)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        try:
            with trio.CancelScope() as self._writer:
                # Whatever was sent to many in this tick has been sent by now.
                forget_message()
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
            while not (closing.ended and closing.flushed):
                await self._advanced.park()
        finally:
            # Whoever waits for this must not wait for ever, should a fault of ours end all tasks.
            self._has_stopped()
