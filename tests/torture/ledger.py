"""`Ledger`: what one well-behaved connection has sent, and what has come back, and when."""

import math
from array import array
from collections import deque
from dataclasses import dataclass, field

import trio

_MOST_FAULTS = 5  # of one connection that are told


@dataclass(slots=True)
class Tally:
    """What all well-behaved connections together have seen."""

    connections: int = 0
    messages: int = 0
    """Messages that came back."""
    round_trips: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds from the sending of each of them."""


class Ledger:
    """Keeps account of the messages of one connection, each of which is to be sent back.

    Every message begins with its number. One that comes before its turn is noted, and what was left
    out is expected still: so what is lost is told from what was only overtaken.

    Args:
        tally: Where to add up.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._expected: deque[tuple[str | bytes, float]] = deque()
        self._passed_over: dict[str | bytes, int] = {}
        self._sent = 0
        self.faults: list[str] = []
        """What was wrong."""

    @property
    def outstanding(self) -> int:
        """How many messages have not come back, those that were overtaken left out."""
        return len(self._expected)

    @property
    def oldest(self) -> float:
        """When the oldest outstanding one was sent; ``inf`` if there is none."""
        return self._expected[0][1] if self._expected else math.inf

    @property
    def incomplete(self) -> bool:
        """Whether a message was overtaken by a later one, and has not come."""
        return bool(self._passed_over)

    @property
    def next_number(self) -> int:
        """The number of the next message."""
        return self._sent

    def sent(self, message: str | bytes) -> None:
        """Note that a message is about to be sent."""
        self._expected.append((message, trio.current_time()))
        self._sent += 1

    def received(self, message: str | bytes) -> None:
        """Note that a message has come back."""
        if message in self._passed_over:
            self._fault(f"message {self._passed_over.pop(message)} came back out of order")
            return
        for index, (expected, since) in enumerate(self._expected):
            if expected == message:
                first = self._sent - len(self._expected)
                for skipped in range(index):
                    self._passed_over[self._expected.popleft()[0]] = first + skipped
                self._expected.popleft()
                self._tally.messages += 1
                self._tally.round_trips.append(trio.current_time() - since)
                return
        self._fault(f"{len(message)} came back that were not sent: {message[:40]!a}")

    def settle(self, why: str | None = None) -> None:
        """Note that nothing more will come back.

        Args:
            why: What ended the connection, if it was not its end.
        """
        if why is not None:
            self._fault(why)
        lost = [*self._passed_over.values()]
        lost += range(self._sent - len(self._expected), self._sent)
        if lost:
            numbers = ", ".join(map(str, lost[:5]))
            self._fault(f"{len(lost)} of {self._sent} messages were lost: {numbers}")

    def _fault(self, what: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(what)
