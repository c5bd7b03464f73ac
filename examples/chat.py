"""A chat: in the browser, in the terminal, or both. Everyone hears every message.

    python examples/chat.py [--port 8080]                  then open http://localhost:8080
    python examples/chat.py connect [ws://localhost:8080/chat] [--name Ana]

Nobody waits for a slow member: one who has let 64 KiB pile up unread is closed with 1013, "try
again later", and may come back. Nobody can flood the others: a member is heard ten times a second,
and whoever sends more feels the back-pressure.
"""

import argparse
import functools
import signal
import sys
from pathlib import Path
from urllib.parse import urlencode

import trio

import trio_ws

PAGE = Path(__file__).with_name("chat.html")
PAUSE = 0.1  # seconds after each message

members: dict[trio_ws.Connection, trio.CancelScope] = {}


async def page(_request: trio_ws.Request) -> trio_ws.Response:
    """Answer with the page, which is one small file."""
    html = {"Content-Type": "text/html; charset=utf-8"}
    return trio_ws.Response(200, PAGE.read_text(encoding="utf-8"), headers=html)


async def chat(request: trio_ws.Request) -> None:
    """Let one member take part, whose name comes with the URL: ``/chat?name=Ana``."""
    name = printable(request.query.get("name", "").strip())[:30] or "someone"
    async with request.accept() as connection:
        with trio.CancelScope() as stay:
            members[connection] = stay
            tell_everyone(f"* {name} has come, {len(members)} here")
            try:
                async for message in connection:
                    tell_everyone(f"{name}: {printable(message)}")
                    await trio.sleep(PAUSE)
            finally:
                del members[connection]
                tell_everyone(f"* {name} has left, {len(members)} here")
        if stay.cancelled_caught:
            await connection.aclose(trio_ws.CloseCode.TRY_AGAIN_LATER, "too slow for this chat")


def tell_everyone(text: str) -> None:
    """Send a line to every member, and wait for none of them."""
    print(text)
    for connection, stay in members.items():
        try:
            connection.send_nowait(text)
        except trio.WouldBlock:
            stay.cancel()  # Too slow: the member's own task says goodbye.
        except trio_ws.ConnectionClosed:
            pass  # Just leaving: the member's own task is about to see that, too.


def printable(message: str | bytes) -> str:
    """Show a message on one line; a stranger's control characters could steer the terminal."""
    text = message if isinstance(message, str) else repr(message)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


async def serve(port: int) -> str | None:
    """Serve the page and the chat until a signal comes; return what went wrong, if anything did."""
    router = trio_ws.Router()
    router.add("/", page)
    router.add("/chat", chat)
    limits = trio_ws.Limits(max_message=4096)
    start = functools.partial(trio_ws.serve, router, port, limits=limits)
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(start)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Chat at http://localhost:{server.port}")
            await anext(signals)
        nursery.cancel_scope.cancel()
    return None


async def talk(url: str, name: str) -> str | None:
    """Take part from the terminal until the server leaves or the input ends."""
    try:
        async with (
            trio_ws.connect(f"{url}?{urlencode({'name': name})}") as connection,
            connection.open_nursery() as nursery,
        ):
            with trio.CancelScope() as stay:
                nursery.start_soon(send_lines, connection, stay)
                async for message in connection:
                    print(printable(message))
                print("* the server has left")
    except (trio_ws.WebSocketError, ValueError) as error:
        return str(error)
    return None


async def send_lines(connection: trio_ws.Connection, stay: trio.CancelScope) -> None:
    """Send what is typed, line by line; the end of the input ends the stay."""
    # A thread that waits for the keyboard cannot be woken, so it is left behind.
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        if text := line.strip():
            await connection.send(text)
    stay.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat for browsers and terminals.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    client = parser.add_subparsers(dest="command").add_parser("connect", help="talk from here")
    client.add_argument("url", nargs="?", default="ws://localhost:8080/chat")
    client.add_argument("--name", default="")
    args = parser.parse_args()
    try:
        if args.command == "connect":
            sys.exit(trio.run(talk, args.url, args.name))
        sys.exit(trio.run(serve, args.port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C in the terminal client, or a second one at the server.
