"""Our connections and trio-websocket's understand each other, whoever is the client."""

import pytest
import trio
import trio_websocket
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

import trio_ws
from tests.fakes import raw_frame
from tests.interop.peers import (
    NET,
    Side,
    connect,
    connect_trio_websocket,
    hang_up,
    reject_trio_websocket,
    send_bytes,
    send_events,
    serving,
    serving_trio_websocket,
    trio_websocket_pair,
)
from trio_ws._protocol.frames import CONTINUATION, TEXT

pytestmark = pytest.mark.network

MESSAGES = ["Olá, mundo! 👋", "", b"\x00\xff\x80", b"", "ã" * 150 * 1024, bytes(300 * 1024)]
NAMES = ["text", "empty text", "binary", "empty binary", "300 KiB of text", "300 KiB of bytes"]


@pytest.fixture(params=["client", "server"])
def ours(request: pytest.FixtureRequest) -> Side:
    """Give each side that can be ours."""
    side: Side = request.param
    return side


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
async def test_a_message_of_ours_arrives_whole(ours: Side, message: str | bytes) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await connection.send(message)

        assert await theirs.get_message() == message


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
async def test_a_message_of_theirs_arrives_whole(ours: Side, message: str | bytes) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await theirs.send_message(message)

        assert await connection.receive() == message


async def test_messages_arrive_in_order_both_ways_at_once(ours: Side) -> None:
    numbers = [str(number) for number in range(200)]
    async with trio_websocket_pair(ours) as (connection, theirs):

        async def echo() -> None:
            while True:
                await theirs.send_message(await theirs.get_message())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            for number in numbers:
                await connection.send(number)
            assert [await connection.receive() for _ in numbers] == numbers
            nursery.cancel_scope.cancel()


