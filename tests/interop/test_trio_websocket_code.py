"""What was written for trio-websocket's connection takes ours.

The functions at the top know trio-websocket only. Each test gives them a connection of ours and, to
show that they are what they claim to be, one of trio-websocket's; as a client and as a server.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, TypeAlias

import pytest
import trio
import trio.abc
import trio.lowlevel
import trio.testing
import trio_websocket
from trio_websocket import ConnectionClosed, ConnectionRejected, Endpoint, HandshakeError
from trio_websocket import WebSocketConnection as TheirConnection

import trio_ws
from tests.interop.peers import (
    NET,
    TARGET,
    Side,
    connect,
    hang_up,
    serving,
    serving_trio_websocket,
    trio_websocket_pair,
)

pytestmark = pytest.mark.network

Library: TypeAlias = Literal["trio_ws", "trio_websocket"]
Opening: TypeAlias = AbstractAsyncContextManager[TheirConnection]
OTHER: dict[Side, Side] = {"client": "server", "server": "client"}


# Written for trio-websocket


def reason_of(closed: ConnectionClosed) -> trio_websocket.CloseReason:
    """Give why a connection was closed."""
    assert closed.reason is not None
    return closed.reason


async def echo(connection: TheirConnection) -> None:
    """Send back every message until the connection closes."""
    while True:
        try:
            await connection.send_message(await connection.get_message())
        except ConnectionClosed:
            break


async def collect(connection: TheirConnection) -> tuple[list[str | bytes], int, str | None]:
    """Get all messages, then say why there are no more."""
    messages: list[str | bytes] = []
    try:
        while True:
            messages.append(await connection.get_message())
    except ConnectionClosed as closed:
        return messages, reason_of(closed).code, reason_of(closed).reason


async def send_until_closed(connection: TheirConnection) -> str:
    """Send until that is no longer possible, then give the name of the close code."""
    while True:
        try:
            await connection.send_message("tick")
            await trio.lowlevel.checkpoint()
        except ConnectionClosed as closed:
            return reason_of(closed).name


async def heartbeat(connection: TheirConnection) -> int:
    """Ping until the connection closes; give the close code."""
    while True:
        try:
            with trio.fail_after(NET):
                await connection.ping()
        except ConnectionClosed as closed:
            return reason_of(closed).code


def describe(connection: TheirConnection) -> dict[str, object]:
    """Give what a log line would say of a connection."""
    assert isinstance(connection.local, Endpoint)
    assert isinstance(connection.remote, Endpoint)
    return {
        "client": connection.is_client,
        "server": connection.is_server,
        "path": connection.path,
        "subprotocol": connection.subprotocol,
        "local": (str(connection.local.address), connection.local.is_ssl),
        "remote": (str(connection.remote.address), connection.remote.is_ssl),
        "closed": connection.closed,
    }


async def try_opening(opening: Opening) -> tuple[str, int | None, bytes | None]:
    """Try to open a connection; give what became of it."""
    try:
        async with opening:
            return "opened", None, None
    except ConnectionRejected as rejected:
        return "rejected", rejected.status_code, rejected.body
    except HandshakeError:
        return "failed", None, None


# The tests


@pytest.fixture(params=["trio_ws", "trio_websocket"])
def library(request: pytest.FixtureRequest) -> Library:
    """Give each library whose connection can be tested."""
    library: Library = request.param
    return library


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> Side:
    """Give each side that it can be on."""
    side: Side = request.param
    return side


@asynccontextmanager
async def opened(
    library: Library, side: Side, subprotocol: str | None = None
) -> AsyncGenerator[tuple[TheirConnection, TheirConnection], None]:
    """Open a connection of a library on a side; give it, and the other library's at its end."""
    ours = side if library == "trio_ws" else OTHER[side]
    names = [subprotocol] if subprotocol else []
    async with trio_websocket_pair(ours, subprotocols=names) as (our_connection, their_connection):
        if library == "trio_ws":
            yield our_connection, their_connection
        else:
            yield their_connection, our_connection


@pytest.mark.parametrize("message", ["Olá", "", b"\x00\xff", b""])
async def test_echo_sends_back(library: Library, side: Side, message: str | bytes) -> None:
    async with opened(library, side) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await peer.send_message(message)

        assert await peer.get_message() == message
        await peer.aclose()


async def test_echo_ends_when_another_task_closes(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _), trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await trio.testing.wait_all_tasks_blocked()
        await connection.aclose()


