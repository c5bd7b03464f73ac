"""The public API as a type checker sees it: mypy checks this module, and pytest runs it."""

from typing import TYPE_CHECKING, Literal, assert_type

import pytest
import trio
import trio.abc
import trio_websocket

import trio_ws
import trio_ws.testing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


async def echo(request: trio_ws.Request) -> None:
    """Send every message back."""
    async with request.accept() as connection:
        assert_type(connection, trio_ws.Connection)
        async for message in connection:
            assert_type(message, str | bytes)
            await connection.send(message)


async def greet(request: trio_ws.Request) -> trio_ws.Response:
    """Answer with a greeting."""
    return trio_ws.Response(200, f"Olá, {request.params.get('name', 'cliente')}!")


async def refuse_or_echo(request: trio_ws.Request) -> trio_ws.Response | None:
    """Answer what is no handshake, and accept what is one."""
    if request.upgrade:
        await echo(request)
        return None
    return trio_ws.Response(403)


@pytest.mark.network
async def test_serve_starts_in_a_nursery_and_connect_gives_a_connection() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(trio_ws.serve, echo, 0)
        assert_type(server.port, int)
        async with trio_ws.connect(f"ws://localhost:{server.port}") as connection:
            assert_type(connection, trio_ws.Connection)
            await connection.send("Olá")

            assert assert_type(await connection.receive(), str | bytes) == "Olá"
        assert_type(server.connections, frozenset[trio_ws.Connection])
        assert_type(server.statistics().connections_total, int)
        await server.drain(1)


async def test_handlers_are_async_functions_and_routers() -> None:
    router = trio_ws.Router()
    handlers: list[trio_ws.Handler] = [echo, greet, refuse_or_echo, router]
    router.add("/hello/{name}", handlers[1])
    as_function: Callable[[trio_ws.Request], Awaitable[trio_ws.Response | None]] = router

    response = await trio_ws.testing.request(as_function, "GET", "/hello/Ana")

    assert_type(response, trio_ws.Response)
    assert assert_type(response.status, int) == 200
    assert assert_type(response.body, bytes) == "Olá, Ana!".encode()
    assert assert_type(response.text, str) == "Olá, Ana!"
    assert assert_type(response.headers["Content-Length"], str) == "10"


async def test_request_has_the_types_it_says() -> None:
    async def look(request: trio_ws.Request) -> trio_ws.Response:
        assert_type(request.method, str)
        assert_type(request.path, str)
        assert_type(request.query, dict[str, str])
        assert_type(request.params, dict[str, str])
        assert_type(request.headers["Host"], str)
        assert_type(request.subprotocols, tuple[str, ...])
        assert_type(request.upgrade, bool)
        return trio_ws.Response(200, request.host)

    assert (await trio_ws.testing.request(look)).text == "testserver"


async def test_connection_is_a_channel_and_a_trio_websocket_connection() -> None:
    async with trio_ws.testing.connect(echo) as connection:
        channel: trio.abc.Channel[str | bytes] = connection
        other: trio_websocket.WebSocketConnection = connection
        messages: AsyncIterator[str | bytes] = connection
        await channel.send("one")
        await other.send_message(b"two")

        assert assert_type(await anext(messages), str | bytes) == "one"
        assert assert_type(await other.get_message(), str | bytes) == b"two"


async def test_connection_takes_every_kind_of_bytes_and_says_how_it_was_closed() -> None:
    async with trio_ws.testing.connect(echo) as connection:
        await connection.send(bytearray(b"one"))
        connection.send_nowait(memoryview(b"two"))
        assert_type(await connection.ping(), float)
        assert_type(connection.statistics().messages_sent, int)
        async with connection.open_nursery() as nursery:
            assert_type(nursery, trio.Nursery)

    assert assert_type(connection.close_code, int | None) == trio_ws.CloseCode.NORMAL
    assert assert_type(connection.close_reason, str | None) == ""
    assert assert_type(connection.closed_by, Literal["local", "remote"] | None) == "local"


async def test_errors_carry_typed_facts() -> None:
    with pytest.raises(trio_ws.HandshakeRejected) as rejected:
        async with trio_ws.testing.connect(greet):
            pytest.fail("nothing was accepted")
    assert_type(rejected.value.response, trio_ws.Response)

    async with trio_ws.testing.connection_pair() as (client, server):
        assert_type(client, trio_ws.Connection)
        await server.aclose(trio_ws.CloseCode.GOING_AWAY, "bye")
        with pytest.raises(trio_ws.ConnectionClosedOK) as closed:
            await client.receive()

    assert assert_type(closed.value.code, int) == 1001
    reason: str = closed.value.reason
    assert reason == "bye"


def test_errors_are_also_those_that_a_user_of_channels_expects() -> None:
    normal: type[trio.EndOfChannel] = trio_ws.ConnectionClosedOK
    lost: type[trio.BrokenResourceError] = trio_ws.ConnectionClosedError
    errors: list[type[trio_ws.ConnectionClosed]] = [
        trio_ws.ConnectionClosedOK,
        trio_ws.ConnectionClosedError,
    ]

    assert issubclass(normal, trio_websocket.ConnectionClosed)
    assert issubclass(lost, trio_websocket.ConnectionClosed)
    assert all(issubclass(error, trio_ws.WebSocketError) for error in errors)


def test_settings_take_numbers_and_give_numbers() -> None:
    limits = trio_ws.Limits(max_message=1024, open_timeout=0.5)
    keepalive = trio_ws.Keepalive(interval=1, timeout=2.5)

    assert assert_type(limits.max_message, float) == 1024
    assert assert_type(keepalive.timeout, float) == 2.5


async def test_channel_pair_gives_channels_of_messages() -> None:
    left, right = trio_ws.testing.channel_pair()
    assert_type(left, trio_ws.testing.MemoryChannel)
    ends: tuple[trio.abc.Channel[str | bytes], trio.abc.Channel[str | bytes]] = left, right

    await ends[0].send("Olá")

    assert assert_type(await ends[1].receive(), str | bytes) == "Olá"
