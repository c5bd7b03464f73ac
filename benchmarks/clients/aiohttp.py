"""aiohttp on uvloop as a client, without compression."""

import asyncio

import aiohttp
import uvloop

from benchmarks.clients.options import MAX_MESSAGE, parse


async def echo(session: aiohttp.ClientSession, url: str) -> None:
    """Send every message back, until the server closes."""
    async with session.ws_connect(url, max_msg_size=MAX_MESSAGE) as connection:
        async for message in connection:
            if message.type is aiohttp.WSMsgType.TEXT:
                await connection.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await connection.send_bytes(message.data)


async def main() -> None:
    """Open the connections."""
    url, connections = parse()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(echo(session, url) for _ in range(connections)))


if __name__ == "__main__":
    uvloop.run(main())
