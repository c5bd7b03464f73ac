"""`Connection` is a Trio channel and a trio-websocket connection, on either engine."""

import inspect
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import pytest
import trio
import trio_websocket
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from tests._transport.fakes import (
    NO_KEEPALIVE,
    EngineType,
    RawPeer,
    Steps,
    cancel_when_blocked,
    make_connection,
    open_near,
    open_pair,
)
from tests._transport.socket_benches import needs_watcher
from trio_ws._config import Limits
from trio_ws._errors import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from trio_ws._protocol.frames import implementation
from trio_ws._transport.connection import PRIVATE_NAMES, Connection, ConnectionStatistics
from trio_ws._transport.endpoint import Endpoint, describe
from trio_ws._transport.lifetime import Opened
from trio_ws._transport.nurseries import open_background
from trio_ws._types import Message, Sendable
from trio_ws.testing import stream_pair

Pair: TypeAlias = tuple[Connection, Connection]
Use: TypeAlias = Callable[[Connection], Awaitable[object]]


async def send_nowait(connection: Connection) -> None:
    connection.send_nowait("x")


USES: list[Use] = [
    Connection.receive,
    Connection.ping,
    Connection.pong,
    lambda connection: connection.send("x"),
    send_nowait,
]
"""Everything that a closed connection cannot do any more."""


@pytest.fixture
async def pair(engine_type: EngineType) -> AsyncGenerator[Pair, None]:
    """Give a client on either engine, and its server."""
    async with open_pair(engine_type) as connections:
        yield connections


def test_every_private_name_is_still_one_of_trio_websocket() -> None:
    source = inspect.getsource(trio_websocket.WebSocketConnection)

    assert [name for name in PRIVATE_NAMES if f"self.{name}" not in source] == []


async def test_a_connection_is_a_channel_and_a_trio_websocket_connection(pair: Pair) -> None:
    for connection in pair:
        assert isinstance(connection, trio.abc.Channel)
        assert isinstance(connection, trio_websocket.WebSocketConnection)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("olá", "olá"),
        ("", ""),
        (b"bytes", b"bytes"),
        (bytearray(b"bytes"), b"bytes"),
        (memoryview(b"bytes"), b"bytes"),
    ],
)
async def test_a_message_arrives_on_the_other_side(
    sent: Sendable, received: Message, pair: Pair
) -> None:
    client, server = pair

    await client.send(sent)
    server.send_nowait(sent)

    assert [await server.receive(), await client.receive()] == [received, received]


async def test_get_message_and_send_message_work_as_in_trio_websocket(pair: Pair) -> None:
    client, server = pair

    await client.send_message("hello")
    await server.send_message(await server.get_message())

    assert await client.get_message() == "hello"


async def test_what_trio_websocket_tells_of_a_connection_is_there(pair: Pair) -> None:
    client, server = pair

    assert (client.is_client, client.is_server) == (True, False)
    assert (server.is_client, server.is_server) == (False, True)
    assert client.path == "/chat"
    assert client.subprotocol == "chat.v1"
    assert client.handshake_headers == ((b"server", b"tests"),)


async def test_an_open_connection_has_no_close(pair: Pair) -> None:
    client, _ = pair

    assert client.closed is None
    assert (client.close_code, client.close_reason, client.closed_by) == (None, None, None)


async def test_both_sides_tell_who_closed_and_why(pair: Pair) -> None:
    client, server = pair

    await client.aclose(4000, "até logo")
    await server.wait_closed()

    codes = {side.close_code for side in pair}
    reasons = {side.close_reason for side in pair}
    assert (codes, reasons) == ({4000}, {"até logo"})
    assert (client.closed_by, server.closed_by) == ("local", "remote")


async def test_closed_is_the_close_reason_of_trio_websocket(pair: Pair) -> None:
    client, server = pair

    await server.aclose(1001, "restart")

    assert client.closed is not None
    assert (client.closed.code, client.closed.name) == (1001, "GOING_AWAY")
    assert client.closed.reason == "restart"


async def test_aclose_says_1000_by_default(pair: Pair) -> None:
    client, server = pair

    await server.aclose()

    assert (client.close_code, client.close_reason) == (1000, "")


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
async def test_aclose_takes_every_code_that_may_be_sent(code: int, pair: Pair) -> None:
    client, server = pair

    await client.aclose(code)

    assert server.close_code == code


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_aclose_refuses_every_other_code_and_stays_open(code: int, pair: Pair) -> None:
    client, _ = pair

    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        await client.aclose(code)
    assert client.closed is None


