"""Compressed messages over whole connections: what is agreed on, and what a bomb costs others."""

import inspect
import logging
import tracemalloc
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto.events import CloseConnection, Pong

import trio_ws.testing
from tests._transport.fakes import NO_KEEPALIVE, RawPeer, Steps, handshake, link_of, open_service
from tests.fakes import raw_frame
from trio_ws import ConnectionClosedError, Deflate, Limits, Request
from trio_ws._protocol.deflate import STEP, TAIL
from trio_ws._transport.connection import Connection

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"

TALK = "O rato roeu a roupa do rei de Roma. " * 20

BINARY, CLOSE, PING = 2, 8, 9


async def echo(request: Request) -> None:
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def bomb(size: int) -> bytes:
    """Make a compressed message as a client sends it."""
    return raw_frame(BINARY, deflated(bytes(size)), masked=True, reserved=4)


class Held:
    """A handler that accepts and does nothing by itself."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    async def __call__(self, request: Request) -> None:
        async with request.accept() as connection:
            self.connections.append(connection)
            await trio.sleep_forever()


@asynccontextmanager
async def held(
    compression: Deflate | None = Deflate(),  # noqa: B008 - immutable
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> AsyncGenerator[tuple[Connection, RawPeer], None]:
    """Give a server's connection that has agreed on compression, and a client played by hand."""
    handler = Held()
    async with open_service(handler, compression=compression, limits=limits) as clients:
        peer = await clients.open(OFFER)
        await wait_all_tasks_blocked()
        yield handler.connections[0], peer


async def answer(compression: Deflate | None, *fields: str) -> bytes:
    async with open_service(echo, compression=compression) as clients:
        stream = clients.dial()
        await stream.send_all(handshake("/", *fields))
        head = bytes(await stream.receive_some())
        await stream.aclose()
        return head


async def test_compression_is_off_by_default() -> None:
    assert b"Extensions" not in await answer(None, OFFER)
    async with trio_ws.testing.connect(echo) as connection:
        await connection.send(TALK, compress=True)
        assert await connection.receive() == TALK
        assert connection.statistics().compression is None
        assert connection.statistics().bytes_received > len(TALK)


async def test_server_answers_an_offer_it_can_accept() -> None:
    head = await answer(Deflate(), OFFER)

    assert b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n" in head


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Sec-WebSocket-Extensions: permessage-deflate; nonsense"],
        ["Sec-WebSocket-Extensions: ;;;=,"],
        ["Sec-WebSocket-Extensions: x-webkit-deflate-frame"],
    ],
)
async def test_odd_offers_open_a_connection_without_compression(fields: list[str]) -> None:
    head = await answer(Deflate(), *fields)

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Extensions" not in head


async def test_messages_are_compressed_both_ways_once_agreed_on() -> None:
    async with trio_ws.testing.connect(echo, compression=Deflate()) as connection:
        for message in (TALK, TALK.encode(), "short", ""):
            await connection.send(message)
            assert await connection.receive() == message

        statistics = connection.statistics()
        assert statistics.bytes_received < len(TALK) / 2
        assert statistics.compression == (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        )


async def test_application_keeps_a_message_from_being_compressed() -> None:
    async with trio_ws.testing.connection_pair(compression=Deflate()) as (client, server):
        await client.send(TALK, compress=False)
        client.send_nowait(TALK, compress=False)
        assert [await server.receive(), await server.receive()] == [TALK, TALK]
        assert server.statistics().bytes_received > 2 * len(TALK)

        await client.send("tiny " * 10, compress=True)
        assert await server.receive() == "tiny " * 10
        assert server.statistics().bytes_received < 2 * len(TALK) + 50


async def test_override_holds_for_a_message_that_has_to_wait() -> None:
    limits = Limits(outgoing_bytes=1)
    async with trio_ws.testing.connection_pair(compression=Deflate(), limits=limits) as pair:
        client, server = pair
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: client.send(TALK, compress=False))
            for _ in range(3):
                assert await server.receive() == TALK
        assert server.statistics().bytes_received > 3 * len(TALK)


@pytest.mark.parametrize("nonsense", [True, "deflate", {}])
async def test_compression_is_a_deflate_or_none(nonsense: object) -> None:
    options: Any = {"compression": nonsense}
    told = "compression is a trio_ws.Deflate or None, not "
    with pytest.raises(TypeError, match=told), trio.fail_after(5):
        await trio_ws.serve(echo, 0, **options)
    with pytest.raises(TypeError, match=told):
        async with trio_ws.connect("ws://127.0.0.1:1", **options):
            pass

    async def accepting(request: Request) -> None:
        with pytest.raises(TypeError, match=told):
            async with request.accept(**options):
                pass
        async with request.accept() as connection:
            await connection.send("all the same")

    async with trio_ws.testing.connect(accepting) as connection:
        assert await connection.receive() == "all the same"


