"""`rounds`: what is done to a server, and in which order."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.torture.hostile import Fault

ROUNDS_IN_A_LAP = 2
"""The first round of all is for what a server makes once and keeps, so there are two at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How hard and how long a server is tortured."""

    seed: str
    """What all that is drawn depends on."""
    seconds: float
    """How long at least."""
    laps: int = 1
    """In how many laps at least."""
    steps: float = math.inf
    """Steps of each fault in a lap; fewer than there are, are drawn."""
    crowd: int = 200
    """Hostile clients at once, those that wait for the server's patience left out."""
    chats: int = 12
    """Well-behaved connections that last for a round."""
    visitors: int = 60
    """Clients that come at once while the server has few file descriptors; 0 for no shortage."""
    bound: float = 30
    """Seconds within which a well-behaved connection has its answer, whatever goes on."""
    drain: bool | None = None
    """Whether the server is drained at the end, or just cancelled; None leaves it to the seed."""
    patience: float = 45
    """Seconds within which a hostile client is rid of, and an idle server has cleaned up."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One fault, at one step."""

    index: int
    """Its place in the soak, of which its random choices depend."""
    fault: Fault
    step: int
    secure: bool

    def __str__(self) -> str:
        over = " over TLS" if self.secure else ""
        return f"{self.fault.name!r}, step {self.step}{over} (client {self.index})"


def rounds(faults: Sequence[Fault], seed: str, steps: float = math.inf) -> Iterator[list[Attack]]:
    """Deal rounds: a lap of them has every fault at every step, over each kind of line.

    Args:
        faults: What can be done.
        seed: What the order depends on.
        steps: Steps of each fault in a lap; fewer than there are, are drawn.
    """
    random = Random(seed)
    begun = 0
    while True:
        lap = [
            (fault, step, secure)
            for fault in faults
            for secure in (False, True)
            if (fault.secure if secure else fault.plain)
            for step in random.sample(range(fault.steps), int(min(fault.steps, steps)))
        ]
        random.shuffle(lap)
        attacks = [Attack(begun + index, *each) for index, each in enumerate(lap)]
        begun += len(lap)
        size = math.ceil(len(attacks) / ROUNDS_IN_A_LAP)
        yield from (attacks[start : start + size] for start in range(0, len(attacks), size))
