"""`render`: the tables that a soak prints at its end."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.torture.judge import growth
from tests.torture.outcome import Outcome

_SERVERS = (
    "server",
    "seconds",
    "rounds",
    "connections",
    "hostile at once",
    "faults",
    "messages",
    "back in ms: half",
    "99 %",
    "all",
    "own lag",
    "MiB at start",
    "at end",
    "blocks a fault",
)


def render(outcomes: Sequence[Outcome]) -> str:
    """Return what was done to each server, and how it bore it."""
    rows = [_SERVERS, *map(_row, outcomes)]
    lines = [*_table(rows), ""]
    ended: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for name, counter in outcome.faults.items():
            ended.setdefault(name, Counter()).update(counter)
    shortages = sum(outcome.shortages for outcome in outcomes)
    faults = [("fault", "injected", "ended as")]
    faults += [(name, str(ended[name].total()), _ways(ended[name])) for name in sorted(ended)]
    faults.append(("no file descriptor left", str(shortages), "all served" if shortages else ""))
    return "\n".join([*lines, *_table(faults)])


def _row(outcome: Outcome) -> tuple[str, ...]:
    start, end = outcome.memory
    blocks = growth(outcome.samples) if outcome.samples else None
    return (
        outcome.what,
        f"{outcome.seconds:.0f}",
        str(outcome.rounds),
        str(outcome.lines + outcome.tally.connections),
        str(outcome.most),
        str(outcome.injected),
        str(outcome.tally.messages),
        *_quantiles(outcome.tally.round_trips),
        f"{outcome.lag * 1000:.0f}",
        _mebibytes(start),
        _mebibytes(end),
        "too few" if blocks is None else f"{blocks:.3f}",
    )


def _quantiles(seconds: Iterable[float]) -> Iterator[str]:
    ordered = sorted(seconds)
    for share in (0.5, 0.99, 1.0):
        if ordered:
            index = min(len(ordered) - 1, int(share * len(ordered)))
            yield f"{ordered[index] * 1000:.0f}"
        else:
            yield ""


def _mebibytes(size: int | None) -> str:
    return "not told" if size is None else f"{size / 2**20:.1f}"


def _ways(ended: Counter[str]) -> str:
    return ", ".join(f"{how} {count}" for how, count in ended.most_common())


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        # Words stand at the left, numbers at the right; the last column may be either.
        cells = (
            cell.rjust(width) if cell[:1].isdecimal() and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(cells)} |"
        if index == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
