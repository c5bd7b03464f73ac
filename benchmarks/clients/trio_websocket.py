"""trio-websocket as a client."""

import contextlib

import trio
import trio_websocket

from benchmarks.clients.options import MAX_MESSAGE, parse


async def echo(url: str) -> None:
    """Send every message back, until the server closes."""
    async with trio_websocket.open_websocket_url(url, max_message_size=MAX_MESSAGE) as connection:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await connection.send_message(await connection.get_message())


async def main() -> None:
    """Open the connections."""
    url, connections = parse()
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(echo, url)


if __name__ == "__main__":
    trio.run(main)
