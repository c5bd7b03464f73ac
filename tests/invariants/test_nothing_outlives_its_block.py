"""Invariant 6: no task, nursery, scope or file descriptor outlives the block it belongs to."""

import ast
import gc
import itertools
import math
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    HANDSHAKE,
    NET,
    PONG,
    TEXT,
    MemoryListener,
    Peer,
    cancelled_at,
    cancelled_everywhere,
    echo,
    held,
    hold,
    no_descriptor_left,
    no_task_left,
    serving,
    serving_tcp,
    tasks_living,
    until,
)
from trio_ws.testing import stream_pair

if TYPE_CHECKING:
    from outcome import Outcome

_PACKAGE = Path(trio_ws.__file__).parent
_GENERATORS = ("asynccontextmanager", "fixture")

_Use: TypeAlias = Callable[[trio_ws.Connection], Awaitable[object]]


def _generators() -> list[tuple[Path, ast.AsyncFunctionDef]]:
    return [
        (path, node)
        for path in _PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef) and _yields(node)
    ]


def _yields(function: ast.AsyncFunctionDef) -> bool:
    inner = itertools.chain.from_iterable(map(ast.walk, function.body))
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in inner)


def test_package_has_no_async_generator_that_is_no_context_manager() -> None:
    # PEP 789: only whoever runs the block of a context manager decides when it goes on.
    plain = [
        f"{path.name}: {function.name}"
        for path, function in _generators()
        if not any(ast.unparse(line).endswith(_GENERATORS) for line in function.decorator_list)
    ]

    assert len(_generators()) > 5
    assert plain == []


async def _break(url: str) -> None:
    while True:
        async with trio_ws.connect(url):
            break


async def _return(url: str) -> str | bytes:
    while True:
        async with trio_ws.connect(url) as connection:
            await connection.send("hello")
            return await connection.receive()


async def _raise(url: str) -> None:
    with pytest.raises(KeyError):
        async with trio_ws.connect(url):
            raise KeyError


async def _time_out(url: str) -> None:
    with trio.move_on_after(0.05) as scope:
        async with trio_ws.connect(url) as connection:
            await connection.receive()
    assert scope.cancelled_caught


# W
@pytest.mark.network
@pytest.mark.parametrize("leave", [_break, _return, _raise, _time_out])
async def test_hazard_leaving_a_clients_block_in_any_way_leaves_the_run_in_order(
    leave: Callable[[str], Awaitable[object]],
) -> None:
    async with serving_tcp(echo) as served, no_task_left(), no_descriptor_left():
        for _ in range(3):
            await leave(f"ws://127.0.0.1:{served.server.port}")
        await until(lambda: served.server.statistics().streams == 0)


async def test_connect_cancelled_at_any_wait_leaves_nothing_on_either_side(
    autojump_clock: MockClock,
) -> None:
    async with serving(echo) as served:

        async def use() -> None:
            async with await served.connect() as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
                await connection.ping()

        async def scenario(step: int) -> bool:
            async with no_task_left():
                cancelled = await cancelled_at(step, use)
                await until(lambda: served.server.statistics().streams == 0)
            return cancelled

        assert await cancelled_everywhere(scenario) >= 5


@pytest.mark.network
async def test_connect_cancelled_at_any_wait_leaves_nothing_over_sockets() -> None:
    async with serving_tcp(echo) as served:

        async def use() -> None:
            async with trio_ws.connect(f"ws://127.0.0.1:{served.server.port}") as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"

        async def scenario(step: int) -> bool:
            async with no_task_left(), no_descriptor_left():
                cancelled = await cancelled_at(step, use)
                await until(lambda: served.server.statistics().streams == 0)
            return cancelled

        assert await cancelled_everywhere(scenario) >= 5


async def test_serve_cancelled_at_any_wait_leaves_nothing(autojump_clock: MockClock) -> None:
    async def scenario(step: int) -> bool:
        listener = MemoryListener()
        line = Peer(listener.open())

        async def come() -> None:
            # The server may be gone before it has accepted anybody.
            with suppress(EOFError):
                await line.handshake()

        async def serve() -> None:
            with trio.move_on_after(3):
                await trio_ws.serve(hold, listeners=[listener])

        async with no_task_left(), trio.open_nursery() as nursery:
            nursery.start_soon(come)
            cancelled = await cancelled_at(step, serve)
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        return cancelled

    assert await cancelled_everywhere(scenario) >= 2


async def _send(connection: trio_ws.Connection) -> None:
    for _ in range(40):
        await connection.send("hello")


async def _receive(connection: trio_ws.Connection) -> None:
    for _ in range(40):
        await connection.receive()


async def _get(connection: trio_ws.Connection) -> None:
    for _ in range(40):
        await connection.get_message()


