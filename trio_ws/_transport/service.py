"""`Service`: serves one stream: TLS, the request head, the handler, the answer."""

import logging
import ssl
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import inf

import trio
import trio.abc

from trio_ws._config import Deflate, Keepalive, Limits, TrustedProxies, check_compression
from trio_ws._errors import ConnectionClosed, HandshakeError
from trio_ws._protocol.hosts import HostPolicy, Hosts
from trio_ws._protocol.http import (
    HeadBuffer,
    RequestError,
    read_request,
    refuse,
    write_response,
)
from trio_ws._protocol.origin import OriginPolicy, Origins
from trio_ws._protocol.proxy_header import ProxyHeaderError
from trio_ws._protocol.upgrade import check_subprotocols, read_upgrade
from trio_ws._transport.addresses import Addresses
from trio_ws._transport.connection import Connection
from trio_ws._transport.endpoint import (
    Endpoint,
    beneath_tls,
    describe,
    endpoint_of,
    is_loopback,
)
from trio_ws._transport.handshake import GOING_AWAY, Arrival, Handler, Request, not_found
from trio_ws._transport.interrupts import interruptible
from trio_ws._transport.nurseries import members
from trio_ws._transport.poller import can_poll
from trio_ws._transport.proxied import Proxies
from trio_ws._transport.start_tls import check_context, start_tls
from trio_ws._transport.streams import cut, read_now, send_last
from trio_ws._transport.tls_stream import tls_of
from trio_ws._types import Response, escaped

_MAX_REFUSALS = 64  # clients without room that are answered at a time; more are just closed

_FULL = Response(503, "the server has no room for more connections\n", headers={"Retry-After": "1"})

_CROWDED = Response(429, "too many connections from this address\n", headers={"Retry-After": "1"})

_FAILED = Response(500, "the server failed to answer this request\n")

_STAY = nullcontext()  # it keeps nothing, so all may share it

logger = logging.getLogger("trio_ws.server")


@dataclass(slots=True)
class Counters:
    """What a service has counted; see `ServerStatistics`."""

    requests: int = 0
    connections: int = 0
    refused: int = 0
    failures: int = 0
    open: set[Connection] = field(default_factory=set[Connection])
    """The connections that are open."""

    def opened(self, connection: Connection) -> None:
        """Count a connection that begins."""
        self.connections += 1
        self.open.add(connection)


@dataclass(slots=True)
class _Visit:
    """Who has come on a stream."""

    remote: Endpoint | str
    """The client's address, as far as it is known."""
    counted: bool = False
    """Whether the address is counted."""


