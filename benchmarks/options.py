"""`Options`: what the command line asks for."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from benchmarks import works
from benchmarks.peers import PEERS, ROOT, Peer
from benchmarks.works import Work

_MOST_SECONDS = 600  # more the load generator does not take

_Named = TypeVar("_Named", Peer, Work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured, and how. Created by `parse`."""

    kind: str
    """``quick``, ``full`` or ``curves``."""
    works: Sequence[Work]
    """What is to be done."""
    peers: Sequence[Peer]
    """Who is to do it, if it is installed."""
    selection: Mapping[str, str]
    """The options that chose among peers and works, if any did."""
    rounds: int
    """How often each measurement is made."""
    seconds: float
    """How long each measurement counts."""
    output: Path
    """The folder that the report goes to."""

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Self:
        """Read a command line, by default that of the program; end it if that makes no sense."""
        parser = _parser()
        given = parser.parse_args(arguments)
        if given.full:
            kind, chosen, rounds, seconds = "full", [*works.full(), *works.curves()], 3, 1.0
        elif given.curves:
            kind, chosen, rounds, seconds = "curves", works.curves(), 3, 0.5
        else:
            kind, chosen, rounds, seconds = "quick", works.quick(), 3, 0.4
        peers = [peer for peer in PEERS if not peer.is_variant or kind != "quick" or given.variants]
        selection = {"peers": given.peers, "works": given.works}
        return cls(
            kind=kind,
            works=_select(parser, "--works", given.works, chosen) or chosen,
            peers=_select(parser, "--peers", given.peers, PEERS) or peers,
            selection={name: "; ".join(parts) for name, parts in selection.items() if parts},
            rounds=given.rounds or rounds,
            seconds=given.seconds or seconds,
            output=given.output,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure trio_ws beside its peers.",
        epilog="NAMES are names, or parts of names, divided by semicolons.",
    )
    parser.add_argument("--full", action="store_true", help="all works, longer, and the curves")
    parser.add_argument("--curves", action="store_true", help="the curves alone")
    parser.add_argument(
        "--variants", action="store_true", help="trio_ws with parts switched off too"
    )
    parser.add_argument(
        "--peers", type=_parts, metavar="NAMES", default=[], help="these peers alone"
    )
    parser.add_argument(
        "--works", type=_parts, metavar="NAMES", default=[], help="these works alone"
    )
    parser.add_argument("--rounds", type=_rounds, help="how often each measurement is made")
    parser.add_argument("--seconds", type=_seconds, help="how long each measurement counts")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _rounds(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    # What is not a number is not within bounds either.
    if not 0 < seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to {_MOST_SECONDS}")
    return seconds


def _select(
    parser: argparse.ArgumentParser, option: str, parts: Sequence[str], among: Sequence[_Named]
) -> list[_Named]:
    """Return what has a part as its name, or else all that have it in their names."""
    names = [named.name for named in among]
    selected: set[str] = set()
    for part in parts:
        found = [part] if part in names else [name for name in names if part in name]
        if not found:
            listed = "".join(f"\n  {name}" for name in names)
            parser.error(f"argument {option}: no name has {part!r} in it; there are:{listed}")
        selected.update(found)
    return [named for named in among if named.name in selected]
