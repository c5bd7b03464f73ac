"""The demo: run the greeting server and client against each other, and show what both say."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DEADLINE = 20
WINDOWS = sys.platform == "win32"


class DemoError(Exception):
    """A program did not do its part of the demo."""


class Program:
    """A running example, heard line by line. Created by `running`."""

    def __init__(self, name: str, process: trio.Process, output: trio.abc.ReceiveStream) -> None:
        self._name = name
        self._process = process
        self._output = output
        self._unread = b""

    async def expect(self, text: str) -> str:
        """Show lines up to the one that has ``text`` in it, and return what follows the text.

        Raises:
            DemoError: The program ended before it said so.
        """
        while (line := await self._show_line()) is not None:
            if text in line:
                return line.partition(text)[2]
        raise DemoError(f"the {self._name} ended before it said {text!r}")

    async def stop(self, signal_number: signal.Signals) -> None:
        """Send a signal, and show what the program says until it has ended.

        Raises:
            DemoError: The program ended with an error.
        """
        if WINDOWS:
            self._process.terminate()
        else:
            self._process.send_signal(signal_number)
        while await self._show_line() is not None:
            pass
        status = await self._process.wait()
        # Windows has no way to ask a process to end, so there the status says nothing.
        if status != 0 and not WINDOWS:
            raise DemoError(f"the {self._name} ended with status {status}")

    async def _show_line(self) -> str | None:
        while b"\n" not in self._unread:
            chunk = await self._output.receive_some()
            if not chunk:
                return None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        text = line.decode("utf-8", "replace").rstrip("\r")
        print(f"{self._name} | {text}", flush=True)
        return text


@contextlib.asynccontextmanager
async def running(name: str, *arguments: str) -> AsyncIterator[Program]:
    """Run an example; it is killed if it has not ended when the block is left."""
    process = await trio.lowlevel.open_process(
        [sys.executable, EXAMPLES / f"greeting_{name}.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    try:
        if (output := process.stdout) is None:
            raise DemoError(f"the {name} has no output")
        yield Program(name, process, output)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def converse() -> None:
    """Let the two greet each other, then stop first the client and then the server.

    Raises:
        DemoError: One of them did not do its part, or not in time.
    """
    with trio.move_on_after(DEADLINE) as deadline:
        async with running("server", "--port", "0") as server:
            url = await server.expect("Servidor escutando em ")
            async with running("client", url) as client:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.expect, "Mensagem recebida: Olá, servidor!")
                    nursery.start_soon(client.expect, "Mensagem do servidor: Olá, cliente!")
                await client.stop(signal.SIGINT)
                await server.stop(signal.SIGTERM)
    if deadline.cancelled_caught:
        raise DemoError(f"not finished after {DEADLINE} seconds")


def main() -> str | None:
    """Run the demo and return what went wrong, if anything did."""
    # A shell that starts the demo in the background makes it ignore Ctrl-C, and the client too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    problems: list[str] = []
    try:
        trio.run(converse)
    except* KeyboardInterrupt:
        problems.append("interrupted")
    except* DemoError as errors:
        problems.extend(map(str, errors.exceptions))
    return "demo failed: " + ", ".join(problems) if problems else None


if __name__ == "__main__":
    sys.exit(main())
