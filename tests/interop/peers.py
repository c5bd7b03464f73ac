"""Connections of ours and of other libraries, each talking to the other over a real socket.

A pair is opened whole: one side connects, the other serves, and the test gets both connections.
`Side` says which of the two is ours. At its end the client of a pair leaves first, with 1000.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack

import trio
import trio_websocket
import websockets.trio.client as websockets_client
import websockets.trio.server as websockets_server
from websockets.http11 import Request, Response
from websockets.trio.connection import Connection as WebsocketsConnection
from websockets.typing import Subprotocol
from wsproto.events import Event

import trio_ws

__all__ = ["WebsocketsConnection"]

NET = 30  # seconds after which a test is stuck, and fails
TARGET = "/room/blue?seat=7"
CLIENT_HEADER = ("X-From", "the client")
SERVER_HEADER = ("X-From", "the server")

Side: TypeAlias = Literal["client", "server"]
"""Which side of a pair is ours."""

TrioWebsocketHandler: TypeAlias = Callable[[trio_websocket.WebSocketRequest], Awaitable[None]]
WebsocketsHandler: TypeAlias = Callable[[websockets_server.ServerConnection], Awaitable[None]]

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What a pair may be opened with."""

    subprotocols: Sequence[str]
    compression: trio_ws.Deflate | None
    limits: trio_ws.Limits


class Handover(Generic[T]):
    """Takes the one connection of a server out of its handler, which waits meanwhile."""

    def __init__(self) -> None:
        self._given, self._taken = trio.open_memory_channel[T](1)
        self._released = trio.Event()

    async def give(self, connection: T) -> None:
        """Hand a connection over, and wait for its release."""
        self._given.send_nowait(connection)
        await self._released.wait()

    async def take(self) -> T:
        """Wait for the connection."""
        return await self._taken.receive()

    def release(self) -> None:
        """Let the handler go on."""
        self._released.set()


@asynccontextmanager
async def serving(
    handler: trio_ws.Handler,
    subprotocols: Sequence[str] = (),
    compression: trio_ws.Deflate | None = None,
    limits: trio_ws.Limits | None = None,
) -> AsyncGenerator[int, None]:
    """Serve with trio_ws; give the port."""
    serve = partial(
        trio_ws.serve,
        handler,
        0,
        host="127.0.0.1",
        subprotocols=subprotocols,
        compression=compression,
        limits=limits or trio_ws.Limits(),
    )
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(serve)
        yield server.port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_trio_websocket(handler: TrioWebsocketHandler) -> AsyncGenerator[int, None]:
    """Serve with trio-websocket; give the port."""
    serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None)
    async with trio.open_nursery() as nursery:
        server: trio_websocket.WebSocketServer = await nursery.start(serve)
        yield server.port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_websockets(
    handler: WebsocketsHandler,
    subprotocols: Sequence[str] = (),
    process_request: Callable[..., Response | None] | None = None,
) -> AsyncGenerator[int, None]:
    """Serve with websockets; give the port."""
    serve = partial(
        websockets_server.serve,
        handler,
        0,
        host="127.0.0.1",
        subprotocols=_named(subprotocols),
        process_request=process_request,
        process_response=_add_header,
    )
    async with trio.open_nursery() as nursery:
        server: websockets_server.Server = await nursery.start(serve)
        yield server.listeners[0].socket.getsockname()[1]
        await server.aclose()


def _named(subprotocols: Sequence[str]) -> list[Subprotocol] | None:
    return [Subprotocol(name) for name in subprotocols] or None


def _add_header(
    _: websockets_server.ServerConnection,
    request: Request,
    response: Response,
) -> None:
    response.headers[SERVER_HEADER[0]] = SERVER_HEADER[1]


def connect(
    port: int, **options: Unpack[Options]
) -> AbstractAsyncContextManager[trio_ws.Connection]:
    """Connect with trio_ws."""
    return trio_ws.connect(f"ws://127.0.0.1:{port}{TARGET}", headers=[CLIENT_HEADER], **options)


def connect_trio_websocket(
    port: int, subprotocols: Sequence[str] = (), headers: Sequence[tuple[str, str]] = ()
) -> AbstractAsyncContextManager[trio_websocket.WebSocketConnection]:
    """Connect with trio-websocket."""
    return trio_websocket.open_websocket_url(
        f"ws://127.0.0.1:{port}{TARGET}",
        subprotocols=subprotocols or None,
        extra_headers=[(n.encode(), v.encode()) for n, v in (CLIENT_HEADER, *headers)],
    )


