"""Invariant 8: a lone error leaves as itself, and nothing that ends a program is swallowed."""

import errno
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    CLOSE,
    HANDSHAKE,
    NET,
    PING,
    TEXT,
    MemoryListener,
    Peer,
    echo,
    held,
    hold,
    serving,
)
from trio_ws.testing import stream_pair


class _MishapError(Exception):
    """An error of an application."""


@asynccontextmanager
async def _nursery_of_a_client() -> AsyncGenerator[trio.Nursery, None]:
    async with trio_ws.testing.connection_pair() as (client, _), client.open_nursery() as nursery:
        yield nursery


async def _connect() -> None:
    async with trio_ws.testing.connect(echo):
        raise _MishapError


async def _connection_pair() -> None:
    async with trio_ws.testing.connection_pair():
        raise _MishapError


async def _handler() -> None:
    async def fail(request: trio_ws.Request) -> None:
        async with request.accept():
            raise _MishapError

    async with trio_ws.testing.connect(fail) as connection:
        await connection.receive()


async def _handler_before_accepting() -> None:
    async def fail(request: trio_ws.Request) -> None:
        raise _MishapError

    async with trio_ws.testing.connect(fail):
        pass


async def _plain_request() -> None:
    async def fail(request: trio_ws.Request) -> None:
        raise _MishapError

    await trio_ws.testing.request(fail)


async def _block_of_a_nursery() -> None:
    async with _nursery_of_a_client() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await wait_all_tasks_blocked()
        raise _MishapError


async def _task_of_a_nursery() -> None:
    async with _nursery_of_a_client() as nursery:
        nursery.start_soon(_fail)
        await trio.sleep_forever()


async def _fail() -> None:
    await trio.lowlevel.checkpoint()
    raise _MishapError