async def _send_message(connection: trio_ws.Connection) -> None:
    for _ in range(40):
        await connection.send_message("hello")


async def _open_nursery(connection: trio_ws.Connection) -> None:
    async with connection.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)


async def _wait_closed(connection: trio_ws.Connection) -> None:
    with trio.move_on_after(1):
        await connection.wait_closed()


@pytest.mark.parametrize(
    "use",
    [
        _send,
        _receive,
        _get,
        _send_message,
        _open_nursery,
        _wait_closed,
        trio_ws.Connection.ping,
        trio_ws.Connection.pong,
    ],
)
async def test_call_cancelled_at_any_wait_leaves_its_connection_usable(
    use: _Use, autojump_clock: MockClock
) -> None:
    async def scenario(step: int) -> bool:
        async with trio_ws.testing.connection_pair() as (client, server):
            # Afterwards both have written, and have their task for that.
            await client.ping()
            async with trio.open_nursery() as nursery, no_task_left():
                nursery.start_soon(_feed, server)
                await wait_all_tasks_blocked()
                cancelled = await cancelled_at(step, lambda: use(client))
                await client.ping()
            assert client.statistics().pings_pending == 0
            assert client.statistics().outgoing_bytes == 0
            await client.send("last")
        return cancelled

    assert await cancelled_everywhere(scenario) >= 1


async def _feed(connection: trio_ws.Connection) -> None:
    for _ in range(40):
        await connection.send("x")


async def test_receive_cancelled_at_any_wait_has_taken_no_message(
    autojump_clock: MockClock,
) -> None:
    async def scenario(step: int) -> bool:
        async with trio_ws.testing.connection_pair() as (client, server):
            received: list[str | bytes] = []

            async def receive() -> None:
                while len(received) < 100:
                    received.append(await client.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(_count, server)
                cancelled = await cancelled_at(step, receive)
                await receive()
        assert received == [str(number) for number in range(100)]
        return cancelled

    assert await cancelled_everywhere(scenario) >= 2


async def _count(connection: trio_ws.Connection) -> None:
    for number in range(100):
        await connection.send(str(number))
        await trio.lowlevel.checkpoint()


# T
async def test_hazard_cancelled_ping_leaves_no_entry_behind(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await connections[0].send("x" * 100_000)
        await wait_all_tasks_blocked()
        for _ in range(100):
            with trio.move_on_after(0.001):
                await connections[0].ping()

        assert connections[0].statistics().pings_pending == 0
        assert (await peer.receive())[0] == TEXT
        await peer.send(PONG, b"too late")
        await wait_all_tasks_blocked()
        assert connections[0].statistics().outgoing_bytes == 0


async def test_aclose_cancelled_at_any_wait_cuts_the_line_at_once(
    autojump_clock: MockClock,
) -> None:
    async def scenario(step: int) -> bool:
        handler, connections = held()
        async with serving(handler, keepalive=trio_ws.Keepalive(interval=math.inf)) as served:
            peer = await served.peer()
            cancelled = await cancelled_at(step, connections[0].aclose)
            if cancelled:
                await peer.read_to_end()
                assert trio.current_time() == began
        return cancelled

    began = trio.current_time()
    assert await cancelled_everywhere(scenario) >= 1


async def test_drain_cancelled_at_any_wait_goes_on_draining(autojump_clock: MockClock) -> None:
    async def scenario(step: int) -> bool:
        async with serving(hold) as served:
            peer = await served.peer()
            cancelled = await cancelled_at(step, lambda: served.server.drain(1))
            await peer.receive_close()
            await served.ended.wait()
        return cancelled

    assert await cancelled_everywhere(scenario) >= 1


async def test_accept_cancelled_at_any_wait_of_the_handler_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async def scenario(step: int) -> bool:
        cancelled = False

        async def handler(request: trio_ws.Request) -> None:
            nonlocal cancelled
            cancelled = await cancelled_at(step, lambda: echo(request))

        async with serving(handler) as served:
            peer = Peer(await served.open())
            await peer.handshake()
            await peer.send(TEXT, b"hello")
            await peer.close()
            await peer.read_to_end()
            await peer.stream.aclose()
            await until(lambda: served.server.statistics().streams == 0)
        return cancelled

    assert await cancelled_everywhere(scenario) >= 1


async def test_test_kit_cancelled_at_any_wait_leaves_nothing(autojump_clock: MockClock) -> None:
    async def use() -> None:
        async with trio_ws.testing.connect(echo) as connection:
            await connection.send("hello")
            await connection.receive()
        async with trio_ws.testing.connection_pair():
            pass
        await trio_ws.testing.request(_hello)

    async def scenario(step: int) -> bool:
        async with no_task_left():
            return await cancelled_at(step, use)

    assert await cancelled_everywhere(scenario) >= 5


async def _hello(request: trio_ws.Request) -> trio_ws.Response:
    return trio_ws.Response(200, "hello")


@pytest.mark.parametrize("end", [Peer.leave, Peer.reset])
async def test_tasks_of_a_connections_nursery_end_with_the_connection(
    end: Callable[[Peer], Awaitable[None]], autojump_clock: MockClock
) -> None:
    # The block is left while its tasks go on; they end with the connection all the same.
    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection, connection.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    async with serving(handler) as served:
        peer = await served.peer()
        await wait_all_tasks_blocked()
        await end(peer)
        await wait_all_tasks_blocked()

        assert served.server.statistics().streams == 0


async def test_task_started_in_a_connections_nursery_after_the_close_is_cancelled_at_once(
    autojump_clock: MockClock,
) -> None:
    async with trio_ws.testing.connection_pair() as (client, server):
        async with client.open_nursery() as nursery:
            await server.aclose()
            await client.wait_closed()
            nursery.start_soon(trio.sleep_forever)

        assert client.close_code == 1000


async def test_server_keeps_no_task_for_clients_that_have_left(autojump_clock: MockClock) -> None:
    async with serving(echo) as served:
        before = tasks_living()
        for _ in range(20):
            peer = await served.peer()
            await peer.leave()
        await wait_all_tasks_blocked()

        assert tasks_living() == before


async def test_server_goes_with_the_last_who_knows_it(autojump_clock: MockClock) -> None:
    # What a handler holds, and an SSL context, are not to wait for the garbage collector.
    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            listener = MemoryListener()
            await listener.open().send_all(HANDSHAKE)
            server = await nursery.start(partial(trio_ws.serve, echo, listeners=[listener]))
            await wait_all_tasks_blocked()
            await server.drain(1)
        parts = [weakref.ref(server), weakref.ref(server._service)]  # noqa: SLF001
        del server
        assert [part() for part in parts] == [None, None]
    finally:
        gc.enable()


@pytest.mark.network
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 403 No\r\n\r\n"])
async def test_failed_connect_leaves_no_file_descriptor(answer: bytes) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    with trio.fail_after(NET):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, refuse, 0)
            port = listeners[0].socket.getsockname()[1]
            async with no_descriptor_left(), no_task_left():
                with pytest.raises(trio_ws.HandshakeError):
                    async with trio_ws.connect(f"ws://127.0.0.1:{port}"):
                        pass
                await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


async def _greet_in_memory() -> str | bytes:
    async with trio_ws.testing.connect(echo) as connection:
        await connection.send("hello")
        return await connection.receive()


async def _greet_over_a_socket() -> str | bytes:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve, echo, 0)
        with trio.fail_after(NET):
            async with trio_ws.connect(f"ws://localhost:{server.port}") as connection:
                await connection.send("hello")
                answer = await connection.receive()
        nursery.cancel_scope.cancel()
    return answer


