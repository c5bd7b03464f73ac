"""`websockets` on Trio, to be tortured, for comparison."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio
from websockets.trio.server import Server, ServerConnection
from websockets.trio.server import serve as serve_websockets

from tests.torture.servers import program
from tests.torture.settings import HOST, MAX_MESSAGE


class _Line:
    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        return await self._connection.recv()

    async def send(self, value: str | bytes, /) -> None:
        await self._connection.send(value)

    async def aclose(self, code: int, /) -> None:
        await self._connection.aclose(code)

    @asynccontextmanager
    async def open_nursery(self) -> AsyncGenerator[trio.Nursery, None]:
        async with trio.open_nursery() as nursery:
            yield nursery
            await self._connection.wait_closed()
            nursery.cancel_scope.cancel()


async def serve(nursery: trio.Nursery, task: program.Task) -> program.Serving:
    """Serve without TLS and with it."""

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        work = task.works.get(connection.request.path)
        if work is not None:
            await work(_Line(connection))

    times = task.times
    servers: list[Server] = [
        await nursery.start(
            partial(
                serve_websockets,
                handle,
                0,
                host=HOST,
                ssl=context,
                max_size=MAX_MESSAGE,
                open_timeout=times.open,
                close_timeout=times.close,
                ping_interval=times.ping_interval,
                ping_timeout=times.ping_timeout,
            )
        )
        for context in (None, task.context)
    ]
    plain, secure = (int(each.listeners[0].socket.getsockname()[1]) for each in servers)
    return program.Serving(ports=(plain, secure), what="websockets on Trio")


if __name__ == "__main__":
    program.run(serve)
