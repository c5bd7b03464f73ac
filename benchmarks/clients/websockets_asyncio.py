"""`websockets` on asyncio and uvloop as a client, without compression."""

import asyncio

import uvloop
from websockets.asyncio.client import connect

from benchmarks.clients.options import MAX_MESSAGE, parse


async def echo(url: str) -> None:
    """Send every message back, until the server closes."""
    async with connect(url, compression=None, max_size=MAX_MESSAGE) as connection:
        async for message in connection:
            await connection.send(message)


async def main() -> None:
    """Open the connections."""
    url, connections = parse()
    await asyncio.gather(*(echo(url) for _ in range(connections)))


if __name__ == "__main__":
    uvloop.run(main())
