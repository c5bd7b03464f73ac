"""`chat`: a well-behaved connection, which must feel nothing of what goes on around it."""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

import trio

import trio_ws
from tests.invariants.peers import BINARY, CLOSE, PING, PONG, TEXT, Peer
from tests.torture.hostile import Target, handshake
from tests.torture.ledger import Ledger, Tally
from trio_ws._transport.nurseries import lone_errors

_IN_FLIGHT = 16  # messages sent and not returned, beyond which a chat waits
_LARGEST = 20_000  # characters of a message
_LAST_CHANCE = 1.0  # seconds for a message that is missing when all others are there
_FREQUENT = 0.04  # seconds between two messages, at most


_DEFLATE = trio_ws.Deflate()

# How long it may take is the chat's to say.
_PATIENT = trio_ws.Limits(open_timeout=math.inf, close_timeout=math.inf)


class ChatError(Exception):
    """A well-behaved connection went wrong; the text says how."""


class Line(Protocol):
    """A connection, as far as a chat needs it."""

    async def send(self, value: str | bytes, /) -> None:
        """Send a message."""

    async def receive(self) -> str | bytes:
        """Receive a message."""
        ...


class _RawLine:
    """A client spoken by hand, so that not only trio_ws itself says that its server is good."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._sending = trio.Lock()

    async def send(self, value: str | bytes, /) -> None:
        opcode = TEXT if isinstance(value, str) else BINARY
        await self._frame(opcode, value.encode() if isinstance(value, str) else value)

    async def receive(self) -> str | bytes:
        while True:
            opcode, payload = await self._peer.receive()
            if opcode == PING:
                await self._frame(PONG, payload)
            elif opcode == CLOSE:
                raise ChatError(f"it was closed with {int.from_bytes(payload[:2], 'big')}")
            elif opcode != PONG:
                return payload.decode() if opcode == TEXT else payload

    async def close(self) -> None:
        await self._frame(CLOSE, (1000).to_bytes(2, "big"))
        while True:
            opcode, payload = await self._peer.receive()
            if opcode == CLOSE:
                break
        if payload != (1000).to_bytes(2, "big"):
            raise ChatError(f"its Close was answered with {payload!a}")
        await self._peer.read_to_end()

    async def _frame(self, opcode: int, payload: bytes) -> None:
        async with self._sending:
            await self._peer.send(opcode, payload)


@asynccontextmanager
async def _raw(target: Target, *, secure: bool) -> AsyncGenerator[Line, None]:
    async with await target.open(secure=secure) as stream:
        peer = Peer(stream)
        await peer.send_bytes(handshake("/echo"))
        head = await peer.read_head()
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ChatError(f"its handshake was answered {head[:40]!a}")
        line = _RawLine(peer)
        yield line
        await line.close()


@asynccontextmanager
async def _own(
    target: Target, *, secure: bool, compression: trio_ws.Deflate | None = None
) -> AsyncGenerator[Line, None]:
    scheme, port = ("wss", target.ports[1]) if secure else ("ws", target.ports[0])
    url = f"{scheme}://127.0.0.1:{port}/echo"
    stream = await target.open(secure=secure)
    async with trio_ws.connect(
        url, stream=stream, compression=compression, limits=_PATIENT
    ) as connection:
        yield connection
    if connection.close_code != 1000:
        raise ChatError(f"its close came out as {connection.close_code}")


@dataclass(frozen=True, slots=True)
class Kind:
    """Who chats."""

    name: str
    open: Callable[[Target], AbstractAsyncContextManager[Line]]


KINDS = (
    Kind("a raw client", partial(_raw, secure=False)),
    Kind("a raw client over TLS", partial(_raw, secure=True)),
    Kind("a trio_ws client", partial(_own, secure=False)),
    Kind("a trio_ws client over TLS", partial(_own, secure=True)),
    Kind("a compressing client", partial(_own, secure=False, compression=_DEFLATE)),
    Kind("a compressing client over TLS", partial(_own, secure=True, compression=_DEFLATE)),
)


async def chat(
    kind: Kind,
    target: Target,
    *,
    random: Random,
    tally: Tally,
    bound: float,
    until: Callable[[int], bool],
    on_open: Callable[[], object] = lambda: None,
) -> list[str]:
    """Send numbered messages, and see that each comes back, unchanged, in order and in time.

    Args:
        kind: Who chats.
        target: The server; it echoes.
        random: Draws messages, and pauses between them.
        tally: Where to add up.
        bound: Seconds that nothing may take longer than.
        until: Told the number of messages sent, whether that is enough.
        on_open: Called once the connection is open.

    Returns:
        What went wrong.
    """
    ledger = Ledger(tally)
    step = "to open"
    why: str | None = None
    try:
        with trio.fail_after(bound) as patience, lone_errors():
            async with _opened(kind, target) as line:
                tally.connections += 1
                on_open()
                step = "to come back"
                make = partial(_make_message, random)
                pause = partial(random.uniform, 0, _FREQUENT)
                sending = _Sending(line, ledger, make, pause, until)
                await _exchange(sending, patience, bound)
                step = "to close"
                patience.deadline = trio.current_time() + bound
    except trio.TooSlowError:
        why = f"it took longer than {bound:g} seconds {step}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        why = f"it broke, waiting {step}: {error!r}"
    ledger.settle(why)
    return [f"{kind.name}: {fault}" for fault in ledger.faults]


@asynccontextmanager
async def _opened(kind: Kind, target: Target) -> AsyncGenerator[Line, None]:
    """Open a connection; try again if this side was slower than the server is patient."""
    async with AsyncExitStack() as stack:
        while True:
            begun = trio.current_time()
            try:
                line = await stack.enter_async_context(kind.open(target))
            except Exception:
                if trio.current_time() - begun < target.times.open:
                    raise
            else:
                break
        yield line


class _Sending:
    """Sends messages, with pauses, never too far ahead of what has come back.

    Args:
        line: Where to.
        ledger: Keeps account.
        make: Makes the message of a number.
        pause: Draws the seconds between two messages.
        until: Told the number of messages sent, whether that is enough.
    """

    def __init__(
        self,
        line: Line,
        ledger: Ledger,
        make: Callable[[int], str | bytes],
        pause: Callable[[], float],
        until: Callable[[int], bool],
    ) -> None:
        self.line = line
        self.ledger = ledger
        self.enough = False
        self._make = make
        self._pause = pause
        self._until = until
        self._changed = trio.Event()

    async def run(self) -> None:
        while not self._until(self.ledger.next_number):
            await trio.sleep(self._pause())
            while self.ledger.outstanding >= _IN_FLIGHT:
                await self.changed()
            message = self._make(self.ledger.next_number)
            self.ledger.sent(message)
            self.change()
            await self.line.send(message)
        self.enough = True
        self.change()

    def change(self) -> None:
        """Note that a message was sent, or has come back."""
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()


async def _exchange(sending: _Sending, patience: trio.CancelScope, bound: float) -> None:
    line, ledger = sending.line, sending.ledger
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sending.run)
        while ledger.outstanding or not sending.enough:
            patience.deadline = ledger.oldest + bound
            if ledger.outstanding:
                ledger.received(await line.receive())
                sending.change()
            else:
                await sending.changed()
    if ledger.incomplete:
        # Is it lost, or was it only overtaken by the last one?
        with trio.move_on_after(_LAST_CHANCE):
            ledger.received(await line.receive())


def _make_message(random: Random, number: int) -> str | bytes:
    # Most are small, some are not.
    size = random.randrange(random.choice((50, 50, 50, 500, _LARGEST)))
    if random.randrange(2):
        return f"{number}:" + "é" * (size // 2)
    return b"%d:" % number + random.randbytes(size)
