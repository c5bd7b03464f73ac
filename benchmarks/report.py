"""Reports: tables that are Markdown, a JSON file, a picture of bars, and a plot for each curve."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.generator import Sample
from benchmarks.peers import REFERENCE, Peer
from benchmarks.runner import Result, Results
from benchmarks.works import Unit, Work

_OURS, _FLOOR, _OTHERS = "#d1495b", "#9aa0a6", "#2e86ab"

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
        """Write all files that can be written, and return which."""
        folder.mkdir(parents=True, exist_ok=True)
        table, data = folder / f"{name}.md", folder / f"{name}.json"
        table.write_text(self.text(), encoding="utf-8")
        data.write_text(json.dumps(self.data(), indent=1) + "\n", encoding="utf-8")
        written = [table, data]
        try:
            import matplotlib  # noqa: PLC0415, ICN001 - optional
        except ImportError:
            return written
        matplotlib.use("Agg")
        written += _draw_bars(self, folder / f"{name}.png")
        return written + _draw_curves(self, folder, name)

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
    """Return one table of what is compared: a line for each work, a column for each peer."""
    rows = [["work", "unit", *(peer.name for peer in peers)]]
    for work in works:
        done = [results[work.name][peer.name] for peer in peers]
        figures = [_figure(value(work, result)) if result.samples else _DASH for result in done]
        rows.append([work.name, _title(work), *figures])
    return _aligned(rows)


def table(work: Work, results: Mapping[str, Result]) -> list[str]:
    """Return the table of a work, the best first."""
    columns = ["peer", _title(work), f"x {REFERENCE}"]
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


def _title(work: Work) -> str:
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
    row = [name, _figure(own), f"{own / reference:.2f}" if reference else _DASH]
    if work.unit is Unit.MEMORY:
        return row
    rate = result.median(lambda sample: sample.messages / sample.seconds)
    carries = work.load.work != "handshakes"
    return [
        *row,
        f"{rate:,.0f}",
        _figure(rate * work.load.size / 1e6) if carries else _DASH,
        _figure(result.median(lambda sample: sample.p50) * 1e3),
        _figure(result.median(lambda sample: sample.p99) * 1e3),
        f"{result.median(lambda sample: sample.cpu / sample.seconds):.0%}",
        f"{result.median(lambda sample: sample.own_cpu / sample.seconds):.0%}",
    ]


def _figure(number: float) -> str:
    """Return a number with three digits that count."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _colour(name: str) -> str:
    if name.startswith(REFERENCE):
        return _OURS
    return _FLOOR if name.startswith("floor") else _OTHERS


def _plain(name: str) -> bool:
    """Whether a curve has the colour of its bars, instead of one of its own."""
    return name == REFERENCE or _colour(name) == _FLOOR


def _draw_bars(report: Report, path: Path) -> list[Path]:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    works = [work for work in report.works if not work.curve]
    if not works:
        return []
    columns = min(3, len(works))
    rows = -(-len(works) // columns)
    height = 0.26 * len(report.peers) + 0.9
    figure, grid = plt.subplots(
        rows, columns, figsize=(6.4 * columns, height * rows), squeeze=False
    )
    for axes in grid.flat[len(works) :]:
        axes.remove()
    for axes, work in zip(grid.flat, works, strict=False):
        done = {name: r for name, r in report.results[work.name].items() if r.samples}
        ranking = sorted(done, key=lambda name: value(work, done[name]), reverse=True)
        values = [value(work, done[name]) for name in ranking]
        bars = axes.barh(ranking, values, color=[_colour(name) for name in ranking], log=True)
        axes.bar_label(bars, [_figure(number) for number in values], padding=3, fontsize=8)
        axes.set_title(work.name, fontsize=10, loc="left", fontweight="bold")
        axes.set_xlabel(f"{_title(work)} (log scale; less is better)", fontsize=8)
        axes.tick_params(labelsize=8)
        # The bars say their own figures; labels between the powers of ten run into each other.
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return [path]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """How a curve is drawn."""

    across: str
    up: str
    scale: Callable[[Work], float] = lambda _: 1
    """What a value is multiplied by."""


_CURVES = {
    "connections": _Axes(across="connections", up="CPU µs a message of 64 B"),
    "size": _Axes(
        across="bytes a message",
        up="CPU ns a KiB",
        scale=lambda work: 1e3 * 1024 / work.load.size,
    ),
    "queue": _Axes(across="frames of 1 B sent at once", up="CPU µs a message"),
    "flood": _Axes(
        across="messages in flight on the flooding connection",
        up="p99 ms of a hundred quiet connections",
    ),
}


def _draw_curves(report: Report, folder: Path, name: str) -> list[Path]:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    written = []
    for curve, how in _CURVES.items():
        points = [work for work in report.works if work.curve == curve]
        if not points:
            continue
        figure, axes = plt.subplots(figsize=(9, 6))
        for index, peer in enumerate(report.peers):
            done = [w for w in points if report.results[w.name][peer.name].samples]
            axes.plot(
                [work.at for work in done],
                [value(w, report.results[w.name][peer.name]) * how.scale(w) for w in done],
                marker="o",
                color=_colour(peer.name) if _plain(peer.name) else f"C{index % 10}",
                label=peer.name,
                linewidth=2.5 if peer.name == REFERENCE else 1.2,
                linestyle="--" if peer.raw else "-",
            )
        # Zero, no flood at all, has a place on this scale too.
        axes.set_xscale("symlog" if curve == "flood" else "log")
        axes.set_yscale("log")
        axes.set_xlabel(how.across)
        axes.set_ylabel(f"{how.up} (less is better)")
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        path = folder / f"{name}-{curve}.png"
        figure.savefig(path, dpi=90, bbox_inches="tight")
        plt.close(figure)
        written.append(path)
    return written
