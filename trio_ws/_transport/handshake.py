"""`Request`: an HTTP request, and perhaps an opening handshake to accept."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from types import TracebackType
from typing import TypeAlias
from urllib.parse import parse_qsl

import trio
import trio.abc

from trio_ws._config import Deflate, Keepalive, Limits, Rate, check_compression
from trio_ws._errors import HandshakeError
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.extensions import answer_offers
from trio_ws._protocol.http import RequestHead, refuse
from trio_ws._protocol.upgrade import RESERVED, Upgrade, accept_head
from trio_ws._transport.connection import Connection
from trio_ws._transport.endpoint import Endpoint, describe
from trio_ws._transport.interrupts import Block
from trio_ws._transport.lifetime import Opened
from trio_ws._transport.tls_facts import TlsFacts
from trio_ws._types import Headers, HeadersLike, Response, escaped

_MAX_QUERY_FIELDS = 100


class Inherited(Enum):
    """What stands for a setting of the server's, where None means something else."""

    FROM_SERVER = "as the server"

    def __repr__(self) -> str:
        return f"<{self.value}>"


class Arrival:
    """What belongs to a request and is not for its handler: the stream and what became of it.

    Args:
        stream: Where the request came from.
        local: The server's address; asked early, because a closed socket has none any more.
        remote: The client's address.
        head: The request.
        upgrade: The opening handshake, if it is one.
        rest: Bytes that followed the head.
        secure: Whether the client speaks TLS.
        tls: What is known by TLS, if it speaks it with this server.
        background: Where the tasks of a connection live.
        subprotocols: What the server speaks, best first.
        compression: How the server compresses messages, if it does.
        limits: What the peer may cost.
        keepalive: When to probe the peer.
    """

    __slots__ = (
        "_compression",
        "_limits",
        "_subprotocols",
        "answer",
        "answer_head",
        "background",
        "connection",
        "draining",
        "head",
        "keepalive",
        "local",
        "on_close",
        "on_open",
        "rate",
        "remote",
        "rest",
        "secure",
        "stream",
        "tls",
        "upgrade",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        local: Endpoint | str,
        remote: Endpoint | str,
        head: RequestHead,
        upgrade: Upgrade | None,
        *,
        rest: bytes,
        secure: bool,
        tls: TlsFacts | None,
        background: trio.Nursery,
        subprotocols: Sequence[str],
        compression: Deflate | None,
        limits: Limits,
        keepalive: Keepalive,
    ) -> None:
        self.stream: trio.abc.Stream = stream
        self.remote: Endpoint | str = remote
        self.local: Endpoint | str = local
        self.secure: bool = secure
        self.tls: TlsFacts | None = tls
        self.rate: Rate | None = None
        """How fast the client may send; None for as fast as it can."""
        self.head: RequestHead = head
        self.upgrade: Upgrade | None = upgrade
        self.connection: Connection | None = None
        """The connection, once the request was accepted."""
        self.answer: Response | None = None
        """What answers a request that `accept` could not accept."""
        self.answer_head: bytes = b""
        """The 101, once the request was accepted."""
        self.draining: bool = False
        """Whether the server is going away, and accepts nothing any more."""
        self.on_open: Callable[[Connection], object] = lambda _: None
        """Called when a connection begins."""
        self.on_close: Callable[[Connection], object] = lambda _: None
        """Called when it has ended."""
        self.keepalive: Keepalive = keepalive
        self.background: trio.Nursery = background
        self.rest: bytes = rest
        self._subprotocols = subprotocols
        self._compression = compression
        self._limits = limits

    def accept(
        self, subprotocol: str | None, headers: HeadersLike, compression: Deflate | Inherited | None
    ) -> Connection:
        """Make the connection and queue the 101; see `Request.accept`."""
        if self.connection is not None:
            raise RuntimeError("this request was accepted already")
        if self.upgrade is None:
            self.answer = Response(
                426,
                "this address speaks WebSocket only\n",
                headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
            )
            raise HandshakeError("the request is no WebSocket handshake; it is answered 426")
        if self.draining:
            self.answer = GOING_AWAY
            raise HandshakeError("the server is going away; the handshake is answered 503")
        chosen = self._choose(subprotocol)
        extra = Headers(headers)
        if reserved := [name for name in extra if name.lower() in RESERVED]:
            raise ValueError(f"the header {reserved[0]} belongs to the handshake")
        limits = self._limits
        if isinstance(compression, Inherited):
            settings = self._compression
        else:
            settings = check_compression(compression)
        agreement = None
        if settings is not None:
            agreement = answer_offers(self.upgrade.extensions, settings)
        extension = None if agreement is None else agreement.text
        engine = Engine(
            client=False,
            max_message=limits.max_message,
            max_fragments=limits.max_fragments,
            agreement=agreement,
        )
        self.connection = Connection(
            self.stream,
            engine,
            local=self.local,
            remote=self.remote,
            limits=limits,
            peer="client",
            path=self.head.target,
            subprotocol=chosen,
            headers=self.head.headers,
            tls=self.tls,
            rate=self.rate,
            extension=extension,
        )
        self.answer_head = accept_head(
            self.upgrade, subprotocol=chosen, headers=extra, extension=extension
        )
        self.on_open(self.connection)
        return self.connection

    def _choose(self, subprotocol: str | None) -> str | None:
        assert self.upgrade is not None
        offered = self.upgrade.subprotocols
        if subprotocol is None:
            return next((name for name in self._subprotocols if name in offered), None)
        if subprotocol not in offered:
            raise ValueError(f"the client does not offer the subprotocol {subprotocol!r}")
        return subprotocol