class Service:
    """Serves streams with a handler.

    Args:
        handler: The application.
        background: Where connections have their tasks.
        ssl_context: Makes streams TLS.
        origins: Whose pages may open a WebSocket.
        hosts: The names to answer to.
        proxies: Who is believed about a client's address.
        subprotocols: What the application speaks, best first.
        compression: How to compress messages, if at all.
        limits: What a peer may cost.
        keepalive: When to probe a peer.
        propagate: Let a handler's error out of `serve_stream`, for tests.

    Raises:
        ValueError: An origin, a host or a subprotocol is malformed, or ``ssl_context`` is a
            client's.
    """

    def __init__(
        self,
        handler: Handler,
        background: trio.Nursery,
        *,
        ssl_context: ssl.SSLContext | None,
        origins: Origins,
        hosts: Hosts,
        proxies: TrustedProxies | None,
        subprotocols: Sequence[str],
        compression: Deflate | None,
        limits: Limits,
        keepalive: Keepalive,
        propagate: bool = False,
    ) -> None:
        self._handler = handler
        self._background = background
        if ssl_context is not None:
            check_context(ssl_context, server=True)
        self._ssl_context = ssl_context
        self._origins = OriginPolicy(origins)
        self._hosts = HostPolicy(hosts)
        self._proxies = None if proxies is None else Proxies(proxies)
        self._subprotocols = check_subprotocols(subprotocols)
        self._compression = check_compression(compression)
        self._limits = limits
        self._keepalive = keepalive
        self._propagate = propagate
        self._propagated: Exception | None = None
        self.counters: Counters = Counters()
        self.connections: set[Connection] = self.counters.open
        """The connections that are open."""
        self.draining: bool = False
        """Whether opening handshakes are refused with 503."""
        # Kept, because a bound method made for each arrival would live as long as a connection; and
        # none of this service, which would be a cycle.
        self._callbacks = self.counters.opened, self.connections.discard
        self._waiting: set[Arrival] = set()
        self._addresses = Addresses(limits.max_connections_per_address)
        self._refusing = 0
        self._read_size = int(min(64 * 1024, limits.max_head + 1))
        # Whether a request that is here already is read without a wait.
        self._at_once = ssl_context is None and proxies is None and can_poll()

    def drain(self) -> None:
        """Refuse opening handshakes from now on, and tell every connection goodbye with 1001."""
        self.draining = True
        for arrival in self._waiting:
            arrival.draining = True
        for connection in self.connections:
            connection._link.close(1001, None, "the server is going away")  # noqa: SLF001

    def abort(self) -> None:
        """Cut the line of every connection at once."""
        for connection in self.connections:
            connection._link.wire.abort()  # noqa: SLF001 - as above

    @trio.lowlevel.enable_ki_protection
    async def serve_stream(
        self, stream: trio.abc.Stream, stay: AbstractContextManager[object] = _STAY
    ) -> None:
        """Serve one stream, and close it.

        Args:
            stream: The stream.
            stay: Is entered as long as it is served.

        Cancellation:
            A connection is told goodbye with 1001, then the stream is closed.
        """
        with stay:
            visit = _Visit(endpoint_of(stream, local=False))
            try:
                arrival = await self._open(stream, visit)
                if arrival is None:
                    return
                self._waiting.add(arrival)
                try:
                    # From no deeper than this: each resumption of a handler goes through all.
                    returned = await interruptible(self._handler, Request(arrival))
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - invariant 4
                    response = self._answer_to(arrival, error)
                else:
                    response = self._checked(arrival, returned)
                finally:
                    self._waiting.discard(arrival)
                await self._conclude(arrival, response)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                if error is self._propagated:
                    raise
                why = error.__cause__ or error
                logger.debug(
                    "client %s went away before it was answered: %s", describe(visit.remote), why
                )
            except Exception as error:
                # A stream that breaks its contract costs nobody else anything.
                if error is self._propagated:
                    raise
                logger.exception("serving client %s failed", describe(visit.remote))
            finally:
                if visit.counted:
                    self._addresses.leave(visit.remote)
                await cut(stream)

    @trio.lowlevel.enable_ki_protection
    async def refuse_stream(self, stream: trio.abc.Stream, response: Response = _FULL) -> None:
        """Answer without reading a request, unless too many get that already, and close the stream.

        Args:
            stream: The stream.
            response: The answer; by default 503.
        """
        self.counters.refused += 1
        if self._refusing >= _MAX_REFUSALS:
            await cut(stream)
            return
        self._refusing += 1
        try:
            with trio.move_on_after(self._limits.open_timeout):
                await send_last(
                    await self._secure(stream), write_response(response), self._limits.write_timeout
                )
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            logger.debug("a client that found no room did not wait for its 503")
        except Exception:
            logger.exception("answering a client that found no room failed")
        finally:
            self._refusing -= 1
            await cut(stream)

    async def _secure(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return stream if self._ssl_context is None else await start_tls(stream, self._ssl_context)

    async def _open(self, stream: trio.abc.Stream, visit: _Visit) -> Arrival | None:
        """Get the request within `Limits.open_timeout`, or answer why not."""
        buffer = HeadBuffer(self._limits.max_head)
        secure = stream
        try:
            # A server that was cancelled meanwhile takes no more requests.
            await trio.lowlevel.checkpoint_if_cancelled()
            if (arrival := self._open_at_once(stream, visit, buffer)) is not None:
                return arrival
            with trio.move_on_after(self._limits.open_timeout):
                visit.remote = await self._introduce(stream, visit.remote)
                if not self._enter(visit):
                    await self.refuse_stream(stream, _CROWDED)
                    return None
                secure = await self._secure(stream)
                return await self._read_head(secure, visit, buffer)
            if not buffer:
                # Browsers open connections ahead of need; there is nothing to answer.
                return None
            raise refuse(408, f"no request within {self._limits.open_timeout:g} seconds")
        except RequestError as refusal:
            self.counters.refused += 1
            logger.debug("refused a request: %s", escaped(str(refusal)))
            await send_last(secure, write_response(refusal.response), self._limits.write_timeout)
            return None
        except ProxyHeaderError as error:
            self.counters.refused += 1
            # Not a stranger's doing: one of the two is not set up for the other.
            logger.warning("no PROXY header from the proxy %s: %s", describe(visit.remote), error)
            return None

    def _open_at_once(
        self, stream: trio.abc.Stream, visit: _Visit, buffer: HeadBuffer
    ) -> Arrival | None:
        """Do what `_open` does, if the request is here already.

        A wait and its deadline would cost a seventh of a handshake.
        """
        if not (self._at_once and self._enter(visit)):
            return None
        data = read_now(stream, self._read_size)
        found = buffer.feed(data) if data else None
        return None if found is None else self._arrive(stream, visit, *found)

    async def _introduce(self, stream: trio.abc.Stream, peer: Endpoint | str) -> Endpoint | str:
        """Return the client's address as a proxy tells it before all else, or that of the peer."""
        proxies = self._proxies
        if proxies is None or not proxies.speak_first or not proxies.include(peer):
            return peer
        secure = self._ssl_context is not None or beneath_tls(stream) is not stream
        max_size = self._limits.max_head
        return await proxies.read_header(stream, peer, secure=secure, max_size=max_size)

    def _enter(self, visit: _Visit) -> bool:
        """Count a client, unless its address has too many already; a proxy is no client."""
        if visit.counted or self._limits.max_connections_per_address == inf:
            return True
        if self._proxies is not None and self._proxies.include(visit.remote):
            return True
        visit.counted = self._addresses.enter(visit.remote)
        return visit.counted

    async def _read_head(
        self, stream: trio.abc.Stream, visit: _Visit, buffer: HeadBuffer
    ) -> Arrival | None:
        while data := await stream.receive_some(self._read_size):
            if (found := buffer.feed(data)) is not None:
                return self._arrive(stream, visit, *found)
        return None

    def _arrive(self, stream: trio.abc.Stream, visit: _Visit, raw: bytes, rest: bytes) -> Arrival:
        head = read_request(raw, max_headers=self._limits.max_headers)
        self.counters.requests += 1
        secure = beneath_tls(stream) is not stream
        local = endpoint_of(stream, local=True)
        private = is_loopback(local)
        proxies = self._proxies
        if proxies is not None and proxies.include(endpoint_of(stream, local=False)):
            # What the whole world may ask for comes to this machine by its proxy.
            private = False
            if not proxies.speak_first:
                peer = visit.remote
                visit.remote, secure = proxies.read_fields(head.headers, peer, secure=secure)
                if not self._enter(visit):
                    raise RequestError(_CROWDED)
        why = self._hosts.refusal(head.authority, is_loopback=private)
        if why is not None:
            raise refuse(421, why)
        upgrade = read_upgrade(head)
        if upgrade is not None:
            if self.draining:
                raise RequestError(GOING_AWAY)
            why = self._origins.refusal(head.headers.get("Origin"), head.authority)
            if why is not None:
                raise refuse(403, why)
        arrival = Arrival(
            stream,
            local,
            visit.remote,
            head,
            upgrade,
            rest=rest,
            secure=secure,
            tls=tls_of(stream),
            background=self._background,
            subprotocols=self._subprotocols,
            compression=self._compression,
            limits=self._limits,
            keepalive=self._keepalive,
        )
        arrival.on_open, arrival.on_close = self._callbacks
        return arrival

    async def _conclude(self, arrival: Arrival, response: Response | None) -> None:
        """Answer what was not accepted, when its handler is done."""
        if arrival.connection is None:
            head = arrival.head
            response = response or arrival.answer or not_found(head.target)
            answer = write_response(response, body=head.method != "HEAD")
            await send_last(arrival.stream, answer, self._limits.write_timeout)
            return
        logger.debug("%r is over", arrival.connection)
        if response is not None:
            self.counters.failures += 1
            logger.error(
                "a handler returned a response after it had accepted %s",
                escaped(arrival.head.target),
            )

    def _checked(self, arrival: Arrival, returned: object) -> Response | None:
        """Return what a handler has returned, if it may return that."""
        if returned is None or isinstance(returned, Response):
            return returned
        name = type(returned).__name__
        return self._failed(arrival, TypeError(f"a handler returns a Response or None, not {name}"))

    def _answer_to(
        self, arrival: Arrival, error: Exception | BaseExceptionGroup[BaseException]
    ) -> Response | None:
        """Note a handler's error; return what answers a request that was not accepted."""
        if isinstance(error, RequestError):
            return error.response
        if isinstance(error, HandshakeError) and arrival.answer is not None:
            logger.debug("refused a handshake: %s", error)
            return arrival.answer
        if isinstance(error, Exception):
            return self._failed(arrival, error)
        failures, rest = error.split(Exception)
        if failures is not None:
            self._failed(arrival, failures)
        assert rest is not None
        raise rest from None

    def _failed(self, arrival: Arrival, error: Exception) -> Response | None:
        """Note a handler's error; return what answers a request that was not accepted."""
        connection = arrival.connection
        if connection is not None and _only_closed(error, connection):
            # The client left, and the handler did not mind.
            logger.debug("%r: %s", connection, error)
            return None
        self.counters.failures += 1
        if self._propagate:
            self._propagated = error
            raise error
        logger.error("the handler of %s failed", escaped(arrival.head.target), exc_info=error)
        return _FAILED if connection is None else None


def _only_closed(error: BaseException, connection: Connection) -> bool:
    """Tell whether an error, or all of a group, says just that this connection is closed."""
    if inner := members(error):
        return all(_only_closed(each, connection) for each in inner)
    return isinstance(error, ConnectionClosed) and error.source is connection._link  # noqa: SLF001
