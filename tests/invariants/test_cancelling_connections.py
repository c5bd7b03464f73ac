"""What the methods of a connection promise when they are cancelled, at every moment there is."""

import socket
from collections.abc import Callable, Coroutine
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws
from tests.invariants.cancelling import Canceller, Line, Side, at_every_moment, covers, opened
from tests.invariants.peers import CLOSE, PING, PONG, TEXT, Peer, until

pytestmark = pytest.mark.network

_Connection: TypeAlias = trio_ws.Connection

_MANY = 70  # messages after which a call has given way to other tasks twice
_TIGHT = trio_ws.Limits(outgoing_bytes=1000)
_ALIKE = "number {} of many messages that are all alike"
_LAST = _ALIKE.format("last")
_BIG = "x" * 300_000  # more than a socket holds that was told to hold little


async def _fill(connection: _Connection, peer: Peer) -> None:
    """Have as much wait to be written as is allowed, to a peer that does not read."""
    stream = connection._link.wire._stream  # noqa: SLF001 - no public way leads there
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    await connection.send(_BIG, compress=False)
    await wait_all_tasks_blocked()
    assert connection.statistics().outgoing_bytes > _TIGHT.outgoing_bytes


async def _read_texts(peer: Peer, texts: list[str]) -> None:
    """Read messages up to the last one."""
    while not texts or texts[-1] != _LAST:
        opcode, payload = await peer.receive()
        assert opcode == TEXT
        texts.append(payload.decode())


async def _send_compressed(connection: _Connection, text: str) -> None:
    await connection.send(text, compress=True)


async def _send_uncompressed(connection: _Connection, text: str) -> None:
    await connection.send(text, compress=False)


_SENDS = [
    (_Connection.send, None),
    (_Connection.send_message, None),
    # Each message refers to those before it, so that one which did not leave garbles the next.
    (_send_compressed, trio_ws.Deflate()),
    (_send_uncompressed, trio_ws.Deflate()),
]


@covers("trio_ws.Connection.send", "trio_ws.Connection.send_message")
@pytest.mark.parametrize(("send", "compression"), _SENDS)
def test_cancelled_send_has_queued_nothing(
    send: Callable[[_Connection, str], Coroutine[object, object, None]],
    compression: trio_ws.Deflate | None,
    side: Side,
    line: Line,
) -> None:
    async def scenario(cancel: Canceller) -> None:
        sent: list[str] = []

        async def send_many(connection: _Connection) -> None:
            for number in range(_MANY):
                text = _ALIKE.format(number)
                await send(connection, text)
                sent.append(text)

        async with (
            opened(side, line, compression=compression) as (connection, peer),
            trio.open_nursery() as nursery,
        ):
            texts: list[str] = []
            nursery.start_soon(_read_texts, peer, texts)
            cut = await cancel(lambda: send_many(connection))
            await connection.send(_LAST, compress=True)
        assert texts == [*sent, _LAST]
        assert cut == (len(sent) < _MANY)
        assert (peer.inflated > 0) is (compression is not None)

    at_every_moment(scenario, line, least=2)


@covers("trio_ws.Connection.send", "trio_ws.Connection.send_message")
@pytest.mark.parametrize(("send", "compression"), _SENDS)
def test_send_cancelled_while_it_waits_for_room_has_queued_nothing_and_tears_nothing(
    send: Callable[[_Connection, str], Coroutine[object, object, None]],
    compression: trio_ws.Deflate | None,
    side: Side,
    line: Line,
) -> None:
    ahead, this = _ALIKE.format("ahead"), _ALIKE.format("this")

    async def scenario(cancel: Canceller) -> None:
        async with (
            opened(side, line, limits=_TIGHT, compression=compression) as (connection, peer),
            trio.open_nursery() as nursery,
        ):
            texts: list[str] = []
            await _fill(connection, peer)
            nursery.start_soon(send, connection, ahead)
            await wait_all_tasks_blocked()
            nursery.start_soon(_read_texts, peer, texts)
            cut = await cancel(lambda: send(connection, this))
            await connection.send(_LAST, compress=True)
        assert texts == [_BIG, ahead, *[this][cut:], _LAST]
        assert (peer.inflated > 0) is (compression is not None)

    at_every_moment(scenario, line, least=1)


async def _iterate(connection: _Connection) -> str | bytes:
    return await anext(connection)


