"""Two connections, and programs of whatever can be done with them: what was sent arrives.

Hypothesis writes a program: sends of all kinds, some of them cancelled, receives, pings, closes,
and a network that splits, delays, stalls, breaks and resets. Buffers are small, to be full all the
time. Every message is one of its kind, so it can be said at the end which had to arrive, in what
order. Over sockets what was read is known to the byte, and all that was whole in it has to arrive.
"""

import math
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, TypeAlias, assert_never

import pytest
import trio
import trio.abc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_ws
from tests.fuzz.implementations import IMPLEMENTATIONS, Implementation, using
from tests.fuzz.reference import expected
from tests.fuzz.relay import Relay, Side, open_relay
from tests.invariants.peers import no_descriptor_left
from trio_ws import Connection, ConnectionClosed, Deflate, Keepalive, Limits, Request
from trio_ws._transport.inbox import message_size
from trio_ws._transport.link import READ_AHEAD
from trio_ws._transport.stream_wire import READ_SIZE
from trio_ws._types import Message
from trio_ws.testing import FaultyStream, connection_pair


@dataclass(frozen=True)
class Send:
    """Send messages in a task of its own, which is cancelled when its patience is over."""

    side: Side
    count: int
    size: int
    text: bool
    patience: float


@dataclass(frozen=True)
class SendNow:
    """Send messages, as many as can be sent without blocking."""

    side: Side
    count: int
    size: int


@dataclass(frozen=True)
class Receive:
    side: Side
    count: int
    patience: float


@dataclass(frozen=True)
class Ping:
    side: Side
    patience: float


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Close:
    """Close, and cut the line when the patience is over."""

    side: Side
    code: int
    patience: float


@dataclass(frozen=True)
class Network:
    """Have the network do something, if it can."""

    what: Literal["stall", "resume", "cut"]


@dataclass(frozen=True)
class Reset:
    """Have one side's line reset."""

    side: Side


Action: TypeAlias = Send | SendNow | Receive | Ping | Wait | Close | Network | Reset

CODES = (1000, 3000, 4999)

HELD = READ_AHEAD + READ_SIZE + 64 * 1024
"""Bytes that may be read ahead: up to the mark, one read, and a message that is not whole."""


def programs(
    seconds: list[float], *, closes: bool, resets: bool = False
) -> st.SearchStrategy[list[Action]]:
    """Make programs whose waits and patience are among some times.

    Args:
        seconds: The times.
        closes: Whether connections are closed, and cut; else everything has to arrive.
        resets: Whether they are reset as well.
    """
    sides = st.sampled_from(["client", "server"])
    sizes = st.integers(0, 40) | st.sampled_from([125, 126, 3000, 20_000])
    patience = st.sampled_from(seconds)
    counts = st.integers(1, 8)
    for_ever = st.just(math.inf)
    sends = (
        st.builds(Send, sides, counts, sizes, st.booleans(), for_ever | patience)
        | st.builds(Send, sides, counts, sizes, st.booleans(), for_ever)
        | st.builds(SendNow, sides, counts, sizes)
    )
    others: st.SearchStrategy[Action] = (
        st.builds(Receive, sides, counts, patience)
        | st.builds(Ping, sides, patience)
        | st.builds(Wait, patience)
        | st.builds(Network, st.sampled_from(["stall", "resume"]))
    )
    steps = st.lists(sends | sends | others, max_size=25)
    if not closes:
        return steps
    ends: st.SearchStrategy[Action] = st.builds(
        Close, sides, st.sampled_from(CODES), for_ever | patience
    ) | st.builds(Network, st.just("cut"))
    if resets:
        ends |= st.builds(Reset, sides)
    return st.builds(
        lambda a, end, b: [*a, end, *b], steps, ends, st.lists(others | ends | sends, max_size=6)
    )


@dataclass
class Sent:
    message: Message
    sent: bool = False


@dataclass
class End:
    """One of the two connections, and what was done with it."""

    connection: Connection
    sends: list[Sent] = field(default_factory=list)
    """In the order in which they were begun."""
    received: list[Message] = field(default_factory=list)
    sending: int = 0
    closed: bool = False

    @property
    def sent(self) -> list[Message]:
        """What was sent, in order."""
        return [each.message for each in self.sends if each.sent]


class Line(Protocol):
    """What may happen to a line, whatever it is made of."""

    def stall(self) -> None: ...
    def resume(self) -> None: ...
    async def cut(self) -> None: ...


