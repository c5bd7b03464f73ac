"""Invariant 5: every wait for a peer has a deadline, and a healthy peer is never blamed."""

import ast
import contextlib
import math
import ssl
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.abc
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    NET,
    PING,
    PONG,
    TEXT,
    MemoryListener,
    Options,
    Peer,
    close,
    echo,
    flood,
    frame,
    held,
    hold,
    no_descriptor_left,
    serving,
    serving_tcp,
    until,
)
from trio_ws.testing import stream_pair

_LITTLE_ROOM = trio_ws.Limits(inbox_messages=4)
_NEVER = trio_ws.Keepalive(interval=math.inf)


async def _send_for_ever(connection: trio_ws.Connection) -> None:
    while True:
        await connection.send("x" * 40_000)


async def _drip(peer: Peer, data: bytes) -> None:
    """Send one byte every second, until the other side has had enough."""
    with contextlib.suppress(trio.BrokenResourceError):
        for byte in data:
            await trio.sleep(1)
            await peer.send_bytes(bytes([byte]))


async def test_head_that_stops_half_way_is_answered_408(autojump_clock: MockClock) -> None:
    async with serving(echo) as served:
        peer = Peer(await served.open())

        await peer.send_bytes(HANDSHAKE[:30])

        assert (await peer.read_head()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() == pytest.approx(10)


async def test_head_that_drips_has_one_deadline_as_a_whole(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with serving(echo) as served:
        peer = Peer(await served.open())
        nursery.start_soon(_drip, peer, HANDSHAKE)

        assert (await peer.read_head()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() == pytest.approx(10)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("context", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
async def test_silent_client_is_closed_after_the_open_timeout(
    context: ssl.SSLContext | None, autojump_clock: MockClock
) -> None:
    async with serving(echo) if context is None else serving(echo, ssl_context=context) as served:
        peer = Peer(await served.open())

        assert await peer.read_to_end() == b""
        assert trio.current_time() == pytest.approx(10)


# T
@pytest.mark.parametrize("url", ["ws://localhost/", "wss://localhost/"])
async def test_hazard_client_gives_up_a_server_that_accepts_and_stays_silent(
    url: str, autojump_clock: MockClock
) -> None:
    mine, _ = stream_pair()

    with pytest.raises(trio_ws.HandshakeError, match="10 seconds"):
        async with trio_ws.connect(url, stream=mine):
            pass

    assert trio.current_time() == pytest.approx(10)


# T
async def test_hazard_client_gives_up_a_server_whose_answer_drips(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair()
    nursery.start_soon(_drip, Peer(theirs), b"HTTP/1.1 101 Switching")

    with pytest.raises(trio_ws.HandshakeError, match="10 seconds"):
        async with trio_ws.connect("ws://localhost/", stream=mine):
            pass

    nursery.cancel_scope.cancel()


# T
@pytest.mark.network
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_hazard_client_gives_up_a_silent_server_over_sockets(scheme: str) -> None:
    with trio.fail_after(NET):
        async with no_descriptor_left():
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            limits = trio_ws.Limits(open_timeout=0.05)

            with pytest.raises(trio_ws.HandshakeError, match=r"0\.05 seconds"):
                async with trio_ws.connect(f"{scheme}://127.0.0.1:{port}", limits=limits):
                    pass

            await listeners[0].aclose()


async def test_peer_that_stays_silent_is_probed_and_dropped(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = await served.peer()

        frames = await peer.receive_frames()

        assert [opcode for opcode, _ in frames] == [PING, CLOSE]
        assert frames[1][1].startswith(b"\x03\xf3")
        assert trio.current_time() == pytest.approx(40)


async def test_any_byte_from_the_peer_counts_as_life(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()

        for byte in frame(BINARY, b"x" * 100):
            await trio.sleep(39)
            await peer.send_bytes(bytes([byte]))

        assert connections[0].close_code is None


# W
async def test_hazard_keepalive_fires_although_a_peer_that_reads_nothing_has_filled_the_queue(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    limits = trio_ws.Limits(write_timeout=math.inf)
    async with serving(handler, listener=MemoryListener(1000), limits=limits) as served:
        await served.peer()

        with pytest.raises(trio_ws.ConnectionClosedError, match="keepalive"):
            await _send_for_ever(connections[0])

        assert trio.current_time() == pytest.approx(40)


# W
async def test_hazard_send_to_a_peer_that_reads_nothing_ends_with_the_write_timeout(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000), keepalive=_NEVER) as served:
        await served.peer()

        with pytest.raises(trio_ws.ConnectionClosedError, match="took nothing"):
            await _send_for_ever(connections[0])

        assert trio.current_time() == pytest.approx(20)


async def _answer_pings(peer: Peer, sending: trio.Lock) -> None:
    while True:
        opcode, payload = await peer.receive()
        if opcode == PING:
            async with sending:
                await peer.send(PONG, payload)


# W
async def test_hazard_healthy_peer_is_not_dropped_for_a_slow_handler_with_many_messages_waiting(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    received: list[str | bytes] = []

    async def slow(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            async for message in connection:
                received.append(message)
                await trio.sleep(100)

    async with serving(slow, limits=_LITTLE_ROOM) as served:
        peer = await served.peer()
        nursery.start_soon(_answer_pings, peer, sending := trio.Lock())
        # More than fits into the inbox, what is read ahead, and the line.
        async with sending:
            await peer.send_bytes(frame(TEXT, b"x" * 10_000) * 30)
        await trio.sleep(10_000)

        assert len(received) == 30
        assert len(served.server.connections) == 1
        nursery.cancel_scope.cancel()


# W
async def test_hazard_slow_peer_that_makes_progress_is_not_dropped(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000), keepalive=_NEVER) as served:
        peer = await served.peer()
        await connections[0].send("x" * 1_000_000)
        size = 0
        while size < 900_000:
            for _ in range(20):
                data = await peer.stream.receive_some(1000)
                assert data
                size += len(data)
            await trio.sleep(15)

        assert connections[0].close_code is None


@pytest.mark.parametrize("capacity", [1, 64 * 1024])
async def test_close_that_is_not_answered_has_a_deadline(
    capacity: int, autojump_clock: MockClock
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(capacity)) as served:
        await served.peer()
        began = trio.current_time()

        await connections[0].aclose()

        assert trio.current_time() - began == pytest.approx(5)


async def test_close_towards_a_peer_that_sends_without_end_has_a_deadline(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(_drip_frames, peer)
        await trio.sleep(1)

        await connections[0].aclose()

        assert trio.current_time() == pytest.approx(6)


async def _drip_frames(peer: Peer) -> None:
    try:
        while True:
            await peer.send(TEXT, b"more")
            await trio.sleep(0.1)
    except trio.BrokenResourceError:
        return


async def _send_and_close(peer: Peer, data: bytes) -> None:
    await peer.send_bytes(data)
    await peer.leave()


async def test_closing_does_not_wait_for_messages_that_nobody_will_receive(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, limits=_LITTLE_ROOM) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(_send_and_close, peer, frame(TEXT, b"x" * 10_000) * 30)
        await wait_all_tasks_blocked()
        assert connections[0].statistics().reading_paused

        await connections[0].aclose()

        assert trio.current_time() == 0


async def test_peer_that_has_said_close_but_does_not_end_the_line_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send_bytes(close())

        await connections[0]._link.wire.wait_stopped()  # noqa: SLF001

        assert trio.current_time() == 0


# W
async def test_hazard_server_with_a_client_that_never_reads_stops_within_the_close_timeout(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        await served.peer()
        with trio.move_on_after(1):
            await _send_for_ever(connections[0])

        served.stop()
        await served.ended.wait()

        assert trio.current_time() == pytest.approx(1 + 5)


# W
@pytest.mark.network
async def test_hazard_server_with_a_full_socket_stops_within_the_close_timeout() -> None:
    handler, connections = held()
    async with serving_tcp(handler, limits=trio_ws.Limits(close_timeout=0.1)) as served:
        await served.peer()
        with trio.move_on_after(0.1):
            await _send_for_ever(connections[0])

        served.stop()
        await served.ended.wait()


# T
async def test_hazard_ping_raises_when_the_connection_dies_before_the_pong(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler, connections = held()
    async with serving(handler, keepalive=_NEVER) as served:
        peer = await served.peer()
        nursery.start_soon(_reset_soon, peer)

        with pytest.raises(trio_ws.ConnectionClosedError):
            await connections[0].ping()

        assert connections[0].statistics().pings_pending == 0


async def _reset_soon(peer: Peer) -> None:
    await wait_all_tasks_blocked()
    await peer.reset()


async def test_ping_to_a_silent_peer_ends_with_the_keepalive(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        await served.peer()

        with pytest.raises(trio_ws.ConnectionClosedError, match="keepalive"):
            await connections[0].ping()


async def test_drain_cancels_handlers_that_use_up_the_grace(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = await served.peer()

        await served.server.drain(60)

        assert await peer.receive_close() == 1001
        assert trio.current_time() == pytest.approx(60)


async def test_client_that_does_not_read_its_response_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async def answer(request: trio_ws.Request) -> trio_ws.Response:
        return trio_ws.Response(200, b"x" * 100_000)

    async with serving(answer, listener=MemoryListener(1000)) as served:
        peer = Peer(await served.open())
        await peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(21)

        assert served.server.statistics().streams == 0


async def test_client_that_keeps_its_line_after_the_response_is_cut_soon(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with serving(echo) as served:
        peer = Peer(await served.open())
        await peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        nursery.start_soon(_drip_frames, peer)
        await trio.sleep(2)

        assert served.server.statistics().streams == 0


async def test_client_without_room_that_does_not_read_is_dropped(
    autojump_clock: MockClock,
) -> None:
    limits = trio_ws.Limits(max_connections=1)
    async with serving(echo, listener=MemoryListener(1000), limits=limits) as served:
        peer = await served.peer()
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(10):
            peer = Peer(await served.open())
        await trio.sleep(11)

        # The writer of the one that was let in may have ended meanwhile.
        assert trio.lowlevel.current_statistics().tasks_living <= before
        assert (await peer.read_head()).startswith(b"HTTP/1.1 503")


@pytest.mark.network
async def test_loss_of_the_line_is_noticed_by_writing_while_reading_is_paused() -> None:
    handler, connections = held()
    async with serving_tcp(handler, limits=_LITTLE_ROOM) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(flood, peer, frame(TEXT, b"x" * 10_000))
        await until(lambda: connections[0].statistics().reading_paused)
        await peer.reset()

        with pytest.raises(trio_ws.ConnectionClosedError, match="lost"):
            await _send_for_ever(connections[0])


@pytest.mark.network
@pytest.mark.parametrize("end", [Peer.reset, Peer.vanish])
async def test_loss_of_the_line_is_noticed_in_a_pause_though_the_application_does_nothing(
    end: Callable[[Peer], Awaitable[None]],
) -> None:
    keepalive = trio_ws.Keepalive(interval=0.05, timeout=math.inf)
    options = Options(limits=_LITTLE_ROOM, keepalive=keepalive)
    async with serving_tcp(hold, **options) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(flood, peer, frame(TEXT, b"x" * 10_000))
        (connection,) = served.server.connections
        await until(lambda: connection.statistics().reading_paused)
        await end(peer)

        await until(lambda: served.server.statistics().streams == 0)


@pytest.mark.network
async def test_reader_that_never_reads_is_dropped_with_keepalive_and_write_timeout_together() -> (
    None
):
    handler, connections = held()
    keepalive = trio_ws.Keepalive(interval=0.05, timeout=0.05)
    limits = trio_ws.Limits(write_timeout=0.1, close_timeout=0.1)
    async with serving_tcp(handler, limits=limits, keepalive=keepalive) as served:
        peer = await served.peer()

        with pytest.raises(trio_ws.ConnectionClosedError):
            await _send_for_ever(connections[0])

        await until(lambda: connections[0]._link.wire.stopped)  # noqa: SLF001
        await peer.read_to_end()


@pytest.mark.network
async def test_client_block_towards_a_server_that_never_answers_the_close_has_a_deadline() -> None:
    limits = trio_ws.Limits(close_timeout=0.05)
    with trio.fail_after(NET):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with no_descriptor_left(), trio.open_nursery() as nursery:
            server: list[Peer] = []

            async def accept() -> None:
                server.append(Peer(await listeners[0].accept(), masked=False))
                await server[0].answer_handshake()

            nursery.start_soon(accept)
            async with trio_ws.connect(f"ws://127.0.0.1:{port}", limits=limits):
                pass
            assert [opcode for opcode, _ in await server[0].receive_frames()] == [CLOSE]
        await listeners[0].aclose()


async def test_flood_does_not_keep_the_keepalive_of_others_from_running(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler, _ = held()
    async with serving(handler, limits=_LITTLE_ROOM) as served:
        busy, silent = await served.peer(), await served.peer()
        nursery.start_soon(flood, busy, frame(TEXT, b"x" * 1000) * 10)

        assert await silent.receive_close() == 1011


async def test_network_that_is_gone_after_any_byte_ends_in_time(
    autojump_clock: MockClock,
) -> None:
    for size in range(0, 700, 7):
        began = trio.current_time()
        try:
            await _converse(partial(trio_ws.testing.FaultyStream, drop_after=size))
        except (trio_ws.HandshakeError, trio_ws.ConnectionClosed):
            # The keepalive, and after it the closing handshakes of either side.
            assert trio.current_time() - began <= 20 + 20 + 5 + 5
        else:
            assert size > 300


async def _converse(wrap: Callable[[trio.abc.Stream], trio.abc.Stream]) -> None:
    async with trio_ws.testing.connect(echo, wrap=wrap) as connection:
        for number in range(3):
            await connection.send(f"{number}")
            assert await connection.receive() == f"{number}"


_SHIELDS_WITHOUT_DEADLINE = {
    "_say_goodbye": "the line was cut already, and that waits for nobody",
    "_hold": "it is cancelled when the block that it belongs to is left",
    "_wait_left": "the block itself is not shielded, and sets the event whichever way it is left",
    "cut": "closing by force waits for nobody",
    "_see_off": "a nursery would wait for just the same, and Ctrl-C cuts it short",
    "__init__": "the poller's: it gets its deadline when the run ends",
}
"""The functions that shield a wait without a deadline, and why they may."""


def _shields() -> Iterator[tuple[str, ast.Call]]:
    """Find every shield of the package, and the function it is in."""
    for path in Path(trio_ws.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    assert not (isinstance(node, ast.Attribute) and node.attr == "shield")
                    if isinstance(node, ast.Call) and "shield" in {w.arg for w in node.keywords}:
                        yield function.name, node


def test_every_shield_has_a_deadline_or_a_reason_to_have_none() -> None:
    without = {
        name
        for name, call in _shields()
        if ast.unparse(call.func).rpartition(".")[2] not in {"move_on_after", "fail_after"}
        and "deadline" not in {word.arg for word in call.keywords}
    }

    assert without == set(_SHIELDS_WITHOUT_DEADLINE)
