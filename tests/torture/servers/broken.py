"""trio_ws with something broken on purpose, which a suite that is worth anything has to find.

The first argument says what is broken; see `_WAYS`.
"""

import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import trio

import trio_ws
from tests.torture.servers import program
from tests.torture.servers.trio_ws import is_expected, serve

_THIRD = 3  # the message of a connection, and the request of a server, with which it goes wrong

_Wrap: TypeAlias = Callable[[trio_ws.Handler], trio_ws.Handler]


def _echoes(echo: Callable[[trio_ws.Connection], Awaitable[None]]) -> _Wrap:
    """Put another handler in the place of the one that echoes."""

    def wrap(handler: trio_ws.Handler) -> trio_ws.Handler:
        async def handle(request: trio_ws.Request) -> trio_ws.Response | None:
            if request.path != "/echo":
                return await handler(request)
            async with request.accept() as connection:
                await echo(connection)
            return None

        return handle

    return wrap


async def _lose(connection: trio_ws.Connection) -> None:
    count = 0
    async for message in connection:
        count += 1
        if count != _THIRD:
            await connection.send(message)


async def _reorder(connection: trio_ws.Connection) -> None:
    count = 0
    held: str | bytes = ""
    async for message in connection:
        count += 1
        if count == _THIRD:
            held = message
            continue
        await connection.send(message)
        if count == _THIRD + 1:
            await connection.send(held)


async def _repeat(connection: trio_ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)
        await connection.send(message)


async def _alter(connection: trio_ws.Connection) -> None:
    count = 0
    async for message in connection:
        count += 1
        await connection.send(message if count != _THIRD else f"{message!r}?")


async def _withhold(connection: trio_ws.Connection) -> None:
    count = 0
    async for message in connection:
        count += 1
        if count < _THIRD:
            await connection.send(message)


async def _hang_up(connection: trio_ws.Connection) -> None:
    for _ in range(_THIRD):
        await connection.send(await connection.receive())


def _requests(act: Callable[[], Awaitable[object]]) -> _Wrap:
    """Do something whenever a request is answered that is no upgrade."""

    def wrap(handler: trio_ws.Handler) -> trio_ws.Handler:
        async def handle(request: trio_ws.Request) -> trio_ws.Response | None:
            if not request.upgrade:
                await act()
            return await handler(request)

        return handle

    return wrap


_kept: list[object] = []


async def _keep_object() -> None:
    _kept.append(object())


async def _keep_task() -> None:
    trio.lowlevel.spawn_system_task(trio.sleep_forever)


async def _keep_socket() -> None:
    _kept.append(socket.socket())


async def _complain() -> None:
    logging.getLogger("somebody").warning("this should not be")


async def _die() -> None:
    os._exit(3)


async def _fail() -> None:
    raise RuntimeError


def _no_goodbye(handler: trio_ws.Handler) -> trio_ws.Handler:
    """Say a wrong goodbye when the server stops."""

    async def handle(request: trio_ws.Request) -> trio_ws.Response | None:
        if request.path != "/hold":
            return await handler(request)
        async with request.accept() as connection:
            try:
                await connection.wait_closed()
            finally:
                with trio.move_on_after(1, shield=True):
                    await connection.aclose(4001)
        return None

    return handle


def _task_at_the_end(handler: trio_ws.Handler) -> trio_ws.Handler:
    """Leave a task behind when the server stops."""

    async def handle(request: trio_ws.Request) -> trio_ws.Response | None:
        try:
            return await handler(request)
        except trio.Cancelled:
            trio.lowlevel.spawn_system_task(trio.sleep_forever)
            raise

    return handle


def _logging(change: Callable[[logging.Logger], None]) -> _Wrap:
    """Change what becomes of the server's log."""

    def wrap(handler: trio_ws.Handler) -> trio_ws.Handler:
        change(logging.getLogger("trio_ws.server"))
        return handler

    return wrap


def _silence(logger: logging.Logger) -> None:
    logger.disabled = True


def _double(logger: logging.Logger) -> None:
    (handler,) = logging.getLogger().handlers
    logger.addHandler(handler)


_WAYS: Mapping[str, _Wrap] = {
    "lose": _echoes(_lose),
    "reorder": _echoes(_reorder),
    "repeat": _echoes(_repeat),
    "alter": _echoes(_alter),
    "withhold": _echoes(_withhold),
    "hang-up": _echoes(_hang_up),
    "keep-objects": _requests(_keep_object),
    "keep-tasks": _requests(_keep_task),
    "keep-sockets": _requests(_keep_socket),
    "complain": _requests(_complain),
    "die": _requests(_die),
    "fail": _requests(_fail),
    "never-answer": _requests(trio.sleep_forever),
    "no-goodbye": _no_goodbye,
    "task-at-the-end": _task_at_the_end,
    "no-word": _logging(_silence),
    "two-words": _logging(_double),
}


if __name__ == "__main__":
    _, _how, *_rest = sys.argv
    program.run(partial(serve, wrap=_WAYS[_how]), is_expected, _rest)
