"""Peers that speak bytes, servers to speak them to, and checks that nothing was left behind."""

import itertools
import math
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypedDict, Unpack

import trio
import trio.abc
import trio.lowlevel
from trio.testing import MockClock

import trio_ws
from tests.fakes import raw_frame
from trio_ws._protocol.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from trio_ws._protocol.origin import Origins
from trio_ws._protocol.upgrade import accept_key
from trio_ws._transport.endpoint import beneath_tls
from trio_ws.testing import MemoryStream, stream_pair

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT"]

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\n"
    b"Host: localhost\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)

MALFORMED_HEADS = [
    b"\r\n\r\n\r\n",
    b"\0\0\0\0",
    b"GET\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /?" + b"a=1&" * 500 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x01\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    HANDSHAKE.replace(b"GET", b"PUT"),
    HANDSHAKE.replace(b"13", b"8"),
    HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff\xff"),
    HANDSHAKE.replace(b"Key: d", b"Key: e=d"),
    HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: http://[::1\r\n\r\n"),
    HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: \xe9://\xe9:99999999999\r\n\r\n"),
    HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xe9, a, a\r\n\r\n"),
    HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: ;=\x80,,\r\n\r\n"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
"""Request heads that no server should take, and first bytes that are none."""

NET = 30  # seconds after which a test over real sockets is stuck, and fails
VIRTUAL_NET = 100_000  # the same where a mock clock jumps
_FLOOD = 5000  # writes that are a flood
_TICKS = 100  # steps of other tasks in which one that has been told to end does so


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Make a client's frame."""
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved)


def header(opcode: int, length: int, *, masked: bool = True) -> bytes:
    """Make the header of a frame that declares a length in eight bytes, whatever it is."""
    bit = 0x80 if masked else 0
    return bytes([0x80 | opcode, bit | 127]) + length.to_bytes(8, "big") + b"\1\2\3\4" * masked


