"""`stream_pair`: two byte streams in memory, connected with each other."""

import operator
from types import TracebackType

import trio
import trio.abc

READ_SIZE = 64 * 1024
"""Bytes of one read whose caller names no number."""


class Turn:
    """Lets one task at a time use one direction of a stream.

    Args:
        doing: What that task does, for the message to a second one.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(f"another task is {self._doing} on this stream")
        self._taken = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._taken = False


def read_size(max_bytes: int | None) -> int:
    """Return how many bytes a caller of `receive_some` wants at most.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is not positive.
    """
    if max_bytes is None:
        return READ_SIZE
    size = operator.index(max_bytes)
    if size < 1:
        raise ValueError(f"max_bytes is at least 1, not {size}")
    return size


class _Pipe:
    """One direction of a `stream_pair`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._data = bytearray()
        self._changed = trio.lowlevel.ParkingLot()
        self.ended: bool = False
        """Whether the sender will send no more."""
        self.abandoned: bool = False
        """Whether the receiver will read no more."""

    async def put(self, data: memoryview) -> None:
        while data:
            if self.abandoned:
                raise trio.BrokenResourceError("the other end of the memory stream is closed")
            room = self._capacity - len(self._data)
            self._data += data[:room]
            data = data[room:]
            self._changed.unpark_all()
            if data:
                await self.wait_for_room()

    async def wait_for_room(self) -> None:
        while len(self._data) >= self._capacity and not self.abandoned:
            await self._changed.park()
            if self.ended:
                raise trio.ClosedResourceError("this end of the memory stream was closed")

    async def get(self, max_bytes: int) -> bytes:
        while not self._data and not self.ended and not self.abandoned:
            await self._changed.park()
        if self.abandoned:
            raise trio.ClosedResourceError("this end of the memory stream is closed")
        chunk = bytes(self._data[:max_bytes])
        del self._data[:max_bytes]
        self._changed.unpark_all()
        return chunk

    def end(self) -> None:
        self.ended = True
        self._changed.unpark_all()

    def abandon(self) -> None:
        self.abandoned = True
        self._data.clear()
        self._changed.unpark_all()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of `stream_pair`."""

    def __init__(self, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._sending = Turn("sending")
        self._receiving = Turn("receiving")
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; blocks while the other end has not read enough.

        Raises:
            trio.BrokenResourceError: The other end is closed.
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: This end is closed, or has ended its direction.

        Cancellation:
            Part of the data may have been sent.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._outgoing.ended:
                raise trio.ClosedResourceError("this end of the memory stream is closed")
            await self._outgoing.put(memoryview(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for a byte, or the other end is closed.

        Raises:
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: This end is closed, or has ended its direction.

        Cancellation:
            Changes nothing.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._outgoing.ended:
                raise trio.ClosedResourceError("this end of the memory stream is closed")
            await self._outgoing.wait_for_room()

    async def send_eof(self) -> None:
        """End this direction; the other end reads what was sent, then the end.

        Raises:
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: This end is closed.

        Cancellation:
            Atomic.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this end of the memory stream is closed")
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; none when the other end has ended its direction.

        Raises:
            ValueError: `max_bytes` is not positive.
            trio.BusyResourceError: Another task is receiving.
            trio.ClosedResourceError: This end is closed.

        Cancellation:
            Atomic.
        """
        size = read_size(max_bytes)
        with self._receiving:
            await trio.lowlevel.checkpoint()
            return await self._incoming.get(size)

    async def aclose(self) -> None:
        """Close this end; the other end reads what was sent, then the end.

        Cancellation:
            It is closed all the same.
        """
        self._closed = True
        self._outgoing.end()
        self._incoming.abandon()
        await trio.lowlevel.checkpoint()


def stream_pair(capacity: int = 64 * 1024) -> tuple[MemoryStream, MemoryStream]:
    """Make two connected byte streams in memory, with back-pressure as sockets have it.

    Args:
        capacity: Bytes on their way in each direction before sending blocks.

    Raises:
        ValueError: The capacity is not positive.
    """
    if capacity < 1:
        raise ValueError(f"a stream holds at least 1 byte, not {capacity}")
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(there, back), MemoryStream(back, there)
