"""`Generator`: compiles and runs the load generator, and reads what it measured."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import trio

from benchmarks import machine
from benchmarks.processes import BenchError, first_line, kill, last_words

_SOURCE = Path(__file__).with_suffix(".c")

STRETCH = 8  # times as long may a measurement take in which too little comes back

_GRACE = 65  # seconds beyond those of the load, for opening connections; then it ends itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the generator does; see the head of ``generator.c``."""

    work: str = "echo"
    """One of ``echo burst quiet broadcast handshakes idle``."""
    connections: int = 1
    """How many at a time."""
    in_flight: int = 1
    """Messages on their way on each connection."""
    size: int = 64
    """Bytes of each message."""
    text: bool = False
    """Whether the messages are text, with some characters beyond ASCII."""
    tls: bool = False
    """Whether it is all over TLS."""
    flood: int = 0
    """Of the work ``quiet``: messages in flight on the connection that floods."""
    warmup: float = 0.3
    """Seconds before counting starts."""
    seconds: float = 1
    """Seconds of counting."""

    def timed(self, seconds: float) -> Self:
        """Return the same for another time, unless its time is a part of it."""
        return self if self.work == "idle" else replace(self, seconds=seconds)

    def arguments(self) -> list[str]:
        """Return it as a command line."""
        numbers = {
            "work": self.work,
            "connections": self.connections,
            "in-flight": self.in_flight,
            "size": self.size,
            "flood": self.flood,
            "warmup": self.warmup,
            "seconds": self.seconds,
        }
        flags = ["--text"] * self.text + ["--tls"] * self.tls
        return [*(f"--{name}={value}" for name, value in numbers.items()), *flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one run of the generator measured."""

    messages: int
    """Messages, deliveries or handshakes that were counted."""
    seconds: float
    """How long that took."""
    cpu: float
    """CPU seconds, user and system, of the measured process in that time."""
    own_cpu: float
    """CPU seconds of the generator in that time."""
    p50: float
    """Seconds from sending a message to receiving it; the median."""
    p99: float
    """The same of the slowest hundredth."""
    memory: int
    """Bytes by which the measured process grew while the connections were opened."""


class Generator:
    """The load generator. Created by `compiled` or `fallback`."""

    def __init__(self, command: list[str], name: str) -> None:
        self._command = command
        self.name = name

    @classmethod
    def compiled(cls, folder: Path) -> Self | None:
        """Compile the one in C into a folder; None if that cannot be done here."""
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if shutil.which(compiler[0]) is None or sys.platform != "linux":
            return None
        program = folder / "generator"
        folder.mkdir(parents=True, exist_ok=True)
        options = ["-O2", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE), "-ldl"]
        command = [*compiler, *options]
        if subprocess.run(command, check=False).returncode:
            return None
        return cls([str(program)], "C, epoll")

    @classmethod
    def fallback(cls) -> Self:
        """Return the one in Python, which is slower than the faster peers."""
        return cls(
            [sys.executable, "-m", "benchmarks.fallback"],
            "Python (no C compiler or no Linux): slow, it holds fast servers up",
        )

    async def drive(self, load: Load, port: int, pid: int, *, raw: bool = False) -> Sample:
        """Let it loose on a server.

        Raises:
            BenchError: The server, or the generator, did not do what it should.
        """
        arguments = [*load.arguments(), f"--port={port}", f"--pid={pid}", *["--raw"] * raw]
        async with self._running(arguments, load) as process:
            return await _sample(process)

    @asynccontextmanager
    async def face(self, load: Load) -> AsyncGenerator["Facing", None]:
        """Let it wait for a client: the fixed server that clients are measured against.

        Raises:
            BenchError: The generator cannot do that.
        """
        async with self._running([*load.arguments(), "--role=listen"], load) as process:
            port = await first_line(process)
            if not port:
                raise await _failure(process)
            yield Facing(process, int(port))

    @asynccontextmanager
    async def _running(
        self, arguments: list[str], load: Load
    ) -> AsyncGenerator[trio.Process, None]:
        process = await trio.lowlevel.open_process(
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if (pinned := machine.cores()) is not None:
            machine.pin(process.pid, pinned[1])
        try:
            with trio.move_on_after(STRETCH * (load.warmup + load.seconds) + _GRACE) as deadline:
                yield process
        finally:
            await kill(process)
        if deadline.cancelled_caught:
            raise BenchError("the generator did not end in time")


class Facing:
    """A generator that waits for a client. Created by `Generator.face`."""

    def __init__(self, process: trio.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def measure(self, pid: int) -> Sample:
        """Measure a client that has been told the port.

        Raises:
            BenchError: The client, or the generator, did not do what it should.
        """
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"%d\n" % pid)
        return await _sample(self._process)


async def _sample(process: trio.Process) -> Sample:
    assert process.stdout is not None
    output = b""
    async for part in process.stdout:
        output += part
    if await process.wait():
        raise await _failure(process)
    return Sample(**json.loads(output))


async def _failure(process: trio.Process) -> BenchError:
    status = await process.wait()
    return BenchError(await last_words(process) or f"the generator ended with status {status}")
