"""`connect`: opens a connection to a server, for as long as a block lasts."""

import os
import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from socket import gaierror

import trio
import trio.abc

from trio_ws._config import Deflate, Keepalive, Limits, check_compression
from trio_ws._errors import HandshakeError, HandshakeRejected
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.exchange import Exchange
from trio_ws._protocol.extensions import Agreement, make_offer, read_answer
from trio_ws._protocol.upgrade import (
    RESERVED,
    UpgradeError,
    check_answer,
    check_subprotocols,
    make_key,
    request_fields,
)
from trio_ws._transport.connection import Connection
from trio_ws._transport.endpoint import beneath_tls, endpoint_of
from trio_ws._transport.interrupts import unbroken
from trio_ws._transport.lifetime import Opened
from trio_ws._transport.nurseries import lone_errors, members, open_background
from trio_ws._transport.start_tls import check_context, start_tls
from trio_ws._transport.streams import cut
from trio_ws._transport.tls_stream import tls_of
from trio_ws._transport.url import Target, parse_url
from trio_ws._types import Headers, HeadersLike, Response

_MAX_BODY = 64 * 1024  # bytes kept of the body of a rejection

_USER_AGENT = f"trio_ws/{version('trio-ws')}"

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@unbroken
@asynccontextmanager
async def connect(
    url: str,
    *,
    stream: trio.abc.Stream | None = None,
    ssl_context: ssl.SSLContext | None = None,
    headers: HeadersLike = (),
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    compression: Deflate | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
) -> AsyncGenerator[Connection, None]:
    """Open a WebSocket connection, for as long as a block lasts.

    Leaving the block says goodbye with 1000; an error with 1011, or with the ``close_code``
    that the error carries; a cancellation with 1001.

    Example::

        async with trio_ws.connect("ws://localhost:8080") as connection:
            await connection.send("Olá, servidor!")

    Args:
        url: ``ws:``, ``wss:`` or ``ws+unix:/path/of/socket:/resource``. User info becomes Basic
            auth.
        stream: A stream to use instead of opening one. It is closed at the end, also if that is an
            error in the other arguments. A ``wss:`` URL puts TLS over it, unless it is a
            `trio.SSLStream` already.
        ssl_context: For ``wss:``; by default the system's certificates are trusted.
        headers: Further header fields of the request.
        subprotocols: What to offer, best first; `Connection.subprotocol` is the server's choice.
        origin: An ``Origin`` header, for servers that want one.
        compression: How to compress messages, if the server agrees; None for not at all.
        limits: What the peer may cost. `Limits.open_timeout` bounds name lookup, TCP, TLS and
            the opening handshake together.
        keepalive: When to probe a silent peer.

    Yields:
        The connection.

    Raises:
        HandshakeRejected: The server answered with HTTP; its status, headers and body are there.
        HandshakeError: Anything else that kept the connection from opening.
        TypeError: ``compression`` is no `Deflate`.
        ValueError: The URL, a header or a subprotocol is malformed, or ``ssl_context`` is not for
            this.

    Cancellation:
        The connection says goodbye with 1001, within `Limits.close_timeout`.
    """
    try:
        target = parse_url(url)
        if ssl_context is not None:
            _check_context(ssl_context, target)
        fields = _request_headers(target, headers, origin)
        offered = check_subprotocols(subprotocols)
        check_compression(compression)
        timeout = limits.open_timeout
        with _failures(target, timeout) as progress, trio.fail_after(timeout):
            if stream is None:
                stream = await _open_stream(target, progress)
            if target.secure and beneath_tls(stream) is stream:
                progress.step = "waiting for the TLS handshake"
                context = ssl_context or ssl.create_default_context()
                stream = await start_tls(stream, context, server_hostname=target.host)
            progress.step = "waiting for the answer to the opening handshake"
            key = make_key()
            extensions = None if compression is None else make_offer(compression)
            head = [*fields.fields, *request_fields(key, offered, extensions)]
            exchange = await _exchange(stream, target, head, limits)
            subprotocol, agreement = _check(exchange, target, key, offered, compression)
            tls = tls_of(stream)
    except BaseException:
        if stream is not None:
            await cut(stream)
        raise
    engine = Engine(
        client=True,
        max_message=limits.max_message,
        max_fragments=limits.max_fragments,
        agreement=agreement,
    )
    connection = Connection(
        stream,
        engine,
        local=endpoint_of(stream, local=True),
        remote=endpoint_of(stream, local=False),
        limits=limits,
        peer="server",
        path=target.resource,
        subprotocol=subprotocol,
        headers=exchange.headers,
        extension=None if agreement is None else agreement.text,
        tls=tls,
    )
    async with (
        open_background() as background,
        Opened(connection, background, keepalive, rest=exchange.rest),
    ):
        yield connection


