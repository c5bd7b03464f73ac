"""Live notifications: everybody may listen; who may publish is known by a password.

    PASSWORD=secret python examples/notifications.py [--port 8080]
    python examples/greeting_client.py ws://localhost:8080/feed
    python examples/notifications.py publish ws://ana:secret@localhost:8080/publish "Há pão quente"

A publisher is heard five times a second. A notification of some length is compressed once for all
who listen, and those who are too slow miss it: nobody waits for them.
"""

import argparse
import functools
import os
import signal
import sys

import trio

import trio_ws
from trio_ws.middleware import Rate, basic_auth, limit_rate

listeners: set[trio_ws.Connection] = set()


async def feed(request: trio_ws.Request) -> None:
    """Have one client listen until it leaves."""
    async with request.accept() as connection:
        listeners.add(connection)
        try:
            await connection.wait_closed()
        finally:
            listeners.discard(connection)


async def publish(request: trio_ws.Request) -> None:
    """Pass on what a publisher says, and tell it how many have got it."""
    async with request.accept() as connection:
        async for message in connection:
            text = message if isinstance(message, str) else repr(message)
            count = sum(notify(listener, f"{request.user}: {text}") for listener in listeners)
            await connection.send(f"{count} of {len(listeners)} were told")


def notify(listener: trio_ws.Connection, text: str) -> bool:
    """Send a notification if that is possible without waiting; tell whether it was."""
    try:
        listener.send_nowait(text)
    except (trio.WouldBlock, trio_ws.ConnectionClosed):
        return False
    return True


def announced(handler: trio_ws.Handler) -> trio_ws.Handler:
    """Print who comes: middleware of one's own is a function from handler to handler."""

    async def announce(request: trio_ws.Request) -> trio_ws.Response | None:
        print(f"{request.user} publishes")
        return await handler(request)

    return announce


async def serve(port: int, password: str) -> str | None:
    """Serve until a signal comes; return what went wrong, if anything did."""
    publishers = limit_rate(publish, Rate(messages=5))
    router = trio_ws.Router()
    router.add("/feed", feed)
    router.add("/publish", basic_auth(announced(publishers), {"ana": password}))
    start = functools.partial(
        trio_ws.serve, router, port, compression=trio_ws.Deflate(send_context_takeover=False)
    )
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(start)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Notifications at ws://localhost:{server.port}/feed")
            await anext(signals)
        nursery.cancel_scope.cancel()
    return None


async def send(url: str, text: str) -> str | None:
    """Publish one notification."""
    try:
        async with trio_ws.connect(url) as connection:
            await connection.send(text)
            print(await connection.receive())
    except (trio_ws.WebSocketError, ValueError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Live notifications for everyone who listens.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    publisher = parser.add_subparsers(dest="command").add_parser("publish", help="tell everyone")
    publisher.add_argument("url", help="such as ws://ana:secret@localhost:8080/publish")
    publisher.add_argument("text")
    args = parser.parse_args()
    try:
        if args.command == "publish":
            sys.exit(trio.run(send, args.url, args.text))
        if not os.environ.get("PASSWORD"):
            sys.exit("set PASSWORD in the environment: the one that ana may publish with")
        sys.exit(trio.run(serve, args.port, os.environ["PASSWORD"]))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
