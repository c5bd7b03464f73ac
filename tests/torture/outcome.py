"""`Outcome`: what came of a soak."""

from collections import Counter
from dataclasses import dataclass, field

from tests.torture.judge import Sample
from tests.torture.ledger import Tally
from tests.torture.violations import Violations


@dataclass(slots=True)
class Outcome:
    """What came of a soak."""

    what: str = ""
    """The server, in its own words."""
    seconds: float = 0
    rounds: int = 0
    tally: Tally = field(default_factory=Tally)
    lines: int = 0
    """Connections of hostile clients."""
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each was injected, by how it ended."""
    most: int = 0
    """Hostile clients at once."""
    lag: float = 0
    """Seconds that a task of this program was late at most."""
    shortages: int = 0
    """Rounds in which the server had too few descriptors."""
    samples: list[Sample] = field(default_factory=list)
    memory: tuple[int | None, int | None] = (None, None)
    """Bytes of the server before the first client and after the last."""
    violations: Violations = field(default_factory=Violations)

    @property
    def injected(self) -> int:
        """How many faults there were."""
        return sum(counter.total() for counter in self.faults.values())