class _Progress:
    """What an opening handshake is about to do, for the message of a failure."""

    step = "looking up the address and connecting"


@contextmanager
def _failures(target: Target, timeout: float) -> Generator[_Progress, None, None]:
    """Translate what can go wrong into errors that say what, and with whom."""
    progress = _Progress()
    try:
        yield progress
    except trio.TooSlowError as error:
        text = f"{target.name} took longer than {timeout:g} seconds: timed out {progress.step}"
        raise HandshakeError(text) from error
    except gaierror as error:
        text = f"the host name of {target.name} cannot be resolved: {error.strerror or error}"
        raise HandshakeError(text) from error
    except OSError as error:
        raise HandshakeError(f"{target.name} cannot be reached: {_reasons(error)}") from error
    except _BROKEN as error:
        raise HandshakeError(_broken(target, error, progress)) from error


def _reasons(error: BaseException) -> str:
    """Collect the reasons of the attempts that Trio bundles in one error, each once."""
    cause = error.__cause__
    if attempts := members(error):
        return "; ".join(dict.fromkeys(map(_reasons, attempts)))
    if cause is not None:
        return _reasons(cause)
    # Trio's own text names the address once more; several attempts mostly have one reason.
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def _broken(target: Target, error: BaseException, progress: _Progress) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {target.name} is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS with {target.name} failed: {cause.reason or cause}"
    how = f": {cause}" if cause is not None else ""
    return f"{target.name} broke off the connection, {progress.step}{how}"


def _check_context(context: ssl.SSLContext, target: Target) -> None:
    if not target.secure:
        raise ValueError("ssl_context goes with a wss: URL")
    check_context(context, server=False)


async def _open_stream(target: Target, progress: _Progress) -> trio.abc.Stream:
    if target.unix_path is not None:
        progress.step = "connecting to the socket"
        return await trio.open_unix_socket(target.unix_path)
    with lone_errors():
        # Of an interrupt Trio's own nursery makes a group.
        return await trio.open_tcp_stream(target.host, target.port)


def _request_headers(target: Target, headers: HeadersLike, origin: str | None) -> Headers:
    given = Headers(headers)
    if reserved := [name for name in given if name.lower() in RESERVED]:
        raise ValueError(f"the header {reserved[0]} belongs to the handshake")
    fields = list(given.fields)
    if "User-Agent" not in given:
        fields.append(("User-Agent", _USER_AGENT))
    if origin is not None:
        fields.append(("Origin", origin))
    if target.credentials is not None and "Authorization" not in given:
        fields.append(("Authorization", target.credentials))
    if "Host" not in given:
        fields.insert(0, ("Host", target.authority))
    return Headers(fields)


async def _exchange(
    stream: trio.abc.Stream, target: Target, head: list[tuple[str, str]], limits: Limits
) -> Exchange:
    """Send the request, and read the answer to its end."""
    exchange = Exchange(
        max_head=limits.max_head, max_headers=limits.max_headers, max_body=_MAX_BODY
    )
    await stream.send_all(exchange.start("GET", target.resource, head))
    read_size = int(min(64 * 1024, limits.max_head))
    while not exchange.complete:
        data = await stream.receive_some(read_size)
        try:
            exchange.receive(data)
        except ValueError as error:
            how = "does not speak HTTP" if data else "closed the connection without an answer"
            raise HandshakeError(f"{target.name} {how}: {error}") from None
    return exchange


def _check(
    exchange: Exchange,
    target: Target,
    key: str,
    offered: tuple[str, ...],
    compression: Deflate | None,
) -> tuple[str | None, Agreement | None]:
    """Return the choices of an answer that may be accepted: subprotocol and compression."""
    if not exchange.switched:
        status = exchange.status or 0
        response = Response(status, exchange.body, headers=exchange.headers)
        raise HandshakeRejected(target.name, response)
    try:
        subprotocol = check_answer(exchange.headers, key, offered)
        chosen = exchange.headers.get_all("Sec-WebSocket-Extensions")
        return subprotocol, read_answer(chosen, compression)
    except UpgradeError as error:
        raise HandshakeError(f"{target.name} cannot be talked to: {error}") from None
