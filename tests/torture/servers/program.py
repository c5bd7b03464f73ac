"""`run`: what every server under test has in common: its orders, its answers, its handlers.

A server under test is a program that imports one library and passes `run` a function that serves.
It prints what it is and its ports, answers each order, a line of its input, and stops at the end of
the input. Every line it prints is JSON. What a client asks for by its path is in `WORKS`.
"""

import argparse
import json
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import trio
from trio.testing import wait_all_tasks_blocked

from tests.torture.servers import figures
from tests.torture.settings import DESCRIPTORS, DRAIN, FIGURES, RELEASED, STOP, Times

_PUSHED = "x" * 16 * 1024


class Line(Protocol):
    """A connection of any library, as far as the handlers here use it."""

    async def receive(self) -> str | bytes:
        """Receive a message."""
        ...

    async def send(self, value: str | bytes, /) -> None:
        """Send a message."""

    async def aclose(self, code: int, /) -> None:
        """Close the connection."""

    def open_nursery(self) -> AbstractAsyncContextManager[trio.Nursery]:
        """Open a nursery whose tasks are cancelled when the connection closes."""
        ...


class Works:
    """The handlers: what is done with a connection, by the path that was asked for.

    Args:
        times: How long a stubborn one is stubborn.
    """

    def __init__(self, times: Times) -> None:
        self._times = times
        self._release = trio.Event()
        self._by_path: Mapping[str, Work] = {
            "/echo": self._echo,
            "/push": self._push,
            "/leave": self._leave,
            "/fail": self._fail,
            "/close": self._close,
            "/hold": self._hold,
            "/stubborn": self._stubborn,
            "/never": self._never,
        }

    def get(self, path: str) -> "Work | None":
        """Return what is to be done for a path."""
        return self._by_path.get(path)

    def release(self) -> None:
        """Let the handlers that never return do so after all, so that nothing of them is left."""
        self._release.set()
        self._release = trio.Event()

    async def _echo(self, line: Line) -> None:
        while True:
            await line.send(await line.receive())

    async def _push(self, line: Line) -> None:
        while True:
            await line.send(_PUSHED)

    async def _leave(self, _: Line) -> None:
        """Return at once."""

    async def _fail(self, _: Line) -> None:
        raise RuntimeError("a handler was told to fail")

    async def _close(self, line: Line) -> None:
        await line.aclose(4000)
        await line.send("after the end")

    async def _hold(self, line: Line) -> None:
        """Receive nothing, until the connection closes."""
        async with line.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    async def _stubborn(self, line: Line) -> None:
        async with line.open_nursery() as nursery:
            nursery.start_soon(self._go_on_for_a_while)

    async def _go_on_for_a_while(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(self._times.stubborn, shield=True):
                await trio.sleep_forever()

    async def _never(self, _: Line) -> None:
        """Do not even notice that the connection has closed."""
        await self._release.wait()


Work: TypeAlias = Callable[[Line], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that serves."""

    ports: tuple[int, int]
    """Where it listens: without TLS, and with it."""
    what: str
    """What it is, in a few words."""
    drain: Callable[[float], Awaitable[None]] | None = None
    """Has all connections say goodbye, and gives their handlers so many seconds; None if it is
    nothing that the library knows."""
    counts: Callable[[], Mapping[str, int]] = dict
    """What it says of itself; at the end all but the totals have to be as at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a server is to do."""

    works: Works
    times: Times
    context: ssl.SSLContext


Serve: TypeAlias = Callable[[trio.Nursery, Task], Awaitable[Serving]]


def run(
    serve: Serve,
    is_expected: Callable[[logging.LogRecord], bool] = lambda _: True,
    arguments: Sequence[str] | None = None,
) -> None:
    """Be a server under test.

    Args:
        serve: Starts the server in a nursery, on two ports, the second one with TLS.
        is_expected: Whether a warning in the log belongs to what the clients do.
        arguments: The command line; by default that of the program.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("certificate", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args(arguments)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate)
    tasks, complaints = figures.LivingTasks(), figures.Complaints(is_expected)
    logging.basicConfig(handlers=[complaints], level=logging.WARNING)
    times = Times(options.scale)
    trio.run(_main, serve, context, times, tasks, complaints, instruments=[tasks])


async def _main(
    serve: Serve,
    context: ssl.SSLContext,
    times: Times,
    tasks: figures.LivingTasks,
    complaints: figures.Complaints,
) -> None:
    task = Task(works=Works(times), times=times, context=context)
    limit = _descriptor_limit()
    before = figures.take(tasks, complaints, {})
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, task)
        _say({"what": server.what, "ports": server.ports, "before": before})
        while (order := await _hear()) != STOP:
            if order.startswith(DESCRIPTORS):
                count = order.removeprefix(DESCRIPTORS).strip()
                _say(_limit_descriptors(int(count) if count else limit))
            elif order == DRAIN:
                if server.drain is not None:
                    await server.drain(times.close)
                _say(server.drain is not None)
            elif order == RELEASED:
                task.works.release()
                _say({})
            elif order == FIGURES:
                _say(figures.take(tasks, complaints, server.counts()))
        nursery.cancel_scope.cancel()
    # Tasks that a library shares among connections end some steps after the last of them.
    await wait_all_tasks_blocked()
    # Nobody is served any more: what there is now was left behind.
    _say(figures.take(tasks, complaints, server.counts()))


async def _hear() -> str:
    read = partial(trio.to_thread.run_sync, sys.stdin.readline, abandon_on_cancel=True)
    return str(await read()).strip() or STOP


def _descriptor_limit() -> int:
    """Return how many descriptors this process may have; 0 where that cannot be told."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415 - there is none on Windows

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _limit_descriptors(count: int) -> bool:
    """Allow so many descriptors; tell whether that can be done here."""
    if sys.platform == "win32":
        return False
    import resource  # noqa: PLC0415 - there is none on Windows

    resource.setrlimit(
        resource.RLIMIT_NOFILE, (count, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    return True


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)
