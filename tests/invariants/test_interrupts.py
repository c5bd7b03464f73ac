"""Ctrl-C ends a program in order, at whatever moment it is pressed."""

import itertools
import random
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.invariants.cancelling import SILENT, Line, Started
from tests.invariants.interrupting import (
    AtStep,
    OnLine,
    Play,
    no_hang,
    play,
    press,
    press_in_main_task,
    serve_alone,
    talk_to_itself,
    visit_somebody,
)
from tests.invariants.peers import CLOSE, HANDSHAKE, MemoryListener, Peer, hold
from tests.programs import Program, running
from trio_ws.testing import stream_pair

pytestmark = pytest.mark.network

_STRIDE = 12  # of so many lines one is tried in a run of the tests, each time another

_alone = pytest.mark.parametrize("program", [serve_alone, visit_somebody])


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Have Ctrl-C handled as usual, although what runs in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@_alone
def test_interrupt_before_any_step_ends_the_program_in_order(program: Play, line: Line) -> None:
    for number in itertools.count(1):
        trigger = AtStep(number)
        ending = play(program, line, trigger)
        if not trigger.pulled:
            assert ending.error is None
            break
        ending.assert_interrupted()
    assert number > 20


def test_interrupt_before_any_step_is_the_only_error_in_a_nursery(line: Line) -> None:
    for number in itertools.count(1):
        trigger = AtStep(number)
        ending = play(talk_to_itself, line, trigger)
        if not trigger.pulled:
            assert ending.error is None
            break
        if isinstance(ending.error, BaseExceptionGroup):
            # The program's own nursery; see that nothing else is in it.
            _, rest = ending.error.split(KeyboardInterrupt)
            assert rest is None
            ending.error = KeyboardInterrupt()
        ending.assert_interrupted()
    assert number > 20


@_alone
def test_interrupt_on_any_line_ends_the_program_in_order(program: Play, line: Line) -> None:
    survey = OnLine(None)
    assert play(program, line, survey).error is None
    places = sorted(survey.reached)

    for place in places[random.randrange(_STRIDE) :: _STRIDE]:  # noqa: S311 - no secret
        # The first time and the last; between them most lines have nothing new to tell.
        for turn in {0, survey.reached[place] - 1}:
            trigger = OnLine(place, turn)
            ending = play(program, line, trigger)
            if trigger.pulled:
                try:
                    ending.assert_interrupted()
                except BaseException as error:
                    error.add_note(f"Ctrl-C on {place}, reached {turn} times before")
                    raise

    assert len(places) > 500


def _play_interrupted(main: Callable[[], Awaitable[None]]) -> float:
    """Run a program that is interrupted, and return how long its clock says it took."""
    clock = MockClock(autojump_threshold=0)
    with no_hang(), pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=clock)
    return clock.current_time()


async def _press_until_the_line_is_cut(peer: Peer) -> None:
    press_in_main_task()
    opcode, payload = await peer.receive()
    assert (opcode, payload) == (CLOSE, b"\x03\xe9")
    await wait_all_tasks_blocked()
    press_in_main_task()
    await peer.read_to_end()


@pytest.mark.parametrize("draining", [False, True])
def test_second_interrupt_of_a_server_cuts_the_lines_of_clients_who_do_not_answer(
    draining: bool,
) -> None:
    async def main() -> None:
        listener = MemoryListener()
        status = Started()

        async def play() -> None:
            peer = await Peer(listener.open()).handshake()
            if draining:
                assert status.server is not None
                trio.lowlevel.spawn_system_task(status.server.drain, 60)
                await wait_all_tasks_blocked()
            await _press_until_the_line_is_cut(peer)

        trio.lowlevel.spawn_system_task(play)
        await trio_ws.serve(hold, listeners=[listener], keepalive=SILENT, task_status=status)

    assert _play_interrupted(main) == 0


def test_second_interrupt_of_a_client_cuts_the_line_of_a_server_who_does_not_answer() -> None:
    async def main() -> None:
        mine, theirs = stream_pair()

        async def play() -> None:
            peer = await Peer(theirs, masked=False).answer_handshake()
            await wait_all_tasks_blocked()
            await _press_until_the_line_is_cut(peer)

        trio.lowlevel.spawn_system_task(play)
        async with trio_ws.connect("ws://localhost/", stream=mine, keepalive=SILENT) as connection:
            await connection.receive()

    assert _play_interrupted(main) == 0


def test_interrupt_while_a_cancelled_server_says_goodbye_is_not_lost() -> None:
    async def main() -> None:
        listener = MemoryListener()

        async def play() -> None:
            peer = await Peer(listener.open()).handshake()
            while (await peer.receive())[0] != CLOSE:
                pass
            press_in_main_task()

        trio.lowlevel.spawn_system_task(play)
        with trio.move_on_after(1):
            await trio_ws.serve(hold, listeners=[listener], keepalive=SILENT)

    assert _play_interrupted(main) == 1


