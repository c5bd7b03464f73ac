"""Test applications without a network: handlers in memory, channels, pairs, and bad networks.

Everything here goes through the real opening handshake and the real protocol, only that the stream
is memory, so it all runs under `trio.testing.MockClock`: a day of keepalive takes milliseconds.
"""

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf

import trio
import trio.abc

from trio_ws._config import Keepalive, Limits
from trio_ws._errors import ConnectionClosed, HandshakeError
from trio_ws._protocol.http import Exchange
from trio_ws._protocol.origin import Origins
from trio_ws._transport.client import connect as _connect
from trio_ws._transport.connection import Connection
from trio_ws._transport.handshake import Handler, Request
from trio_ws._transport.nurseries import lone_errors, open_background
from trio_ws._transport.service import Service
from trio_ws._types import Headers, HeadersLike, Message, Response

__all__ = [
    "FaultyStream",
    "MemoryChannel",
    "MemoryStream",
    "channel_pair",
    "connect",
    "connection_pair",
    "request",
    "stream_pair",
]


def _unchanged(stream: trio.abc.Stream) -> trio.abc.Stream:
    return stream


@asynccontextmanager
async def connect(
    handler: Handler,
    url: str = "ws://testserver/",
    *,
    headers: HeadersLike = (),
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
    origins: Origins = None,
    server_subprotocols: Sequence[str] = (),
    server_limits: Limits | None = None,
    server_keepalive: Keepalive | None = None,
    wrap: Callable[[trio.abc.Stream], trio.abc.Stream] = _unchanged,
    grace: float = 5,
) -> AsyncGenerator[Connection, None]:
    """Run a handler in memory and connect to it, through the real handshake.

    Example::

        async def test_greets() -> None:
            async with trio_ws.testing.connect(greet) as connection:
                assert await connection.receive() == "Olá, cliente!"

    An error of the handler leaves this block, instead of being logged as a server would.

    Args:
        handler: What serves the connection.
        url: What the client asks for; the host is only a name.
        headers: As for `trio_ws.connect`.
        subprotocols: As for `trio_ws.connect`.
        origin: As for `trio_ws.connect`.
        limits: The client's.
        keepalive: The client's.
        origins: As for `trio_ws.serve`.
        server_subprotocols: As ``subprotocols`` for `trio_ws.serve`.
        server_limits: The server's; by default the same as the client's.
        server_keepalive: The server's; by default the same as the client's.
        wrap: Puts something around the client's stream, a `FaultyStream` for one.
        grace: Seconds in which the handler should end after the block; then it is cancelled.

    Yields:
        The client's connection.

    Raises:
        HandshakeRejected: The handler did not accept.
        Exception: Whatever the handler raised. If the block failed as well, and not just because
            the connection was closed on it, both are raised in a group.

    Cancellation:
        Both sides say goodbye with 1001.
    """
    async with (
        _serving(
            handler,
            origins=origins,
            subprotocols=server_subprotocols,
            limits=server_limits or limits,
            keepalive=server_keepalive or keepalive,
            grace=grace,
        ) as stream,
        _connect(
            url,
            stream=wrap(stream),
            headers=headers,
            subprotocols=subprotocols,
            origin=origin,
            limits=limits,
            keepalive=keepalive,
        ) as connection,
    ):
        yield connection


@asynccontextmanager
async def _serving(
    handler: Handler,
    *,
    origins: Origins,
    subprotocols: Sequence[str],
    limits: Limits,
    keepalive: Keepalive,
    grace: float,
) -> AsyncGenerator[trio.abc.Stream, None]:
    """Serve one stream with a handler; its error leaves this block."""
    client_stream, server_stream = stream_pair()
    handler_error: Exception | None = None
    block_error: BaseException | None = None
    done = trio.Event()

    async with open_background() as background:
        service = Service(
            handler,
            background,
            ssl_context=None,
            origins=origins,
            subprotocols=subprotocols,
            limits=limits,
            keepalive=keepalive,
            propagate=True,
        )

        async def serve() -> None:
            nonlocal handler_error
            try:
                await service.serve_stream(server_stream)
            except Exception as error:  # noqa: BLE001 - it is raised below, with the block's
                handler_error = error
                nursery.cancel_scope.cancel()
            done.set()

        with lone_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                try:
                    yield client_stream
                except BaseException as error:  # noqa: BLE001 - it is raised below, out of the nursery
                    block_error = error
                await trio.aclose_forcefully(client_stream)
                with trio.move_on_after(0 if block_error else grace):
                    await done.wait()
                nursery.cancel_scope.cancel()
    _raise_first(handler_error, block_error)


