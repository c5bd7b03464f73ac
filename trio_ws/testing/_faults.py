"""`FaultyStream`: a stream over a bad network."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from math import ceil, inf

import trio
import trio.abc

from trio_ws.testing._streams import READ_SIZE, Turn, read_size


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream over a bad network: it delays, splits, stalls, drops and cuts, as its seed says.

    The thresholds count the bytes of both directions together, to the byte::

        wrap = functools.partial(FaultyStream, seed=7, delay=0.2, split=100, cut_after=5000)
        async with trio_ws.testing.connect(app, wrap=wrap) as connection:
            ...

    `stall`, `resume`, `drop` and `cut` do the same at a moment of the test's choosing.

    Args:
        stream: The stream underneath.
        seed: Makes the pieces of a direction, and their delays, repeatable.
        delay: Each piece takes up to so many seconds, at random.
        split: Pieces are of 1 to so many bytes, at random; None leaves them as they are.
        stall_after: After so many bytes nothing moves any more, in either direction.
        drop_after: After so many bytes everything sent disappears and nothing comes, without an
            error: a network that is gone.
        cut_after: After so many bytes the stream breaks, for both ends.

    Raises:
        ValueError: `split` is not positive.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        seed: int = 0,
        delay: float = 0,
        split: int | None = None,
        stall_after: float = inf,
        drop_after: float = inf,
        cut_after: float = inf,
    ) -> None:
        if split is not None and split < 1:
            raise ValueError(f"a piece has at least 1 byte, not {split}")
        self._stream = stream
        # The order in which two tasks have their turns is not for a seed to say; so each direction
        # draws numbers of its own. S311: they are to be repeatable, not secret.
        self._send_random = random.Random(f"{seed} sending")  # noqa: S311
        self._receive_random = random.Random(f"{seed} receiving")  # noqa: S311
        self._delay = delay
        self._split = split
        self._stall_after = stall_after
        self._drop_after = drop_after
        self._cut_after = cut_after
        self._taken = 0  # bytes that have passed or are just being sent
        self._passed = 0
        self._stalled = False
        self._dropped = False
        self._cut = False
        self._ended = False
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()
        self._sending = Turn("sending")
        self._receiving = Turn("receiving")
        self._ahead = b""

    def stall(self) -> None:
        """Let nothing move until `resume`."""
        self._stalled = True

    def resume(self) -> None:
        """Let things move again."""
        self._stall_after = inf
        self._stalled = False
        self._changed.unpark_all()

    def drop(self) -> None:
        """Let everything sent disappear from now on, and nothing come."""
        self._dropped = True

    async def cut(self) -> None:
        """Break the stream, for both ends: the other one reads what has passed, then the end.

        Cancellation:
            It is broken all the same.
        """
        self._cut = True
        self._changed.unpark_all()
        await trio.aclose_forcefully(self._stream)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as well as the network lets it.

        Raises:
            trio.BrokenResourceError: The network was cut, or the stream broke.
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: The stream is closed, or has ended its direction.

        Cancellation:
            Part of the data may have been sent.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sending()
            view = memoryview(data)
            while view:
                await self._linger(self._send_random)
                await self._gate()
                size = self._size(len(view), self._send_random)
                await self._send(view[:size])
                view = view[size:]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the network might take bytes.

        Raises:
            trio.BrokenResourceError: The network was cut, or the stream broke.
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: The stream is closed, or has ended its direction.

        Cancellation:
            Changes nothing.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sending()
            await self._gate()
            if not self._dropping:
                with self._translated():
                    await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this direction, if the stream underneath can.

        Raises:
            trio.BrokenResourceError: The network was cut, or the stream broke.
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: The stream is closed.

        Cancellation:
            Atomic.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            await self._linger(self._send_random)
            await self._gate()
            if isinstance(self._stream, trio.abc.HalfCloseableStream) and not self._dropping:
                with self._translated():
                    await self._stream.send_eof()
            self._ended = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes, as well as the network lets it.

        Raises:
            ValueError: `max_bytes` is not positive.
            trio.BrokenResourceError: The network was cut, or the stream broke.
            trio.BusyResourceError: Another task is receiving.
            trio.ClosedResourceError: The stream is closed.

        Cancellation:
            Atomic: bytes that were under way come with the next call.
        """
        wanted = read_size(max_bytes)
        with self._receiving:
            await trio.lowlevel.checkpoint()
            await self._gate(receiving=True)
            if not self._ahead:
                with self._translated():
                    self._ahead = bytes(await self._stream.receive_some(READ_SIZE))
            await self._linger(self._receive_random)
            await self._gate(receiving=True)
            size = self._size(min(len(self._ahead), wanted), self._receive_random)
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
            self._taken += size
            self._passed += size
            return piece

    async def aclose(self) -> None:
        """Close the stream; the other end hears of it, even over a network that is gone.

        Cancellation:
            It is closed all the same.
        """
        self._closed = True
        self._changed.unpark_all()
        await self._stream.aclose()

    @property
    def _thresholds(self) -> tuple[float, float, float]:
        return self._stall_after, self._drop_after, self._cut_after

    @property
    def _still(self) -> bool:
        return self._stalled or self._passed >= self._stall_after

    @property
    def _dropping(self) -> bool:
        return self._dropped or self._passed >= self._drop_after

    @property
    def _undecided(self) -> bool:
        """Whether a piece being sent reaches a threshold, which counts when it has passed."""
        return any(self._passed < threshold <= self._taken for threshold in self._thresholds)

    async def _gate(self, *, receiving: bool = False) -> None:
        """Wait while nothing moves, and break what is to break; a free way has no checkpoint."""
        while True:
            self._check()
            if self._passed >= self._cut_after and not self._still:
                await self.cut()
            elif self._still or self._undecided or (receiving and self._dropping):
                await self._changed.park()
            else:
                return

    async def _linger(self, numbers: random.Random) -> None:
        if self._delay:
            await trio.sleep(numbers.uniform(0, self._delay))

    def _size(self, wanted: int, numbers: random.Random) -> int:
        """Choose how many bytes go in one piece: no more than up to the next threshold."""
        if self._split is not None:
            wanted = min(wanted, numbers.randint(1, self._split))
        ahead = (each - self._taken for each in self._thresholds if each > self._taken)
        return ceil(min([wanted, *ahead]))

    async def _send(self, piece: memoryview) -> None:
        # Counted beforehand, so that nothing that comes meanwhile passes in its place.
        self._taken += len(piece)
        try:
            if not self._dropping:
                with self._translated():
                    await self._stream.send_all(piece)
        finally:
            self._passed += len(piece)
            self._changed.unpark_all()
        if self._passed >= self._cut_after and not self._still:
            await self.cut()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._cut:
            raise trio.BrokenResourceError("the network was cut")

    def _check_sending(self) -> None:
        self._check()
        if self._ended:
            raise trio.ClosedResourceError("this direction of the stream has ended")

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        """Tell a network that was cut under a waiting task from a stream that was closed."""
        try:
            yield
        except trio.ClosedResourceError:
            self._check()
            raise