async def test_fragments_of_theirs_are_joined_to_text(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await send_events(
            theirs,
            TextMessage(data="Ol", message_finished=False),
            TextMessage(data="", message_finished=False),
            TextMessage(data="á", message_finished=True),
        )

        assert await connection.receive() == "Olá"


async def test_fragments_of_theirs_are_joined_to_bytes(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await send_events(
            theirs,
            BytesMessage(data=b"\x00\x01", message_finished=False),
            BytesMessage(data=b"\x02", message_finished=True),
        )

        assert await connection.receive() == b"\x00\x01\x02"


async def test_a_ping_of_theirs_between_fragments_does_not_part_them(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await send_events(
            theirs,
            TextMessage(data="one ", message_finished=False),
            Ping(payload=b"still there?"),
            TextMessage(data="message", message_finished=True),
        )

        assert await connection.receive() == "one message"


async def test_a_character_of_theirs_may_be_parted_by_fragments(ours: Side) -> None:
    first, second = "á".encode()[:1], "á".encode()[1:]
    masked = ours == "server"
    async with trio_websocket_pair(ours) as (connection, theirs):
        await send_bytes(theirs, raw_frame(TEXT, first, masked=masked, fin=False))
        await send_bytes(theirs, raw_frame(CONTINUATION, second, masked=masked))

        assert await connection.receive() == "á"


async def test_they_answer_a_ping_of_ours(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, _):
        await connection.ping(b"still there?")

        assert connection.statistics().pings_pending == 0


async def test_we_answer_a_ping_of_theirs(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        # It returns when the pong with this payload has come.
        await theirs.ping(b"still there?")

        assert connection.close_code is None


async def test_a_pong_nobody_asked_for_changes_nothing(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await connection.pong(b"here I am")
        await theirs.pong(b"so am I")
        await connection.send("and now?")

        assert await theirs.get_message() == "and now?"
        await theirs.send_message("all is well")
        assert await connection.receive() == "all is well"


async def test_they_see_the_code_and_reason_of_our_close(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await connection.aclose(4001, "até logo")

        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await theirs.get_message()
        reason = caught.value.reason
        assert reason is not None
        assert (reason.code, reason.reason) == (4001, "até logo")


async def test_we_see_the_code_and_reason_of_their_close(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await theirs.aclose(4001, "até logo")

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connection.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "até logo")
        assert connection.closed_by == "remote"


async def test_their_normal_close_ends_the_loop_behind_the_messages_before_it(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await theirs.send_message("first")
        await theirs.send_message("last")
        await theirs.aclose()

        assert [message async for message in connection] == ["first", "last"]
        assert (connection.close_code, connection.close_reason) == (1000, "")


async def test_they_get_the_messages_before_our_close(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs), trio.open_nursery() as nursery:
        await connection.send("first")
        await connection.send("last")
        nursery.start_soon(connection.aclose)

        assert [await theirs.get_message() for _ in range(2)] == ["first", "last"]
        with pytest.raises(trio_websocket.ConnectionClosed):
            await theirs.get_message()


async def test_a_close_of_theirs_without_a_code_is_1005(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await send_events(theirs, CloseConnection(code=CloseReason.NO_STATUS_RCVD))

        with pytest.raises(trio_ws.ConnectionClosedOK) as caught:
            await connection.receive()
        assert (caught.value.code, caught.value.reason) == (1005, "")


async def test_both_may_close_at_once(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose, 4001, "ours")
            nursery.start_soon(theirs.aclose, 4002, "theirs")

        await connection.wait_closed()
        assert connection.close_code in {4001, 4002}


async def test_a_line_that_they_cut_is_1006(ours: Side) -> None:
    async with trio_websocket_pair(ours) as (connection, theirs):
        await hang_up(theirs)

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connection.receive()
        assert (caught.value.code, connection.closed_by) == (1006, None)


async def test_a_message_of_theirs_over_our_limit_is_answered_1009(ours: Side) -> None:
    limits = trio_ws.Limits(max_message=1000)
    async with trio_websocket_pair(ours, limits=limits) as (_, theirs):
        await theirs.send_message("x" * 1001)

        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await theirs.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1009


async def test_the_server_chooses_a_subprotocol(ours: Side) -> None:
    async with trio_websocket_pair(ours, subprotocols=["v2.chat", "v1.chat"]) as pair:
        assert [connection.subprotocol for connection in pair] == ["v2.chat", "v2.chat"]


async def test_without_subprotocols_there_is_none(ours: Side) -> None:
    async with trio_websocket_pair(ours) as pair:
        assert [connection.subprotocol for connection in pair] == [None, None]


async def test_our_server_declines_their_compression() -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")

    async def greet(request: trio_ws.Request) -> None:
        assert request.headers["Sec-WebSocket-Extensions"] == offer[1]
        async with request.accept() as connection:
            await connection.send("plain " * 100)
            await connection.wait_closed()

    with trio.fail_after(NET):
        async with (
            serving(greet) as port,
            connect_trio_websocket(port, headers=[offer]) as theirs,
        ):
            assert await theirs.get_message() == "plain " * 100
            assert b"sec-websocket-extensions" not in dict(theirs.handshake_headers)


async def test_our_server_leaves_their_client_that_keeps_its_socket_open() -> None:
    left = trio.Event()

    async def close(request: trio_ws.Request) -> None:
        async with request.accept():
            pass
        left.set()

    limits = trio_ws.Limits(close_timeout=0.05)
    with trio.fail_after(NET):
        async with serving(close, limits=limits) as port, connect_trio_websocket(port) as theirs:
            with pytest.raises(trio_websocket.ConnectionClosed):
                await theirs.get_message()
            await left.wait()
            await hang_up(theirs)


async def test_our_client_says_how_their_server_rejected_it() -> None:
    async def reject(request: trio_websocket.WebSocketRequest) -> None:
        await request.reject(403, extra_headers=[(b"X-Why", b"closed")], body=b"come tomorrow")

    with trio.fail_after(NET):
        async with serving_trio_websocket(reject) as port:
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                await connect(port).__aenter__()

    response = caught.value.response
    assert (response.status, response.text) == (403, "come tomorrow")
    assert response.headers["X-Why"] == "closed"


async def test_their_client_says_how_our_server_rejected_it() -> None:
    async def reject(request: trio_ws.Request) -> trio_ws.Response:
        return trio_ws.Response(403, "come tomorrow", headers={"X-Why": "closed"})

    with trio.fail_after(NET):
        async with serving(reject) as port:
            rejected = await reject_trio_websocket(port)

    assert (rejected.status_code, rejected.body) == (403, b"come tomorrow")
    assert (b"x-why", b"closed") in rejected.headers