def _raise_first(handler_error: Exception | None, block_error: BaseException | None) -> None:
    """Raise what went wrong; a consequence of the handler's error gives way to it."""
    if handler_error is None:
        if block_error is not None:
            raise block_error
        return
    consequence = (ConnectionClosed, HandshakeError, trio.Cancelled)
    if block_error is None or isinstance(block_error, consequence):
        raise handler_error
    raise BaseExceptionGroup(
        "the handler failed, and so did the test", [handler_error, block_error]
    )


async def request(
    handler: Handler,
    method: str = "GET",
    target: str = "/",
    *,
    headers: HeadersLike = (),
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
) -> Response:
    """Send a handler one HTTP request in memory, and return its response.

    Example::

        response = await trio_ws.testing.request(app, "GET", "/health")
        assert response.status == 200

    Args:
        handler: What serves the request.
        method: The method.
        target: Path and query, percent-encoded.
        headers: Further header fields; ``Host`` is ``testserver`` by default.
        limits: The server's.

    Returns:
        The response as a client sees it.

    Raises:
        Exception: Whatever the handler raised.
        ValueError: The method, the target or a header is malformed.
    """
    fields = Headers(headers).fields
    if "Host" not in Headers(headers):
        fields = (("Host", "testserver"), *fields)
    exchange = Exchange(max_head=inf, max_headers=inf, max_body=2**31)
    data = exchange.start(method, target, list(fields))
    async with _serving(
        handler, origins=None, subprotocols=(), limits=limits, keepalive=Keepalive(), grace=inf
    ) as stream:
        with lone_errors():
            async with trio.open_nursery() as nursery:
                # A server may answer, and stop reading, before it has read all of a large request.
                nursery.start_soon(_send, stream, data)
                await _receive(stream, exchange)
    assert exchange.status is not None
    return Response(exchange.status, exchange.body, headers=exchange.headers)


async def _receive(stream: trio.abc.Stream, exchange: Exchange) -> None:
    try:
        while not exchange.complete:
            exchange.receive(await stream.receive_some())
    except ValueError as error:
        raise HandshakeError(f"the request was not answered: {error}") from None


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        # The answer has come already, or its absence is the error.
        return


@asynccontextmanager
async def connection_pair(
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
    wrap: Callable[[trio.abc.Stream], trio.abc.Stream] = _unchanged,
) -> AsyncGenerator[tuple[Connection, Connection], None]:
    """Open two real connections, back to back in memory.

    Args:
        limits: For both sides.
        keepalive: For both sides.
        wrap: Puts something around the client's stream, a `FaultyStream` for one.

    Yields:
        The client's and the server's connection.

    Cancellation:
        Both sides say goodbye with 1001.
    """
    accepted: list[Connection] = []
    opened, left = trio.Event(), trio.Event()

    async def hold(request: Request) -> None:
        async with request.accept() as connection:
            accepted.append(connection)
            opened.set()
            await left.wait()

    async with connect(hold, limits=limits, keepalive=keepalive, wrap=wrap) as client:
        await opened.wait()
        try:
            yield client, accepted[0]
        finally:
            left.set()


