"""`connect`, `request` and `connection_pair` run handlers in memory, and hide no error."""

from collections.abc import Awaitable, Callable
from math import inf

import pytest
import trio
from trio.testing import MockClock

import trio_ws.testing
from trio_ws._config import Keepalive, Limits
from trio_ws._errors import ConnectionClosed, HandshakeError, HandshakeRejected
from trio_ws._protocol.upgrade import make_key
from trio_ws._transport.connection import Connection
from trio_ws._transport.handshake import Request
from trio_ws._types import Response
from trio_ws.testing import FaultyStream

DAY = 24 * 60 * 60


class HandlerError(Exception):
    """What a handler of these tests raises."""


class BlockError(Exception):
    """What a block of these tests raises."""


class StopProgram(BaseException):
    """What ends a program, as `KeyboardInterrupt` does."""


class Network:
    """Puts a faulty stream around a stream, and keeps hold of it."""

    stream: FaultyStream

    def __call__(self, stream: trio.abc.Stream) -> FaultyStream:
        self.stream = FaultyStream(stream)
        return self.stream


async def greet(request: Request) -> None:
    async with request.accept() as connection:
        await connection.send("Olá, cliente!")
        async for message in connection:
            await connection.send(message)


async def page(request: Request) -> Response:
    return Response(200, f"{request.method} {request.host} {request.headers.get('X-Lang')}")


async def nothing(request: Request) -> None:
    return


async def fail_at_once(request: Request) -> None:
    raise HandlerError


async def fail_after_a_message(request: Request) -> None:
    async with request.accept() as connection:
        await connection.receive()
        raise HandlerError


async def fail_at_the_end(request: Request) -> None:
    async with request.accept() as connection:
        async for _ in connection:
            pass
    raise HandlerError


async def provoke(then: Callable[[Connection], Awaitable[object]]) -> None:
    """Make a handler fail while a block is connected to it, which then goes on."""
    async with trio_ws.testing.connect(fail_after_a_message) as connection:
        await connection.send("fail")
        await then(connection)


async def test_connect_reaches_the_handler() -> None:
    async with trio_ws.testing.connect(greet) as connection:
        assert await connection.receive() == "Olá, cliente!"


async def test_connect_asks_for_its_url_with_its_headers() -> None:
    async def tell(request: Request) -> None:
        async with request.accept() as connection:
            await connection.send(f"{request.host} {request.target} {request.headers['X-Lang']}")

    url = "ws://example.org/chat?room=1"
    async with trio_ws.testing.connect(tell, url, headers={"X-Lang": "pt"}) as connection:
        assert await connection.receive() == "example.org /chat?room=1 pt"


async def test_connect_raises_the_rejection_of_a_handler_that_answers_with_http() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        async with trio_ws.testing.connect(page):
            pass

    assert caught.value.response.status == 200


async def test_an_error_before_accepting_leaves_as_itself() -> None:
    with pytest.raises(HandlerError):
        async with trio_ws.testing.connect(fail_at_once):
            pass


async def test_an_error_of_the_handler_leaves_as_itself_when_the_block_waits() -> None:
    async def wait(connection: Connection) -> None:
        await trio.sleep_forever()

    with pytest.raises(HandlerError):
        await provoke(wait)


async def test_an_error_of_the_handler_leaves_as_itself_when_the_block_sees_the_close() -> None:
    with pytest.raises(HandlerError):
        await provoke(Connection.receive)


async def test_an_error_of_the_handler_leaves_as_itself_when_the_block_caught_the_close() -> None:
    codes: list[int] = []

    async def catch(connection: Connection) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            await connection.receive()
        codes.append(caught.value.code)

    with pytest.raises(HandlerError):
        await provoke(catch)
    assert codes == [1011]


async def test_an_error_of_the_handler_leaves_as_itself_when_a_group_sees_the_close() -> None:
    async def receive_in_a_task(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.receive)

    with pytest.raises(HandlerError):
        await provoke(receive_in_a_task)


async def test_an_error_of_the_handler_after_the_block_leaves_as_itself() -> None:
    with pytest.raises(HandlerError):
        async with trio_ws.testing.connect(fail_at_the_end):
            pass


async def test_a_handler_and_a_block_that_both_fail_leave_as_a_group() -> None:
    async def fail_as_well(connection: Connection) -> None:
        with pytest.raises(ConnectionClosed):
            await connection.receive()
        raise BlockError

    with pytest.RaisesGroup(HandlerError, BlockError):
        await provoke(fail_as_well)


async def test_an_error_of_the_block_leaves_as_itself() -> None:
    with pytest.raises(BlockError):
        async with trio_ws.testing.connect(greet):
            raise BlockError


async def test_an_error_of_the_block_closes_the_connection_with_1011() -> None:
    codes: list[int | None] = []

    async def note(request: Request) -> None:
        async with request.accept() as connection:
            with pytest.raises(ConnectionClosed):
                await connection.receive()
            codes.append(connection.close_code)

    with pytest.raises(BlockError):
        async with trio_ws.testing.connect(note):
            raise BlockError
    assert codes == [1011]