async def test_collect_learns_the_code_and_reason(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer):
        await peer.send_message("first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.aclose, 4001, "até logo")

            assert await collect(connection) == (["first"], 4001, "até logo")


async def test_collect_learns_of_a_close_without_a_reason(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.aclose)

        assert await collect(connection) == ([], 1000, None)


async def test_collect_after_this_sides_close_gets_nothing(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.aclose()

        assert await collect(connection) == ([], 1000, None)


async def test_collect_learns_that_the_line_was_cut(side: Side) -> None:
    async with opened("trio_ws", side) as (connection, peer):
        await hang_up(peer)

        assert await collect(connection) == ([], 1006, None)


async def test_sending_ends_with_the_peers_close(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(collect, peer)
        nursery.start_soon(peer.aclose, 1001)

        assert await send_until_closed(connection) == "GOING_AWAY"


async def test_sending_ends_with_this_sides_close(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.aclose()

        assert await send_until_closed(connection) == "NORMAL_CLOSURE"


async def test_heartbeat_ends_with_the_peers_close(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.aclose, 4001)

        # trio-websocket's ping never returns when the close overtakes its pong.
        await collect(connection)
        assert await heartbeat(connection) == 4001


async def test_heartbeat_ends_with_this_sides_close(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.aclose()

        assert await heartbeat(connection) == 1000


async def test_pong_after_this_sides_close_says_closed(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.aclose()

        with pytest.raises(ConnectionClosed):
            await connection.pong()


async def test_ping_takes_a_payload(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.ping(b"still there?")

        assert connection.closed is None


async def test_pong_takes_a_payload(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.pong(b"here I am")

        assert connection.closed is None


async def test_describe_reads_the_properties(library: Library, side: Side) -> None:
    async with opened(library, side, subprotocol="chat") as (connection, _):
        assert describe(connection) == {
            "client": side == "client",
            "server": side == "server",
            "path": TARGET,
            "subprotocol": "chat",
            "local": ("127.0.0.1", False),
            "remote": ("127.0.0.1", False),
            "closed": None,
        }


async def test_each_ends_remote_is_the_others_local(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer):
        assert str(connection.remote) == str(peer.local)
        assert str(connection.local) == str(peer.remote)


async def test_clients_handshake_headers_are_the_servers_answer(library: Library) -> None:
    async with opened(library, "client") as (connection, _):
        assert (b"x-from", b"the server") in connection.handshake_headers


async def test_closed_tells_the_peers_code_name_and_reason(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer):
        await peer.aclose(1001, "até logo")
        await collect(connection)

        closed = connection.closed
        assert isinstance(closed, trio_websocket.CloseReason)
        assert (closed.code, closed.name, closed.reason) == (1001, "GOING_AWAY", "até logo")


async def test_a_block_over_the_connection_closes_it(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, peer), connection:
        await connection.send_message("inside")
        assert await peer.get_message() == "inside"

    assert connection.closed is not None
    assert connection.closed.code == 1000


async def test_closing_twice_is_no_error(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        await connection.aclose()
        await connection.aclose(4001, "again")

        assert connection.closed is not None
        assert connection.closed.code == 1000


async def test_it_is_what_trio_websocket_says_it_is(library: Library, side: Side) -> None:
    async with opened(library, side) as (connection, _):
        assert isinstance(connection, trio_websocket.WebSocketConnection)
        assert isinstance(connection, trio.abc.AsyncResource)
        assert isinstance(connection.local, trio_websocket.Endpoint)


async def test_ours_is_a_channel_besides() -> None:
    async with opened("trio_ws", "client") as (connection, _):
        assert isinstance(connection, trio.abc.Channel)


async def test_our_errors_are_told_from_others_as_trio_websockets_are(side: Side) -> None:
    async with opened("trio_ws", side) as (connection, peer):
        await peer.aclose(1011)

        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await connection.get_message()
        assert isinstance(caught.value, trio_ws.ConnectionClosedError)
        assert isinstance(caught.value.reason, trio_websocket.CloseReason)


async def test_trying_learns_that_it_opened() -> None:
    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        await request.accept()

    with trio.fail_after(NET):
        async with serving_trio_websocket(accept) as port:
            assert await try_opening(connect(port)) == ("opened", None, None)


async def test_trying_learns_the_status_and_body_of_a_rejection() -> None:
    async def reject(request: trio_websocket.WebSocketRequest) -> None:
        await request.reject(403, body=b"come tomorrow")

    with trio.fail_after(NET):
        async with serving_trio_websocket(reject) as port:
            assert await try_opening(connect(port)) == ("rejected", 403, b"come tomorrow")


async def test_a_rejection_of_ours_carries_headers_in_trio_websockets_form() -> None:
    async def reject(request: trio_ws.Request) -> trio_ws.Response:
        return trio_ws.Response(403, headers={"X-Why": "closed"})

    with trio.fail_after(NET):
        async with serving(reject) as port:
            with pytest.raises(trio_websocket.ConnectionRejected) as caught:
                await connect(port).__aenter__()

    assert isinstance(caught.value.headers, tuple)
    assert (b"x-why", b"closed") in caught.value.headers


@pytest.mark.parametrize("library", ["trio_ws", "trio_websocket"])
async def test_trying_learns_that_nobody_listens(library: Library) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()

    url = f"ws://127.0.0.1:{port}"
    openings: dict[Library, Opening] = {
        "trio_ws": trio_ws.connect(url),
        "trio_websocket": trio_websocket.open_websocket_url(url),
    }
    with trio.fail_after(NET):
        assert await try_opening(openings[library]) == ("failed", None, None)
