"""The tests of the guessing game: no port, no network, and no second spent waiting."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.abc
import trio.testing

import trio_ws
import trio_ws.testing
from app import PATIENCE, App, judge, play
from trio_ws.testing import FaultyStream, MemoryChannel


@pytest.fixture
def app() -> App:
    """Give an application that always thinks of 42."""
    return App(lambda: 42)


# The rules: pure functions need nothing of trio_ws.


@pytest.mark.parametrize(
    ("guess", "answer"),
    [
        ("41", "Higher"),
        ("43", "Lower"),
        ("42", "Right"),
        (b"42", "Right"),
        ("?", "That is no number"),
    ],
)
def test_a_guess_is_judged(guess: str | bytes, answer: str) -> None:
    assert judge(guess, 42) == answer


# The game: what is written for a channel is played over channels in memory.


@asynccontextmanager
async def playing() -> AsyncGenerator[MemoryChannel, None]:
    """Play a game, and give the player's end of the channel."""
    player, game = trio_ws.testing.channel_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, game, 42)
        yield player


async def test_a_game_ends_with_the_right_guess() -> None:
    async with playing() as player:
        assert await player.receive() == "Guess my number, from 1 to 100"
        await player.send("50")
        assert await player.receive() == "Lower"
        await player.send("42")
        assert await player.receive() == "Right"


async def test_a_game_ends_when_the_player_leaves() -> None:
    async with playing() as player:
        await player.receive()
        await player.aclose()


# The clock jumps as soon as every task waits, so this takes a minute that nobody has to wait for.
async def test_a_player_may_think_for_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    async with playing() as player:
        await player.receive()
        await trio.sleep(PATIENCE - 1)
        await player.send("1")
        assert await player.receive() == "Higher"

        assert await player.receive() == "Too slow, it was 42"

    assert trio.current_time() == 2 * PATIENCE - 1


# The server: the whole handler runs in memory, behind the real protocol.


async def test_health_check_counts_the_players(app: App) -> None:
    async with trio_ws.testing.connect(app.handler, "ws://testserver/play") as connection:
        await connection.receive()

        response = await trio_ws.testing.request(app.handler, "GET", "/health")

    assert (response.status, response.body) == (200, b"1 playing\n")
    assert app.players == 0


async def test_the_server_says_goodbye_after_the_game(app: App) -> None:
    async with trio_ws.testing.connect(app.handler, "ws://testserver/play") as connection:
        await connection.send("42")

        assert [message async for message in connection][-1] == "Right"
        assert (connection.close_code, connection.closed_by) == (1000, "remote")


async def test_the_game_is_no_web_page(app: App) -> None:
    response = await trio_ws.testing.request(app.handler, "GET", "/play")

    assert response.status == 426


# Bad networks: the stream underneath a connection is slow, stumbles, breaks, or falls silent.


async def test_a_game_survives_a_slow_network(
    app: App, autojump_clock: trio.testing.MockClock
) -> None:
    slow = partial(FaultyStream, seed=7, delay=0.1, split=20)

    async with trio_ws.testing.connect(
        app.handler, "ws://testserver/play", wrap=slow
    ) as connection:
        await connection.send("42")

        assert [message async for message in connection][-1] == "Right"


class Network:
    """Keeps hold of the stream of a connection, to break it in the middle of a test."""

    stream: FaultyStream

    def __call__(self, stream: trio.abc.Stream) -> FaultyStream:
        """Put a faulty stream around a stream."""
        self.stream = FaultyStream(stream)
        return self.stream


async def test_a_game_ends_when_the_network_breaks(app: App) -> None:
    network = Network()

    async with trio_ws.testing.connect(
        app.handler, "ws://testserver/play", wrap=network
    ) as connection:
        await connection.receive()
        await network.stream.cut()
        with pytest.raises(trio_ws.ConnectionClosedError):
            await connection.receive()

    assert app.players == 0


async def test_a_game_ends_when_the_network_falls_silent(
    app: App, autojump_clock: trio.testing.MockClock
) -> None:
    network = Network()

    async with trio_ws.testing.connect(
        app.handler, "ws://testserver/play", wrap=network
    ) as connection:
        await connection.receive()
        network.stream.drop()
        await trio.sleep(50)  # The keepalive takes 20 seconds to ask, and 20 more to give up.

        assert app.players == 0


# The real thing: the fixture of trio_ws gives a server on a free port, which ends with the test.


async def test_a_game_is_played_over_a_real_socket(
    app: App, ws_server: Callable[..., Awaitable[trio_ws.Server]]
) -> None:
    server = await ws_server(app.handler)

    async with trio_ws.connect(f"ws://127.0.0.1:{server.port}/play") as connection:
        await connection.send("42")

        assert [message async for message in connection][-1] == "Right"