async def test_aclose_takes_a_reason_of_123_bytes_and_no_longer_one(pair: Pair) -> None:
    client, server = pair

    with pytest.raises(ValueError, match="124 bytes long"):
        await client.aclose(1000, "é" * 62)
    await client.aclose(1000, "é" * 61 + "x")

    assert server.close_reason == "é" * 61 + "x"


async def test_aclose_on_a_closed_connection_does_nothing(pair: Pair) -> None:
    client, server = pair
    await client.aclose(4000)

    await client.aclose(4001)
    await server.aclose(4002)

    assert (client.close_code, server.close_code) == (4000, 4000)


@pytest.mark.parametrize("use", USES)
async def test_using_a_connection_that_this_side_closed_raises_closed_resource(
    use: Use, pair: Pair
) -> None:
    client, _ = pair
    await client.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await use(client)


@pytest.mark.parametrize(
    "use",
    [
        Connection.get_message,
        lambda connection: connection.send_message("x"),
        Connection.ping,
        Connection.pong,
    ],
)
async def test_what_trio_websocket_has_too_says_after_this_sides_close_what_it_says_there(
    use: Use, pair: Pair
) -> None:
    client, _ = pair
    await client.aclose(4001, "bye")

    with pytest.raises(trio_websocket.ConnectionClosed) as caught:
        await use(client)
    assert isinstance(caught.value, trio.ClosedResourceError)
    assert isinstance(caught.value.reason, trio_websocket.CloseReason)
    assert (caught.value.reason.code, caught.value.reason.reason) == (4001, "bye")


async def test_a_ping_under_way_says_that_this_side_closed(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type) as (near, peer):

        async def answer_the_close() -> None:
            await wait_all_tasks_blocked()
            nursery.start_soon(near.aclose)
            await peer.send(CloseConnection(1000))

        nursery.start_soon(answer_the_close)
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await near.ping()
        assert isinstance(caught.value, trio.ClosedResourceError)


@pytest.mark.parametrize("use", USES)
async def test_using_a_connection_that_the_peer_closed_raises_connection_closed(
    use: Use, pair: Pair
) -> None:
    client, server = pair
    await server.aclose(1000, "bye")

    with pytest.raises(ConnectionClosedOK, match="server \\[::1\\]:8080 closed") as caught:
        await use(client)
    assert (caught.value.code, caught.value.reason) == (1000, "bye")


@pytest.mark.parametrize("use", USES)
async def test_using_a_connection_that_was_lost_raises_connection_closed_error(
    use: Use, engine_type: EngineType
) -> None:
    async with open_near(engine_type) as (near, peer):
        await peer.stream.aclose()
        await near.wait_closed()

        with pytest.raises(ConnectionClosedError) as caught:
            await use(near)

    assert caught.value.code == 1006
    assert isinstance(caught.value, trio.BrokenResourceError)


async def test_get_message_and_send_message_raise_connection_closed_on_this_side_too(
    pair: Pair,
) -> None:
    client, _ = pair
    await client.aclose(4000)

    for use in (client.get_message, partial(client.send_message, "x")):
        with pytest.raises(ConnectionClosed) as caught:
            await use()
        assert caught.value.reason.code == 4000


async def test_iteration_ends_with_a_normal_close(pair: Pair) -> None:
    client, server = pair
    for text in ("1", "2"):
        await server.send(text)
    await server.aclose()

    assert [message async for message in client] == ["1", "2"]


async def test_iteration_raises_on_a_close_with_an_error(pair: Pair) -> None:
    client, server = pair
    await server.send("1")
    await server.aclose(1011)

    assert await anext(client) == "1"
    with pytest.raises(ConnectionClosedError, match="code 1011 INTERNAL_ERROR"):
        await anext(client)


async def test_wait_closed_returns_though_messages_wait(pair: Pair) -> None:
    client, server = pair
    await server.send("unread")
    await server.aclose()

    await client.wait_closed()

    assert await client.receive() == "unread"


async def test_receive_by_two_tasks_is_busy(pair: Pair, nursery: trio.Nursery) -> None:
    client, server = pair
    nursery.start_soon(client.receive)
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError):
        await client.receive()
    await server.send("for the first")


