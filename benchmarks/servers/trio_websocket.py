"""trio-websocket: `serve_websocket`, `get_message`, `send_message`."""

import contextlib

import trio
import trio_websocket

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce

_connections: set[trio_websocket.WebSocketConnection] = set()


async def echo(request: trio_websocket.WebSocketRequest) -> None:
    """Send every message back."""
    connection = await request.accept()
    with contextlib.suppress(trio_websocket.ConnectionClosed):
        while True:
            await connection.send_message(await connection.get_message())


async def broadcast(request: trio_websocket.WebSocketRequest) -> None:
    """Send every message to all connections."""
    connection = await request.accept()
    _connections.add(connection)
    try:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                message = await connection.get_message()
                for other in tuple(_connections):
                    await other.send_message(message)
    finally:
        _connections.discard(connection)


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: trio_websocket.serve_websocket(
                broadcast if options.broadcast else echo,
                HOST,
                0,
                options.ssl_context(),
                max_message_size=MAX_MESSAGE,
                task_status=task_status,
            )
        )
        announce(server.port)


if __name__ == "__main__":
    trio.run(main)