def close(code: int = 1000, reason: str = "") -> bytes:
    """Make a client's Close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


class Peer:
    """One end of a line, spoken by hand.

    Args:
        stream: The line.
        masked: Whether this peer is a client.
        inflates: Whether it agrees on compression (RFC 7692), and inflates what comes.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, masked: bool = True, inflates: bool = False
    ) -> None:
        self.stream = stream
        self.inflated = 0
        """How many of the frames it has read were compressed."""
        self._masked = masked
        self._data = bytearray()
        self._inflater = zlib.decompressobj(-15) if inflates else None

    async def handshake(self, path: str = "/echo") -> Self:
        """Open a WebSocket as a client."""
        head = HANDSHAKE.replace(b"/echo", path.encode())
        await self.stream.send_all(head.removesuffix(b"\r\n") + self._extension + b"\r\n")
        head = await self.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    async def answer_handshake(self) -> Self:
        """Open a WebSocket as a server."""
        head = await self.read_head()
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
        await self.send_bytes(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n".encode()
            + self._extension
            + b"\r\n"
        )
        return self

    @property
    def _extension(self) -> bytes:
        agrees = self._inflater is not None
        return b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if agrees else b""

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        await self.stream.send_all(raw_frame(opcode, payload, masked=self._masked, fin=fin))

    async def close(self, code: int = 1000) -> None:
        await self.send(CLOSE, code.to_bytes(2, "big"))

    async def read_head(self) -> bytes:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            await self._more()
        return self._take(end + 4)

    async def receive(self) -> tuple[int, bytes]:
        """Read one whole frame; return its opcode and payload, without mask.

        Raises:
            EOFError: The line ended between two frames.
            ValueError: The line ended inside of a frame, or the next bytes are no frame.
        """
        opcode = (await self._peek(1))[0]
        compressed = bool(opcode & 0x40 and self._inflater)
        if opcode & (0x30 if compressed else 0x70) or opcode & 0xF not in {0, 1, 2, 8, 9, 10}:
            raise ValueError(f"{opcode:#x} begins no frame: an earlier one is torn")
        size, begin = (await self._peek(2))[1] & 0x7F, 2
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes((await self._peek(begin))[2:], "big")
        key = b"\0\0\0\0"
        if not self._masked:
            key = (await self._peek(begin + 4))[begin:]
            begin += 4
        await self._peek(begin + size)
        payload = self._take(begin + size)[begin:]
        mask = (key * (size // 4 + 1))[:size]
        bare = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
        return opcode & 0xF, self._bare(bare.to_bytes(size, "big"), compressed=compressed)

    def _bare(self, payload: bytes, *, compressed: bool) -> bytes:
        if not compressed:
            return payload
        assert self._inflater is not None
        self.inflated += 1
        try:
            # RFC 7692 §7.2.2.
            return self._inflater.decompress(payload + b"\0\0\xff\xff")
        except zlib.error as error:
            raise ValueError("a compressed message hangs on one that did not come") from error

    async def receive_frames(self) -> list[tuple[int, bytes]]:
        """Read frames to the end of the line, answer a Close, and end this side as well.

        Raises:
            ValueError: The line ended inside of a frame.
        """
        frames: list[tuple[int, bytes]] = []
        try:
            while True:
                frames.append(await self.receive())
                if frames[-1][0] == CLOSE:
                    await self.send(CLOSE, frames[-1][1][:2])
        except (EOFError, trio.BrokenResourceError):
            await self.stream.aclose()
            return frames

    async def receive_close(self) -> int:
        """Read frames to the end; return the close code: 1005 for none, 1006 for no Close."""
        codes = [payload[:2] for opcode, payload in await self.receive_frames() if opcode == CLOSE]
        return int.from_bytes(codes[0], "big") or 1005 if codes else 1006

    async def read_to_end(self) -> bytes:
        """Read what is left, until the other end has closed or broken the line."""
        try:
            while True:
                await self._more()
        except (EOFError, trio.BrokenResourceError):
            return self._take(len(self._data))

    async def end(self) -> None:
        """End this direction of the line."""
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        await self.stream.send_eof()

    async def leave(self) -> None:
        """Close in the normal way, and read to the end."""
        await self.close()
        await self.read_to_end()
        await self.stream.aclose()

    async def vanish(self) -> None:
        """End the line without a word, and without looking at what still comes."""
        await trio.aclose_forcefully(self.stream)

    async def reset(self) -> None:
        """Break the line: a TCP reset, which destroys what is under way."""
        line = beneath_tls(self.stream)
        if isinstance(line, trio.SocketStream):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        self._data += data

    async def _peek(self, size: int) -> bytes:
        while len(self._data) < size:
            try:
                await self._more()
            except (EOFError, trio.BrokenResourceError) as end:
                if self._data:
                    raise ValueError("the line ended inside of a frame") from end
                raise EOFError from end
        return bytes(self._data[:size])

    def _take(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener whose clients come over memory streams.

    Args:
        capacity: Bytes on their way in each direction.
        wrap: Puts something around the server's end.
    """

    def __init__(
        self,
        capacity: int = 64 * 1024,
        wrap: Callable[[MemoryStream], trio.abc.Stream] = lambda stream: stream,
    ) -> None:
        self._capacity = capacity
        self._wrap = wrap
        self._put, self._get = trio.open_memory_channel[trio.abc.Stream](math.inf)

    def open(self) -> MemoryStream:
        """Come as a client; return its end."""
        mine, theirs = stream_pair(self._capacity)
        self._put.send_nowait(self._wrap(theirs))
        return mine

    async def accept(self) -> trio.abc.Stream:
        return await self._get.receive()

    async def aclose(self) -> None:
        # As a system does with clients that nobody has accepted.
        with (
            suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError),
            trio.CancelScope(shield=True),
        ):
            while True:
                await trio.aclose_forcefully(self._get.receive_nowait())
        self._get.close()
        await trio.lowlevel.checkpoint()


class Options(TypedDict, total=False):
    """Options of `trio_ws.serve`."""

    limits: trio_ws.Limits
    keepalive: trio_ws.Keepalive
    origins: Origins
    ssl_context: ssl.SSLContext
    compression: trio_ws.Deflate | None


@dataclass(frozen=True)
class Served:
    """A server that is running, and the way to it."""

    server: trio_ws.Server
    open: Callable[[], Awaitable[trio.abc.Stream]]
    """Open a line to it, which is closed at the end."""
    stop: Callable[[], None]
    """Cancel the server."""
    ended: trio.Event
    """Set when the server has ended."""

    async def peer(self, path: str = "/echo", *, inflates: bool = False) -> Peer:
        """Come as a client that speaks by hand, the handshake done."""
        return await Peer(await self.open(), inflates=inflates).handshake(path)

    async def connect(self) -> AbstractAsyncContextManager[trio_ws.Connection]:
        """Come as a client of our own."""
        return trio_ws.connect("ws://localhost/echo", stream=await self.open())


@asynccontextmanager
async def serving(
    handler: trio_ws.Handler, *, listener: MemoryListener | None = None, **options: Unpack[Options]
) -> AsyncGenerator[Served, None]:
    """Serve over memory streams; at the end cancel the server, and see that nothing is left."""
    memory = listener or MemoryListener()

    async def dial(_: trio_ws.Server) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return memory.open()

    serve = partial(trio_ws.serve, handler, listeners=[memory], **options)
    virtual = isinstance(trio.lowlevel.current_clock(), MockClock)
    with trio.fail_after(VIRTUAL_NET if virtual else NET):
        async with _running(serve, dial) as served:
            yield served


@asynccontextmanager
async def serving_tcp(
    handler: trio_ws.Handler, **options: Unpack[Options]
) -> AsyncGenerator[Served, None]:
    """Serve over real sockets; at the end cancel the server, and see that nothing is left."""

    async def dial(server: trio_ws.Server) -> trio.abc.Stream:
        return await trio.open_tcp_stream("127.0.0.1", server.port)

    serve = partial(trio_ws.serve, handler, 0, host="127.0.0.1", **options)
    with trio.fail_after(NET):
        async with (
            no_descriptor_left(),
            _running(serve, dial) as served,
        ):
            yield served


@asynccontextmanager
async def _running(
    serve: Callable[..., Awaitable[None]],
    dial: Callable[[trio_ws.Server], Awaitable[trio.abc.Stream]],
) -> AsyncGenerator[Served, None]:
    scope, ended = trio.CancelScope(), trio.Event()

    async def run(*, task_status: trio.TaskStatus[trio_ws.Server]) -> None:
        with scope:
            await serve(task_status=task_status)
        ended.set()

    async def open_line() -> trio.abc.Stream:
        lines.append(await dial(server))
        return lines[-1]

    lines: list[trio.abc.Stream] = []
    async with no_task_left(), trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(run)
        yield Served(server, open_line, scope.cancel, ended)
        for line in lines:
            await trio.aclose_forcefully(line)
        scope.cancel()


@asynccontextmanager
async def no_task_left() -> AsyncGenerator[None, None]:
    """See that a block which is left in order leaves no task behind."""
    before = tasks_living()
    yield
    for _ in range(_TICKS):
        # A server's task for a client that has left may have its last step before it.
        if tasks_living() > before:
            await trio.lowlevel.checkpoint()
    assert tasks_living() == before


@asynccontextmanager
async def no_descriptor_left() -> AsyncGenerator[None, None]:
    """See that a block which is left in order leaves no file descriptor, where one can tell."""
    before = descriptors()
    yield
    assert descriptors() == before


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def descriptors() -> set[tuple[str, str]] | None:
    """Return the sockets that are open, or None where the system does not tell."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return None
    return {
        (entry.name, target) for entry in folder.iterdir() if "socket" in (target := _of(entry))
    }


def _of(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        # The descriptor of the listing itself.
        return ""


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until something is so; whoever calls has a deadline around it."""
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await trio.sleep(0.001)


async def echo(request: trio_ws.Request) -> None:
    """Send every message back."""
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)


async def flood(peer: Peer, data: bytes) -> None:
    """Send as if without end, until the other side has had enough."""
    try:
        for _ in range(_FLOOD):
            await peer.send_bytes(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def hold(request: trio_ws.Request) -> None:
    """Accept, and look at nothing until the connection has ended."""
    async with request.accept() as connection:
        await connection.wait_closed()


def held() -> tuple[trio_ws.Handler, list[trio_ws.Connection]]:
    """Make a handler that accepts and then does nothing, and the list of its connections."""
    connections: list[trio_ws.Connection] = []

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            connections.append(connection)
            await trio.sleep_forever()

    return handler, connections


class _Canceller(trio.abc.Instrument):
    """Cancels a scope after the n-th step of a task."""

    def __init__(self, task: trio.lowlevel.Task, step: int, scope: trio.CancelScope) -> None:
        self._task = task
        self._left = step
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def cancelled_at(step: int, act: Callable[[], Awaitable[object]]) -> bool:
    """Do something, and cancel it where it waits for the n-th time.

    Returns:
        Whether it was cancelled; False when it was over before.
    """
    with trio.CancelScope() as scope:
        canceller = _Canceller(trio.lowlevel.current_task(), step, scope)
        trio.lowlevel.add_instrument(canceller)
        try:
            await act()
        finally:
            trio.lowlevel.remove_instrument(canceller)
    return scope.cancel_called


async def cancelled_everywhere(scenario: Callable[[int], Awaitable[bool]]) -> int:
    """Run a scenario with a cancellation at its first wait, its second, until one has none.

    Args:
        scenario: Gets the number of the wait, and returns whether it was cancelled.

    Returns:
        At how many waits it was cancelled.
    """
    for step in itertools.count(1):
        if not await scenario(step):
            return step - 1
    raise AssertionError
