"""The doubles of the transport do what the tests that use them rely on."""

import socket

import pytest
import trio
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests._transport.fakes import (
    Clients,
    Failing,
    MemoryListener,
    Plain,
    RawPeer,
    Resolver,
    Steps,
    cancel_when_blocked,
    handshake,
    link_of,
    make_connection,
    open_near,
    open_pair,
    open_service,
    read_to_end,
)
from trio_ws._transport.handshake import Request
from trio_ws._types import Response
from trio_ws.testing import stream_pair


async def accept(request: Request) -> Response | None:
    if not request.upgrade:
        return Response(200, "a page")
    async with request.accept() as connection:
        await connection.wait_closed()
    return None


async def test_steps_counts_the_steps_of_one_task_and_acts_after_each() -> None:
    acted: list[int] = []

    with Steps(then=lambda: acted.append(1)) as steps:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()

    assert (steps.count, len(acted)) == (2, 2)


async def test_plain_passes_everything_on_and_cannot_half_close() -> None:
    inner, far = stream_pair()
    stream = Plain(inner)

    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"there")
    await far.send_all(b"back")

    assert await stream.receive_some() == b"back"
    assert stream.writes == [b"there"]
    assert not isinstance(stream, trio.abc.HalfCloseableStream)
    await stream.aclose()
    assert await read_to_end(far) == b"there"


@pytest.mark.parametrize("method", ["send_all", "receive_some", "send_eof", "aclose"])
async def test_failing_fails_where_it_is_told_to(method: str) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors[method] = KeyError(method)

    with pytest.raises(KeyError, match=method):
        await getattr(stream, method)(*([b"x"] if method == "send_all" else []))


async def test_failing_does_not_fail_before_it_is_told_to() -> None:
    inner, far = stream_pair()
    stream = Failing(inner)

    await stream.send_all(b"x")
    await stream.send_eof()
    await stream.aclose()

    assert await read_to_end(far) == b"x"


async def test_raw_peer_speaks_the_protocol() -> None:
    here, there = stream_pair()
    client, server = RawPeer(here, client=True), RawPeer(there, client=False)

    await client.send(TextMessage("1"), Ping(b"2"))
    await server.send_frame(10, b"3")
    await server.send(CloseConnection(1000))
    await there.send_eof()

    assert await server.read() == [TextMessage("1"), Ping(b"2")]
    assert await client.read_all() == [Pong(b"3"), CloseConnection(1000, "")]


async def test_open_near_and_open_pair_open_connections() -> None:
    async with open_near() as (near, peer), open_pair() as (client, server):
        await near.send("1")
        await client.send("2")

        assert await peer.read() == [TextMessage("1")]
        assert await server.receive() == "2"
        assert link_of(near).engine.client


async def test_make_connection_starts_nothing() -> None:
    stream, far = stream_pair()

    connection = make_connection(stream, client=False)
    await stream.aclose()

    assert connection.is_server
    assert await read_to_end(far) == b""


async def test_clients_ask_a_service_and_open_connections() -> None:
    async with open_service(accept) as clients:
        assert isinstance(clients, Clients)
        answer = await clients.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        peer = await clients.open()
        await peer.send(CloseConnection(1000))

        assert answer.endswith(b"a page")
        assert await peer.read_all() == [CloseConnection(1000, "")]
        await peer.stream.aclose()


def test_handshake_takes_further_fields() -> None:
    head = handshake("/chat", "Origin: null")

    assert head.startswith(b"GET /chat HTTP/1.1\r\nHost: testserver\r\n")
    assert head.endswith(b"\r\nOrigin: null\r\n\r\n")


async def test_memory_listener_accepts_until_it_is_closed() -> None:
    listener = MemoryListener()
    client = listener.dial()
    server = await listener.accept()
    await client.send_all(b"x")
    await listener.aclose()

    assert await server.receive_some() == b"x"
    with pytest.raises(trio.BrokenResourceError):
        listener.dial()


async def test_resolver_finds_its_addresses_or_nothing() -> None:
    resolver = Resolver("127.0.0.1", "::1")

    found = await resolver.getaddrinfo(b"name", 80)

    assert [address for *_, address in found] == [("127.0.0.1", 80), ("::1", 80)]
    assert resolver.asked == [b"name"]
    with pytest.raises(socket.gaierror):
        await Resolver().getaddrinfo(b"name", 80)


async def test_cancel_when_blocked_waits_for_the_other_tasks(nursery: trio.Nursery) -> None:
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await trio.lowlevel.checkpoint()
        before = scope.cancel_called
        await trio.sleep_forever()

    assert not before
    assert scope.cancelled_caught
