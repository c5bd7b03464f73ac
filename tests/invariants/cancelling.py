"""Cancels a call at every moment there is, each in a world of its own.

A moment is one of three kinds: in front of a checkpoint of the call, behind it (when everybody else
may have had a step), or, where the order of things does not hang on the system, behind any step of
any task. So a wait is cancelled before it begins, while it lasts, when what it waits for has come
but not been noticed, and the other way round.

Whatever a test asserts of such a world, one thing is asserted of all of them: a cancellation that
was delivered comes out of the call.
"""

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import outcome
import trio
from trio.testing import MockClock

import trio_ws
from tests.invariants.peers import (
    NET,
    VIRTUAL_NET,
    MemoryListener,
    Options,
    Peer,
    descriptors,
    held,
    no_task_left,
    serving,
    serving_tcp,
)
from trio_ws.testing import stream_pair

_Test = TypeVar("_Test", bound=Callable[..., None])
_Kind: TypeAlias = Literal["before a checkpoint", "after a checkpoint", "after a step"]

SILENT = trio_ws.Keepalive(interval=float("inf"))
"""No ping of its own interrupts a test, however far its clock jumps."""

_LIMITS = trio_ws.Limits()
_REASON = "a test cancels here"
_MOST = 3000  # moments of one call; a scenario with more of them never ends


class Canceller:
    """Runs a call, and cancels it at one moment. Made by `at_every_moment`."""

    def __init__(self, kind: _Kind, number: int) -> None:
        self._kind = kind
        self._number = number
        self._scope = trio.CancelScope()
        self._used = False
        self._fault: str | None = None

    @property
    def moment(self) -> str:
        """Which moment it is."""
        return f"cancelled {self._kind}: number {self._number}"

    @property
    def struck(self) -> bool:
        """Whether the moment has come."""
        return self._scope.cancel_called

    @property
    def beforehand(self) -> bool:
        """Whether the moment is in front of the call."""
        return self._number == 0

    @property
    def over(self) -> bool:
        """Whether the call had ended before the moment came: there are no more of its kind."""
        assert self._used, "the scenario has called nothing"
        # Not at once: a server would take it for an error of a handler.
        assert self._fault is None, self._fault
        return not self.struck

    async def __call__(self, act: Callable[[], Coroutine[object, object, object]]) -> bool:
        """Run the call.

        Returns:
            Whether it was cut short.
        """
        self._used = True
        watch = _Watch(trio.lowlevel.current_task(), self._look)
        completed = False
        with self._scope:
            if self.beforehand:
                self._strike()
            trio.lowlevel.add_instrument(watch)
            try:
                await _Seen(act(), watch)
                completed = True
            finally:
                trio.lowlevel.remove_instrument(watch)
        if completed and watch.delivered:
            self._fault = "the cancellation was swallowed"
        elif completed and self.beforehand:
            self._fault = "the call has no checkpoint"
        return not completed

    def _look(self, kind: _Kind, number: int) -> None:
        if (kind, number) == (self._kind, self._number):
            self._strike()

    def _strike(self) -> None:
        self._scope.cancel(_REASON)


