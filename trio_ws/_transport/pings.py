"""`Pings`: this side's pings on their way, each waiting for its pong."""

import os
from collections.abc import Callable

import trio

_MAX_PENDING = 16  # pings on their way at a time; further callers wait


class _Pending:
    __slots__ = ("answered", "round_trip", "sent")

    def __init__(self) -> None:
        self.sent = trio.current_time()
        self.round_trip: float | None = None
        self.answered = trio.Event()


class Pings:
    """The pings of one connection that wait for an answer, oldest first."""

    __slots__ = ("_pending", "_places")

    def __init__(self) -> None:
        self._pending: dict[bytes, _Pending] = {}
        self._places = trio.Semaphore(_MAX_PENDING)

    def __len__(self) -> int:
        return len(self._pending)

    def check(self, payload: bytes | None) -> None:
        """Check the payload a caller gave.

        Raises:
            ValueError: It is too long, or already on its way.
        """
        if payload is not None and len(payload) > 125:
            raise ValueError(f"a ping carries at most 125 bytes, not {len(payload)}")
        if payload is not None and payload in self._pending:
            raise ValueError("a ping with this payload is already on its way")

    async def round_trip(
        self,
        payload: bytes | None,
        send: Callable[[bytes], None],
        withdraw: Callable[[bytes], None],
    ) -> float | None:
        """Send a ping and wait for its pong.

        Args:
            payload: What it carries, or None for something random.
            send: Queues the ping with this payload.
            withdraw: Takes it back if it was not written yet.

        Returns:
            Seconds, or None when the connection ended.

        Cancellation:
            Nothing of a cancelled ping stays behind.
        """
        async with self._places:
            self.check(payload)
            while payload is None or payload in self._pending:
                payload = os.urandom(4)
            send(payload)
            pending = self._pending[payload] = _Pending()
            try:
                await pending.answered.wait()
            finally:
                if self._pending.pop(payload, None) is not None:
                    withdraw(payload)
            return pending.round_trip

    def pong(self, payload: bytes) -> None:
        """Note a pong: it answers its ping and all earlier ones (RFC 6455 §5.5.3)."""
        now = trio.current_time()
        while payload in self._pending:
            pending = self._pending.pop(next(iter(self._pending)))
            pending.round_trip = now - pending.sent
            pending.answered.set()

    def end(self) -> None:
        """Wake everybody: no pong will come any more."""
        for pending in self._pending.values():
            pending.answered.set()
        self._pending.clear()