class World:
    """What a program acts upon."""

    def __init__(self, client: Connection, server: Connection, network: Line, tick: float) -> None:
        self.client, self.server = End(client), End(server)
        self.network = network
        self.tick = tick
        self._serial = 0

    def pair(self, side: Side) -> tuple[End, End]:
        """Return an end and the other one."""
        if side == "client":
            return self.client, self.server
        return self.server, self.client

    def message(self, size: int, *, text: bool) -> Message:
        self._serial += 1
        message = f"{self._serial}:".ljust(size, "ü")
        return message if text else message.encode()

    async def run(self, program: list[Action]) -> None:
        """Run a program, and then take what there is to take."""
        async with trio.open_nursery() as nursery:
            for action in program:
                await self.perform(action, nursery)
                self.check_buffers()
            self.network.resume()
            nursery.start_soon(self.drain, "client")
            nursery.start_soon(self.drain, "server")

    async def perform(self, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Send():
                self.pair(action.side)[0].sending += 1
                nursery.start_soon(self.send, action)
            case SendNow():
                self.send_now(action)
            case Receive():
                await self.receive(action)
            case Ping():
                nursery.start_soon(self.ping, action)
            case Wait():
                await trio.sleep(action.seconds)
            case Close():
                await self.close(action)
            case Network():
                await self.change_network(action)
            case Reset():
                assert isinstance(self.network, Relay)
                self.network.reset(action.side)
            case _:
                assert_never(action)

    async def send(self, action: Send) -> None:
        end, _ = self.pair(action.side)
        with trio.move_on_after(action.patience):
            for _ in range(action.count):
                note = Sent(self.message(action.size, text=action.text))
                end.sends.append(note)
                try:
                    await end.connection.send(note.message)
                except (ConnectionClosed, trio.ClosedResourceError):
                    assert end.connection.close_code is not None
                    break
                note.sent = True
        end.sending -= 1

    def send_now(self, action: SendNow) -> None:
        end, _ = self.pair(action.side)
        for _ in range(action.count):
            message = self.message(action.size, text=True)
            try:
                end.connection.send_nowait(message)
            except (ConnectionClosed, trio.ClosedResourceError):
                assert end.connection.close_code is not None
                return
            except trio.WouldBlock:
                # Too much waits to be written, or it is the turn of those who wait to send.
                assert end.connection.statistics().outgoing_bytes or end.sending
                return
            end.sends.append(Sent(message, sent=True))

    async def receive(self, action: Receive) -> None:
        end, _ = self.pair(action.side)
        for _ in range(action.count):
            with trio.move_on_after(action.patience):
                try:
                    end.received.append(await end.connection.receive())
                except (ConnectionClosed, trio.ClosedResourceError):
                    assert end.connection.close_code is not None
                    return

    async def ping(self, action: Ping) -> None:
        end, _ = self.pair(action.side)
        with trio.move_on_after(action.patience):
            try:
                assert await end.connection.ping() >= 0
            except ConnectionClosed:
                assert end.connection.close_code is not None

    async def close(self, action: Close) -> None:
        end, _ = self.pair(action.side)
        end.closed = True
        with trio.move_on_after(action.patience):
            await end.connection.aclose(action.code)

    async def change_network(self, action: Network) -> None:
        if action.what == "cut":
            await self.network.cut()
        elif action.what == "stall":
            self.network.stall()
        else:
            self.network.resume()

    async def drain(self, side: Side) -> None:
        """Receive until everything has come, or nothing can come any more."""
        end, other = self.pair(side)
        while other.sending or end.received != other.sent:
            with trio.move_on_after(self.tick):
                try:
                    end.received.append(await end.connection.receive())
                except (ConnectionClosed, trio.ClosedResourceError):
                    return

    def check_buffers(self) -> None:
        """Say whether what waits to be received is counted right, and no more than may be."""
        for end, other in (self.pair("client"), self.pair("server")):
            statistics = end.connection.statistics()
            first = len(end.received)
            waiting = other.sent[first : first + statistics.inbox_messages]
            # A sender may not have heard yet that its message has gone.
            if len(waiting) == statistics.inbox_messages:
                assert sum(map(message_size, waiting)) == statistics.inbox_bytes
            parsed = other.sent[: statistics.messages_received]
            told = len(parsed) == statistics.messages_received
            if told and statistics.compression is None and end.connection.close_code is None:
                assert statistics.bytes_received - sum(map(message_size, parsed)) <= HELD

    def check(self) -> None:
        """Say whether the model and the connections agree."""
        for side in ("client", "server"):
            self.check_end(*self.pair(side))
            if isinstance(self.network, Relay):
                self.check_read(side, bytes(self.network.told[side]))

    def check_read(self, side: Side, told: bytes) -> None:
        """Say whether all was handed out that was read whole, whatever became of the line."""
        end, _ = self.pair(side)
        behind_head = told[told.index(b"\r\n\r\n") + 4 :]
        read = behind_head[: end.connection.statistics().bytes_received]
        meant = expected(read, client=side == "client").messages
        # Whoever closes throws away what it has not received by then.
        assert end.received == (meant[: len(end.received)] if end.closed else meant)

    def check_end(self, end: End, other: End) -> None:
        connection = end.connection
        assert end.received == other.sent[: len(end.received)]
        # Nothing was torn, mistaken or too large.
        assert connection.close_code in {None, 1006, *CODES}
        if connection.closed_by == "remote":
            assert connection.close_code == other.connection.close_code
        # A Close comes behind all that was sent before it; whoever closes throws away the rest.
        if connection.closed_by in {None, "remote"} and connection.close_code != 1006:
            assert end.received == other.sent or end.closed
        statistics = connection.statistics()
        assert statistics.messages_sent == len(end.sent)
        assert statistics.pings_pending == 0
        assert statistics.inbox_messages == 0
        assert statistics.inbox_bytes == 0
        if not end.closed:
            assert statistics.messages_received == len(end.received)


Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[World]]

