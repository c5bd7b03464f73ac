"""`Report`: tables that are Markdown, and a JSON file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.generator import Sample
from benchmarks.peers import REFERENCE, Peer
from benchmarks.runner import Result, Results
from benchmarks.works import Unit, Work

_BUSY = 0.9  # of a core; a generator that had more may have held a server up

_DASH = "-"

_NOUNS = {"broadcast": ("delivery", "deliveries"), "handshakes": ("handshake", "handshakes")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one run has to tell."""

    machine: Mapping[str, str]
    """See `benchmarks.machine.describe`."""
    settings: Mapping[str, str]
    """How it was measured: rounds, seconds, generator."""
    works: Sequence[Work]
    """What was done."""
    peers: Sequence[Peer]
    """Who did it."""
    absent: Mapping[str, str]
    """Who did not, and why."""
    results: Results
    """What came of it."""

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write the files, and return which."""
        folder.mkdir(parents=True, exist_ok=True)
        table, data = folder / f"{name}.md", folder / f"{name}.json"
        table.write_text(self.text(), encoding="utf-8")
        data.write_text(json.dumps(self.data(), indent=1) + "\n", encoding="utf-8")
        return [table, data]

    def data(self) -> dict[str, Any]:
        """Return everything, as JSON has it."""
        return {
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "versions": {peer.name: peer.versions() for peer in self.peers},
            "absent": dict(self.absent),
            "works": [
                {
                    "name": work.name,
                    "unit": work.unit.value,
                    "load": asdict(work.load),
                    "peers": {
                        name: {
                            "value": value(work, result) if result.samples else None,
                            "samples": [asdict(sample) for sample in result.samples],
                            "failures": result.failures,
                            "refusal": result.refusal,
                        }
                        for name, result in self.results[work.name].items()
                    },
                }
                for work in self.works
            ],
        }

    def text(self) -> str:
        """Return everything that is to be read, as Markdown."""
        lines = [f"- {name}: {text}" for name, text in {**self.machine, **self.settings}.items()]
        for peer in self.peers:
            versions = ", ".join(f"{name} {text}" for name, text in peer.versions().items())
            lines.append(f"- {peer.name}: {versions}")
        lines += [f"- absent: {name}: {reason}" for name, reason in self.absent.items()]
        lines += ["", *summary(self.works, self.peers, self.results)]
        for work in self.works:
            lines += ["", f"### {work.name}", "", *table(work, self.results[work.name])]
        return "\n".join(lines) + "\n"


def value(work: Work, result: Result) -> float:
    """Return what is compared in a work: the median over the rounds."""
    return result.median(_measure(work))


def _measure(work: Work) -> Callable[[Sample], float]:
    if work.unit is Unit.MEMORY:
        return lambda sample: sample.memory / 1024 / work.load.connections
    if work.unit is Unit.TAIL:
        return lambda sample: sample.p99 * 1e3
    return lambda sample: sample.cpu * 1e6 / sample.messages


def summary(works: Sequence[Work], peers: Sequence[Peer], results: Results) -> list[str]:
    """Return one table of what is compared, and how busy the load generator was meanwhile.

    The table has a line for each work, and a column for each peer.
    """
    rows = [["work", "unit", *(peer.name for peer in peers)]]
    for work in works:
        done = [results[work.name][peer.name] for peer in peers]
        figures = [figure(value(work, result)) if result.samples else _DASH for result in done]
        rows.append([work.name, title(work), *figures])
    return [*_aligned(rows), "", _generator_share(works, results)]


def _generator_share(works: Sequence[Work], results: Results) -> str:
    within: list[float] = []
    beyond: list[str] = []
    for work in works:
        if work.unit is Unit.MEMORY:
            continue
        shares = {
            name: result.median(_own_share)
            for name, result in results[work.name].items()
            if result.samples
        }
        within += [share for share in shares.values() if share <= _BUSY]
        busy = [f"{share:.0%} with {name}" for name, share in shares.items() if share > _BUSY]
        if busy:
            beyond.append(f"{work.name} ({'; '.join(busy)})")
    texts = [f"at most {max(within):.0%} of its core"] if within else []
    if beyond:
        texts.append(f"over {_BUSY:.0%} in: {'; '.join(beyond)}")
    return f"The load generator had {', and '.join(texts)}" if texts else ""


def _own_share(sample: Sample) -> float:
    return sample.own_cpu / sample.seconds


def table(work: Work, results: Mapping[str, Result]) -> list[str]:
    """Return the table of a work, the best first."""
    columns = ["peer", title(work), "spread", f"x {REFERENCE}"]
    if work.unit is not Unit.MEMORY:
        columns += [f"{_nouns(work)[1]}/s", "MB/s", "p50 ms", "p99 ms", "busy", "generator busy"]
    done = {name: result for name, result in results.items() if result.samples}
    ranking = sorted(done, key=lambda name: value(work, done[name]))
    reference = value(work, done[REFERENCE]) if REFERENCE in done else None
    rows = [columns, *(_row(work, name, done[name], reference) for name in ranking)]
    lines = _aligned(rows)
    notes = [f"- {name}: {r.refusal}" for name, r in results.items() if r.refusal]
    notes += [
        f"- {name}, {len(result.failures)} time{'s' * (len(result.failures) > 1)} without result: "
        + "; ".join(dict.fromkeys(result.failures))
        for name, result in results.items()
        if result.failures
    ]
    return [*lines, "", *notes] if notes else lines


def _nouns(work: Work) -> tuple[str, str]:
    return _NOUNS.get(work.load.work, ("message", "messages"))


def title(work: Work) -> str:
    """Return what is compared in a work, in words."""
    return work.unit.value.replace("message", _nouns(work)[0])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, _line(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])], widths))
    return lines


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
    return f"| {' | '.join(cells)} |"


def _row(work: Work, name: str, result: Result, reference: float | None) -> list[str]:
    own = value(work, result)
    ratio = f"{own / reference:.2f}" if reference else _DASH
    row = [name, figure(own), _spread(work, result), ratio]
    if work.unit is Unit.MEMORY:
        return row
    rate = result.median(lambda sample: sample.messages / sample.seconds)
    carries = work.load.work != "handshakes"
    return [
        *row,
        f"{rate:,.0f}",
        figure(rate * work.load.size / 1e6) if carries else _DASH,
        figure(result.median(lambda sample: sample.p50) * 1e3),
        figure(result.median(lambda sample: sample.p99) * 1e3),
        f"{result.median(lambda sample: sample.cpu / sample.seconds):.0%}",
        f"{result.median(_own_share):.0%}",
    ]


def _spread(work: Work, result: Result) -> str:
    """Return the least and the most of the rounds, which says what is noise."""
    values = [_measure(work)(sample) for sample in result.samples]
    return f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else _DASH


def figure(number: float) -> str:
    """Return a number with three digits that count."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"
