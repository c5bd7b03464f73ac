"""Presses Ctrl-C at one moment of a program, and hears what becomes of it and of its peers."""

import contextlib
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import trio
import trio.abc
from trio.testing import MockClock

import trio_ws
from tests.invariants.cancelling import SILENT, Line
from tests.invariants.peers import CLOSE, NET, PING, PONG, TEXT, MemoryListener, Peer, descriptors
from trio_ws.testing import stream_pair

if TYPE_CHECKING:
    from _typeshed import TraceFunction

_PACKAGE = str(Path(trio_ws.__file__).parent)
_Place: TypeAlias = tuple[str, int]


class Trigger(Protocol):
    """Presses Ctrl-C."""

    @property
    def pulled(self) -> bool:
        """Whether it has."""
        ...

    def set(self) -> AbstractContextManager[None]:
        """Be ready, for as long as a block lasts."""
        ...


def press() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


@trio.lowlevel.enable_ki_protection
def press_in_main_task() -> None:
    """Press Ctrl-C while nothing runs that it may interrupt: Trio hands it to the main task."""
    press()


class AtStep(trio.abc.Instrument):
    """Presses Ctrl-C before the n-th step of any task."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.pulled = False

    def set(self) -> AbstractContextManager[None]:
        """See `Trigger`; the program adds it as an instrument."""
        return contextlib.nullcontext()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - see `Instrument`
        """Count; see `trio.abc.Instrument`."""
        self._left -= 1
        if self._left == 0:
            self.pulled = True
            press()


class OnLine:
    """Presses Ctrl-C when a line of the package, or of `contextlib`, is reached.

    Args:
        place: Its file and number; None to press nothing and only see which are reached.
        turn: How often it is reached before.
    """

    def __init__(self, place: _Place | None, turn: int = 0) -> None:
        self._place = place
        self._turn = turn
        self.pulled = False
        self.reached: Counter[_Place] = Counter()

    @contextmanager
    def set(self) -> Iterator[None]:
        """See `Trigger`."""
        # Whoever measures coverage has its own, and gets it back.
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, _event: str, _arg: object, /) -> "TraceFunction | None":
        """Choose what is traced."""
        name = frame.f_code.co_filename
        # Before and behind the run nobody handles the signal as Trio does.
        theirs = name == contextlib.__file__ and trio.lowlevel.in_trio_task()
        traced = theirs or name.startswith(_PACKAGE)
        return self._line if traced and not self.pulled else None

    def _line(self, frame: FrameType, event: str, _arg: object, /) -> "TraceFunction | None":
        if event == "line" and not self.pulled:
            place = (frame.f_code.co_filename, frame.f_lineno)
            if place == self._place and self.reached[place] == self._turn:
                self.pulled = True
                press()
            self.reached[place] += 1
        return self._line


@dataclass
class Heard:
    """What a peer has heard of a program."""

    connected: bool = False
    """Whether the program had a connection with it."""
    code: int | None = None
    """The code of the program's Close."""
    ended: bool = False
    """Whether the line has ended."""


class Stage:
    """Where a program is played, and its peers, who are no part of it.

    Args:
        line: What lies between the program and its peers.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._listener = MemoryListener()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.heard: list[Heard] = []
        self.server: trio_ws.Server | None = None
        self.serve = partial(
            trio_ws.serve,
            greet,
            None if line.in_memory else 0,
            host="127.0.0.1",
            listeners=[self._listener] if line.in_memory else None,
            keepalive=SILENT,
        )

    def close(self) -> None:
        """Close what belongs to the stage."""
        self._door.close()

    async def dial(self) -> trio.abc.Stream:
        """Open a line to the program's server."""
        if self._line.in_memory:
            await trio.lowlevel.checkpoint()
            return self._listener.open()
        assert self.server is not None
        return await trio.open_tcp_stream("127.0.0.1", self.server.port)

    def started(self, server: trio_ws.Server | None = None) -> None:
        """Have a client come as soon as the program's server listens; see `trio.TaskStatus`."""
        assert server is not None
        self.server = server
        self.heard.append(Heard())
        trio.lowlevel.spawn_system_task(self._visit, self.heard[0])

    async def _visit(self, heard: Heard) -> None:
        assert self.server is not None
        try:
            stream = await self.dial()
        except OSError:
            # The server was gone already.
            heard.ended = True
            return
        async with _at_line(stream, heard, masked=True) as peer:
            await peer.handshake()
            heard.connected = True
            await peer.send(TEXT, b"hello")
            await _converse(peer, heard, self.server)

    @trio.lowlevel.enable_ki_protection
    def connect(self, heard: Heard) -> AbstractAsyncContextManager[trio_ws.Connection]:
        """Connect to a server who is no part of the program."""
        self.heard.append(heard)
        if self._line.in_memory:
            mine, theirs = stream_pair()
            trio.lowlevel.spawn_system_task(self._receive, heard, theirs)
            return trio_ws.connect("ws://localhost/", stream=mine, keepalive=SILENT)
        trio.lowlevel.spawn_system_task(self._accept, heard)
        return trio_ws.connect(f"ws://127.0.0.1:{self._door.getsockname()[1]}/", keepalive=SILENT)

    async def _accept(self, heard: Heard) -> None:
        self._door.setblocking(False)
        heard.ended = True  # as long as nobody comes
        accepted, _ = await trio.socket.from_stdlib_socket(self._door).accept()
        heard.ended = False
        await self._receive(heard, trio.SocketStream(accepted))

    async def _receive(self, heard: Heard, stream: trio.abc.Stream) -> None:
        async with _at_line(stream, heard, masked=False) as peer:
            await peer.answer_handshake()
            await peer.send(TEXT, b"hello")
            await _converse(peer, heard, None)


