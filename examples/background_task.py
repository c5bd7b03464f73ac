"""A task beside the loop: a ticker that runs for as long as its connection does.

    python examples/background_task.py [--port 8080] [--interval 1]

Then run `python examples/greeting_client.py`: it prints a tick every second, and what the server
answers in between. Stop the client, and its ticker ends with it.
"""

import argparse
import functools
import signal
import sys

import trio

import trio_ws


async def serve_ticks(request: trio_ws.Request, *, interval: float) -> None:
    """Send ticks to one client, and answer its messages meanwhile."""
    async with request.accept() as connection, connection.open_nursery() as nursery:
        nursery.start_soon(tick, connection, interval)
        async for message in connection:
            await connection.send(f"{len(message)} characters, thank you")


async def tick(connection: trio_ws.Connection, interval: float) -> None:
    """Count for one client, until the connection ends and this task is cancelled."""
    count = 0
    try:
        while True:
            await trio.sleep(interval)
            count += 1
            await connection.send(f"tick {count}")
    finally:
        print(f"a ticker has ended after {count} ticks")


async def main(port: int, interval: float) -> str | None:
    """Serve until a signal comes; return what went wrong, if anything did."""
    handler = functools.partial(serve_ticks, interval=interval)
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, handler, port)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Ticking at ws://localhost:{server.port}")
            await anext(signals)
        nursery.cancel_scope.cancel()
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A ticker for every connection.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    parser.add_argument("--interval", type=float, default=1, help="seconds between ticks")
    args = parser.parse_args()
    try:
        sys.exit(trio.run(main, args.port, args.interval))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
