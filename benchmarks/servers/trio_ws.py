"""trio_ws: a handler that sends back what it receives."""

import trio

import trio_ws
from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce

_connections: set[trio_ws.Connection] = set()


async def echo(request: trio_ws.Request) -> None:
    """Send every message back."""
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)


async def broadcast(request: trio_ws.Request) -> None:
    """Send every message to all connections."""
    async with request.accept() as connection:
        _connections.add(connection)
        try:
            async for message in connection:
                for other in _connections:
                    other.send_nowait(message)
        finally:
            _connections.discard(connection)


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(
            lambda task_status: trio_ws.serve(
                broadcast if options.broadcast else echo,
                0,
                host=HOST,
                ssl_context=options.ssl_context(),
                limits=trio_ws.Limits(max_message=MAX_MESSAGE),
                task_status=task_status,
            )
        )
        announce(server.port)


if __name__ == "__main__":
    trio.run(main)