async def test_receive_cancelled_takes_no_message(pair: Pair, nursery: trio.Nursery) -> None:
    client, server = pair
    with trio.CancelScope() as waiting:
        nursery.start_soon(cancel_when_blocked, waiting)
        await client.receive()
    await server.send("kept")
    await wait_all_tasks_blocked()
    with trio.CancelScope() as beforehand:
        beforehand.cancel()
        await client.receive()

    assert waiting.cancelled_caught
    assert beforehand.cancelled_caught
    assert await client.receive() == "kept"


async def test_send_cancelled_beforehand_queues_nothing(pair: Pair) -> None:
    client, server = pair

    with trio.CancelScope() as scope:
        scope.cancel()
        await client.send("never")
    await client.send("next")

    assert scope.cancelled_caught
    assert await server.receive() == "next"


async def test_send_gives_way_every_32_messages(pair: Pair) -> None:
    client, _ = pair

    with Steps() as steps:
        for _ in range(64):
            await client.send("x")

    assert steps.count == 2


async def test_send_cancelled_while_it_gives_way_has_sent_its_message(pair: Pair) -> None:
    client, server = pair
    sent = 0

    with trio.CancelScope() as scope, Steps(then=scope.cancel):
        for _ in range(32):
            await client.send("x")
            sent += 1
    await client.send("next")

    assert sent == 32
    assert [await server.receive() for _ in range(33)] == ["x"] * 32 + ["next"]


SMALL = Limits(outgoing_bytes=100, close_timeout=0.01)


async def test_send_returns_at_the_mark_and_blocks_above_it(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type, client=False, limits=SMALL, capacity=1) as (near, _):
        await near.send(bytes(98))
        await near.send("one more")
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await near.send("blocked")

        assert scope.cancelled_caught
        assert near.statistics().messages_sent == 2


async def test_send_nowait_would_block_above_the_mark(engine_type: EngineType) -> None:
    async with open_near(engine_type, client=False, limits=SMALL, capacity=1) as (near, _):
        near.send_nowait(bytes(98))
        near.send_nowait("one more")

        with pytest.raises(trio.WouldBlock):
            near.send_nowait("blocked")


async def test_send_cancelled_while_it_blocks_queues_nothing(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type, limits=SMALL, capacity=1024) as (near, peer):
        await near.send(bytes(2000))
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await near.send("never")
        nursery.start_soon(near.send, "next")

        received = [*await peer.read(), *await peer.read()]
        received += await peer.read() if len(received) < 2 else []

    assert scope.cancelled_caught
    assert [type(event) for event in received] == [BytesMessage, TextMessage]
    assert received[1] == TextMessage("next")


async def test_senders_that_block_get_through_in_the_order_they_came(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type, limits=SMALL, capacity=1024) as (near, peer):
        await near.send(bytes(2000))
        for text in ("1", "2", "3"):
            nursery.start_soon(near.send, text)
            await wait_all_tasks_blocked()

        texts: list[str] = []
        while len(texts) < 3:
            texts += [e.data for e in await peer.read() if isinstance(e, TextMessage)]

    assert texts == ["1", "2", "3"]


async def test_send_that_blocks_raises_when_the_connection_closes(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type, limits=SMALL, capacity=1) as (near, peer):
        await near.send(bytes(2000))
        nursery.start_soon(_close_when_blocked, peer)

        with pytest.raises(ConnectionClosedOK):
            await near.send("never")


async def _close_when_blocked(peer: RawPeer) -> None:
    await wait_all_tasks_blocked()
    await peer.send(CloseConnection(1000))


async def test_a_refused_message_gives_its_turn_to_the_next(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type, limits=SMALL, capacity=1024) as (near, peer):
        await near.send(bytes(2000))
        nursery.start_soon(_send_refused, near)
        await wait_all_tasks_blocked()
        nursery.start_soon(near.send, "next")
        await wait_all_tasks_blocked()

        texts: list[str] = []
        while not texts:
            texts += [e.data for e in await peer.read() if isinstance(e, TextMessage)]

    assert texts == ["next"]


async def _send_refused(connection: Connection) -> None:
    with pytest.raises(TypeError, match="not int"):
        await connection.send(42)  # type: ignore[arg-type]  # on purpose


