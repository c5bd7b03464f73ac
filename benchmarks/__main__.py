"""The command: ``python -m benchmarks``, which is what `make bench` runs."""

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

import trio

from benchmarks import machine
from benchmarks.generator import Generator as LoadGenerator
from benchmarks.options import Options
from benchmarks.peers import ROOT, Peer
from benchmarks.pictures import draw
from benchmarks.report import Report, table
from benchmarks.runner import Results, count, run

_UNCOMPILED = "the compiled half of trio_ws is not built here; Python does its work in all of this"

_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


def main() -> str | int:
    """Run the benchmark; return what there is to complain of, or the status to exit with."""
    options = Options.parse()
    absent = {peer.name: why for peer in options.peers if (why := peer.absence()) is not None}
    peers = [peer for peer in options.peers if peer.name not in absent]
    lines = [f"absent: {name}: {reason}" for name, reason in absent.items()]
    if not peers:
        return "\n".join(["nobody is here to be measured", *lines])
    lines += [
        f"{peer.name}: frames {parts['frames']}, wires {parts['wires']}"
        for peer in peers
        if (parts := peer.parts())
    ]
    warning = _UNCOMPILED if any(peer.is_uncompiled() for peer in peers) else None
    if warning:
        lines.append(f"WARNING: {warning}")
    description = machine.describe()
    machine.raise_limits()
    if (pinned := machine.cores()) is not None:
        machine.pin(0, pinned[1])
    generator = LoadGenerator.compiled(ROOT / "build" / "bench") or LoadGenerator.fallback()
    print(f"load generator: {generator.name}", *lines, sep="\n")
    results: Results = {}
    interrupted = not _measure(options, peers, generator, results)
    report = Report(
        machine=description,
        settings={
            **({"WARNING": warning} if warning else {}),
            "run": options.kind,
            **{f"selected {name}": text for name, text in options.selection.items()},
            "rounds": str(options.rounds),
            "seconds a measurement": f"{options.seconds:g}",
            "load generator": generator.name,
            **({"interrupted": "what follows is incomplete"} if interrupted else {}),
        },
        works=options.works,
        peers=peers,
        absent=absent,
        results=results,
    )
    for work in options.works:
        print(f"\n{work.name}\n", *table(work, results[work.name]), sep="\n")
    # What is not the whole must not take the place of one that is.
    name = options.kind + "-selected" * bool(options.selection) + "-interrupted" * interrupted
    written = [*report.write(options.output, name), *draw(report, options.output, name)]
    print("\nwritten:", *(path.name for path in written), "in", options.output)
    if not any(path.suffix == ".png" for path in written):
        print("no picture: matplotlib is not installed (pip install --group bench)")
    if interrupted:
        print("interrupted: all of this is incomplete")
    return _INTERRUPTED if interrupted else 0


def _measure(
    options: Options, peers: Sequence[Peer], generator: LoadGenerator, results: Results
) -> bool:
    """Fill the results; return whether they are complete."""
    complete = True
    # Trio knows how to stop at Ctrl-C, with the servers; so let it be asked to end in the same way.
    # A shell that starts it in the background would have it ignore both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with _progress(count(options.works, peers, options.rounds)) as progress:
        measure = partial(
            run,
            rounds=options.rounds,
            seconds=options.seconds,
            progress=progress,
            results=results,
        )
        try:
            trio.run(measure, options.works, peers, generator)
        except* KeyboardInterrupt:
            complete = False
    return complete


@contextmanager
def _progress(total: int) -> Generator[Callable[[str], None], None, None]:
    """Show a progress bar, or lines where there is no tqdm."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        done = iter(range(total))
        yield lambda text: print(f"[{next(done) + 1}/{total}] {text}", flush=True)
        return
    with tqdm(total=total, unit="run", dynamic_ncols=True, file=sys.stderr) as bar:
        bar.update(0)

        def show(text: str) -> None:
            # The measurement before this one is done.
            if shown:
                bar.update()
            shown.append(text)
            bar.set_postfix_str(text)

        shown: list[str] = []
        yield show
        bar.update()


if __name__ == "__main__":
    sys.exit(main())
