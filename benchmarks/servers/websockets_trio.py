"""`websockets` on Trio, without compression."""

import trio
from websockets.trio.connection import broadcast as send_to_all
from websockets.trio.server import Server, ServerConnection, serve

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
            await send_to_all(_connections, message)
    finally:
        _connections.discard(connection)


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve(
                broadcast if options.broadcast else echo,
                0,
                host=HOST,
                ssl=options.ssl_context(),
                compression=None,
                max_size=MAX_MESSAGE,
                task_status=task_status,
            )
        )
        announce(server.listeners[0].socket.getsockname()[1])


if __name__ == "__main__":
    trio.run(main)
