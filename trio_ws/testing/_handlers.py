"""`connect`, `request`, `connection_pair`: handlers and connections without a network."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import TypeAlias

import trio
import trio.abc

from trio_ws._config import Deflate, Keepalive, Limits, TrustedProxies
from trio_ws._errors import ConnectionClosed, HandshakeError
from trio_ws._protocol.exchange import Exchange
from trio_ws._protocol.hosts import Hosts
from trio_ws._protocol.origin import Origins
from trio_ws._transport.client import connect as _connect
from trio_ws._transport.connection import Connection
from trio_ws._transport.handshake import Handler, Request
from trio_ws._transport.interrupts import unbroken
from trio_ws._transport.nurseries import lone_errors, members, open_background
from trio_ws._transport.service import Service
from trio_ws._types import Headers, HeadersLike, Response
from trio_ws.testing._streams import stream_pair

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

_CONSEQUENCES = (ConnectionClosed, HandshakeError, trio.Cancelled)
"""What a block raises because the handler at the other end has failed."""


def _unchanged(stream: trio.abc.Stream) -> trio.abc.Stream:
    return stream


@unbroken
@asynccontextmanager
async def connect(
    handler: Handler,
    url: str = "ws://testserver/",
    *,
    headers: HeadersLike = (),
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    compression: Deflate | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
    origins: Origins = None,
    hosts: Hosts = None,
    proxies: TrustedProxies | None = None,
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
        compression: How both sides compress messages; None for not at all.
        limits: The client's.
        keepalive: The client's.
        origins: As for `trio_ws.serve`.
        hosts: As for `trio_ws.serve`; here None means any.
        proxies: As for `trio_ws.serve`; a client in memory is one of ``"unix"``.
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
            hosts=hosts,
            proxies=proxies,
            subprotocols=server_subprotocols,
            compression=compression,
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
            compression=compression,
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
    hosts: Hosts,
    proxies: TrustedProxies | None,
    subprotocols: Sequence[str],
    compression: Deflate | None,
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
            hosts=hosts,
            proxies=proxies,
            subprotocols=subprotocols,
            compression=compression,
            limits=limits,
            keepalive=keepalive,
            propagate=True,
        )

        @trio.lowlevel.enable_ki_protection
        async def serve() -> None:
            nonlocal handler_error
            try:
                await service.serve_stream(server_stream)
            except Exception as error:  # noqa: BLE001 - it is raised below, with the block's
                handler_error = error
                nursery.cancel_scope.cancel()
            done.set()

        try:
            with lone_errors():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve)
                    try:
                        yield client_stream
                    except BaseException as error:  # noqa: BLE001 - it is raised below, out of the nursery
                        block_error = error
                    await trio.aclose_forcefully(client_stream)
                    # An error of the handler may be on its way still, with its consequence here.
                    patient = block_error is None or _is_only(block_error, _CONSEQUENCES)
                    with trio.move_on_after(grace if patient else 0):
                        await done.wait()
                    nursery.cancel_scope.cancel()
        except BaseException as error:
            # A cancellation from outside gives way to an error, which takes the same way out.
            if not _is_only(error, trio.Cancelled) or not (handler_error or block_error):
                raise
        _raise_first(handler_error, block_error)


def _raise_first(handler_error: Exception | None, block_error: BaseException | None) -> None:
    """Raise what went wrong; a consequence of the handler's error gives way to it."""
    if handler_error is None:
        if block_error is not None:
            raise block_error
        return
    if block_error is None or _is_only(block_error, _CONSEQUENCES):
        raise handler_error
    raise BaseExceptionGroup(
        "the handler failed, and so did the test", [handler_error, block_error]
    )


def _is_only(error: BaseException, kinds: _Kinds) -> bool:
    """Tell whether an error, or all of a group, is of some kinds."""
    if inner := members(error):
        return all(_is_only(each, kinds) for each in inner)
    return isinstance(error, kinds)


@trio.lowlevel.enable_ki_protection
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
        HandshakeError: There was no answer, or the handler accepted a WebSocket.
        ValueError: The method, the target or a header is malformed.

    Cancellation:
        The handler is cancelled as well.
    """
    fields = Headers(headers).fields
    if "Host" not in Headers(headers):
        fields = (("Host", "testserver"), *fields)
    exchange = Exchange(max_head=inf, max_headers=inf, max_body=2**31)
    data = exchange.start(method, target, list(fields))
    async with _serving(
        handler,
        origins=None,
        hosts=None,
        proxies=None,
        subprotocols=(),
        compression=None,
        limits=limits,
        keepalive=Keepalive(),
        grace=inf,
    ) as stream:
        with lone_errors():
            async with trio.open_nursery() as nursery:
                # A server may answer, and stop reading, before it has read all of a large request.
                nursery.start_soon(_send, stream, data)
                await _receive(stream, exchange)
    if exchange.switched:
        raise HandshakeError("the handler accepted a WebSocket; connect() is for that")
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


@unbroken
@asynccontextmanager
async def connection_pair(
    *,
    compression: Deflate | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
    wrap: Callable[[trio.abc.Stream], trio.abc.Stream] = _unchanged,
) -> AsyncGenerator[tuple[Connection, Connection], None]:
    """Open two real connections, back to back in memory.

    Args:
        compression: How both sides compress messages; None for not at all.
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

    async with connect(
        hold, compression=compression, limits=limits, keepalive=keepalive, wrap=wrap
    ) as client:
        await opened.wait()
        try:
            yield client, accepted[0]
        finally:
            left.set()