@covers(
    "trio_ws.Connection.receive",
    "trio_ws.Connection.get_message",
    "trio_ws.Connection.__anext__",
)
@pytest.mark.parametrize("receive", [_Connection.receive, _Connection.get_message, _iterate])
@pytest.mark.parametrize("waiting", [False, True])
def test_cancelled_receive_has_taken_no_message(
    receive: Callable[[_Connection], Coroutine[object, object, str | bytes]],
    waiting: bool,
    side: Side,
    line: Line,
) -> None:
    # One that waits has a checkpoint for each message; one that does not, now and then.
    count = 5 if waiting else _MANY

    async def scenario(cancel: Canceller) -> None:
        received: list[str | bytes] = []

        async def receive_all(connection: _Connection) -> None:
            while len(received) < count:
                received.append(await receive(connection))

        async def send() -> None:
            for number in range(count):
                await peer.send(TEXT, str(number).encode())
            await peer.close()

        async with opened(side, line) as (connection, peer), trio.open_nursery() as nursery:
            if waiting:
                nursery.start_soon(send)
            else:
                await send()
                await until(lambda: connection.closed)
            await cancel(lambda: receive_all(connection))
            await receive_all(connection)
            with pytest.raises((trio_ws.ConnectionClosedOK, StopAsyncIteration)):
                await receive(connection)
        assert received == [str(number) for number in range(count)]

    at_every_moment(scenario, line, least=1)


async def _answer_pings(peer: Peer, payloads: list[bytes]) -> None:
    while True:
        opcode, payload = await peer.receive()
        if opcode == PING:
            payloads.append(payload)
            await peer.send(PONG, payload)


@covers("trio_ws.Connection.ping")
def test_cancelled_ping_leaves_nothing_behind(side: Side, line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer), trio.open_nursery() as nursery:
            payloads: list[bytes] = []
            nursery.start_soon(_answer_pings, peer, payloads)
            cut = await cancel(lambda: connection.ping(b"this"))
            assert connection.statistics().pings_pending == 0
            # Its payload is free again, and a late pong of the first is nobody's.
            await connection.ping(b"this")
            assert payloads in ([b"this"] * 2, [b"this"] * (1 if cut else 2))
            await until(lambda: connection.statistics().outgoing_bytes == 0)
            nursery.cancel_scope.cancel()

    at_every_moment(scenario, line, least=1)


@covers("trio_ws.Connection.ping")
def test_ping_cancelled_before_it_is_written_is_taken_back(side: Side, line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with (
            opened(side, line, limits=_TIGHT) as (connection, peer),
            trio.open_nursery() as nursery,
        ):
            payloads: list[bytes] = []
            await _fill(connection, peer)
            with trio.move_on_after(0.001) as scope:
                await connection.ping(b"early")
            assert scope.cancelled_caught
            nursery.start_soon(_answer_pings, peer, payloads)
            await cancel(lambda: connection.ping(b"this"))
            await connection.ping(b"last")
            assert payloads in ([b"last"], [b"this", b"last"])
            assert connection.statistics().pings_pending == 0
            nursery.cancel_scope.cancel()

    at_every_moment(scenario, line, least=1)


@covers("trio_ws.Connection.ping")
def test_ping_cancelled_while_it_waits_for_its_turn_leaves_the_turn_to_the_next(
    side: Side, line: Line
) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer), trio.open_nursery() as answering:
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(connection.ping)
                await wait_all_tasks_blocked()
                nursery.start_soon(connection.ping, b"in between")
                answering.start_soon(_answer_pings, peer, [])
                await cancel(lambda: connection.ping(b"this"))
            assert connection.statistics().pings_pending == 0
            answering.cancel_scope.cancel()

    at_every_moment(scenario, line, least=2)


@covers("trio_ws.Connection.pong")
def test_cancelled_pong_was_not_sent(side: Side, line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer):
            cut = await cancel(lambda: connection.pong(b"this"))
            await connection.send("last")
            frames = [await peer.receive() for _ in range(1 if cut else 2)]
        assert frames == [(PONG, b"this"), (TEXT, b"last")][1 if cut else 0 :]

    at_every_moment(scenario, line, least=1)


@covers("trio_ws.Connection.wait_closed")
def test_cancelled_wait_closed_changes_nothing(side: Side, line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer), trio.open_nursery() as nursery:
            go = trio.Event()

            async def leave() -> None:
                await go.wait()
                await peer.send(TEXT, b"before")
                await peer.close()

            nursery.start_soon(leave)
            trio.lowlevel.current_trio_token().run_sync_soon(go.set)
            await cancel(connection.wait_closed)
            await connection.wait_closed()
            assert await connection.receive() == "before"
            assert (connection.close_code, connection.closed_by) == (1000, "remote")

    at_every_moment(scenario, line, least=1)


async def _leave(connection: _Connection) -> None:
    async with connection:
        pass


