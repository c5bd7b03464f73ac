"""Plays the suite's program, for the tests of the runner: one exchange a case.

What it does wrong is told by the environment, in `FAKE_SUITE`: a word and the case it is done at.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

import trio_ws
from tests.conformance.cases import ALL
from tests.conformance.reports import write_reports


async def _do_wrong(case: str) -> None:
    word, _, at = os.environ.get("FAKE_SUITE", "").partition(" ")
    if at != case:
        return
    if word == "hang":
        print("hanging", flush=True)
        await trio.sleep_forever()
    if word == "crash":
        sys.exit(3)


async def _fuzz_server(spec: dict[str, Any]) -> None:
    changes: dict[str, dict[str, object]] = {}
    for case in spec["cases"]:
        await _do_wrong(case)
        async with trio_ws.connect(spec["servers"][0]["url"]) as connection:
            await connection.send(case)
            if await connection.receive() != case:
                changes[case] = {"behavior": "FAILED"}
    write_reports(Path(spec["outdir"]), spec["cases"], changes)


async def _fuzz_client(spec: dict[str, Any]) -> None:
    known = ALL[1:] if os.environ.get("FAKE_SUITE") == "other-cases" else ALL
    print("Playing the suite")
    print("Cases =", [str(case) for case in known], flush=True)
    run: list[str] = []

    async def serve_case(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            if request.path == "/updateReports":
                write_reports(Path(spec["outdir"]), run)
                return
            case = request.query["casetuple"]
            await _do_wrong(case)
            await connection.send(case)
            if await connection.receive() == case:
                run.append(case)

    await trio_ws.serve(serve_case, urlsplit(spec["url"]).port, host="127.0.0.1")


def main() -> None:
    """Do what the suite's command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="mode")
    parser.add_argument("-s", dest="spec")
    parser.add_argument("-u", dest="web_port")
    arguments = parser.parse_args()
    spec = json.loads(Path(arguments.spec).read_text("utf-8"))
    trio.run(_fuzz_server if arguments.mode == "fuzzingclient" else _fuzz_client, spec)