class MemoryChannel(trio.abc.Channel[Message]):
    """One end of `channel_pair`: what is written for a channel, tested without any protocol.

    It behaves as memory channels do: `receive` raises `trio.EndOfChannel` when the other end has
    closed and nothing is left, `send` raises `trio.BrokenResourceError` then.
    """

    def __init__(
        self,
        sending: trio.MemorySendChannel[Message],
        receiving: trio.MemoryReceiveChannel[Message],
    ) -> None:
        self._sending = sending
        self._receiving = receiving

    async def send(self, value: Message) -> None:
        """Send a message; blocks while the channel is full.

        Raises:
            TypeError: It is no ``str`` or ``bytes``.
            trio.BrokenResourceError: The other end has closed.
            trio.ClosedResourceError: This end has closed.

        Cancellation:
            Atomic.
        """
        self._check(value)
        await self._sending.send(value)

    def send_nowait(self, value: Message) -> None:
        """Send a message if there is room.

        Raises:
            TypeError: It is no ``str`` or ``bytes``.
            trio.WouldBlock: The channel is full.
            trio.BrokenResourceError: The other end has closed.
            trio.ClosedResourceError: This end has closed.
        """
        self._check(value)
        self._sending.send_nowait(value)

    @staticmethod
    def _check(value: object) -> None:
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(value).__name__}")

    async def receive(self) -> Message:
        """Receive a message.

        Raises:
            trio.EndOfChannel: The other end has closed, and nothing is left.
            trio.ClosedResourceError: This end has closed.

        Cancellation:
            Atomic.
        """
        return await self._receiving.receive()

    async def aclose(self) -> None:
        """Close this end.

        Cancellation:
            It is closed all the same.
        """
        self._sending.close()
        self._receiving.close()
        await trio.lowlevel.checkpoint()


def channel_pair(capacity: float = 16) -> tuple[MemoryChannel, MemoryChannel]:
    """Make two connected channels of messages, out of memory channels.

    Args:
        capacity: Messages that fit into each direction; a whole number or ``math.inf``.
    """
    there, here = trio.open_memory_channel[Message](capacity)
    back, away = trio.open_memory_channel[Message](capacity)
    return MemoryChannel(there, away), MemoryChannel(back, here)