@pytest.mark.network
@pytest.mark.parametrize("greet", [_greet_in_memory, _greet_over_a_socket])
def test_one_run_after_another_works(greet: Callable[[], Awaitable[str | bytes]]) -> None:
    assert [trio.run(greet) for _ in range(2)] == ["hello"] * 2


@pytest.mark.network
@pytest.mark.parametrize("greet", [_greet_in_memory, _greet_over_a_socket])
def test_runs_in_several_threads_do_not_meet(greet: Callable[[], Awaitable[str | bytes]]) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: trio.run(greet), range(8)))

    assert answers == ["hello"] * 8


@pytest.mark.network
@pytest.mark.parametrize("greet", [_greet_in_memory, _greet_over_a_socket])
def test_runs_as_guests_of_another_loop_work(greet: Callable[[], Awaitable[str | bytes]]) -> None:
    def run_as_guest() -> str | bytes:
        calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        outcomes: list[Outcome[str | bytes]] = []
        trio.lowlevel.start_guest_run(
            greet, run_sync_soon_threadsafe=calls.put, done_callback=outcomes.append
        )
        while not outcomes:
            calls.get(timeout=NET)()
        return outcomes[0].unwrap()

    assert [run_as_guest() for _ in range(2)] == ["hello"] * 2


async def test_stream_given_to_connect_is_closed_at_the_end(autojump_clock: MockClock) -> None:
    mine, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        server = Peer(theirs, masked=False)
        nursery.start_soon(server.answer_handshake)
        async with trio_ws.connect("ws://localhost/", stream=mine):
            nursery.start_soon(server.receive_frames)

    with pytest.raises(trio.ClosedResourceError):
        await mine.receive_some()