def test_interrupt_of_a_handshake_is_not_lost_when_that_is_cancelled_as_well() -> None:
    async def main() -> None:
        mine, _theirs = stream_pair()
        attempt = trio.CancelScope()

        async def play() -> None:
            await wait_all_tasks_blocked()
            press_in_main_task()
            # Trio has the main task woken by then, and it has not had its step.
            trio.lowlevel.current_trio_token().run_sync_soon(attempt.cancel)

        trio.lowlevel.spawn_system_task(play)
        with attempt:
            async with trio_ws.connect("ws://localhost/", stream=mine):
                raise AssertionError("nobody has answered")

    assert _play_interrupted(main) == 0


def test_interrupts_without_end_leave_as_one() -> None:
    async def main() -> None:
        listener = MemoryListener()

        async def press_all_the_time() -> None:
            peer = await Peer(listener.open()).handshake()
            while True:
                press_in_main_task()
                with trio.move_on_after(0):
                    await peer.read_to_end()
                    return

        trio.lowlevel.spawn_system_task(press_all_the_time)
        await trio_ws.serve(hold, listeners=[listener], keepalive=SILENT)

    assert _play_interrupted(main) == 0


def test_handler_is_interrupted_wherever_it_is() -> None:
    async def work(request: trio_ws.Request) -> None:
        press()
        reached.append(request)

    async def main() -> None:
        listener = MemoryListener()
        trio.lowlevel.spawn_system_task(listener.open().send_all, HANDSHAKE)
        await trio_ws.serve(work, listeners=[listener], keepalive=SILENT)

    reached: list[trio_ws.Request] = []
    assert _play_interrupted(main) == 0
    # One that never comes to a checkpoint could not be stopped otherwise.
    assert reached == []


_SERVER = """
import trio, trio_ws

class Status:
    def started(self, server=None):
        print(server.port)

async def hold(request):
    async with request.accept() as connection:
        # One write: an interrupt between text and end of line would leave half a line.
        print("connected\\n", end="")
        async for _ in connection:
            pass

async def main():
    await trio_ws.serve(hold, 0, host="127.0.0.1", task_status=Status())

trio.run(main)
"""


@asynccontextmanager
async def _served() -> AsyncGenerator[tuple[Program, Callable[[], Awaitable[Peer]]], None]:
    """Run a server as a program of its own, and give a way to it."""
    async with AsyncExitStack() as stack:
        program = await stack.enter_async_context(
            running(sys.executable, "-X", "dev", "-c", _SERVER)
        )
        port = int(await program.hear())

        async def dial() -> Peer:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            return Peer(await stack.enter_async_context(stream))

        yield program, dial


async def _assert_interrupted(program: Program) -> None:
    await program.hear_all()
    assert program.status == -signal.SIGINT
    assert program.errors.count("Traceback") == 1
    assert "Group" not in program.errors
    assert program.errors.rstrip().endswith("KeyboardInterrupt")


needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows cannot send a signal to one process"
)


@needs_signals
async def test_interrupted_program_without_clients_ends() -> None:
    async with _served() as (program, _):
        program.send_signal(signal.SIGINT)

        await _assert_interrupted(program)


@needs_signals
async def test_interrupted_program_tells_its_clients_and_ends() -> None:
    async with _served() as (program, dial):
        peers = [await (await dial()).handshake() for _ in range(3)]
        program.send_signal(signal.SIGINT)

        assert [await peer.receive_close() for peer in peers] == [1001] * 3
        await _assert_interrupted(program)


@needs_signals
async def test_interrupted_program_does_not_wait_for_a_handshake() -> None:
    async with _served() as (program, dial):
        peer = await dial()
        await peer.send_bytes(HANDSHAKE[:50])
        program.send_signal(signal.SIGINT)

        assert await peer.read_to_end() == b""
        await _assert_interrupted(program)


@needs_signals
async def test_interrupted_program_ends_although_clients_come_and_go_all_the_time() -> None:
    async with _served() as (program, dial), trio.open_nursery() as nursery:

        async def come_and_go() -> None:
            with suppress(EOFError, OSError, trio.BrokenResourceError):
                while True:
                    peer = await (await dial()).handshake()
                    await peer.close()
                    await peer.read_to_end()

        for _ in range(3):
            nursery.start_soon(come_and_go)
        for _ in range(5):
            await program.hear()
        program.send_signal(signal.SIGINT)

        await _assert_interrupted(program)


@needs_signals
async def test_program_that_is_interrupted_twice_does_not_wait_for_clients_who_do_not_answer() -> (
    None
):
    async with _served() as (program, dial):
        peer = await (await dial()).handshake()
        program.send_signal(signal.SIGINT)
        assert await peer.receive() == (CLOSE, b"\x03\xe9")
        program.send_signal(signal.SIGINT)
        # It ends before this side does anything more; a server that waited would half-close first.
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await peer.receive()

        await _assert_interrupted(program)
