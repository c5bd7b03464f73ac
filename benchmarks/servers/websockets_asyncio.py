"""`websockets` on asyncio and uvloop, without compression."""

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.asyncio.server import broadcast as send_to_all

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce

_connections: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def broadcast(connection: ServerConnection) -> None:
    """Send every message to all connections."""
    _connections.add(connection)
    try:
        async for message in connection:
            send_to_all(_connections, message)
    finally:
        _connections.discard(connection)


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    async with serve(
        broadcast if options.broadcast else echo,
        HOST,
        0,
        ssl=options.ssl_context(),
        compression=None,
        max_size=MAX_MESSAGE,
    ) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