@pytest.mark.parametrize(
    "act",
    [
        _connect,
        _connection_pair,
        _handler,
        _handler_before_accepting,
        _plain_request,
        _block_of_a_nursery,
        _task_of_a_nursery,
    ],
)
async def test_lone_error_leaves_as_itself(
    act: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with pytest.raises(_MishapError):
        await act()


@pytest.mark.parametrize("error", [trio.BrokenResourceError, trio.TooSlowError])
async def test_handlers_error_leaves_the_test_kit_although_a_stream_could_have_raised_it(
    error: type[Exception], autojump_clock: MockClock
) -> None:
    async def fail(request: trio_ws.Request) -> None:
        async with request.accept():
            raise error

    with pytest.raises(error):
        async with trio_ws.testing.connect(fail) as connection:
            await connection.wait_closed()


@pytest.mark.network
async def test_server_that_cannot_listen_raises_the_systems_error() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async with listeners[0]:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is asserted below
            await trio_ws.serve(echo, port, host="127.0.0.1")

    assert caught.value.errno == errno.EADDRINUSE


async def test_error_of_a_listener_leaves_as_itself(autojump_clock: MockClock) -> None:
    class Broken(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            await trio.sleep(1)
            raise _MishapError

    with pytest.raises(_MishapError):
        await trio_ws.serve(echo, listeners=[Broken()])


async def test_group_of_the_application_stays_a_group(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup, match="mine"):
        async with _nursery_of_a_client():
            raise ExceptionGroup("mine", [_MishapError()])


async def test_errors_of_two_tasks_leave_as_a_group(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise _MishapError

    async def act() -> None:
        async with _nursery_of_a_client() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)

    with pytest.raises(ExceptionGroup) as caught:
        await act()

    assert list(map(type, caught.value.exceptions)) == [_MishapError, _MishapError]


async def test_error_of_a_block_is_not_lost_when_a_task_fails_on_its_way_out(
    autojump_clock: MockClock,
) -> None:
    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError

    async def act() -> None:
        async with _nursery_of_a_client() as nursery:
            nursery.start_soon(fail_late)
            await wait_all_tasks_blocked()
            raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as caught:
        await act()

    assert {type(error) for error in caught.value.exceptions} == {SystemExit, KeyError}


async def _in_connect() -> None:
    async with trio_ws.testing.connect(hold) as connection:
        await connection.receive()


async def _in_nursery() -> None:
    async with trio_ws.testing.connection_pair() as (client, _), client.open_nursery():
        await client.receive()


async def _in_task_of_nursery() -> None:
    async with _nursery_of_a_client() as nursery:
        nursery.start_soon(trio.sleep_forever)


async def _in_serve() -> None:
    await trio_ws.serve(hold, listeners=[MemoryListener()])


async def _in_handshake() -> None:
    mine, _ = stream_pair()
    async with trio_ws.connect("ws://localhost/", stream=mine):
        pass


async def _in_request() -> None:
    async def sleep(request: trio_ws.Request) -> None:
        await trio.sleep_forever()

    await trio_ws.testing.request(sleep)


@pytest.mark.parametrize(
    "act",
    [_in_connect, _in_nursery, _in_task_of_nursery, _in_serve, _in_handshake, _in_request],
)
async def test_cancellation_goes_all_the_way_out(
    act: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with trio.move_on_after(1) as scope:
        await act()
        raise AssertionError("the cancellation was swallowed")

    assert scope.cancelled_caught


# T
async def test_hazard_ping_after_our_close_makes_no_cancelled_leak_out_of_the_clients_block(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair()
    server = Peer(theirs, masked=False)
    nursery.start_soon(server.answer_handshake)

    async def ping_late() -> None:
        assert (await server.receive())[0] == CLOSE
        for _ in range(10):
            await server.send(PING, b"late")
        await server.close()
        await server.stream.aclose()

    async with trio_ws.connect("ws://localhost/", stream=mine) as connection:
        nursery.start_soon(ping_late)

    assert (connection.close_code, connection.closed_by) == (1000, "local")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have Ctrl-C handled as usual, although what runs in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _exit() -> None:
    sys.exit(3)


async def _serve_until(end: Callable[[], None], where: str, goodbyes: list[int]) -> None:
    """Run a server with three clients, and end the program somewhere."""

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.receive()
            end()

    async def play() -> None:
        for peer in peers:
            await peer.handshake()
        if where == "handler":
            await peers[0].send(TEXT, b"end it")
        else:
            _interrupt_main_task()
        for peer in peers:
            goodbyes.append(await peer.receive_close())  # noqa: PERF401 - each by itself

    listener = MemoryListener()
    peers = [Peer(listener.open()) for _ in range(3)]
    # A system task has no part in how the program ends.
    trio.lowlevel.spawn_system_task(play)
    with trio.fail_after(NET):
        await trio_ws.serve(handler, listeners=[listener])


@trio.lowlevel.enable_ki_protection
def _interrupt_main_task() -> None:
    # Where code is protected, Trio hands the interrupt to the main task.
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "error", "where"),
    [
        (_interrupt, KeyboardInterrupt, "handler"),
        (_exit, SystemExit, "handler"),
        (_interrupt, KeyboardInterrupt, "main task"),
    ],
)
def test_end_of_the_program_leaves_alone_and_clients_are_told_1001(
    end: Callable[[], None], error: type[BaseException], where: str, interruptible: None
) -> None:
    goodbyes: list[int] = []

    with pytest.raises(error):
        trio.run(_serve_until, end, where, goodbyes)

    assert goodbyes == [1001] * 3


def test_exit_in_a_group_of_a_handler_ends_the_program_and_its_errors_are_failures() -> None:
    async def handler(request: trio_ws.Request) -> None:
        raise BaseExceptionGroup("two", [SystemExit(3), _MishapError()])

    async def main() -> None:
        listener = MemoryListener()
        trio.lowlevel.spawn_system_task(listener.open().send_all, HANDSHAKE)
        with trio.fail_after(NET):
            await trio_ws.serve(handler, listeners=[listener])

    with pytest.raises(SystemExit):
        trio.run(main)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_two_handlers_that_end_the_program_at_once_end_it_once(end: type[BaseException]) -> None:
    both = trio.Event()
    waiting: list[trio_ws.Request] = []

    async def handler(request: trio_ws.Request) -> None:
        waiting.append(request)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        raise end

    async def main() -> None:
        listener = MemoryListener()
        for _ in range(2):
            trio.lowlevel.spawn_system_task(listener.open().send_all, HANDSHAKE)
        with trio.fail_after(NET):
            await trio_ws.serve(handler, listeners=[listener])

    with pytest.raises(end):
        trio.run(main)


def test_interrupt_in_a_clients_block_leaves_as_itself(interruptible: None) -> None:
    async def main() -> None:
        async with trio_ws.testing.connect(echo):
            _interrupt()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


def test_interrupt_of_a_client_that_waits_leaves_as_itself(interruptible: None) -> None:
    async def interrupt() -> None:
        await wait_all_tasks_blocked()
        _interrupt_main_task()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(interrupt)
        async with trio_ws.testing.connect(hold) as connection:
            await connection.receive()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_failure_beside_a_cancellation_leaves_as_itself(autojump_clock: MockClock) -> None:
    handler, connections = held()
    with pytest.raises(_MishapError):
        async with trio_ws.testing.connect(handler, grace=1):
            raise _MishapError

    assert connections[0].close_code == 1011


async def test_connection_of_a_server_that_is_stopped_twice_ends_once(
    autojump_clock: MockClock,
) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = await served.peer()
        served.stop()
        served.stop()

        assert await peer.receive_close() == 1001


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_interrupt_of_a_handler_is_not_lost_when_its_server_is_cancelled(
    interrupt: type[BaseException], autojump_clock: MockClock
) -> None:
    listener = MemoryListener()

    async def interrupted(request: trio_ws.Request) -> None:
        async with request.accept():
            try:
                await trio.sleep_forever()
            finally:
                raise interrupt

    await listener.open().send_all(HANDSHAKE)
    with pytest.raises(interrupt), trio.move_on_after(1):
        await trio_ws.serve(interrupted, listeners=[listener])