async def test_ping_returns_the_round_trip(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type) as (near, peer):
        nursery.start_soon(_answer_after, peer, 0.25)

        assert await near.ping(b"payload") == 0.25


async def _answer_after(peer: RawPeer, seconds: float) -> None:
    (ping,) = await peer.read()
    assert isinstance(ping, Ping)
    await trio.sleep(seconds)
    await peer.send(Pong(bytes(ping.payload)))


async def test_many_pings_at_once_are_all_answered(pair: Pair, nursery: trio.Nursery) -> None:
    client, _ = pair

    async with trio.open_nursery() as pings:
        for _ in range(40):
            pings.start_soon(client.ping)

    assert client.statistics().pings_pending == 0


async def test_a_cancelled_ping_leaves_nothing(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type) as (near, _):
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await near.ping()

        assert scope.cancelled_caught
        assert near.statistics().pings_pending == 0


@pytest.mark.parametrize("use", [Connection.ping, Connection.pong])
async def test_a_payload_of_126_bytes_is_refused(
    use: Callable[[Connection, bytes], Awaitable[object]], pair: Pair
) -> None:
    client, _ = pair

    with pytest.raises(ValueError, match=r"at most 125 bytes|too long"):
        await use(client, bytes(126))
    await use(client, bytes(125))


async def test_pong_goes_out_unasked(engine_type: EngineType) -> None:
    async with open_near(engine_type) as (near, peer):
        await near.pong()
        first = await peer.read()
        await near.pong(b"payload")

        assert first == [Pong(b"")]
        assert await peer.read() == [Pong(b"payload")]


