"""Our connections and those of websockets understand each other, whoever is the client."""

import os
from collections.abc import AsyncGenerator

import pytest
import trio
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response
from websockets.trio.client import ClientConnection
from websockets.trio.server import ServerConnection

import trio_ws
from tests.interop.peers import (
    NET,
    Side,
    connect,
    connect_websockets,
    hang_up,
    serving,
    serving_websockets,
    websockets_pair,
)

pytestmark = pytest.mark.network

MESSAGES = ["Olá, mundo! 👋", "", b"\x00\xff\x80", b"", "ã" * 150 * 1024, bytes(300 * 1024)]
NAMES = ["text", "empty text", "binary", "empty binary", "300 KiB of text", "300 KiB of bytes"]
MORE_THAN_THE_INBOX = 1100  # messages


@pytest.fixture(params=["client", "server"])
def ours(request: pytest.FixtureRequest) -> Side:
    """Give each side that can be ours."""
    side: Side = request.param
    return side


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
async def test_a_message_of_ours_arrives_whole(ours: Side, message: str | bytes) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await connection.send(message)

        assert await theirs.recv() == message


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
async def test_a_message_of_theirs_arrives_whole(ours: Side, message: str | bytes) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await theirs.send(message)

        assert await connection.receive() == message


async def test_messages_arrive_in_order_both_ways_at_once(ours: Side) -> None:
    numbers = [str(number) for number in range(200)]
    async with websockets_pair(ours) as (connection, theirs):

        async def echo() -> None:
            async for message in theirs:
                await theirs.send(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            for number in numbers:
                await connection.send(number)
            assert [await connection.receive() for _ in numbers] == numbers
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("fragments", "message"),
    [(["Ol", "", "á"], "Olá"), ([b"\x00", b"\x01\x02"], b"\x00\x01\x02")],
    ids=["text", "bytes"],
)
async def test_fragments_of_theirs_are_joined(
    ours: Side, fragments: list[str] | list[bytes], message: str | bytes
) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await theirs.send(fragments)

        assert await connection.receive() == message