async def test_handler_turns_compression_off_for_one_connection() -> None:
    async def plain(request: Request) -> None:
        async with request.accept(compression=None) as connection:
            await connection.send(TALK)

    async with trio_ws.testing.connect(plain, compression=Deflate()) as connection:
        assert connection.statistics().compression is None
        assert await connection.receive() == TALK


async def test_handler_turns_compression_on_for_one_connection() -> None:
    async def small(request: Request) -> None:
        async with request.accept(compression=Deflate(send_window_bits=9)) as connection:
            await connection.send(TALK)

    async with open_service(small, compression=None) as clients:
        peer = await clients.open(OFFER)
        data = await peer.stream.receive_some()
        assert data[0] == 0xC1
        await peer.stream.aclose()


def test_default_of_accept_says_what_it_means() -> None:
    default = inspect.signature(Request.accept).parameters["compression"].default

    assert repr(default) == "<as the server>"


async def test_cancelled_send_does_not_garble_what_follows() -> None:
    # The line is full, so that senders wait; and those that are cancelled were to be compressed.
    limits = Limits(outgoing_bytes=1)
    async with trio_ws.testing.connection_pair(compression=Deflate(), limits=limits) as pair:
        client, server = pair
        sent = [TALK]
        await client.send(TALK)
        for number in range(20):
            message = f"{number} {TALK[number:]}"
            with trio.CancelScope() as scope:
                if number % 3:
                    scope.cancel()
                await client.send(message)
                sent.append(message)
        assert [await server.receive() for _ in sent] == sent
        assert len(sent) == 8


async def test_large_compressed_message_arrives_though_inflating_takes_many_steps() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    settings = Deflate(max_size=inf)
    async with trio_ws.testing.connect(echo, compression=settings, limits=limits) as connection:
        large = bytes(STEP * 30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, large)
            assert await connection.receive() == large
        await connection.send("after")
        assert await connection.receive() == "after"


async def test_others_get_their_turn_while_a_bomb_is_inflated() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 30))

        with Steps() as steps:
            while not connection.statistics().inbox_messages:
                await trio.lowlevel.checkpoint()

        assert steps.count >= 30
        assert len(await connection.receive()) == STEP * 30
        await peer.stream.aclose()


async def test_pings_are_answered_while_a_message_is_inflated() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 100) + raw_frame(PING, b"1", masked=True))

        assert await peer.read() == [Pong(payload=b"1")]
        assert not connection.statistics().inbox_messages
        await peer.stream.aclose()


async def test_close_behind_a_message_that_is_inflated_is_seen_and_the_message_kept() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        end = raw_frame(CLOSE, b"\x0f\xa0", masked=True)
        await peer.stream.send_all(bomb(STEP * 20) + bomb(10) + end)

        await connection.wait_closed()

        assert connection.close_code == 4000
        assert not connection.statistics().inbox_messages
        assert [len(await connection.receive()), len(await connection.receive())] == [
            STEP * 20,
            10,
        ]
        with pytest.raises(ConnectionClosedError):
            await connection.receive()
        await peer.stream.aclose()


async def test_end_of_the_line_does_not_lose_what_is_still_to_be_inflated() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 20) + bomb(10))
        await peer.stream.aclose()

        assert len(await connection.receive()) == STEP * 20
        assert len(await connection.receive()) == 10
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.receive()
        assert caught.value.code == 1006


async def test_inbox_that_is_full_pauses_inflating() -> None:
    async with held(limits=Limits(inbox_bytes=1000)) as (connection, peer):
        await peer.stream.send_all(bomb(STEP) * 10)
        await wait_all_tasks_blocked()

        assert connection.statistics().inbox_messages == 1
        assert [len(await connection.receive()) for _ in range(10)] == [STEP] * 10
        await peer.stream.aclose()


