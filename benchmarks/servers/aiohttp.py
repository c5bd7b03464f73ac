"""aiohttp on uvloop, without compression and without an access log."""

import asyncio

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce

_connections: set[web.WebSocketResponse] = set()


async def _accept(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE)
    await connection.prepare(request)
    return connection


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    connection = await _accept(request)
    async for message in connection:
        if message.type is WSMsgType.TEXT:
            await connection.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await connection.send_bytes(message.data)
    return connection


async def broadcast(request: web.Request) -> web.WebSocketResponse:
    """Send every message to all connections."""
    connection = await _accept(request)
    _connections.add(connection)
    try:
        async for message in connection:
            for other in tuple(_connections):
                await other.send_str(message.data)
    finally:
        _connections.discard(connection)
    return connection


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    application = web.Application()
    application.router.add_get("/", broadcast if options.broadcast else echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=options.ssl_context()).start()
    announce(runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
