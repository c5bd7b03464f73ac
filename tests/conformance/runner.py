"""`run`: runs cases group by group, several groups at a time, and collects the verdicts.

The suite's program runs its cases one after the other and writes its report at the very end. So
each group of cases has a suite, a program under test and a time limit of its own: a hang loses a
group and not the run.
"""

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

import trio
import trustme

from tests.conformance.cases import ALL, group_of
from tests.conformance.judge import Verdict, judge
from tests.conformance.settings import AGENT, Side

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "build" / "conformance"
"""What the suite has reported, until the next run."""

_START_TIMEOUT = 60  # seconds for a program to say that it listens
_PORT_TRIES = 5  # ports tried for a suite that has to be told one


@dataclass(frozen=True, slots=True)
class Certificates:
    """For a run over TLS: files in PEM."""

    own: Path
    """Key and certificate for 127.0.0.1, of whichever side serves."""
    authority: Path
    """Who has signed it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that one suite runs, one after the other."""

    side: Side
    name: str
    cases: tuple[str, ...]
    limit: float
    """Seconds for all of them."""


class GroupError(Exception):
    """A group was lost; the text says why."""


def groups(sides: Sequence[Side], cases: Sequence[str]) -> list[Group]:
    """Put cases into groups, for each side: by the first number, compression by the second too."""
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(_group_name(case), []).append(case)
    return [
        Group(side, name, tuple(chosen), _limit(name, len(chosen)))
        for side in sides
        for name, chosen in members.items()
    ]


def _group_name(case: str) -> str:
    return case.rpartition(".")[0] if group_of(case) in {"12", "13"} else group_of(case)


def _limit(name: str, cases: int) -> float:
    """Return the seconds for a group: many times what it takes on an idle machine."""
    # A case of 12.* and 13.* has the suite compress and inflate up to 128 MB, in Python.
    return 120 + cases * (30 if "." in name else 5)


async def run(
    wstest: Path,
    chosen: Sequence[Group],
    *,
    jobs: int,
    results: Path = RESULTS,
    certificates: Certificates | None = None,
    progress: Callable[[str], None] = print,
) -> dict[Side, list[Verdict]]:
    """Run groups of cases, several at a time.

    Args:
        wstest: The suite's program.
        chosen: What to run.
        jobs: How many groups run at a time.
        results: The folder for the suite's reports.
        certificates: Run over TLS with these.
        progress: Told about each group that is done.

    Returns:
        The verdicts on all cases of all groups, by side, in the order of the cases.
    """
    verdicts: dict[Group, list[Verdict]] = {}
    # The longest first, so that none of them is left to run alone at the end.
    waiting = sorted(chosen, key=lambda group: group.limit)

    async def work() -> None:
        while waiting:
            group = waiting.pop()
            runner = _Runner(wstest, group, results / group.side / group.name, certificates)
            begun = trio.current_time()
            why = await runner.run()
            verdicts[group] = judge(runner.reports, group.cases, why)
            bad = sum(bool(verdict.faults) for verdict in verdicts[group])
            seconds = trio.current_time() - begun
            outcome = f"{bad} not as they must be" if bad else "as they must be"
            lost = f", lost: {why}" if why else ""
            progress(
                f"{group.side} {group.name}: {len(group.cases)} cases, {outcome}, "
                f"{seconds:.0f} s{lost}"
            )

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)
    found: dict[Side, list[Verdict]] = {}
    for group in chosen:
        found.setdefault(group.side, []).extend(verdicts[group])
    return found


