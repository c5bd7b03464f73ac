"""`Opened` says goodbye with the right code, whatever way its block is left."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import CloseConnection, TextMessage

from tests._transport.fakes import (
    NO_KEEPALIVE,
    EngineType,
    RawPeer,
    link_of,
    make_connection,
    open_pair,
)
from trio_ws._config import Keepalive, Limits
from trio_ws._transport.connection import Connection
from trio_ws._transport.lifetime import Opened, goodbye_code
from trio_ws._transport.nurseries import open_background
from trio_ws._transport.wire import Wire
from trio_ws.testing import stream_pair


class PolicyError(Exception):
    """An error that says how to close.

    Args:
        close_code: What it says.
    """

    def __init__(self, close_code: object) -> None:
        super().__init__()
        self.close_code = close_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(), 1011),
        (PolicyError(1008), 1008),
        (PolicyError(4000), 4000),
        (PolicyError(1006), 1011),
        (PolicyError("1008"), 1011),
        (PolicyError(None), 1011),
        (KeyboardInterrupt(), 1001),
        (SystemExit(), 1001),
        (BaseExceptionGroup("", [KeyboardInterrupt(), SystemExit()]), 1001),
        (ExceptionGroup("", [PolicyError(1008), ExceptionGroup("", [PolicyError(1008)])]), 1008),
        (ExceptionGroup("", [PolicyError(1008), PolicyError(4000)]), 1011),
        (BaseExceptionGroup("", [PolicyError(1008), KeyboardInterrupt()]), 1011),
    ],
)
def test_goodbye_code_fits_the_error(error: BaseException, code: int) -> None:
    assert goodbye_code(error) == code


async def live(
    use: Callable[[Connection, RawPeer], Awaitable[None]],
    engine_type: EngineType,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> RawPeer:
    """Run a connection for as long as a function takes; return its peer."""
    stream, far = stream_pair()
    connection = make_connection(stream, engine_type, client=False, limits=limits)
    peer = RawPeer(far, client=True)
    async with open_background() as background, Opened(connection, background, NO_KEEPALIVE):
        await use(connection, peer)
    return peer


async def test_a_block_left_normally_says_1000(engine_type: EngineType) -> None:
    async with open_pair(engine_type) as (client, server):
        assert client.closed is None

    # The server was left last, and found the connection closed.
    assert (client.close_code, client.closed_by) == (1000, "local")
    assert (server.close_code, server.closed_by) == (1000, "remote")


async def test_a_block_left_with_an_error_says_its_code_and_raises_it(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    error = PolicyError(1008)
    peers: list[RawPeer] = []

    async def use(connection: Connection, peer: RawPeer) -> None:
        peers.append(peer)
        raise error

    with pytest.raises(PolicyError) as caught:
        await live(use, engine_type)
    assert caught.value is error
    assert await peers[0].read() == [CloseConnection(1008, "")]


async def test_a_cancelled_block_says_1001(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    peers: list[RawPeer] = []

    async def use(connection: Connection, peer: RawPeer) -> None:
        peers.append(peer)
        await trio.sleep_forever()

    with trio.move_on_after(10) as scope:
        await live(use, engine_type)
    assert scope.cancelled_caught
    assert await peers[0].read() == [CloseConnection(1001, "")]


async def test_an_error_that_does_not_tell_its_code_is_a_failure(engine_type: EngineType) -> None:
    class OddError(Exception):
        @property
        def close_code(self) -> int:
            raise LookupError("no code")

    async def fail(connection: Connection, peer: RawPeer) -> None:
        connections.append(connection)
        await peer.stream.send_eof()
        raise OddError

    connections: list[Connection] = []
    with pytest.raises(LookupError, match="no code"):
        await live(fail, engine_type)

    (connection,) = connections
    assert connection.close_code == 1011
    assert link_of(connection).wire.stopped


async def test_the_goodbye_takes_no_longer_than_the_close_timeout(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    async def use(connection: Connection, peer: RawPeer) -> None:
        await trio.sleep(100)

    peer = await live(use, engine_type, Limits(close_timeout=3))

    assert trio.current_time() == 103
    with pytest.raises(trio.BrokenResourceError):
        await peer.send(TextMessage("x"))


async def test_the_goodbye_of_a_block_left_twice_as_late_counts_from_its_begin(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    async def use(connection: Connection, peer: RawPeer) -> None:
        with trio.move_on_after(2):
            link_of(connection).close(1001, None, "the server is going away")
            await trio.sleep_forever()

    await live(use, engine_type)

    assert trio.current_time() == 5


async def test_what_was_sent_in_the_block_is_written_before_the_goodbye(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    async def use(connection: Connection, peer: RawPeer) -> None:
        await connection.send("last words")

    peer = await live(use, engine_type)

    assert await peer.read() == [TextMessage("last words"), CloseConnection(1000, "")]


async def test_using_a_connection_after_its_block_raises_closed_resource(
    engine_type: EngineType,
) -> None:
    async with open_pair(engine_type) as (client, _):
        pass

    with pytest.raises(trio.ClosedResourceError):
        await client.send("x")


async def test_no_task_is_left_of_a_block(autojump_clock: MockClock) -> None:
    stream, _ = stream_pair()
    connection = make_connection(stream)
    async with open_background() as background:
        async with Opened(connection, background, Keepalive()):
            await connection.send("x")
        await wait_all_tasks_blocked()

        assert not background.child_tasks


async def test_head_and_rest_are_handed_to_the_connection() -> None:
    stream, far = stream_pair()
    connection = make_connection(stream)
    rest = b"\x81\x05early"
    async with (
        open_background() as background,
        Opened(connection, background, NO_KEEPALIVE, head=b"head", rest=rest) as yielded,
    ):
        message = await connection.receive()
        head = await far.receive_some()
        await far.aclose()

    assert yielded is connection
    assert (head, message) == (b"head", "early")


@pytest.mark.network
@pytest.mark.parametrize("no_poller", ["0", "1"])
async def test_nothing_is_left_of_a_block_whose_goodbye_is_interrupted(
    no_poller: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setenv("TRIO_WS_NO_POLLER", no_poller)
    here, there = trio.socket.socketpair()
    connection = make_connection(trio.SocketStream(here), client=False)
    wait = type(link_of(connection).wire).wait_stopped
    interrupts = [KeyboardInterrupt()]

    async def wait_stopped(wire: Wire) -> None:
        await trio.lowlevel.checkpoint()
        if interrupts:
            raise interrupts.pop()
        await wait(wire)

    monkeypatch.setattr(Wire, "wait_stopped", wait_stopped)
    with there, pytest.raises(KeyboardInterrupt):
        async with open_background() as background, Opened(connection, background, NO_KEEPALIVE):
            pass

    assert link_of(connection).wire.stopped
    assert here.fileno() == -1
    assert trio.current_time() == 0