async def test_messages_that_stall_and_fill_the_inbox_by_turns_all_arrive() -> None:
    async with held(limits=Limits(inbox_messages=2)) as (connection, peer):
        sizes = [STEP * 3, 10, STEP // 2, STEP // 2, 5, STEP * 2, 7] * 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.stream.send_all, b"".join(map(bomb, sizes)))
            received: list[int] = []
            for _ in sizes:
                received.append(len(await connection.receive()))
                await wait_all_tasks_blocked()
        assert received == sizes
        await peer.stream.aclose()


async def test_one_turn_at_a_time_is_waited_for_however_often_it_stalls() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        link = link_of(connection)
        await peer.stream.send_all(bomb(STEP * 200))
        while not link.engine.stalled:
            await trio.lowlevel.checkpoint()

        with Steps() as steps:
            for _ in range(20):
                # More arrives, and each time there would be reason to wait for a turn.
                link.receive_bytes(raw_frame(PING, masked=True))
            while not connection.statistics().inbox_messages:
                await trio.lowlevel.checkpoint()

        assert steps.count > 150
        await peer.stream.aclose()


async def test_bomb_beyond_the_limit_closes_with_1009_and_costs_little() -> None:
    async with held() as (connection, peer):
        data = bomb(200 * 1024 * 1024)[: 64 * 1024]

        tracemalloc.start()
        await peer.stream.send_all(data)
        events = await peer.read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert [int(event.code) for event in events if isinstance(event, CloseConnection)] == [1009]
        assert peak < 2 * 1024 * 1024
        assert connection.close_code == 1009
        await peer.stream.aclose()


async def test_bomb_in_fragments_closes_with_1009_within_the_limit_of_memory() -> None:
    async with held() as (connection, peer):
        data = deflated(bytes(100 * 1024 * 1024))
        tracemalloc.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_in_fragments, peer, data)
            await connection.wait_closed()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            nursery.cancel_scope.cancel()

        assert connection.close_code == 1009
        assert peak < 4 * 1024 * 1024
        await peer.stream.aclose()


async def send_in_fragments(peer: RawPeer, data: bytes) -> None:
    for start in range(0, len(data), 500):
        opcode, reserved = (0, 0) if start else (BINARY, 4)
        piece = data[start : start + 500]
        frame = raw_frame(opcode, piece, masked=True, fin=False, reserved=reserved)
        await peer.stream.send_all(frame)


async def test_junk_closes_with_1007() -> None:
    async with held() as (connection, peer):
        await peer.stream.send_all(raw_frame(BINARY, b"\xff\xff", masked=True, reserved=4))

        assert [int(e.code) for e in await peer.read() if isinstance(e, CloseConnection)] == [1007]
        assert connection.close_code == 1007
        await peer.stream.aclose()


async def test_fault_of_ours_in_a_later_step_costs_this_connection_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 10))
        link = link_of(connection)
        while not link.engine.stalled:
            await trio.lowlevel.checkpoint()

        def fail(*_: object) -> None:
            raise MemoryError("no room")

        monkeypatch.setattr("trio_ws._protocol.engine.Engine._next_event", fail)
        with caplog.at_level(logging.ERROR):
            await connection.wait_closed()

        assert connection.close_code == 1006
        assert "parsing failed; the connection is dropped" in caplog.text
        await peer.stream.aclose()


async def test_turn_that_comes_after_the_end_does_nothing() -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 10))
        link = link_of(connection)
        while not link.engine.stalled:
            await trio.lowlevel.checkpoint()

        await connection.aclose()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert connection.closed_by == "local"


@pytest.mark.parametrize("over_first", [True, False])
async def test_what_nobody_will_receive_is_not_inflated(over_first: bool) -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with held(limits=limits) as (connection, peer):
        await peer.stream.send_all(bomb(STEP * 200))
        link = link_of(connection)
        while not link.engine.stalled:
            await trio.lowlevel.checkpoint()

        if over_first:
            await peer.stream.aclose()
            await connection.wait_closed()
            await connection.aclose()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.aclose)
                await trio.lowlevel.checkpoint()
                await peer.stream.aclose()

        assert link.engine.stalled
        await wait_all_tasks_blocked()
        assert link.engine.stalled


async def test_keepalive_clock_goes_on_after_a_pause_for_inflating(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limits = Limits(max_message=inf, inbox_bytes=inf)
    async with trio_ws.testing.connect(
        echo, compression=Deflate(max_size=inf), limits=limits, keepalive=NO_KEEPALIVE
    ) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, bytes(STEP * 40))
            await connection.receive()
        assert await connection.ping() == 0


async def test_broadcast_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    real = zlib.compressobj

    def counting(*arguments: object) -> "zlib._Compress":
        nonlocal made
        made += 1
        return real(*arguments)  # type: ignore[arg-type]

    handler = Held()
    settings = Deflate(send_context_takeover=False)
    async with open_service(handler, compression=settings) as clients:
        peers = [await clients.open(OFFER) for _ in range(5)]
        await wait_all_tasks_blocked()
        monkeypatch.setattr("trio_ws._protocol.deflate.zlib.compressobj", counting)

        for connection in handler.connections:
            connection.send_nowait(TALK)

        data = {bytes(await peer.stream.receive_some()) for peer in peers}
        assert len(data) == made == 1
        for peer in peers:
            await peer.stream.aclose()
