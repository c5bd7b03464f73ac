"""Invariant 7: whoever goes says goodbye with a Close frame, then cuts the line."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.invariants.peers import (
    CLOSE,
    HANDSHAKE,
    NET,
    TEXT,
    MemoryListener,
    Peer,
    cancelled_at,
    cancelled_everywhere,
    flood,
    frame,
    header,
    held,
    serving,
    serving_tcp,
    until,
)
from trio_ws.testing import stream_pair


class _RefusedError(Exception):
    """An error that says how to close."""

    close_code = 4003


def _leave() -> None:
    return


def _fail() -> None:
    raise ValueError


def _refuse() -> None:
    raise _RefusedError


def _refuse_twice() -> None:
    raise ExceptionGroup("two", [_RefusedError(), _RefusedError()])


def _fail_in_two_ways() -> None:
    raise ExceptionGroup("two", [_RefusedError(), ValueError()])


_WAYS = [
    (_leave, 1000),
    (_fail, 1011),
    (_refuse, 4003),
    (_refuse_twice, 4003),
    (_fail_in_two_ways, 1011),
]


# T, W
async def test_hazard_cancelled_server_tells_every_client_1001(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peers = [await served.peer() for _ in range(5)]

        served.stop()

        assert [await peer.receive_close() for peer in peers] == [1001] * 5
        await served.ended.wait()


# T, W
@pytest.mark.network
async def test_hazard_cancelled_server_tells_clients_over_sockets_1001() -> None:
    handler, _ = held()
    async with serving_tcp(handler) as served:
        async with trio_ws.connect(f"ws://127.0.0.1:{served.server.port}") as client:
            await until(lambda: served.server.connections)
            served.stop()

            with pytest.raises(trio_ws.ConnectionClosedOK):
                await client.receive()

        assert (client.close_code, client.closed_by) == (1001, "remote")


@pytest.mark.parametrize(("way", "code"), _WAYS)
async def test_block_of_a_handler_says_how_it_was_left(
    way: Callable[[], None], code: int, autojump_clock: MockClock
) -> None:
    async def handler(request: trio_ws.Request) -> None:
        async with request.accept():
            way()

    async with serving(handler) as served:
        peer = await served.peer()

        assert await peer.receive_close() == code


@pytest.mark.parametrize(("way", "code"), _WAYS)
async def test_block_of_a_client_says_how_it_was_left(
    way: Callable[[], None], code: int, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair()
    server = Peer(theirs, masked=False)
    nursery.start_soon(server.answer_handshake)
    codes: list[int] = []

    async def listen() -> None:
        codes.append(await server.receive_close())

    try:
        async with trio_ws.connect("ws://localhost/", stream=mine):
            nursery.start_soon(listen)
            way()
    except Exception:  # noqa: BLE001 - how it is left is the parameter
        await wait_all_tasks_blocked()

    await wait_all_tasks_blocked()
    assert codes == [code]


async def test_client_block_cancelled_at_any_wait_has_said_goodbye(
    autojump_clock: MockClock,
) -> None:
    async def scenario(step: int) -> bool:
        mine, theirs = stream_pair()
        server = Peer(theirs, masked=False)
        entered = False
        codes: list[int] = []

        async def serve() -> None:
            try:
                await server.answer_handshake()
            except (EOFError, trio.BrokenResourceError):
                return
            codes.append(await server.receive_close())

        async def use() -> None:
            nonlocal entered
            async with trio_ws.connect("ws://localhost/", stream=mine) as connection:
                entered = True
                with trio.move_on_after(1):
                    await connection.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            cancelled = await cancelled_at(step, use)
        if entered:
            assert codes in ([1000], [1001])
        return cancelled

    assert await cancelled_everywhere(scenario) >= 4


async def test_handler_cancelled_at_any_wait_has_said_goodbye(autojump_clock: MockClock) -> None:
    async def scenario(step: int) -> bool:
        cancelled = False

        async def handler(request: trio_ws.Request) -> None:
            nonlocal cancelled
            cancelled = await cancelled_at(step, lambda: _greet(request))

        async with serving(handler) as served:
            assert await (await served.peer()).receive_close() in {1000, 1001}
            await until(lambda: served.server.statistics().streams == 0)
        return cancelled

    assert await cancelled_everywhere(scenario) >= 2


async def _greet(request: trio_ws.Request) -> None:
    async with request.accept() as connection:
        await connection.send("hello")
        with trio.move_on_after(1):
            await connection.receive()


async def test_block_that_times_out_says_going_away(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.Request) -> None:
        with trio.move_on_after(1):
            async with request.accept() as connection:
                await connection.receive()

    async with serving(handler) as served:
        assert await (await served.peer()).receive_close() == 1001


async def test_messages_sent_before_the_block_is_left_come_before_the_goodbye(
    autojump_clock: MockClock,
) -> None:
    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            for number in range(100):
                connection.send_nowait(str(number))

    async with serving(handler, listener=MemoryListener(10)) as served:
        frames = await (await served.peer()).receive_frames()

    assert frames[:-1] == [(TEXT, str(number).encode()) for number in range(100)]
    assert frames[-1] == (CLOSE, b"\x03\xe8")


async def test_goodbye_for_a_fault_comes_behind_the_messages_that_wait(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await connections[0].send(b"x" * 60_000)
        await wait_all_tasks_blocked()
        await connections[0].send(b"x" * 60_000)
        await peer.send_bytes(header(TEXT, 2**40))

        frames = await peer.receive_frames()

    assert [len(payload) for opcode, payload in frames if opcode != CLOSE] == [60_000] * 2
    assert frames[-1][1].startswith(b"\x03\xf1")


async def test_drained_server_tells_1001_and_lets_the_handler_finish(
    autojump_clock: MockClock,
) -> None:
    finished = trio.Event()

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.wait_closed()
        await trio.sleep(30)
        finished.set()

    async with serving(handler) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(served.server.drain, 60)

        assert await peer.receive_close() == 1001
        await served.ended.wait()
        assert finished.is_set()


async def test_drained_server_answers_a_late_handshake_503(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler) as served, trio.open_nursery() as nursery:
        late = Peer(await served.open())
        await served.peer()
        await wait_all_tasks_blocked()
        nursery.start_soon(served.server.drain, 1)
        await wait_all_tasks_blocked()

        await late.send_bytes(HANDSHAKE)

        assert (await late.read_head()).startswith(b"HTTP/1.1 503 ")


async def test_request_accepted_only_after_the_drain_began_is_answered_503(
    autojump_clock: MockClock,
) -> None:
    async def handler(request: trio_ws.Request) -> None:
        await trio.sleep(1)
        async with request.accept():
            raise AssertionError("a server that goes away opens no connection")

    async with serving(handler) as served, trio.open_nursery() as nursery:
        peer = Peer(await served.open())
        await peer.send_bytes(HANDSHAKE)
        await wait_all_tasks_blocked()
        nursery.start_soon(served.server.drain, 60)

        assert (await peer.read_head()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.network
async def test_goodbye_reaches_a_client_whose_data_is_still_under_way() -> None:
    # Closing a socket with unread data resets it, which would destroy the Close frame.
    async def leave(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.receive()

    for _ in range(5):
        async with serving_tcp(leave) as served, trio.open_nursery() as nursery:
            peer = await served.peer()
            nursery.start_soon(flood, peer, frame(TEXT, b"x" * 10_000) * 10)

            code, _ = await peer.receive()

            assert code == CLOSE
            nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_goodbye_for_a_fault_reaches_a_client_whose_data_is_still_under_way() -> None:
    handler, _ = held()
    for _ in range(5):
        async with serving_tcp(handler) as served, trio.open_nursery() as nursery:
            peer = await served.peer()
            await peer.send_bytes(header(TEXT, 2**40))
            nursery.start_soon(flood, peer, b"x" * 100_000)

            opcode, payload = await peer.receive()

            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf1")
            nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_answer_to_a_client_that_ends_its_side_still_reaches_it() -> None:
    async def count(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.send("x" * 1_000_000)
            await connection.wait_closed()

    with trio.fail_after(NET):
        async with serving_tcp(count) as served:
            stream = await trio.open_tcp_stream("127.0.0.1", served.server.port)
            peer = await Peer(stream).handshake()
            await stream.send_eof()

            assert await peer.receive() == (TEXT, b"x" * 1_000_000)
            assert await peer.receive_close() == 1006
