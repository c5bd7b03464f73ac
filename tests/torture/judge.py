"""What must be so at the end of a round: nothing left, nothing grown, nothing complained of."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.torture.server import Figures

LEAK = 0.4
"""Blocks of memory for each fault. A leak of one object for each makes at least one."""

SLOW_LEAK = 0.05
"""The same over many faults, when all that is made once and kept has long been made."""

MANY = 5000
"""Faults that are many."""

ONCE = 500
"""Blocks beside those, for what is made at any time and kept."""

ENOUGH = 250
"""Faults of which the blocks can be judged; with fewer, what comes and goes outweighs them."""

HEAP = 128
"""Bytes of the heap for each fault."""

HEAP_ONCE = 1024 * 1024
"""Bytes of the heap that may be taken at any time, for a table that has outgrown its place."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much memory there was, when so many faults had been injected."""

    faults: int
    blocks: int
    heap: int | None


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
        Blocks for each fault of the second half of the rounds; None if there are too few.
    """
    first, last = _ends(samples)
    faults = last.faults - first.faults
    return (last.blocks - first.blocks) / faults if faults >= ENOUGH else None


def leak(samples: Sequence[Sample]) -> str | None:
    """Tell what grows that should not, if something does."""
    blocks = growth(samples)
    if blocks is None:
        return None
    first, last = _ends(samples)
    faults = last.faults - first.faults
    if last.blocks - first.blocks > ONCE + (SLOW_LEAK if faults >= MANY else LEAK) * faults:
        return f"memory grows: each fault leaves {blocks:.2f} blocks behind"
    if first.heap is not None and last.heap is not None:
        more = last.heap - first.heap
        if more > HEAP_ONCE + HEAP * faults:
            return f"the heap grows: by {more} bytes in {faults} faults"
    return None


def _ends(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    return samples[(len(samples) - 1) // 2], samples[-1]
