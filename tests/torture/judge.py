"""What must be so at the end of a round: nothing left, nothing grown, nothing complained of."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.torture.server import Figures

LEAK = 0.5
"""Blocks of memory for each fault. A leak of one object for each makes at least one."""

ENOUGH = 250
"""Faults of which the blocks can be judged; with fewer, what comes and goes outweighs them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much memory there was, when so many faults had been injected."""

    faults: int
    blocks: int
    memory: int | None


def sockets_left(idle: Figures, now: Figures) -> Iterator[str]:
    """Tell which descriptors there are beyond those of an idle server."""
    if idle.descriptors is not None and now.descriptors is not None:
        more = Counter(now.descriptors.values()) - Counter(idle.descriptors.values())
        yield from (f"{count} descriptors ({what})" for what, count in sorted(more.items()))


def tasks_left(idle: Figures, now: Figures) -> Iterator[str]:
    """Tell which tasks there are beyond those of an idle server, and what else it counts."""
    for name, count in sorted((now.tasks - idle.tasks).items()):
        yield f"{count} tasks {name}"
    for name, count in sorted((idle.tasks - now.tasks).items()):
        yield f"{-count} tasks {name}"
    for name, number in now.counts.items():
        if number > idle.counts.get(name, 0):
            yield f"{number - idle.counts.get(name, 0)} {name}"


def growth(samples: Sequence[Sample]) -> float | None:
    """Return the blocks that one fault has left behind.

    Args:
        samples: After each round; the first round is for what is made once and kept.

    Returns:
        Blocks for each fault between the first sample and the last; None if there are too few.
    """
    first, last = samples[0], samples[-1]
    faults = last.faults - first.faults
    return None if faults < ENOUGH else (last.blocks - first.blocks) / faults


def is_leak(blocks: float | None) -> bool:
    """Tell whether so many blocks for each fault are too many."""
    return blocks is not None and blocks > LEAK
