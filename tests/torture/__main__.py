"""Tortures a server: hundreds of hostile clients at once, while others are served as ever."""

import argparse
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import trio
import trustme

from tests.torture.faults import FAULTS
from tests.torture.hostile import Fault, Target
from tests.torture.outcome import Outcome
from tests.torture.plan import Options
from tests.torture.report import render
from tests.torture.server import serving
from tests.torture.settings import HOST, Times
from tests.torture.soak import Soak

_DESCRIPTORS = 4096  # that this program wants; each client needs one

_STARVED = 1.0  # seconds of lag that may be the cause of what is found

_NO_POLLER = {"TRIO_WS_NO_POLLER": "1"}
_NO_SPEEDUPS = {"TRIO_WS_NO_SPEEDUPS": "1"}

VARIANTS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "trio_ws": ({}, {**_NO_POLLER, **_NO_SPEEDUPS}, _NO_POLLER, _NO_SPEEDUPS)
}
"""The environments in which a server is to be tortured; most have but one."""

_FOR_ALL = 120
"""Seconds from which on there is time for all of them; with less, for the first two, which differ
in everything: a lap has to fit into the time of each."""


def main() -> int:
    """Do what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--server", default="trio_ws", help="trio_ws, trio_websocket, websockets")
    parser.add_argument("--seconds", type=float, default=600, help="all in all (default: 600)")
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="repeats a run")
    parser.add_argument("--fault", action="append", help="a pattern; only such faults")
    arguments = parser.parse_args()
    faults = [
        fault
        for fault in FAULTS
        if any(fnmatchcase(fault.name, pattern) for pattern in arguments.fault or ["*"])
    ]
    if not faults:
        names = "\n  ".join(fault.name for fault in FAULTS)
        parser.error(f"no fault is called that; there are\n  {names}")
    # Whoever ends this by a time limit ends its programs, too.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    _want_descriptors()
    print(f"torture: {arguments.server}, SEED={arguments.seed}", flush=True)
    outcomes = trio.run(
        partial(torture, arguments.server, arguments.seconds, arguments.seed, faults)
    )
    print(f"\n{render(outcomes)}\n")
    for outcome in outcomes:
        for violation in outcome.violations:
            print(f"torture: SEED={arguments.seed}: {outcome.what}: {violation}", file=sys.stderr)
        if outcome.violations and outcome.lag > _STARVED:
            print(
                f"torture: this program itself was up to {outcome.lag:.1f} seconds late: "
                "on a machine that is starved, clients can seem slow by no fault of the server",
                file=sys.stderr,
            )
    bad = any(outcome.violations for outcome in outcomes)
    if not bad:
        print(f"torture: nothing lost, reordered, late or left (SEED={arguments.seed})", flush=True)
    return int(bad)


async def torture(
    name: str, seconds: float, seed: str, faults: Sequence[Fault]
) -> Sequence[Outcome]:
    """Torture a server, in each of its variants for a part of the time.

    Args:
        name: The module below `tests.torture.servers`.
        seconds: How long, all in all.
        seed: What all that is drawn depends on.
        faults: What the hostile clients do.
    """
    outcomes: list[Outcome] = []
    variants = VARIANTS.get(name, ({},))[: None if seconds >= _FOR_ALL else 2]
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        own, context = make_certificate(Path(folder))
        for environment in variants:
            async with serving([name], own, times.scale, environment) as server:
                if server.what in (outcome.what for outcome in outcomes):
                    # There is no compiled half, or no poller, to be turned off.
                    continue
                options = Options(seed=seed, seconds=seconds / len(variants))
                target = Target(server.ports, context, times)
                outcomes.append(await Soak(server, target, faults, options, _say).run())
            if outcomes[-1].violations:
                break
    return outcomes


def make_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make key and certificate for a server, and what trusts them."""
    authority = trustme.CA()
    own = folder / "own.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(own))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return own, context


def _say(line: str) -> None:
    print(line, flush=True)


def _want_descriptors() -> None:
    """Allow this program as many descriptors as it needs, if it may."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    sys.exit(main())
