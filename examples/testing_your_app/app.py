"""A guessing game for many players, to show how an application is tested.

    python examples/testing_your_app/app.py [--port 8080]

The rules are written for a channel, so that a test needs no network, and the server is a handler,
so that a test needs no port.
"""

import argparse
import random
import signal
import sys
from collections.abc import Callable

import trio
import trio.abc

import trio_ws

PATIENCE = 60  # seconds that a player may think


async def play(player: trio.abc.Channel[str | bytes], secret: int) -> None:
    """Play one game, until the player has won, thinks for too long, or leaves."""
    await player.send("Guess my number, from 1 to 100")
    with trio.move_on_after(PATIENCE) as patience:
        async for guess in player:
            patience.deadline = trio.current_time() + PATIENCE
            answer = judge(guess, secret)
            await player.send(answer)
            if answer == "Right":
                return
    if patience.cancelled_caught:
        await player.send(f"Too slow, it was {secret}")


def judge(guess: str | bytes, secret: int) -> str:
    """Compare a guess with the number."""
    try:
        number = int(guess)
    except ValueError:
        return "That is no number"
    if number == secret:
        return "Right"
    return "Higher" if number < secret else "Lower"


def choose_number() -> int:
    """Think of a number."""
    return random.randint(1, 100)  # noqa: S311 - a game, not a secret worth keeping


class App:
    """The games that are on, and the handler that serves them."""

    def __init__(self, choose: Callable[[], int] = choose_number) -> None:
        self.players = 0
        self.handler = trio_ws.Router()
        self.handler.add("/health", self._health)
        self.handler.add("/play", self._play)
        self._choose = choose

    async def _health(self, _request: trio_ws.Request) -> trio_ws.Response:
        return trio_ws.Response(200, f"{self.players} playing\n")

    async def _play(self, request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            self.players += 1
            try:
                await play(connection, self._choose())
            except trio_ws.ConnectionClosed:
                pass  # The player is gone, and so is the game.
            finally:
                self.players -= 1


async def main(port: int) -> str | None:
    """Serve until a signal comes; return what went wrong, if anything did."""
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, App().handler, port)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Serving at ws://localhost:{server.port}/play")
            await anext(signals)
        nursery.cancel_scope.cancel()
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A guessing game.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    try:
        sys.exit(trio.run(main, parser.parse_args().port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