GOING_AWAY = Response(503, "the server is going away\n", headers={"Retry-After": "1"})
"""What answers an opening handshake while a server drains."""


def not_found(target: str) -> Response:
    """Make the response for a target that nobody serves."""
    return Response(404, f"there is nothing at {target[:200]}\n")


class Request:
    """An HTTP request, which may be the opening handshake of a WebSocket.

    Handlers get one. They accept it, or return a `Response`, or None for 404.
    """

    __slots__ = ("_arrival", "_unrouted", "params", "query", "user")

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self.user: str | None = None
        """Who the client is, as `basic_auth` or `bearer_auth` found out; None if nobody asked."""
        self.params: dict[str, str] = {}
        """What the patterns of routers matched, percent-decoded."""
        self.query: dict[str, str] = {}
        """The query, decoded; the last value of a repeated name. At most 100 fields."""
        if arrival.head.query:
            self.query = _read_query(arrival.head.query)
        # The part of the raw path that no router has matched yet.
        self._unrouted = arrival.head.raw_path

    @property
    def method(self) -> str:
        """The method, in capitals: ``GET``."""
        return self._arrival.head.method

    @property
    def target(self) -> str:
        """The request target as sent: path and query, percent-encoded."""
        return self._arrival.head.target

    @property
    def path(self) -> str:
        """The path, percent-decoded once. ``%2F`` is a slash here; routers tell it from one."""
        return self._arrival.head.path

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self._arrival.head.headers

    @property
    def host(self) -> str:
        """The ``Host`` header, with port if it has one."""
        return self._arrival.head.authority

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, best first."""
        upgrade = self._arrival.upgrade
        return () if upgrade is None else upgrade.subprotocols

    @property
    def upgrade(self) -> bool:
        """Whether it is the opening handshake of a WebSocket, so that it can be accepted."""
        return self._arrival.upgrade is not None

    @property
    def remote(self) -> Endpoint | str:
        """The client's address; an `Endpoint` for TCP, a text for anything else.

        Behind `TrustedProxies` it is what they say; a port they do not tell is 0.
        """
        return self._arrival.remote

    @property
    def secure(self) -> bool:
        """Whether the client speaks TLS, with this server or with a trusted proxy."""
        return self._arrival.secure

    @property
    def tls(self) -> TlsFacts | None:
        """What the TLS handshake has told of the client; None without TLS.

        Clients are asked for a certificate if ``verify_mode`` of the server's ``ssl_context`` is
        ``CERT_OPTIONAL``, or ``CERT_REQUIRED``, which lets nobody in without. Of TLS between a
        client and a proxy nothing is known here.
        """
        return self._arrival.tls

    @property
    def local(self) -> Endpoint | str:
        """The server's address; an `Endpoint` for TCP, a text for anything else."""
        return self._arrival.local

    def accept(
        self,
        *,
        subprotocol: str | None = None,
        headers: HeadersLike = (),
        compression: Deflate | Inherited | None = Inherited.FROM_SERVER,
    ) -> AbstractAsyncContextManager[Connection]:
        """Accept the opening handshake: ``async with request.accept() as connection``.

        The connection lives as long as the block. Leaving it says goodbye with 1000; an error with
        1011, or with the ``close_code`` that the error carries; a cancellation with 1001.

        Args:
            subprotocol: One that the client offers. By default the first of the server's
                ``subprotocols`` that the client offers, or none.
            headers: Further header fields of the answer.
            compression: How to compress messages, if the client offers to; None for not at all. By
                default as `serve` was told.

        Raises:
            HandshakeError: On entering: the request is no handshake, and is answered 426; or
                the server is draining, and answers 503.
            RuntimeError: On entering: the request was accepted already.
            TypeError: On entering: ``compression`` is no `Deflate`.
            ValueError: On entering: the client does not offer the subprotocol, or a header field
                is malformed or the handshake's own.

        Cancellation:
            The connection says goodbye with 1001, within `Limits.close_timeout`.
        """
        return _Accepted(self._arrival, subprotocol, headers, compression)

    def __repr__(self) -> str:
        kind = " upgrade" if self.upgrade else ""
        what = f"{escaped(self.method, 20)} {escaped(self.target)}"
        return f"<Request {what} from {describe(self.remote)}{kind}>"


Handler: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""An async function from `Request` to `Response` or None."""


def _read_query(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError:
        raise refuse(400, f"the query has more than {_MAX_QUERY_FIELDS} fields") from None


class _Accepted(Block[Connection]):
    """Accepts a request for as long as a block lasts; see `Request.accept`."""

    __slots__ = ("_arguments", "_arrival", "_opened")

    def __init__(
        self,
        arrival: Arrival,
        subprotocol: str | None,
        headers: HeadersLike,
        compression: Deflate | Inherited | None,
    ) -> None:
        self._arrival = arrival
        self._arguments = subprotocol, headers, compression
        self._opened: Opened | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Connection:
        arrival = self._arrival
        connection = arrival.accept(*self._arguments)
        try:
            self._opened = Opened(
                connection,
                arrival.background,
                arrival.keepalive,
                head=arrival.answer_head,
                rest=arrival.rest,
            )
            arrival.answer_head = arrival.rest = b""
            return await self._opened.__aenter__()
        except BaseException:
            arrival.on_close(connection)
            raise

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._opened is not None
        assert self._arrival.connection is not None
        try:
            await self._opened.__aexit__(kind, error, traceback)
        finally:
            self._arrival.on_close(self._arrival.connection)
