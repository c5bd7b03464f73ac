"""Doubles that several test modules of the transport share."""

import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from types import TracebackType
from typing import Self, TypeAlias

import trio
import trio.abc
import trustme
from trio.testing import wait_all_tasks_blocked
from wsproto.events import Event

from tests.fakes import WholeMessages, raw_frame
from trio_ws._config import Deflate, Keepalive, Limits, Rate, TrustedProxies
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.hosts import Hosts
from trio_ws._protocol.origin import Origins
from trio_ws._transport.connection import Connection
from trio_ws._transport.endpoint import Endpoint
from trio_ws._transport.handshake import Handler
from trio_ws._transport.lifetime import Opened
from trio_ws._transport.link import Link
from trio_ws._transport.nurseries import lone_errors, open_background
from trio_ws._transport.service import Service
from trio_ws._types import Headers
from trio_ws.testing import MemoryStream, stream_pair

EngineType: TypeAlias = type[Engine] | type[WholeMessages]

NO_KEEPALIVE = Keepalive(interval=inf)


def _nothing() -> None:
    return


class Steps(trio.abc.Instrument):
    """Counts how often the task that opens this block gives way in it.

    Args:
        then: Called each time, before any other task runs.
    """

    def __init__(self, then: Callable[[], None] = _nothing) -> None:
        self._task = trio.lowlevel.current_task()
        self._then = then
        self.count = 0

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.count += 1
            self._then()


class Tls:
    """A certificate authority of the tests' own, and a server it vouches for."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = self.authority.issue_cert("localhost", "127.0.0.1", "::1", "testserver")
        certificate.configure_cert(self.server)
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)

    def mutual(self, verify_mode: ssl.VerifyMode) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Make contexts of a server that asks for a certificate, and of a client that has one."""
        clients = trustme.CA()
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        self.authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
        clients.configure_trust(server)
        server.verify_mode = verify_mode
        self.authority.configure_trust(client)
        clients.issue_cert("ana@example.com", common_name="Ana").configure_cert(client)
        return server, client


def with_certificate_later(tls: Tls) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make contexts for a client and for a server that may ask for its certificate at any time."""
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("somebody@example.org").configure_cert(client)
    tls.authority.issue_cert("localhost").configure_cert(server)
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (client, server):
        tls.authority.configure_trust(context)
        context.post_handshake_auth = True
    return client, server


class Plain(trio.abc.Stream):
    """A stream that can do no more than a stream must: half of it cannot be closed.

    Args:
        stream: What it passes everything on to.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.writes: list[bytes] = []
        """What was sent, call by call."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Failing(Plain, trio.abc.HalfCloseableStream):
    """A stream whose calls fail when they are told to.

    Args:
        stream: What it passes everything on to until then.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self._whole = stream
        self.errors: dict[str, Exception] = {}
        """What each method raises from now on, by its name."""

    async def _fail(self, method: str) -> None:
        if error := self.errors.get(method):
            await trio.lowlevel.checkpoint()
            raise error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._fail("send_all")
        await super().send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._fail("receive_some")
        data = await super().receive_some(max_bytes)
        await self._fail("receive_some")
        return data

    async def send_eof(self) -> None:
        await self._fail("send_eof")
        await self._whole.send_eof()

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            if error := self.errors.get("aclose"):
                raise error


