"""Hypercorn on Trio, with a bare ASGI application."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce, free_port

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

_connections: set[Send] = set()


def _answer(event: Event) -> Event:
    return {"type": "websocket.send", "bytes": event.get("bytes"), "text": event.get("text")}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    """Send every message back."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send(_answer(event))
        else:
            return


async def broadcast(scope: Event, receive: Receive, send: Send) -> None:
    """Send every message to all connections."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
            _connections.add(send)
        elif event["type"] == "websocket.receive":
            for other in tuple(_connections):
                await other(_answer(event))
        else:
            _connections.discard(send)
            return


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    port = free_port()
    config = Config()
    config.bind = [f"{HOST}:{port}"]
    config.websocket_max_message_size = MAX_MESSAGE
    config.loglevel = "CRITICAL"
    if options.certificate is not None:
        config.certfile = str(options.certificate / "chain.pem")
        config.keyfile = str(options.certificate / "key.pem")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, broadcast if options.broadcast else echo, config)
        announce(port)


if __name__ == "__main__":
    trio.run(main)
