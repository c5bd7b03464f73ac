"""Processes: starts a measured server or client on its own core, and says why it ended."""

import os
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import trio

from benchmarks import machine
from benchmarks.peers import ROOT, Peer

_START = 20  # seconds in which a server must listen

_QUIET = 0.02  # seconds over which a server is looked at to see whether it rests

_MOST_UNREST = 3  # seconds that a server may take to clean up after a work


class BenchError(Exception):
    """A measurement that came to nothing; the message says why, in a few words."""


class Running:
    """A running server or client. Created by `running`."""

    def __init__(self, process: trio.Process, errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors
        self.port = 0

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def complaint(self) -> str:
        """Return the last line with words in it of what it said on its standard error."""
        self._errors.seek(0)
        return _last_line(self._errors.read()) or "it said nothing"

    async def rest(self) -> None:
        """Wait until it does nothing, so that its cleaning up is no burden for the next one."""
        with trio.move_on_after(_MOST_UNREST):
            busy = 1.0
            while busy > 0.05 and self.alive:
                before = machine.cpu_seconds(self.pid)
                await trio.sleep(_QUIET)
                if self.alive:
                    busy = (machine.cpu_seconds(self.pid) - before) / _QUIET


@asynccontextmanager
async def running(
    command: Sequence[str | Path], peer: Peer, *, listens: bool
) -> AsyncGenerator[Running, None]:
    """Run a program of a peer on the measured core, and kill it at the end.

    Raises:
        BenchError: It ended, or did not say in time where it listens.
    """
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if listens else subprocess.DEVNULL,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, **peer.environment},
        )
        try:
            if (pinned := machine.cores()) is not None:
                machine.pin(process.pid, pinned[0])
            program = Running(process, errors)
            if listens:
                program.port = await _port(program)
            yield program
        finally:
            await kill(process)


async def _port(program: Running) -> int:
    try:
        with trio.fail_after(_START):
            return int(await first_line(program.process))
    except trio.TooSlowError:
        raise BenchError(f"did not listen within {_START} seconds") from None
    except ValueError:
        await trio.sleep(0.1)  # What it has to say may come after it has closed its output.
        raise BenchError(f"did not start: {program.complaint()}") from None


async def first_line(process: trio.Process) -> str:
    """Return the first line that a process says."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (part := await process.stdout.receive_some(1)):
        line += part
    return line.decode("utf-8", "replace")


async def last_words(process: trio.Process) -> str:
    """Return the last line with words in it that a process said on its standard error."""
    assert process.stderr is not None
    output = b""
    async for part in process.stderr:
        output += part
    return _last_line(output)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").splitlines()
    # Exception groups frame what they say.
    spoken = [line.strip(" |") for line in lines if any(map(str.isalpha, line))]
    return spoken[-1] if spoken else ""


async def kill(process: trio.Process) -> None:
    """End a process at once, if it has not ended."""
    if process.poll() is None:
        process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()
