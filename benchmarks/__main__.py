"""The command: ``python -m benchmarks``, which is what `make bench` runs."""

import argparse
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from benchmarks import machine, works
from benchmarks.generator import Generator as LoadGenerator
from benchmarks.peers import PEERS, ROOT
from benchmarks.report import Report, table
from benchmarks.runner import Results, count, run
from benchmarks.works import Work


def main() -> str | None:
    """Run the benchmark; return what is wrong with the command line, if anything is."""
    options = _parse()
    kind, chosen, rounds, seconds = _plan(options)
    wanted = [peer for peer in PEERS if _matches(peer.name, options.peers)]
    absent = {peer.name: why for peer in wanted if (why := peer.absence()) is not None}
    peers = [peer for peer in wanted if peer.name not in absent]
    if not peers or not chosen:
        return "no peer or no work of that name, or none of them is installed here"
    description = machine.describe()
    machine.raise_limits()
    if (pinned := machine.cores()) is not None:
        machine.pin(0, pinned[1])
    generator = LoadGenerator.compiled(ROOT / "build" / "bench") or LoadGenerator.fallback()
    print(f"load generator: {generator.name}")
    for name, reason in absent.items():
        print(f"absent: {name}: {reason}")
    results: Results = {}
    interrupted = False
    # Trio knows how to stop at Ctrl-C, with the servers; so let it be asked to end in the same way.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with _progress(count(chosen, peers, rounds)) as progress:
        measure = partial(run, rounds=rounds, seconds=seconds, progress=progress, results=results)
        try:
            trio.run(measure, chosen, peers, generator)
        except KeyboardInterrupt:
            interrupted = True
    report = Report(
        machine=description,
        settings={
            "run": kind,
            "rounds": str(rounds),
            "seconds a measurement": f"{seconds:g}",
            "load generator": generator.name,
            **({"interrupted": "what follows is incomplete"} if interrupted else {}),
        },
        works=chosen,
        peers=peers,
        absent=absent,
        results=results,
    )
    for work in chosen:
        print(f"\n{work.name}\n", *table(work, results[work.name]), sep="\n")
    written = report.write(options.output, kind)
    print("\nwritten:", *(path.name for path in written), "in", options.output)
    if not any(path.suffix == ".png" for path in written):
        print("no picture: matplotlib is not installed (pip install --group bench)")
    return None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all works, more rounds, and curves")
    parser.add_argument("--curves", action="store_true", help="the curves alone")
    parser.add_argument("--peers", help="parts of names, divided by commas")
    parser.add_argument("--works", help="parts of names, divided by semicolons")
    parser.add_argument("--rounds", type=int, help="how often each measurement is made")
    parser.add_argument("--seconds", type=float, help="how long each measurement counts")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> tuple[str, list[Work], int, float]:
    if options.full:
        kind, chosen, rounds, seconds = "full", [*works.full(), *works.curves()], 3, 1.0
    elif options.curves:
        kind, chosen, rounds, seconds = "curves", works.curves(), 3, 0.5
    else:
        kind, chosen, rounds, seconds = "quick", works.quick(), 3, 0.4
    chosen = [work for work in chosen if _matches(work.name, options.works, ";")]
    return kind, chosen, options.rounds or rounds, options.seconds or seconds


def _matches(name: str, parts: str | None, divider: str = ",") -> bool:
    return parts is None or any(part.strip() in name for part in parts.split(divider))


@contextmanager
def _progress(total: int) -> Generator[Callable[[str], None], None, None]:
    """Show a progress bar, or lines where there is no tqdm."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        done = iter(range(total))
        yield lambda text: print(f"[{next(done) + 1}/{total}] {text}")
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
