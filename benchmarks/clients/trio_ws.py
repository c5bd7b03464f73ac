"""trio_ws as a client."""

import trio

import trio_ws
from benchmarks.clients.options import MAX_MESSAGE, parse


async def echo(url: str) -> None:
    """Send every message back, until the server closes."""
    limits = trio_ws.Limits(max_message=MAX_MESSAGE)
    async with trio_ws.connect(url, limits=limits) as connection:
        async for message in connection:
            await connection.send(message)


async def main() -> None:
    """Open the connections."""
    url, connections = parse()
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(echo, url)


if __name__ == "__main__":
    trio.run(main)
