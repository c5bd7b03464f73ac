"""`render`: the report of a run, for people."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.conformance.cases import group_of
from tests.conformance.judge import Verdict, wire_log
from tests.conformance.settings import Side

_COLUMNS = ("group", "cases", "OK", "informational", "not as they must be")


def render(verdicts: Mapping[Side, Sequence[Verdict]]) -> str:
    """Return counts by side and group, and each case that is not as it must be, with its wire log.

    Args:
        verdicts: By side.
    """
    lines: list[str] = []
    for side, of_side in verdicts.items():
        lines += [f"## {side}", "", *_table(of_side), ""]
    for side, of_side in verdicts.items():
        for verdict in of_side:
            if verdict.faults and verdict.report is not None:
                lines += [*_details(side, verdict, verdict.report), ""]
        lines += _without_report(side, of_side)
    bad = sum(bool(verdict.faults) for verdict in _all(verdicts))
    total = sum(map(len, verdicts.values()))
    lines.append(
        f"{bad} of {total} cases are not as they must be" if bad else f"all {total} cases are good"
    )
    return "\n".join(lines)


def _all(verdicts: Mapping[Side, Sequence[Verdict]]) -> Iterator[Verdict]:
    for of_side in verdicts.values():
        yield from of_side


def _table(verdicts: Sequence[Verdict]) -> list[str]:
    by_group: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_group.setdefault(f"{group_of(verdict.case)}.*", []).append(verdict)
    rows = [_COLUMNS, *(_row(group, members) for group, members in by_group.items())]
    rows.append(_row("all", verdicts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = [_line(row, widths) for row in rows]
    rule = "|" + "|".join(f"{'-' * (width + 1)}:" for width in widths) + "|"
    return [head, rule, *body]


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    good = [verdict.rating for verdict in verdicts if not verdict.faults]
    informational = good.count("INFORMATIONAL")
    numbers = (len(verdicts), len(good) - informational, informational, len(verdicts) - len(good))
    return (name, *map(str, numbers))


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _details(side: str, verdict: Verdict, report: Path) -> Iterator[str]:
    yield f"## {side} {verdict.case}: {verdict.rating}"
    yield from verdict.faults
    yield from wire_log(report)
    yield f"(more in {report})"


def _without_report(side: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Tell of cases without a wire log, which are many at a time: a group that was lost."""
    cases: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for verdict in verdicts:
        if verdict.faults and verdict.report is None:
            cases.setdefault((verdict.rating, verdict.faults), []).append(verdict.case)
    for (rating, faults), members in cases.items():
        yield from (f"## {side} {' '.join(members)}: {rating}", *faults, "")
