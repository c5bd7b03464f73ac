"""Runs the Autobahn test suite against our server and our client, and says what came out."""

import argparse
import os
import signal
import sys
from functools import partial

import trio

from tests.conformance.cases import select
from tests.conformance.report import render
from tests.conformance.runner import RESULTS, groups, make_certificates, run
from tests.conformance.settings import SIDES
from tests.conformance.suite import SuiteError, find_suite

UNABLE = 2
"""The exit status when the suite could not be run; 1 is for cases that are not as they must be."""


def main() -> int:
    """Run what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("cases", nargs="*", help="such as 6.* or 12.1.* (default: all)")
    parser.add_argument(
        "--side", action="append", choices=SIDES, help="server or client (default: both)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="groups at a time (default: CPUs)"
    )
    parser.add_argument("--tls", action="store_true", help="run over wss:")
    arguments = parser.parse_args()
    try:
        cases = select(arguments.cases)
    except ValueError as error:
        parser.error(str(error))
    try:
        wstest = find_suite()
    except SuiteError as error:
        print(error, file=sys.stderr)
        return UNABLE
    # Whoever ends this by a time limit ends its programs, too.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    verdicts = trio.run(
        partial(
            run,
            wstest,
            groups(arguments.side or SIDES, cases),
            jobs=max(1, arguments.jobs),
            certificates=make_certificates(RESULTS) if arguments.tls else None,
        )
    )
    report = render(verdicts)
    (RESULTS / "report.md").write_text(report + "\n", "utf-8")
    print(report)
    return int(any(verdict.faults for of_side in verdicts.values() for verdict in of_side))


if __name__ == "__main__":
    sys.exit(main())