async def test_pong_cancelled_sends_nothing(engine_type: EngineType) -> None:
    async with open_near(engine_type) as (near, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.pong(b"never")
        await near.pong(b"next")

        assert await peer.read() == [Pong(b"next")]


async def test_aclose_of_a_silent_peer_takes_the_close_timeout(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    async with open_near(engine_type, limits=Limits(close_timeout=3)) as (near, _):
        await near.aclose()

        assert trio.current_time() == 3
        assert (near.close_code, near.closed_by) == (1000, "local")


async def test_aclose_cancelled_cuts_the_line_at_once(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type) as (near, peer):
        with trio.move_on_after(1) as scope:
            await near.aclose()
        events = await peer.read_all()

    assert scope.cancelled_caught
    assert trio.current_time() == 1
    assert events == [CloseConnection(1000, "")]


async def test_aclose_cancelled_beforehand_cuts_the_line(engine_type: EngineType) -> None:
    async with open_near(engine_type) as (near, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.aclose()
        await peer.read_all()

        assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await near.receive()


async def test_aclose_by_a_task_of_the_connections_nursery_says_goodbye(pair: Pair) -> None:
    client, server = pair

    async with client.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4000, "from within")

    assert (server.close_code, server.close_reason) == (4000, "from within")


async def test_aclose_by_a_task_of_the_connections_nursery_is_bounded(
    engine_type: EngineType, autojump_clock: MockClock
) -> None:
    async with open_near(engine_type) as (near, _):
        async with near.open_nursery() as nursery:
            nursery.start_soon(near.aclose)

        assert trio.current_time() == 5


async def test_open_nursery_ends_with_the_connection(pair: Pair) -> None:
    client, server = pair

    async with client.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await server.aclose()

    assert client.closed_by == "remote"


async def test_addresses_stay_after_the_close(pair: Pair) -> None:
    client, _ = pair
    await client.aclose()

    assert isinstance(client.local, Endpoint)
    assert isinstance(client.remote, Endpoint)
    assert describe(client.local) == "127.0.0.1:40000"
    assert describe(client.remote) == "[::1]:8080"


async def test_statistics_count_what_comes_goes_and_waits(pair: Pair) -> None:
    client, server = pair
    await client.send("olá")
    await server.send(b"1")
    await server.send(b"23")
    await wait_all_tasks_blocked()

    assert client.statistics() == ConnectionStatistics(
        messages_received=2,
        messages_sent=1,
        bytes_received=7,
        inbox_messages=2,
        inbox_bytes=3,
        outgoing_bytes=0,
        reading_paused=False,
        pings_pending=0,
        frames=implementation(),
        wire="tasks",
        compression=None,
    )


async def test_repr_tells_side_address_and_state(pair: Pair) -> None:
    client, server = pair
    client_open, server_open = repr(client), str(server)

    await client.aclose(4000)

    assert client_open == "<Connection client /chat [::1]:8080 open>"
    assert server_open == "<Connection server /chat [::1]:8080 open>"
    assert repr(client) == "<Connection client /chat [::1]:8080 closed 4000>"


async def test_repr_tells_what_is_queued(engine_type: EngineType) -> None:
    async with open_near(engine_type, client=False, capacity=4) as (near, peer):
        await peer.send(TextMessage("x"))
        await near.send(bytes(98))
        await wait_all_tasks_blocked()

        text = repr(near)

    assert text == "<Connection server /chat [::1]:8080 open, 1 queued, 100 bytes outgoing>"


async def test_repr_tells_that_a_close_is_not_answered_yet(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    async with open_near(engine_type) as (near, _):
        nursery.start_soon(near.aclose)
        await wait_all_tasks_blocked()

        assert repr(near) == "<Connection client /chat [::1]:8080 closing 1000>"


async def test_repr_works_before_the_connection_is_started() -> None:
    stream, _ = stream_pair()

    assert repr(make_connection(stream)) == "<Connection client /chat [::1]:8080 open>"


def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    here, there = trio.socket.socketpair()
    return trio.SocketStream(here), trio.SocketStream(there)


@pytest.mark.network
async def test_connections_talk_and_close_over_real_sockets(engine_type: EngineType) -> None:
    async with open_pair(engine_type, streams=sockets) as (client, server):
        await client.send("x" * 1_000_000)
        await server.send(await server.receive())
        echoed = await client.receive()
        await client.aclose(4000, "bye")

    assert echoed == "x" * 1_000_000
    assert (server.close_code, server.close_reason) == (4000, "bye")


@needs_watcher
@pytest.mark.network
async def test_what_is_above_the_mark_is_written_at_once_but_not_for_ever(
    engine_type: EngineType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    async with open_pair(engine_type, limits=SMALL, streams=sockets) as (client, server):
        with Steps() as steps:
            waiting: list[int] = []
            gave_way: list[int] = []
            for _ in range(5):
                await client.send(bytes(200))
                waiting.append(client.statistics().outgoing_bytes)
                gave_way.append(steps.count)
        received = [len(await server.receive()) for _ in range(5)]

    # Each writes what the one before it has queued; four that have to, and others have a turn.
    assert gave_way == [0, 0, 0, 0, 1]
    assert max(waiting) == 200 + 8
    assert received == [200] * 5


@needs_watcher
@pytest.mark.network
async def test_who_could_write_at_once_does_not_overtake_who_waits(
    engine_type: EngineType, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    here, there = socket.socketpair()
    there.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(here))
    near = make_connection(stream, engine_type, client=False, limits=SMALL)

    def drain() -> bytes:
        data = bytearray()
        with suppress(BlockingIOError):
            while True:
                data += there.recv(1024 * 1024)
        return bytes(data)

    with there:
        async with open_background() as background, Opened(near, background, NO_KEEPALIVE):
            # More than the system takes at once, and less than it takes twice.
            size = 8
            while not near.statistics().outgoing_bytes:
                await near.send(bytes(size))
                size *= 2
                await wait_all_tasks_blocked()
            nursery.start_soon(near.send, "first")
            await wait_all_tasks_blocked()
            received = drain()
            # The system has room now, and nobody was told yet.
            nursery.start_soon(near.send, "second")
            await wait_all_tasks_blocked()
            while b"second" not in received:
                received += drain()
                await wait_all_tasks_blocked()

    assert received.index(b"first") < received.index(b"second")


@needs_watcher
@pytest.mark.network
async def test_sender_that_writes_itself_learns_of_a_reset_like_any_other(
    engine_type: EngineType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    here, there = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(here))
    near = make_connection(stream, engine_type, client=False, limits=SMALL)
    async with open_background() as background, Opened(near, background, NO_KEEPALIVE):
        await near.send(bytes(200))
        await wait_all_tasks_blocked()
        # With something unread it is a reset.
        there.close()

        async def send_on() -> None:
            for _ in range(1000):
                await near.send(bytes(200))

        with pytest.raises(ConnectionClosedError) as caught:
            await send_on()

    assert caught.value.code == 1006
    assert near.statistics().messages_sent < 100
    assert near.statistics().outgoing_bytes == 0
