"""`websockets` on Trio as a client, without compression."""

import trio
from websockets.trio.client import connect

from benchmarks.clients.options import MAX_MESSAGE, parse


async def echo(url: str) -> None:
    """Send every message back, until the server closes."""
    async with connect(url, compression=None, max_size=MAX_MESSAGE) as connection:
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