async def test_a_handler_that_never_ends_is_cancelled_after_the_grace(
    autojump_clock: MockClock,
) -> None:
    async def linger(request: Request) -> None:
        async with request.accept() as connection:
            async for _ in connection:
                pass
        await trio.sleep_forever()

    began = trio.current_time()
    async with trio_ws.testing.connect(linger, grace=7):
        pass
    assert trio.current_time() - began == pytest.approx(7)


async def test_a_handler_has_the_grace_to_end_in() -> None:
    ended = trio.Event()

    async def tidy(request: Request) -> None:
        async with request.accept() as connection:
            async for _ in connection:
                pass
        await trio.lowlevel.checkpoint()
        ended.set()

    async with trio_ws.testing.connect(tidy):
        pass
    assert ended.is_set()


async def test_a_cancelled_block_says_goodbye_with_1001() -> None:
    codes: list[int | None] = []

    async def note(request: Request) -> None:
        async with request.accept() as connection:
            try:
                await trio.sleep_forever()
            finally:
                codes.append(connection.close_code)

    with trio.CancelScope() as scope:
        async with trio_ws.testing.connect(note) as connection:
            scope.cancel()
            await connection.receive()
    assert connection.close_code == 1001


async def test_a_block_that_fails_while_it_is_cancelled_leaves_with_its_error() -> None:
    async def fail_cancelled() -> None:
        with trio.CancelScope() as scope:
            async with trio_ws.testing.connect(greet):
                scope.cancel()
                raise BlockError

    with pytest.raises(BlockError):
        await fail_cancelled()


async def test_a_cancellation_ends_the_wait_for_the_handler() -> None:
    with trio.CancelScope() as scope:

        async def cancel_at_the_end(request: Request) -> None:
            async with request.accept() as connection:
                async for _ in connection:
                    pass
            scope.cancel()
            await trio.sleep_forever()

        async with trio_ws.testing.connect(cancel_at_the_end, grace=inf):
            pass

    assert scope.cancelled_caught


async def test_a_handler_that_ends_the_program_is_not_kept_from_it() -> None:
    async def stop(request: Request) -> None:
        raise StopProgram

    with pytest.raises(StopProgram):
        async with trio_ws.testing.connect(stop):
            pass


async def test_connect_refuses_a_page_of_another_origin() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        async with trio_ws.testing.connect(greet, origin="https://evil.example"):
            pass

    assert caught.value.response.status == 403


async def test_connect_accepts_a_page_of_a_listed_origin() -> None:
    page = "https://good.example"

    async with trio_ws.testing.connect(greet, origin=page, origins=[page]) as connection:
        assert await connection.receive() == "Olá, cliente!"


async def test_connect_refuses_a_host_that_is_not_listed() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        async with trio_ws.testing.connect(greet, hosts=["example.com"]):
            pass

    assert caught.value.response.status == 421


async def test_connect_negotiates_the_subprotocol() -> None:
    async with trio_ws.testing.connect(
        greet, subprotocols=["v1", "v2"], server_subprotocols=["v2", "v1"]
    ) as connection:
        assert connection.subprotocol == "v2"


async def test_limits_are_those_of_both_sides() -> None:
    async with trio_ws.testing.connect(greet, limits=Limits(max_message=20)) as connection:
        await connection.send(bytes(21))
        await connection.receive()
        with pytest.raises(ConnectionClosed) as caught:
            await connection.receive()

    assert caught.value.code == 1009


async def test_server_limits_are_those_of_the_server_only() -> None:
    async with trio_ws.testing.connect(
        greet, limits=Limits(max_message=20), server_limits=Limits()
    ) as connection:
        await connection.receive()
        await connection.send(bytes(21))
        with pytest.raises(ConnectionClosed):
            await connection.receive()

    assert (connection.close_code, connection.closed_by) == (1009, "local")


async def test_server_keepalive_is_that_of_the_server_only(autojump_clock: MockClock) -> None:
    given_up: list[float] = []

    async def note(request: Request) -> None:
        async with request.accept() as connection:
            with pytest.raises(ConnectionClosed):
                await connection.receive()
            given_up.append(trio.current_time())

    never, server = Keepalive(interval=inf), Keepalive(interval=3, timeout=4)
    network = Network()
    async with trio_ws.testing.connect(
        note, keepalive=never, server_keepalive=server, wrap=network
    ):
        network.stream.drop()
        await trio.sleep(60)
        await network.stream.cut()
    assert given_up == [pytest.approx(7)]