class RawPeer:
    """The other end of a connection, played by hand.

    Args:
        stream: Its end of the stream.
        client: Whether it is the client.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, *, client: bool) -> None:
        self.stream = stream
        self.client = client
        self._engine = WholeMessages(client=client)

    async def send(self, *events: Event) -> None:
        """Send events in one piece."""
        await self.stream.send_all(b"".join(map(self._engine.send, events)))

    async def send_frame(self, opcode: int, payload: bytes = b"") -> None:
        """Send a frame, right or wrong."""
        await self.stream.send_all(raw_frame(opcode, payload, masked=self.client))

    async def read(self) -> list[Event]:
        """Return the events of the next piece that comes; none at the end of the stream."""
        self._engine.receive_data(await self.stream.receive_some() or b"")
        return list(self._engine.events())

    async def read_all(self) -> list[Event]:
        """Return the events up to the end of the stream."""
        events: list[Event] = []
        while data := await self.stream.receive_some():
            self._engine.receive_data(data)
            events += self._engine.events()
        return events


def make_connection(
    stream: trio.abc.Stream,
    engine_type: EngineType = Engine,
    *,
    client: bool = True,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    rate: Rate | None = None,
) -> Connection:
    """Make a connection as if its opening handshake was done."""
    return Connection(
        stream,
        engine_type(client=client, max_message=limits.max_message),
        local=Endpoint("127.0.0.1", 40000, False),
        remote=Endpoint("::1", 8080, False),
        limits=limits,
        peer="server" if client else "client",
        path="/chat",
        subprotocol="chat.v1",
        headers=Headers({"Server": "tests"}),
        rate=rate,
    )


def link_of(connection: Connection) -> Link:
    """Return the working half of a connection."""
    return connection._link  # noqa: SLF001 - so that tests need not reach in


@asynccontextmanager
async def open_near(
    engine_type: EngineType = Engine,
    *,
    client: bool = True,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    rate: Rate | None = None,
    keepalive: Keepalive = NO_KEEPALIVE,
    capacity: int = 64 * 1024,
) -> AsyncGenerator[tuple[Connection, RawPeer], None]:
    """Open a connection to a peer that does nothing by itself and is gone at the end."""
    stream, far = stream_pair(capacity)
    connection = make_connection(stream, engine_type, client=client, limits=limits, rate=rate)
    async with open_background() as background, Opened(connection, background, keepalive):
        try:
            yield connection, RawPeer(far, client=not client)
        finally:
            await far.aclose()


@asynccontextmanager
async def open_pair(
    engine_type: EngineType = Engine,
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    streams: Callable[
        [], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]
    ] = stream_pair,
) -> AsyncGenerator[tuple[Connection, Connection], None]:
    """Open two connections back to back: a client on an engine, and a server on ours."""
    near, far = streams()
    client = make_connection(near, engine_type, client=True, limits=limits)
    server = make_connection(far, client=False, limits=limits)
    async with (
        open_background() as background,
        Opened(server, background, NO_KEEPALIVE),
        Opened(client, background, NO_KEEPALIVE),
    ):
        yield client, server


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    """Cancel a scope as soon as every other task waits for something."""
    await wait_all_tasks_blocked()
    scope.cancel()


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(target: str = "/", *fields: str) -> bytes:
    """Write the head of an opening handshake, with further header lines."""
    lines = (
        f"GET {target} HTTP/1.1",
        "Host: testserver",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *fields,
    )
    return "\r\n".join((*lines, "", "")).encode()


class Clients:
    """The clients of a service, played by hand. Created by `open_service`.

    Args:
        service: What serves them.
        nursery: Where it does so.
    """

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self.service = service
        self._nursery = nursery

    def dial(self, capacity: int = 64 * 1024) -> MemoryStream:
        """Have a stream served; return the client's end."""
        client, server = stream_pair(capacity)
        self._nursery.start_soon(self.service.serve_stream, server)
        return client

    async def ask(self, data: bytes) -> bytes:
        """Send bytes on a stream of their own, and return all that comes back."""
        async with self.dial() as stream:
            await stream.send_all(data)
            return await read_to_end(stream)

    async def open(self, *fields: str, rest: bytes = b"") -> RawPeer:
        """Open a WebSocket."""
        stream = self.dial()
        await stream.send_all(handshake("/", *fields) + rest)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = await stream.receive_some(1)
            assert piece, head
            head += piece
        assert head.startswith(b"HTTP/1.1 101 "), head
        return RawPeer(stream, client=True)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Return everything up to the end of a stream."""
    data = b""
    while piece := await stream.receive_some():
        data += piece
    return data


@asynccontextmanager
async def open_service(
    handler: Handler,
    *,
    ssl_context: ssl.SSLContext | None = None,
    origins: Origins = None,
    hosts: Hosts = None,
    proxies: TrustedProxies | None = None,
    subprotocols: Sequence[str] = (),
    compression: Deflate | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    propagate: bool = False,
) -> AsyncGenerator[Clients, None]:
    """Run a service whose clients are played by hand; it is cancelled at the end."""
    with lone_errors():
        async with open_background() as background, trio.open_nursery() as nursery:
            service = Service(
                handler,
                background,
                ssl_context=ssl_context,
                origins=origins,
                hosts=hosts,
                proxies=proxies,
                subprotocols=subprotocols,
                compression=compression,
                limits=limits,
                keepalive=NO_KEEPALIVE,
                propagate=propagate,
            )
            yield Clients(service, nursery)
            nursery.cancel_scope.cancel()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """A listener whose clients dial in memory."""

    def __init__(self) -> None:
        self._dialled, self._waiting = trio.open_memory_channel[MemoryStream](inf)

    def dial(self) -> MemoryStream:
        """Connect, and return the client's end.

        Raises:
            trio.BrokenResourceError: The listener is closed.
        """
        client, server = stream_pair()
        self._dialled.send_nowait(server)
        return client

    async def accept(self) -> MemoryStream:
        return await self._waiting.receive()

    async def aclose(self) -> None:
        self._waiting.close()
        await trio.lowlevel.checkpoint()


class Resolver(trio.abc.HostnameResolver):
    """Resolves every name to the same addresses.

    Args:
        addresses: Which; without any, no name can be resolved.
    """

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.asked: list[bytes | None] = []

    # Its parameters and what it returns are as the standard library has them.
    async def getaddrinfo(  # type: ignore[override]  # noqa: PLR0917
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,  # noqa: ARG002
        type: int = 0,  # noqa: A002, ARG002
        proto: int = 0,  # noqa: ARG002
        flags: int = 0,  # noqa: ARG002
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        if not self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in self._addresses]
        return [
            (family, socket.SOCK_STREAM, 0, "", (address, int(port or 0)))
            for family, address in zip(families, self._addresses, strict=True)
        ]

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise NotImplementedError