_CLOSING = (
    "trio_ws.Connection.aclose",
    "trio_ws.Connection.__aenter__",
    "trio_ws.Connection.__aexit__",
)
_PATIENT = trio_ws.Limits(outgoing_bytes=1000, close_timeout=10_000)


async def _answer_if_awaited(peer: Peer, cancel: Canceller, line: Line) -> int | None:
    """Read and answer the Close of a call that nobody has cancelled; otherwise just listen."""
    await wait_all_tasks_blocked(0 if line.in_memory else 0.01)
    if cancel.struck:
        await peer.read_to_end()
        return None
    try:
        return await _answer_close(peer)
    except (EOFError, ValueError, trio.BrokenResourceError):
        # The line was cut meanwhile.
        return None


async def _answer_close(peer: Peer) -> int:
    opcode = TEXT
    while opcode != CLOSE:
        opcode, payload = await peer.receive()
    await peer.send(CLOSE, payload)
    # A client waits for that, and a server does not mind.
    await peer.end()
    await peer.read_to_end()
    return int.from_bytes(payload, "big")


@covers(*_CLOSING)
@pytest.mark.parametrize("close", [_Connection.aclose, _leave])
@pytest.mark.parametrize("full", [False, True])
def test_cancelled_aclose_has_cut_the_line_although_the_peer_says_nothing(
    close: Callable[[_Connection], Coroutine[object, object, object]],
    full: bool,
    side: Side,
    line: Line,
) -> None:
    async def scenario(cancel: Canceller) -> None:
        began = trio.current_time()
        async with opened(side, line, limits=_PATIENT) as (connection, peer):
            if full:
                await _fill(connection, peer)
            codes: list[int | None] = []

            async def listen() -> None:
                codes.append(await _answer_if_awaited(peer, cancel, line))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                cut = await cancel(lambda: close(connection))
            # The peer has seen the end, and nobody waited for a goodbye to take too long.
            assert trio.current_time() < began + _PATIENT.close_timeout
            assert cut or codes == [1000]
            assert (connection.close_code, connection.closed_by) == (1000, "local")

    at_every_moment(scenario, line, least=1)


@covers(*_CLOSING)
@pytest.mark.parametrize("close", [_Connection.aclose, _leave])
def test_aclose_of_a_closed_connection_can_be_cancelled(
    close: Callable[[_Connection], Coroutine[object, object, object]], side: Side, line: Line
) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer):
            await peer.close()
            await peer.end()
            await peer.read_to_end()
            await connection.aclose()
            await cancel(lambda: close(connection))
            assert (connection.close_code, connection.closed_by) == (1000, "remote")

    at_every_moment(scenario, line, least=1)


@covers("trio_ws.Connection.aclose")
def test_aclose_by_a_task_of_the_connections_own_nursery_says_goodbye_before_it_is_cancelled(
    side: Side, line: Line
) -> None:
    async def scenario(cancel: Canceller) -> None:
        async with opened(side, line) as (connection, peer), trio.open_nursery() as nursery:
            codes: list[int] = []

            async def listen() -> None:
                try:
                    codes.append(await _answer_close(peer))
                except (EOFError, trio.BrokenResourceError):
                    assert cancel.beforehand

            async def close() -> None:
                await cancel(connection.aclose)

            nursery.start_soon(listen)
            async with connection.open_nursery() as own:
                own.start_soon(close)
        assert codes == [1000] or cancel.beforehand
        assert (connection.close_code, connection.closed_by) == (1000, "local")

    at_every_moment(scenario, line, least=1)


@covers("trio_ws.Connection.open_nursery")
@pytest.mark.parametrize("closing", [False, True])
def test_cancelled_nursery_of_a_connection_has_ended_its_tasks_and_nothing_else(
    closing: bool, side: Side, line: Line
) -> None:
    async def scenario(cancel: Canceller) -> None:
        working = 0

        async def work(seconds: float) -> None:
            nonlocal working
            working += 1
            try:
                await trio.sleep(seconds)
            finally:
                working -= 1

        async def use(connection: _Connection) -> None:
            async with connection.open_nursery() as nursery:
                nursery.start_soon(work, 0.01)
                nursery.start_soon(work, 0.01)
                if closing:
                    await connection.wait_closed()

        async with opened(side, line) as (connection, peer), trio.open_nursery() as nursery:
            texts: list[str] = []
            if closing:
                nursery.start_soon(peer.close)
                await cancel(lambda: use(connection))
                await connection.wait_closed()
                assert connection.close_code == 1000
            else:
                await cancel(lambda: use(connection))
                nursery.start_soon(_read_texts, peer, texts)
                await connection.send(_LAST)
            assert working == 0

    at_every_moment(scenario, line, least=2)