class _Pipe:
    """One direction of a `stream_pair`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._data = bytearray()
        self._changed = trio.lowlevel.ParkingLot()
        self.ended = False
        self.abandoned = False

    async def put(self, data: memoryview) -> None:
        while data:
            if self.abandoned:
                raise trio.BrokenResourceError("the other end of the memory stream is closed")
            room = self._capacity - len(self._data)
            if room <= 0:
                await self._changed.park()
                continue
            self._data += data[:room]
            data = data[room:]
            self._changed.unpark_all()

    async def get(self, max_bytes: int) -> bytes:
        while not self._data and not self.ended and not self.abandoned:
            await self._changed.park()
        chunk = bytes(self._data[:max_bytes])
        del self._data[:max_bytes]
        self._changed.unpark_all()
        return chunk

    def end(self) -> None:
        self.ended = True
        self._changed.unpark_all()

    def abandon(self) -> None:
        self.abandoned = True
        self._data.clear()
        self._changed.unpark_all()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of `stream_pair`."""

    def __init__(self, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._sending = False
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; blocks while the other end has not read enough.

        Raises:
            trio.BrokenResourceError: The other end is closed.
            trio.BusyResourceError: Another task is sending.
            trio.ClosedResourceError: This end is closed.

        Cancellation:
            Part of the data may have been sent.
        """
        await trio.lowlevel.checkpoint()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed or self._outgoing.ended:
            raise trio.ClosedResourceError("this end of the memory stream is closed")
        self._sending = True
        try:
            await self._outgoing.put(memoryview(data))
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: this is never needed here.

        Cancellation:
            Changes nothing.
        """
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """End this direction.

        Cancellation:
            Atomic.
        """
        await trio.lowlevel.checkpoint()
        self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; none when the other end has ended its direction.

        Raises:
            trio.ClosedResourceError: This end is closed.

        Cancellation:
            Atomic.
        """
        await trio.lowlevel.checkpoint()
        data = b"" if self._closed else await self._incoming.get(max_bytes or 65536)
        if self._closed:
            raise trio.ClosedResourceError("this end of the memory stream is closed")
        return data

    async def aclose(self) -> None:
        """Close this end; the other end reads what was sent, then the end.

        Cancellation:
            It is closed all the same.
        """
        self._closed = True
        self._outgoing.end()
        self._incoming.abandon()
        await trio.lowlevel.checkpoint()


def stream_pair(capacity: int = 64 * 1024) -> tuple[MemoryStream, MemoryStream]:
    """Make two connected byte streams in memory, with back-pressure as sockets have it.

    Args:
        capacity: Bytes on their way in each direction before sending blocks.
    """
    if capacity < 1:
        raise ValueError(f"a stream holds at least 1 byte, not {capacity}")
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(there, back), MemoryStream(back, there)


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream over a bad network: it delays, splits, stalls, drops and cuts, as its seed says.

    The thresholds count the bytes of both directions together, to the byte::

        wrap = functools.partial(FaultyStream, seed=7, delay=0.2, split=100, cut_after=5000)
        async with trio_ws.testing.connect(app, wrap=wrap) as connection:
            ...

    `stall`, `resume`, `drop` and `cut` do the same at a moment of the test's choosing.

    Args:
        stream: The stream underneath.
        seed: Makes a run repeatable.
        delay: Each piece takes up to so many seconds, at random.
        split: Pieces are of 1 to so many bytes, at random; None leaves them as they are.
        stall_after: After so many bytes nothing moves any more, in either direction.
        drop_after: After so many bytes everything sent disappears and nothing comes, without an
            error: a network that is gone.
        cut_after: After so many bytes the stream breaks, for both ends.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        seed: int = 0,
        delay: float = 0,
        split: int | None = None,
        stall_after: float = inf,
        drop_after: float = inf,
        cut_after: float = inf,
    ) -> None:
        self._stream = stream
        # S311: a test wants repeatable randomness, not a secret.
        self._random = random.Random(seed)  # noqa: S311
        self._delay = delay
        self._split = split
        self._stall_after = stall_after
        self._drop_after = drop_after
        self._cut_after = cut_after
        self._passed = 0
        self._resumed: trio.Event | None = None
        self._dropping = False
        self._cut = False
        self._ahead = b""

    def stall(self) -> None:
        """Let nothing move until `resume`."""
        if self._resumed is None:
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Let things move again."""
        self._stall_after = inf
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def drop(self) -> None:
        """Let everything sent disappear from now on, and nothing come."""
        self._dropping = True

    async def cut(self) -> None:
        """Break the stream, for both ends.

        Cancellation:
            It is broken all the same.
        """
        self._cut = True
        await trio.aclose_forcefully(self._stream)

    async def _gate(self) -> None:
        """Wait while nothing moves, and break what is to break."""
        if self._passed >= self._stall_after:
            self.stall()
        while self._resumed is not None:
            await self._resumed.wait()
        if self._passed >= self._drop_after:
            self._dropping = True
        if self._passed >= self._cut_after and not self._cut:
            await self.cut()
        if self._cut:
            raise trio.BrokenResourceError("the network was cut")
        if self._delay:
            await trio.sleep(self._random.uniform(0, self._delay))

    def _size(self, wanted: int) -> int:
        """Choose how many bytes go in one piece: no more than up to the next threshold."""
        if self._split is not None:
            wanted = min(wanted, self._random.randint(1, self._split))
        for threshold in (self._stall_after, self._drop_after, self._cut_after):
            if threshold > self._passed:
                wanted = int(min(wanted, threshold - self._passed))
        return wanted

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as well as the network lets it.

        Raises:
            trio.BrokenResourceError: The network was cut, or the stream broke.

        Cancellation:
            Part of the data may have been sent.
        """
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            await self._gate()
            size = self._size(len(view))
            if not self._dropping:
                await self._stream.send_all(view[:size])
            self._passed += size
            view = view[size:]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream underneath might take bytes.

        Cancellation:
            Changes nothing.
        """
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes, as well as the network lets it.

        Raises:
            trio.BrokenResourceError: The network was cut, or the stream broke.

        Cancellation:
            Atomic: bytes that were under way come with the next call.
        """
        if not self._ahead:
            self._ahead = bytes(await self._stream.receive_some(65536)) or b""
            if not self._ahead:
                return b"" if not self._cut else await self._broken()
        await self._gate()
        if self._dropping:
            await trio.sleep_forever()
        size = self._size(min(len(self._ahead), max_bytes or 65536))
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        self._passed += size
        return piece

    async def _broken(self) -> bytes:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("the network was cut")

    async def send_eof(self) -> None:
        """End this direction, if the stream underneath can.

        Cancellation:
            Atomic.
        """
        await self._gate()
        if isinstance(self._stream, trio.abc.HalfCloseableStream) and not self._dropping:
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream.

        Cancellation:
            It is closed all the same.
        """
        await self._stream.aclose()