async def test_a_day_of_keepalive_takes_no_time_and_keeps_the_connection(
    autojump_clock: MockClock,
) -> None:
    keepalive = Keepalive(interval=240)

    async with trio_ws.testing.connect(greet, keepalive=keepalive) as connection:
        await trio.sleep(DAY)
        await connection.send("still there?")
        assert await connection.receive() == "Olá, cliente!"
        assert await connection.receive() == "still there?"
        # A ping or a pong of at least 2 bytes for every interval.
        assert connection.statistics().bytes_received > DAY / 240 * 2


@pytest.mark.parametrize(
    ("method", "body"), [("GET", "GET testserver pt"), ("HEAD", ""), ("PUT", "PUT testserver pt")]
)
async def test_request_returns_the_response(method: str, body: str) -> None:
    response = await trio_ws.testing.request(page, method, headers={"X-Lang": "pt"})

    assert (response.status, response.text) == (200, body)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_request_sends_the_target() -> None:
    async def tell(request: Request) -> Response:
        return Response(200, f"{request.path} {request.query['q']}")

    response = await trio_ws.testing.request(tell, "GET", "/a%20path?q=1")

    assert response.text == "/a path 1"


async def test_request_takes_another_host() -> None:
    response = await trio_ws.testing.request(page, headers={"host": "example.org"})

    assert response.text == "GET example.org None"


async def test_request_returns_404_of_a_handler_that_returns_none() -> None:
    response = await trio_ws.testing.request(nothing)

    assert response.status == 404


async def test_request_returns_426_of_a_handler_that_accepts() -> None:
    response = await trio_ws.testing.request(greet)

    assert response.status == 426


async def test_request_says_that_connect_is_for_websockets() -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": make_key(),
    }

    with pytest.raises(HandshakeError, match=r"connect\(\)"):
        await trio_ws.testing.request(greet, headers=handshake)


async def test_request_raises_the_error_of_the_handler() -> None:
    with pytest.raises(HandlerError):
        await trio_ws.testing.request(fail_at_once)


async def test_request_obeys_the_limits_of_the_server() -> None:
    response = await trio_ws.testing.request(
        page, headers={"X-Long": "x" * 100_000}, limits=Limits(max_head=1000)
    )

    assert response.status == 431


async def test_request_says_that_it_was_not_answered() -> None:
    # The server hangs up before it has read what does not even fit into the memory stream.
    limits = Limits(open_timeout=1e-9)

    with pytest.raises(HandshakeError, match="not answered"):
        await trio_ws.testing.request(page, headers={"X-Long": "x" * 100_000}, limits=limits)


@pytest.mark.parametrize(
    ("method", "target"), [("GET IT", "/"), ("GET", "/a path")], ids=["method", "target"]
)
async def test_request_refuses_what_is_malformed(method: str, target: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await trio_ws.testing.request(page, method, target)


async def test_a_cancelled_request_cancels_the_handler() -> None:
    cancelled = False

    with trio.CancelScope() as scope:

        async def wait(request: Request) -> None:
            nonlocal cancelled
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                cancelled = True

        await trio_ws.testing.request(wait)
    assert cancelled


async def test_a_connection_pair_talks_in_both_directions() -> None:
    async with trio_ws.testing.connection_pair() as (client, server):
        await client.send("there")
        await server.send(b"back")

        assert await server.receive() == "there"
        assert await client.receive() == b"back"


async def test_a_connection_pair_is_a_client_and_a_server() -> None:
    async with trio_ws.testing.connection_pair() as (client, server):
        assert client.is_client
        assert server.is_server


async def test_a_connection_pair_is_closed_after_its_block() -> None:
    async with trio_ws.testing.connection_pair() as (client, server):
        pass

    assert client.close_code == server.close_code == 1000


async def test_a_connection_pair_closes_with_1011_when_its_block_fails() -> None:
    with pytest.raises(BlockError):
        async with trio_ws.testing.connection_pair() as (client, _):
            raise BlockError

    assert client.close_code == 1011


async def test_a_cancelled_connection_pair_says_goodbye_with_1001() -> None:
    with trio.CancelScope() as scope:
        async with trio_ws.testing.connection_pair() as (client, server):
            scope.cancel()
            await client.receive()

    assert client.close_code == server.close_code == 1001


async def test_the_limits_of_a_connection_pair_hold_for_both_sides() -> None:
    async with trio_ws.testing.connection_pair(limits=Limits(max_message=1)) as (client, server):
        await client.send("too long")
        with pytest.raises(ConnectionClosed):
            await server.receive()

    assert server.close_code == 1009


async def test_the_keepalive_of_a_connection_pair_holds_for_both_sides(
    autojump_clock: MockClock,
) -> None:
    async with trio_ws.testing.connection_pair(keepalive=Keepalive(interval=inf)) as (client, _):
        await trio.sleep(DAY)

        assert client.statistics().bytes_received == 0


@pytest.mark.parametrize(
    "public",
    [trio_ws.testing.connect, trio_ws.testing.connection_pair, trio_ws.testing.request],
)
def test_a_public_name_says_where_to_import_it_from(public: Callable[..., object]) -> None:
    assert public.__module__ == "trio_ws.testing"
