"""`draw`: pictures of bars, and a plot for each curve."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import REFERENCE
from benchmarks.report import Report, figure, title, value
from benchmarks.works import Work

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _FLOOR, _OTHERS = "#d1495b", "#9aa0a6", "#2e86ab"

_COLUMNS = 3

_DPI = 90

_SCALE = (
    "Less is better. The scales are logarithmic: the same length is the same factor everywhere."
)


def draw(report: Report, folder: Path, name: str) -> list[Path]:
    """Draw all that can be drawn, and return the files."""
    try:
        import matplotlib  # noqa: PLC0415, ICN001 - optional
    except ImportError:
        return []
    matplotlib.use("Agg")
    pictures: dict[str, dict[Work, dict[str, float]]] = {}
    for work in report.works:
        if not work.curve and (values := _values(report, work)):
            pictures.setdefault(work.picture, {})[work] = values
    written = []
    for picture, panels in pictures.items():
        stem = f"{name}-{picture.replace(' ', '-')}" if picture else name
        written.append(folder / f"{stem}.png")
        _draw_bars(panels, _caption(report), written[-1])
    return written + _draw_curves(report, folder, name)


def _values(report: Report, work: Work) -> dict[str, float]:
    """Return what a logarithmic scale can show of a work, the largest first."""
    done = {name: value(work, r) for name, r in report.results[work.name].items() if r.samples}
    return {
        name: done[name]
        for name in sorted(done, key=done.__getitem__, reverse=True)
        if done[name] > 0
    }


def _caption(report: Report) -> str:
    facts = {**report.machine, **report.settings}
    lines = ["; ".join(f"{name}: {text}" for name, text in facts.items())]
    lines += [f"absent: {name}: {reason}" for name, reason in report.absent.items()]
    return "\n".join(lines)


def _draw_bars(panels: Mapping[Work, Mapping[str, float]], caption: str, path: Path) -> None:
    """Draw bars whose lengths can be compared.

    Each axis begins at a power of ten and has as many decades as the others.
    """
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width = 6.4 * columns
    lines = _wrapped(f"{_SCALE}\n{caption}", width)
    height = (0.26 * max(map(len, panels.values())) + 0.9) * rows + 0.16 * (len(lines) + 1)
    drawing, grid = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    begins = [floor(log10(min(values.values()) / 2)) for values in panels.values()]
    # The last decade has room for the figure beside the longest bar.
    decades = max(
        ceil(log10(max(values.values()) * 2)) - begin
        for values, begin in zip(panels.values(), begins, strict=True)
    )
    for axes, (work, values), begin in zip(grid.flat, panels.items(), begins, strict=False):
        powers = [10.0**power for power in range(begin, begin + decades + 1)]
        _draw_panel(axes, work, values, powers)
    drawing.supxlabel("\n".join(lines), x=0.005, ha="left", fontsize=8)
    drawing.savefig(path, dpi=_DPI)
    plt.close(drawing)


def _draw_panel(
    axes: "Axes", work: Work, values: Mapping[str, float], powers: Sequence[float]
) -> None:
    names, lengths = list(values), list(values.values())
    bars = axes.barh(names, lengths, color=[_colour(name) for name in names], log=True)
    axes.bar_label(bars, [figure(length) for length in lengths], padding=3, fontsize=8)
    axes.set_title(work.name, fontsize=10, loc="left", fontweight="bold")
    axes.set_xlabel(title(work), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_xlim(powers[0], powers[-1])
    axes.set_xticks(powers, [f"{power:,.9g}" for power in powers])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(caption: str, width: float) -> list[str]:
    """Return a caption in lines that fit a width in inches."""
    return [line for text in caption.splitlines() for line in textwrap.wrap(text, int(15 * width))]


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
        drawing, axes = plt.subplots(figsize=(9, 6), layout="constrained")
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
        drawing.supxlabel("\n".join(_wrapped(_caption(report), 9)), x=0, ha="left", fontsize=8)
        path = folder / f"{name}-{curve}.png"
        drawing.savefig(path, dpi=_DPI, bbox_inches="tight")
        plt.close(drawing)
        written.append(path)
    return written


def _colour(name: str) -> str:
    if name.startswith(REFERENCE):
        return _OURS
    return _FLOOR if name.startswith("floor") else _OTHERS


def _plain(name: str) -> bool:
    """Whether a curve has the colour of its bars, instead of one of its own."""
    return name == REFERENCE or _colour(name) == _FLOOR