class _Watch(trio.abc.Instrument):
    """Counts the moments of a call."""

    def __init__(self, task: trio.lowlevel.Task, look: Callable[[_Kind, int], None]) -> None:
        self._task = task
        self._look = look
        self._checkpoints = 0
        self._own_steps = 0
        self._steps = 0
        self.delivered = False
        """Whether the call was told that it is cancelled."""

    def before_checkpoint(self) -> None:
        """Note that the call is about to reach a checkpoint."""
        self._checkpoints += 1
        self._look("before a checkpoint", self._checkpoints)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note that a task had a step; see `trio.abc.Instrument`."""
        self._steps += 1
        self._look("after a step", self._steps)
        if task is self._task:
            self._own_steps += 1
            self._look("after a checkpoint", self._own_steps)


class _Seen:
    """Awaits a coroutine, and sees its checkpoints and what comes back from them."""

    def __init__(self, coroutine: Coroutine[object, object, object], watch: _Watch) -> None:
        self._coroutine = coroutine
        self._watch = watch

    def __await__(self) -> Generator[object, object, None]:
        answer: object = None
        while True:
            try:
                trap = self._coroutine.send(answer)
            except StopIteration:
                return
            self._watch.before_checkpoint()
            answer = yield trap
            if isinstance(answer, outcome.Error) and isinstance(answer.error, trio.Cancelled):
                # Scopes inside of the call may be cancelled as well; that is their own affair.
                self._watch.delivered |= answer.error.reason == _REASON


@dataclass(frozen=True)
class Line:
    """What lies between two ends, and who reads and writes there."""

    kind: Literal["memory", "poller", "tasks"]

    @property
    def in_memory(self) -> bool:
        """Whether there is no system in between; then a mock clock jumps."""
        return self.kind == "memory"


Side: TypeAlias = Literal["client", "server"]
Scenario: TypeAlias = Callable[[Canceller], Awaitable[None]]


def at_every_moment(scenario: Scenario, line: Line, *, least: int) -> None:
    """Run a scenario in a run of its own for every moment of the call in it.

    Args:
        scenario: Gets a canceller, hands it a call, and asserts what was promised.
        line: What it runs over.
        least: Checkpoints that the call has at least, so that a test which misses them fails.
    """
    kinds: list[_Kind] = ["before a checkpoint", "after a checkpoint"]
    if line.in_memory:
        kinds = ["before a checkpoint", "after a step"]
    for kind in kinds:
        for number in itertools.count(0 if kind == "before a checkpoint" else 1):
            canceller = Canceller(kind, number)
            try:
                _run(scenario, canceller, line)
                over = canceller.over
            except BaseException as error:
                error.add_note(canceller.moment)
                raise
            if over:
                break
            assert number < _MOST
        assert number > least, f"the call has {number - 1} checkpoints"


def _run(scenario: Scenario, canceller: Canceller, line: Line) -> None:
    async def world() -> None:
        with trio.fail_after(VIRTUAL_NET if line.in_memory else NET):
            async with no_task_left():
                await scenario(canceller)

    before = descriptors()
    trio.run(world, clock=MockClock(autojump_threshold=0) if line.in_memory else None)
    assert descriptors() == before


def covers(*names: str) -> Callable[[_Test], _Test]:
    """Say whose promise a test is about: public names, `trio_ws.Connection.send` for one."""

    def note(test: _Test) -> _Test:
        vars(test)["covers"] = names
        return test

    return note


@asynccontextmanager
async def opened(
    side: Side,
    line: Line,
    *,
    limits: trio_ws.Limits = _LIMITS,
    compression: trio_ws.Deflate | None = None,
    capacity: int = 64 * 1024,
) -> AsyncGenerator[tuple[trio_ws.Connection, Peer], None]:
    """Open a connection, and give it with its peer, who speaks by hand.

    Args:
        side: Which side the connection is; the peer is the other.
        line: What lies between.
        limits: The connection's.
        compression: The connection's; the peer agrees, and inflates what it gets.
        capacity: Bytes on their way in each direction, in memory.
    """
    open_side = _opened_client if side == "client" else _opened_server
    async with open_side(line, limits, compression, capacity) as (connection, peer):
        try:
            yield connection, peer
        finally:
            # Not to wait for a goodbye that the peer of a test may not answer.
            await trio.aclose_forcefully(peer.stream)


@asynccontextmanager
async def _opened_server(
    line: Line, limits: trio_ws.Limits, compression: trio_ws.Deflate | None, capacity: int
) -> AsyncGenerator[tuple[trio_ws.Connection, Peer], None]:
    handler, connections = held()
    options: Options = {"limits": limits, "keepalive": SILENT, "compression": compression}
    async with (
        serving(handler, listener=MemoryListener(capacity), **options)
        if line.in_memory
        else serving_tcp(handler, **options)
    ) as served:
        peer = await served.peer(inflates=compression is not None)
        yield connections[0], peer


@asynccontextmanager
async def _opened_client(
    line: Line, limits: trio_ws.Limits, compression: trio_ws.Deflate | None, capacity: int
) -> AsyncGenerator[tuple[trio_ws.Connection, Peer], None]:
    async with (
        listening(line, capacity, compression=compression) as place,
        trio.open_nursery() as nursery,
    ):
        peers: list[Peer] = []

        async def answer() -> None:
            peers.append(await (await place.accept()).answer_handshake())

        nursery.start_soon(answer)
        async with place.connect(limits) as connection:
            # The 101 is here, so all that the peer does for it is done.
            yield connection, peers[0]


class Started(trio.TaskStatus[trio_ws.Server]):
    """Hears of the start of a server that runs in the task of a test."""

    def __init__(self) -> None:
        self.server: trio_ws.Server | None = None
        self.heard = trio.Event()

    def started(self, value: trio_ws.Server | None = None) -> None:
        """See `trio.TaskStatus`."""
        self.server = value
        self.heard.set()


@dataclass(frozen=True)
class Listening:
    """A place where a client can go, and a peer waits for it."""

    accept: Callable[[], Awaitable[Peer]]
    """Take the next client's line."""
    connect: Callable[[trio_ws.Limits], AbstractAsyncContextManager[trio_ws.Connection]]
    """`trio_ws.connect` to here."""
    visit: Callable[[], Awaitable[None]]
    """Come and go, so that nobody waits for a client who never came."""


@asynccontextmanager
async def listening(
    line: Line, capacity: int = 64 * 1024, *, compression: trio_ws.Deflate | None = None
) -> AsyncGenerator[Listening, None]:
    """Listen as a server that speaks by hand."""
    inflates = compression is not None
    if line.in_memory:
        mine, theirs = stream_pair(capacity)

        async def take() -> Peer:
            await trio.lowlevel.checkpoint()
            return Peer(theirs, masked=False, inflates=inflates)

        def connect(limits: trio_ws.Limits) -> AbstractAsyncContextManager[trio_ws.Connection]:
            return trio_ws.connect(
                "ws://localhost/",
                stream=mine,
                compression=compression,
                limits=limits,
                keepalive=SILENT,
            )

        yield Listening(take, connect, trio.lowlevel.checkpoint)
        return
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        port = listener.socket.getsockname()[1]

        async def accept() -> Peer:
            return Peer(await listener.accept(), masked=False, inflates=inflates)

        def dial(limits: trio_ws.Limits) -> AbstractAsyncContextManager[trio_ws.Connection]:
            return trio_ws.connect(
                f"ws://127.0.0.1:{port}/",
                compression=compression,
                limits=limits,
                keepalive=SILENT,
            )

        async def visit() -> None:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()

        yield Listening(accept, dial, visit)