async def reject_trio_websocket(port: int) -> trio_websocket.ConnectionRejected:
    """Connect with trio-websocket, which is to be rejected; give its error.

    It leaves its socket open then, so it gets one that is closed here.
    """
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            async with trio.open_nursery() as nursery:
                await trio_websocket.wrap_client_stream(nursery, stream, "127.0.0.1", TARGET)
        except* trio_websocket.ConnectionRejected as group:
            error = group.exceptions[0]
    assert isinstance(error, trio_websocket.ConnectionRejected)
    return error


def connect_websockets(port: int, subprotocols: Sequence[str] = ()) -> websockets_client.connect:
    """Connect with websockets, which offers compression."""
    return websockets_client.connect(
        f"ws://127.0.0.1:{port}{TARGET}",
        subprotocols=_named(subprotocols),
        additional_headers=[CLIENT_HEADER],
        proxy=None,
    )


@asynccontextmanager
async def trio_websocket_pair(
    ours: Side, **options: Unpack[Options]
) -> AsyncGenerator[tuple[trio_ws.Connection, trio_websocket.WebSocketConnection], None]:
    """Open a connection between ours and trio-websocket's; give both, ours first."""
    theirs = Handover[trio_websocket.WebSocketConnection]()
    subprotocols = options.get("subprotocols", ())

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        chosen = next((n for n in subprotocols if n in request.proposed_subprotocols), None)
        header = (SERVER_HEADER[0].encode(), SERVER_HEADER[1].encode())
        await theirs.give(await request.accept(subprotocol=chosen, extra_headers=[header]))

    with trio.fail_after(NET):
        if ours == "server":
            async with (
                _serving_ours(options) as (port, taken),
                connect_trio_websocket(port, subprotocols) as client,
                _hanging_up(client),
            ):
                yield await taken.take(), client
        else:
            async with serving_trio_websocket(handle) as port:
                async with connect(port, **options) as connection:
                    yield connection, await theirs.take()
                theirs.release()


@asynccontextmanager
async def _hanging_up(client: trio_websocket.WebSocketConnection) -> AsyncGenerator[None, None]:
    """Do what trio-websocket's client leaves out when the server has closed first.

    It keeps its socket open, until the garbage collector finds it; the server's close would take
    `Limits.close_timeout` each time.
    """

    async def hang_up_after_the_close() -> None:
        await client._close_handshake.wait()  # noqa: SLF001 - there is no public way to wait
        await hang_up(client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up_after_the_close)
        yield
        await client.aclose()


@asynccontextmanager
async def websockets_pair(
    ours: Side, **options: Unpack[Options]
) -> AsyncGenerator[tuple[trio_ws.Connection, WebsocketsConnection], None]:
    """Open a connection between ours and websockets'; give both, ours first."""
    theirs = Handover[websockets_server.ServerConnection]()
    subprotocols = options.get("subprotocols", ())
    with trio.fail_after(NET):
        if ours == "server":
            async with (
                _serving_ours(options) as (port, taken),
                connect_websockets(port, subprotocols) as client,
            ):
                yield await taken.take(), client
        else:
            async with serving_websockets(theirs.give, subprotocols) as port:
                async with connect(port, **options) as connection:
                    yield connection, await theirs.take()
                theirs.release()


@asynccontextmanager
async def _serving_ours(
    options: Options,
) -> AsyncGenerator[tuple[int, Handover[trio_ws.Connection]], None]:
    handover = Handover[trio_ws.Connection]()

    async def handle(request: trio_ws.Request) -> None:
        async with request.accept(headers=[SERVER_HEADER]) as connection:
            await handover.give(connection)

    async with serving(handle, **options) as port:
        yield port, handover
        handover.release()


async def send_events(connection: trio_websocket.WebSocketConnection, *events: Event) -> None:
    """Have trio-websocket send what it has no method for: fragments, a Close without a code."""
    for event in events:
        await connection._send(event)  # noqa: SLF001 - see above


async def send_bytes(connection: trio_websocket.WebSocketConnection, data: bytes) -> None:
    """Have trio-websocket write bytes of no kind that wsproto would make."""
    await connection._stream.send_all(data)  # noqa: SLF001 - see above


async def hang_up(connection: trio_websocket.WebSocketConnection | WebsocketsConnection) -> None:
    """End the line of a peer, without a Close frame."""
    if isinstance(connection, WebsocketsConnection):
        await connection.stream.aclose()
    else:
        await connection._stream.aclose()  # noqa: SLF001 - see above
