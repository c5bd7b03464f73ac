"""Programs that tests run as processes: the examples, and Node.js."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO

import trio

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# A net, not a measurement: each wait ends at once unless something is broken.
DEADLINE = 30


class Program:
    """A running program, heard line by line. Created by `running` and `running_example`."""

    def __init__(self, process: trio.Process, errors: IO[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self._errors = errors
        self._unread = b""
        self.lines: list[str] = []
        """What it has printed, as far as it was heard."""

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.returncode

    @property
    def errors(self) -> str:
        """What it has written to the standard error stream."""
        self._errors.seek(0)
        return self._errors.read().decode()

    async def hear(self) -> str:
        """Wait for the next line."""
        line = await self._next_line()
        assert line is not None, f"the program has ended: {self.lines}, {self.errors}"
        return line

    async def hear_all(self) -> list[str]:
        """Wait for the program's end, and return the lines that were not heard before."""
        heard = len(self.lines)
        while await self._next_line() is not None:
            pass
        with trio.fail_after(DEADLINE):
            await self._process.wait()
        return self.lines[heard:]

    async def type(self, text: str) -> None:
        """Write to its standard input."""
        await self._input.send_all(text.encode())

    async def end_input(self) -> None:
        """Close its standard input, as Ctrl-D does."""
        await self._input.aclose()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()

    async def _next_line(self) -> str | None:
        with trio.fail_after(DEADLINE):
            while b"\n" not in self._unread:
                chunk = await self._output.receive_some()
                if not chunk:
                    assert not self._unread, f"half a line: {self._unread!r}"
                    return None
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        self.lines.append(line.decode())
        return self.lines[-1]


@asynccontextmanager
async def running(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Program, None]:
    """Run a program; it is killed if it has not ended when the block is left.

    Args:
        command: The program and its arguments.
        environment: What its environment has beyond this program's own.
    """
    _heed_interrupts()
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "PYTHONUTF8": "1",
                **(environment or {}),
            },
        )
        try:
            yield Program(process, errors)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (process.stdin, process.stdout):
                    assert stream is not None
                    await stream.aclose()


def running_example(name: str, *arguments: str) -> AbstractAsyncContextManager[Program]:
    """Run an example in Python's development mode, which tells of resources left behind."""
    return running(sys.executable, "-X", "dev", EXAMPLES / name, *arguments)


def _heed_interrupts() -> None:
    """Undo what a shell does to what it starts in the background: have it ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