async def test_a_character_of_theirs_may_be_parted_by_fragments(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await theirs.send(["á".encode()[:1], "á".encode()[1:]], text=True)

        assert await connection.receive() == "á"


async def test_a_ping_of_theirs_between_fragments_does_not_part_them(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):

        async def fragments() -> AsyncGenerator[str, None]:
            yield "one "
            await (await theirs.ping()).wait()
            yield "message"

        await theirs.send(fragments())

        assert await connection.receive() == "one message"


async def test_they_answer_a_ping_of_ours(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, _):
        await connection.ping(b"still there?")

        assert connection.statistics().pings_pending == 0


async def test_we_answer_a_ping_of_theirs(ours: Side) -> None:
    async with websockets_pair(ours) as (_, theirs):
        pong = await theirs.ping(b"still there?")
        await pong.wait()

        assert not theirs.pending_pings


async def test_we_answer_a_ping_of_theirs_while_nobody_receives(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        for _ in range(MORE_THAN_THE_INBOX):
            await theirs.send("unread")
        pong = await theirs.ping(b"still there?")
        await pong.wait()

        assert connection.statistics().inbox_messages < MORE_THAN_THE_INBOX


async def test_a_pong_nobody_asked_for_changes_nothing(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await connection.pong(b"here I am")
        await theirs.pong(b"so am I")
        await connection.send("and now?")

        assert await theirs.recv() == "and now?"
        await theirs.send("all is well")
        assert await connection.receive() == "all is well"


async def test_they_see_the_code_and_reason_of_our_close(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await connection.aclose(4001, "até logo")

        with pytest.raises(ConnectionClosedError):
            await theirs.recv()
        assert (theirs.close_code, theirs.close_reason) == (4001, "até logo")


async def test_we_see_the_code_and_reason_of_their_close(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await theirs.aclose(4001, "até logo")

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connection.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "até logo")
        assert connection.closed_by == "remote"


async def test_their_normal_close_ends_the_loop_behind_the_messages_before_it(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await theirs.send("first")
        await theirs.send("last")
        await theirs.aclose()

        assert [message async for message in connection] == ["first", "last"]
        assert (connection.close_code, connection.close_reason) == (1000, "")


async def test_our_normal_close_ends_their_loop_behind_the_messages_before_it(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await connection.send("first")
        await connection.send("last")
        await connection.aclose()

        assert [message async for message in theirs] == ["first", "last"]
        assert (theirs.close_code, theirs.close_reason) == (1000, "")


async def test_a_close_of_theirs_without_a_code_is_1005(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        async with theirs.send_context():
            theirs.protocol.send_close()

        with pytest.raises(trio_ws.ConnectionClosedOK) as caught:
            await connection.receive()
        assert (caught.value.code, caught.value.reason) == (1005, "")


async def test_both_may_close_at_once(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose, 4001, "ours")
            nursery.start_soon(theirs.aclose, 4002, "theirs")

        await connection.wait_closed()
        assert connection.close_code in {4001, 4002}


async def test_a_line_that_they_cut_is_1006(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, theirs):
        await hang_up(theirs)

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connection.receive()
        assert (caught.value.code, connection.closed_by) == (1006, None)


async def test_a_message_of_theirs_over_our_limit_is_answered_1009(ours: Side) -> None:
    limits = trio_ws.Limits(max_message=1000)
    async with websockets_pair(ours, limits=limits) as (_, theirs):
        await theirs.send("x" * 1001)

        with pytest.raises(ConnectionClosedError):
            await theirs.recv()
        assert theirs.close_code == 1009


async def test_a_message_of_ours_over_their_limit_is_answered_1009(ours: Side) -> None:
    async with websockets_pair(ours) as (connection, _):
        await connection.send(bytes(1024 * 1024 + 1))

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connection.receive()
        assert (caught.value.code, connection.closed_by) == (1009, "remote")


async def test_a_drain_of_our_server_tells_them_1001() -> None:
    async def listen(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.wait_closed()

    with trio.fail_after(NET):
        async with trio.open_nursery() as nursery:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, listen, 0)
            async with connect_websockets(server.port) as theirs:
                await server.drain(NET)

                with pytest.raises(ConnectionClosedOK):
                    await theirs.recv()
                assert theirs.close_code == 1001


async def test_a_stop_of_their_server_ends_our_loop_with_1001() -> None:
    async with (
        trio.open_nursery() as nursery,
        websockets_pair("client") as (connection, theirs),
    ):
        assert isinstance(theirs, ServerConnection)
        nursery.start_soon(theirs.server.aclose)

        assert [message async for message in connection] == []
        assert connection.close_code == 1001


async def test_the_server_chooses_a_subprotocol(ours: Side) -> None:
    async with websockets_pair(ours, subprotocols=["v2.chat", "v1.chat"]) as pair:
        assert [connection.subprotocol for connection in pair] == ["v2.chat", "v2.chat"]


async def test_without_subprotocols_there_is_none(ours: Side) -> None:
    async with websockets_pair(ours) as pair:
        assert [connection.subprotocol for connection in pair] == [None, None]


async def test_our_server_declines_their_compression() -> None:
    async with websockets_pair("server") as (connection, theirs):
        assert isinstance(theirs, ClientConnection)
        assert theirs.request is not None
        assert theirs.response is not None

        assert "permessage-deflate" in theirs.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in theirs.response.headers
        await theirs.send("plain " * 1000)
        assert await connection.receive() == "plain " * 1000


SETTINGS = [
    trio_ws.Deflate(min_size=1),
    trio_ws.Deflate(min_size=1, send_window_bits=9, receive_window_bits=15, level=9),
    trio_ws.Deflate(min_size=1, send_context_takeover=False),
    trio_ws.Deflate(min_size=1, receive_context_takeover=False),
    trio_ws.Deflate(min_size=1, send_context_takeover=False, receive_context_takeover=False),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
async def test_compressed_messages_go_both_ways(ours: Side, settings: trio_ws.Deflate) -> None:
    messages: list[str | bytes] = [
        "Olá! " * 100,
        b"",
        "",
        "Olá! " * 100,
        bytes(200_000),
        "x",
        os.urandom(50_000),
    ]
    async with websockets_pair(ours, compression=settings) as (connection, theirs):
        assert "permessage-deflate" in (connection.statistics().compression or "")
        for message in messages:
            await connection.send(message)
            assert await theirs.recv() == message
            await theirs.send(message)
            assert await connection.receive() == message

        received = connection.statistics().bytes_received
        assert received < sum(len(message) for message in messages) / 2


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
async def test_their_fragments_are_compressed_as_one_message(
    ours: Side, settings: trio_ws.Deflate
) -> None:
    async with websockets_pair(ours, compression=settings) as (connection, theirs):
        for _ in range(3):
            await theirs.send(["Olá, " * 50, "", "servidor! " * 50])

            assert await connection.receive() == "Olá, " * 50 + "servidor! " * 50


async def test_message_that_is_not_to_be_compressed_is_understood(ours: Side) -> None:
    async with websockets_pair(ours, compression=trio_ws.Deflate()) as (connection, theirs):
        for compress in (None, False, True, False, None):
            await connection.send("a secret " * 30, compress=compress)

            assert await theirs.recv() == "a secret " * 30


async def test_compressed_message_that_is_too_large_for_us_is_told_1009(ours: Side) -> None:
    limits = trio_ws.Limits(max_message=100_000)
    compression = trio_ws.Deflate()
    async with websockets_pair(ours, compression=compression, limits=limits) as (_, theirs):
        await theirs.send(bytes(100_001))

        with pytest.raises(ConnectionClosedError) as caught:
            await theirs.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


async def test_we_offer_their_server_no_compression() -> None:
    async with websockets_pair("client") as (_, theirs):
        assert isinstance(theirs, ServerConnection)
        assert theirs.request is not None

        assert theirs.request.headers["X-From"] == "the client"
        assert "Sec-WebSocket-Extensions" not in theirs.request.headers


async def test_our_client_says_how_their_server_rejected_it() -> None:
    def reject(theirs: ServerConnection, _: Request) -> Response:
        return theirs.respond(403, "come tomorrow")

    with trio.fail_after(NET):
        async with serving_websockets(ServerConnection.wait_closed, (), reject) as port:
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                await connect(port).__aenter__()

    response = caught.value.response
    assert (response.status, response.text) == (403, "come tomorrow")


async def test_their_client_says_how_our_server_rejected_it() -> None:
    async def reject(request: trio_ws.Request) -> trio_ws.Response:
        return trio_ws.Response(403, "come tomorrow", headers={"X-Why": "closed"})

    with trio.fail_after(NET):
        async with serving(reject) as port:
            with pytest.raises(InvalidStatus) as caught:
                await connect_websockets(port).__aenter__()

    response = caught.value.response
    assert (response.status_code, response.body) == (403, b"come tomorrow")
    assert response.headers["X-Why"] == "closed"
