"""`Violations`: what was not as it must be, the first of each kind in full."""

from collections import Counter
from collections.abc import Iterator

_EXAMPLES = 2  # of each kind that are told in full; the rest are counted


class Violations:
    """What was not as it must be."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many there are."""
        return self._counts.total()

    def note(self, kind: str, what: str) -> None:
        """Note one.

        Args:
            kind: What others are like it.
            what: What was not as it must be.
        """
        self._counts[kind] += 1
        examples = self._told.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(what)

    def note_end(self, what: str) -> None:
        """Note what ended the server, of which whatever else there is may be a consequence."""
        self._counts["server"] += 1
        self._told = {"server": [what], **self._told}

    def __iter__(self) -> Iterator[str]:
        for kind, examples in self._told.items():
            yield from examples
            if more := self._counts[kind] - len(examples):
                yield f"{kind}: {more} more like that"

    def __bool__(self) -> bool:
        return self.total > 0
