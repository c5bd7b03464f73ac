"""trio-websocket, to be tortured, for comparison."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio_websocket

from tests.torture.servers import program
from tests.torture.settings import HOST, MAX_MESSAGE


class _Line:
    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        return await self._connection.get_message()

    async def send(self, value: str | bytes, /) -> None:
        await self._connection.send_message(value)

    async def aclose(self, code: int, /) -> None:
        await self._connection.aclose(code)

    @asynccontextmanager
    async def open_nursery(self) -> AsyncGenerator[trio.Nursery, None]:
        async with trio.open_nursery() as nursery:
            yield nursery
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                while True:
                    await self._connection.get_message()
            nursery.cancel_scope.cancel()


async def serve(nursery: trio.Nursery, task: program.Task) -> program.Serving:
    """Serve without TLS and with it."""

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        work = task.works.get(request.path)
        if work is None:
            await request.reject(404)
            return
        # Without this, a handler that fails ends the server, and so does a normal close.
        with contextlib.suppress(Exception):
            await work(_Line(await request.accept()))

    times = task.times
    servers: list[trio_websocket.WebSocketServer] = [
        await nursery.start(
            partial(
                trio_websocket.serve_websocket,
                handle,
                HOST,
                0,
                context,
                max_message_size=MAX_MESSAGE,
                connect_timeout=times.open,
                disconnect_timeout=times.close,
            )
        )
        for context in (None, task.context)
    ]
    return program.Serving(ports=(servers[0].port, servers[1].port), what="trio-websocket")


if __name__ == "__main__":
    program.run(serve)