@asynccontextmanager
async def _at_line(
    stream: trio.abc.Stream, heard: Heard, *, masked: bool
) -> AsyncGenerator[Peer, None]:
    """Have a peer speak, and find out whether its line ends, even if the run has ended before."""
    peer = Peer(stream, masked=masked)
    try:
        with suppress(EOFError, trio.BrokenResourceError):
            yield peer
    finally:
        with trio.move_on_after(1, shield=True):
            await peer.read_to_end()
            heard.ended = True
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def _converse(peer: Peer, heard: Heard, server: trio_ws.Server | None) -> None:
    while True:
        opcode, payload = await peer.receive()
        if opcode == PING:
            await peer.send(PONG, payload)
        elif opcode == TEXT and server is not None:
            # There is nothing more to come; a program that nobody interrupts ends here.
            trio.lowlevel.spawn_system_task(server.drain, 0)
        elif opcode == CLOSE:
            heard.code = int.from_bytes(payload, "big")
            await peer.send(CLOSE, payload)
            # A client waits for that, and a server does not mind.
            await peer.end()


async def greet(request: trio_ws.Request) -> None:
    """Handle a request of a program's server."""
    async with request.accept() as connection, connection.open_nursery() as nursery:
        nursery.start_soon(connection.ping)
        async for message in connection:
            await connection.send(message)


async def serve_alone(stage: Stage) -> None:
    """Be a program that is a server and nothing else."""
    await stage.serve(task_status=stage)


async def visit_somebody(stage: Stage) -> None:
    """Be a program that is a client."""
    heard = Heard()
    async with stage.connect(heard) as connection:
        heard.connected = True
        async with connection.open_nursery() as nursery:
            nursery.start_soon(connection.ping)
            await connection.receive()
        await connection.send("hello")
        connection.send_nowait("hello")
        await connection.aclose()


async def talk_to_itself(stage: Stage) -> None:
    """Be a program that is a server and a client in a nursery of its own."""
    async with trio.open_nursery() as nursery:
        stage.server = await nursery.start(stage.serve)
        stream = await stage.dial()
        async with trio_ws.connect("ws://127.0.0.1/", stream=stream) as connection:
            await connection.send("hello")
            assert await connection.receive() == "hello"
        nursery.cancel_scope.cancel()


Play: TypeAlias = Callable[[Stage], Awaitable[None]]


@dataclass
class Ending:
    """How a program ended."""

    error: BaseException | None
    heard: list[Heard]
    seconds: float
    """What its clock showed; over sockets it means nothing."""

    def assert_interrupted(self, error: type[BaseException] = KeyboardInterrupt) -> None:
        """See that the program has ended as it should when Ctrl-C is pressed."""
        if self.error is not None and type(self.error) is not error:
            raise self.error
        assert self.error is not None, "Ctrl-C was swallowed"
        assert all(heard.ended for heard in self.heard), "a line was left open"
        codes = [heard.code for heard in self.heard if heard.connected]
        assert set(codes) <= {1000, 1001}, "nobody said goodbye"
        assert self.seconds == 0, "somebody waited for a deadline"


def play(program: Play, line: Line, trigger: Trigger) -> Ending:
    """Run a program, with Ctrl-C pressed at one moment of it."""
    stage, error = Stage(line), None
    clock = MockClock(autojump_threshold=0) if line.in_memory else None
    instruments = [trigger] if isinstance(trigger, trio.abc.Instrument) else []
    before = descriptors()
    with no_hang(), trigger.set():
        try:
            trio.run(program, stage, clock=clock, instruments=instruments)
        except BaseException as caught:  # noqa: BLE001 - what came out is looked at
            error = caught
    assert descriptors() == before
    stage.close()
    return Ending(error, stage.heard, clock.current_time() if clock is not None else 0)


@contextmanager
def no_hang() -> Iterator[None]:
    """Break a run that does not end, where the system can."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the program does not end")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, NET)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
