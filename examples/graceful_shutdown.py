"""Stop without losing work: on a signal the server drains, and handlers get time to finish.

    python examples/graceful_shutdown.py [--port 8080] [--grace 5] [--saving 2]

Let a client say something (`python examples/greeting_client.py`), then stop the server with Ctrl-C
or `kill`. It takes no new clients, tells those it has goodbye (1001), and waits until what they
said is saved. With `--saving 20` that takes longer than the grace, and is cancelled.
"""

import argparse
import signal
import sys

import trio

import trio_ws


class Notes:
    """A handler that has settings: it keeps what a client says, and saves it at the end."""

    def __init__(self, saving: float) -> None:
        self._saving = saving

    async def __call__(self, request: trio_ws.Request) -> None:
        """Listen to one client until it leaves or the server drains; then save."""
        notes: list[str | bytes] = []
        try:
            async with request.accept() as connection:
                print("a client has come")
                async for message in connection:
                    notes.append(message)
                    print(f"{len(notes)} note(s) taken")
        except trio_ws.ConnectionClosedError:
            print("a client was lost")  # What it said is saved all the same.
        print(f"saving {len(notes)} note(s)")
        try:
            await trio.sleep(self._saving)  # As a slow database would.
        except trio.Cancelled:
            print("the grace is over, the notes are lost")
            raise
        print("saved")


async def main(port: int, grace: float, saving: float) -> str | None:
    """Serve until a signal comes, then drain; return what went wrong, if anything did."""
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, Notes(saving), port)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Taking notes at ws://localhost:{server.port}")
            name = signal.Signals(await anext(signals)).name
        print(f"{name}: draining {len(server.connections)} connection(s) within {grace:g} seconds")
        # When no handler is left, serve() returns, and the nursery is done.
        await server.drain(grace)
        print("drained")
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drain the server on SIGTERM.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    parser.add_argument("--grace", type=float, default=5, help="seconds for the handlers")
    parser.add_argument("--saving", type=float, default=2, help="seconds that saving takes")
    args = parser.parse_args()
    try:
        sys.exit(trio.run(main, args.port, args.grace, args.saving))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