class _Runner:
    """Runs one group."""

    def __init__(
        self, wstest: Path, group: Group, folder: Path, certificates: Certificates | None
    ) -> None:
        self._wstest = wstest
        self._group = group
        self._folder = folder
        self._certificates = certificates
        self._scheme = "ws" if certificates is None else "wss"
        self.reports = folder / "reports"

    async def run(self) -> str | None:
        """Run it; return why it was lost, if it was."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        with trio.move_on_after(self._group.limit) as scope:
            try:
                if self._group.side == "server":
                    await self._test_server()
                else:
                    await self._test_client()
            except GroupError as error:
                return f"{error} (see {self._folder})"
        if scope.cancelled_caught:
            return f"not done after {self._group.limit:g} seconds (see {self._folder})"
        return None

    async def _test_server(self) -> None:
        arguments: list[str | Path] = []
        if self._certificates is not None:
            arguments = ["--certificate", self._certificates.own]
        command = (sys.executable, "-m", "tests.conformance.server", *arguments)
        async with self._running("server", *command) as server:
            port = await self._port_of(server)
            spec = {"servers": [{"agent": AGENT, "url": f"{self._scheme}://127.0.0.1:{port}"}]}
            suite = (self._wstest, "-m", "fuzzingclient", "-s", self._write_spec(spec))
            async with self._running("suite", *suite) as program:
                if status := await program.wait():
                    raise GroupError(f"the suite ended with status {status}")
            if server.poll() is not None:
                raise GroupError(f"the server ended with status {server.returncode}")

    async def _test_client(self) -> None:
        for _ in range(_PORT_TRIES):
            port = _free_port()
            url = f"{self._scheme}://127.0.0.1:{port}"
            spec = {"url": url}
            arguments: list[str | Path] = []
            if self._certificates is not None:
                spec["key"] = spec["cert"] = str(self._certificates.own)
                arguments = ["--certificate", self._certificates.authority]
            # All cases, so that it tells which it has.
            path = self._write_spec(spec, cases=["*"])
            suite = (self._wstest, "-m", "fuzzingserver", "-u", "0", "-s", path)
            async with self._running("suite", *suite) as program:
                if not await self._listens(port, program):
                    continue
                self._check_cases()
                command = (sys.executable, "-m", "tests.conformance.client", *arguments)
                async with self._running("client", *command, url, *self._group.cases) as client:
                    if status := await client.wait():
                        raise GroupError(f"the client ended with status {status}")
                return
        raise GroupError("the suite does not start")

    async def _listens(self, port: int, suite: trio.Process) -> bool:
        """Wait until the suite listens; tell whether it does."""
        with trio.move_on_after(_START_TIMEOUT):
            while suite.poll() is None:
                await trio.sleep(0.05)
                # Until it has said that, whoever listens there is somebody else.
                if "\nCases =" in self._said("suite") and await _is_open(port):
                    return suite.poll() is None
        return False

    def _check_cases(self) -> None:
        """Check that the suite has the cases that this folder knows of."""
        found = re.search(r"^Cases = (\[.*\])$", self._said("suite"), re.MULTILINE)
        if found is None:
            raise GroupError("the suite does not tell which cases it has")
        told = set(ast.literal_eval(found.group(1)))
        if others := told ^ set(ALL):
            raise GroupError(f"the suite's cases are others than those of cases.py: {others}")

    def _write_spec(self, spec: Mapping[str, object], cases: Sequence[str] | None = None) -> Path:
        path = self._folder / "spec.json"
        whole = {
            "outdir": str(self.reports),
            "cases": self._group.cases if cases is None else cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
            **spec,
        }
        path.write_text(json.dumps(whole), "utf-8")
        return path

    def _said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")

    async def _port_of(self, server: trio.Process) -> int:
        """Wait until the server says where it listens."""
        with trio.move_on_after(_START_TIMEOUT):
            while server.poll() is None:
                first, newline, _ = self._said("server").partition("\n")
                if newline and first.isdecimal():
                    return int(first)
                await trio.sleep(0.05)
        raise GroupError(f"the server does not start: {self._said('server')[-2000:]}")

    @asynccontextmanager
    async def _running(self, name: str, *command: str | Path) -> AsyncGenerator[trio.Process, None]:
        """Run a program, its words in a log beside the reports; it is ended with the block."""
        with (self._folder / f"{name}.log").open("wb") as log:
            process = await trio.lowlevel.open_process(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(name),
            )
        try:
            yield process
        finally:
            process.kill()
            # It was killed, and waiting for that needs no deadline.
            with trio.CancelScope(shield=True):
                await process.wait()


def _environment(name: str) -> dict[str, str]:
    """Return the environment for a program; the suite has a Python of its own."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if name != "suite" or not key.startswith("PYTHON")
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    """Return a port that was free just now; the suite cannot choose one by itself.

    It is none of those that systems choose for port 0, which is what everything else here asks for.
    """
    while True:
        port = random.randrange(10_000, 32_768)  # noqa: S311 - not for secrecy
        with socket(AF_INET, SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def _is_open(port: int) -> bool:
    """Tell whether a port takes connections."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and have it sign a certificate for 127.0.0.1."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    folder.mkdir(parents=True, exist_ok=True)
    own, trusted = folder / "own.pem", folder / "authority.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(own))
    authority.cert_pem.write_to_path(str(trusted))
    return Certificates(own, trusted)