# Mostly small enough to be full most of the time.
LIMITS = st.builds(
    Limits,
    # Over real sockets it is waited for, where the other side does not receive.
    close_timeout=st.just(0.2),
    outgoing_bytes=st.sampled_from([1, 200, 64 * 1024, math.inf]),
    inbox_messages=st.sampled_from([1, 3, 1024]),
    inbox_bytes=st.sampled_from([1, 300, 1024 * 1024]),
)
SILENT = Keepalive(interval=math.inf)


COMPRESSION = st.none() | st.builds(
    Deflate, send_context_takeover=st.booleans(), min_size=st.sampled_from([1, 128])
)


@dataclass(frozen=True)
class Memory:
    """A line in memory, and what it is like."""

    limits: Limits
    compression: Deflate | None
    seed: int
    split: int | None
    delay: float

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[World, None]:
        streams: list[FaultyStream] = []

        def wrap(stream: trio.abc.Stream) -> FaultyStream:
            network = FaultyStream(stream, seed=self.seed, split=self.split, delay=self.delay)
            streams.append(network)
            return network

        async with connection_pair(
            limits=self.limits, compression=self.compression, keepalive=SILENT, wrap=wrap
        ) as pair:
            yield World(*pair, streams[0], tick=1000)


MEMORY = st.builds(
    Memory,
    LIMITS,
    COMPRESSION,
    st.integers(0, 1000),
    st.sampled_from([None, 30, 1000]),
    st.sampled_from([0, 0.001]),
)


@asynccontextmanager
async def over_sockets(limits: Limits) -> AsyncGenerator[World, None]:
    accepted: list[Connection] = []
    opened, left = trio.Event(), trio.Event()

    async def hold(request: Request) -> None:
        async with request.accept() as connection:
            accepted.append(connection)
            opened.set()
            await left.wait()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_ws.serve, hold, 0, limits=limits))
        async with (
            open_relay(server.port) as relay,
            trio_ws.connect(
                f"ws://127.0.0.1:{relay.port}/", limits=limits, keepalive=SILENT
            ) as client,
        ):
            await opened.wait()
            yield World(client, accepted[0], relay, tick=0.01)
            left.set()
        nursery.cancel_scope.cancel()


async def run(opened: Opened, program: list[Action], deadline: float) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.fail_after(deadline):
        async with no_descriptor_left(), opened() as world:
            await world.run(program)
            world.check()
    # What was told to end has ended, or does so with its next step.
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


# More than is read ahead, for an application that receives nothing for a while.
UNWANTED: list[Action] = [
    *[Send("client", 8, 20_000, text=True, patience=math.inf)] * 2,
    Wait(0.01),
    Wait(0.01),
    Receive("server", 8, 1),
]
ROOMY = Limits(inbox_messages=1, outgoing_bytes=math.inf)

# Several messages behind a full inbox when the line is reset: they were read, and are handed out.
READ_BEFORE: list[Action] = [
    Send("client", 8, 40, text=True, patience=math.inf),
    Wait(0.01),
    Reset("server"),
    Wait(0.01),
]

FUZZED = settings(
    deadline=None,
    max_examples=200,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("closes", [False, True], ids=["open", "closing"])
def test_connections_in_memory_lose_nothing(
    implementation: Implementation, *, closes: bool
) -> None:
    @FUZZED
    @given(programs([0, 0.1, 1, 30], closes=closes), MEMORY)
    @example(UNWANTED, Memory(ROOMY, None, seed=0, split=None, delay=0))
    def nothing_is_lost(program: list[Action], memory: Memory) -> None:
        trio.run(run, memory.opened, program, 100_000, clock=MockClock(autojump_threshold=0))

    with using(implementation):
        nothing_is_lost()


@pytest.mark.network
@pytest.mark.parametrize("closes", [False, True], ids=["open", "closing"])
def test_connections_over_sockets_lose_nothing(*, closes: bool) -> None:
    @settings(FUZZED, max_examples=50)
    @given(programs([0, 0.001, 0.01], closes=closes, resets=True), LIMITS)
    @example(UNWANTED, ROOMY)
    @example(READ_BEFORE, ROOMY)
    def nothing_is_lost(program: list[Action], limits: Limits) -> None:
        trio.run(run, partial(over_sockets, limits), program, 30)

    nothing_is_lost()
