"""`serve`: listens, and runs a handler for each request; `Server`: what can be asked of it."""

import errno
import logging
import ssl
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import trio
import trio.abc

from trio_ws._config import Deflate, Keepalive, Limits, TrustedProxies
from trio_ws._protocol.frames import implementation
from trio_ws._protocol.hosts import Hosts
from trio_ws._protocol.origin import Origins
from trio_ws._transport.accepting import Listener, serve_streams
from trio_ws._transport.connection import Connection
from trio_ws._transport.endpoint import Endpoint, describe, is_socket, listening_at
from trio_ws._transport.handshake import Handler
from trio_ws._transport.nurseries import lone_errors, open_background
from trio_ws._transport.poller import kept_poller
from trio_ws._transport.service import Service
from trio_ws._transport.start_tls import why_useless
from trio_ws._transport.streams import cut

_PORT_TRIES = 16  # how often another port is tried that is free on all addresses

_logger = logging.getLogger("trio_ws.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What `Server.statistics` returns."""

    connections_open: int
    """WebSocket connections that are open."""
    connections_total: int
    """WebSocket connections that were ever opened."""
    streams: int
    """Streams being served: connections, opening handshakes and HTTP requests."""
    requests: int
    """Requests that were well formed, opening handshakes included."""
    refused: int
    """Requests that were refused before a handler was asked: malformed, late, or without room."""
    handler_failures: int
    """Handlers that ended with an error."""
    frames: Literal["compiled", "python"]
    """What parses and makes frames; see `ConnectionStatistics`."""


class Server:
    """A running server. Created by `serve`.

    Example::

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve, greet, 0)
        print(f"listening on port {server.port}")
    """

    def __init__(
        self, service: Service, listeners: Sequence[Listener], max_connections: float
    ) -> None:
        self._service = service
        self._listeners = listeners
        self._max_connections = max_connections
        self._listening = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._streams = _Streams(self._listening)
        self._endpoints = tuple(map(listening_at, listeners))

    @property
    def endpoints(self) -> tuple[Endpoint | str, ...]:
        """Where the server listens: an `Endpoint` for TCP, a text for anything else."""
        return self._endpoints

    @property
    def port(self) -> int:
        """The TCP port; of several, the first.

        Raises:
            ValueError: The server does not listen on TCP.
        """
        for endpoint in self._endpoints:
            if isinstance(endpoint, Endpoint):
                return endpoint.port
        raise ValueError("this server has no TCP port; see its endpoints")

    @property
    def connections(self) -> frozenset[Connection]:
        """The connections that are open now."""
        return frozenset(self._service.connections)

    def statistics(self) -> ServerStatistics:
        """Return how much has come and gone."""
        counters = self._service.counters
        return ServerStatistics(
            connections_open=len(self._service.connections),
            connections_total=counters.connections,
            streams=self._streams.count,
            requests=counters.requests,
            refused=counters.refused,
            handler_failures=counters.failures,
            frames=implementation(),
        )

    @trio.lowlevel.enable_ki_protection
    async def drain(self, grace: float) -> None:
        """Stop serving, in order.

        Stops accepting, answers opening handshakes with 503, tells every connection goodbye with
        1001, and lets the handlers finish. Those that have not after the grace are cancelled. Then
        `serve` returns.

        Args:
            grace: Seconds for the handlers.

        Returns:
            When no handler is left.

        Cancellation:
            The server goes on draining, without the deadline of the grace.
        """
        self._listening.cancel()
        self._service.drain()
        with trio.move_on_after(grace):
            await self._streams.idle.wait()
        self._serving.cancel()
        await self._streams.idle.wait()

    async def _run(self, task_status: trio.TaskStatus["Server"]) -> None:
        try:
            with self._serving:
                async with trio.open_nursery() as handlers:
                    try:
                        with self._listening:
                            task_status.started(self)
                            await serve_streams(self._serve_stream, self._listeners, handlers)
                        self._streams.set_idle()
                        await self._streams.idle.wait()
                    except BaseException:
                        handlers.cancel_scope.cancel()
                        await self._see_off()
                        raise
        finally:
            # Whichever way it ended, whoever drains has nothing to wait for any more.
            self._streams.idle.set()
            if self._streams.interrupt is not None:
                # Beside it there is only what it has set off itself.
                raise self._streams.interrupt from None

    async def _see_off(self) -> None:
        """Wait for the goodbyes of handlers that were cancelled; Ctrl-C cuts them short.

        The handlers' nursery would wait just as long, so the shield needs no other deadline, but
        it would keep to itself that somebody is in a hurry.
        """
        self._listening.cancel()
        self._streams.set_idle()
        with trio.CancelScope(shield=True):
            while not self._streams.idle.is_set():
                try:
                    await self._streams.idle.wait()
                except KeyboardInterrupt as interrupt:
                    self._streams.interrupt = interrupt
                    self._service.abort()

    @trio.lowlevel.enable_ki_protection
    def _serve_stream(self, stream: trio.abc.Stream) -> Coroutine[Any, Any, None]:
        # No coroutine around the service's, which every resumption of a handler would go through.
        if self._streams.count >= self._max_connections:
            return self._service.refuse_stream(stream)
        self._streams.count += 1
        return self._service.serve_stream(stream, self._streams)

    def __repr__(self) -> str:
        where = ", ".join(map(describe, self._endpoints))
        return f"<Server {where}, {len(self._service.connections)} connections>"


class _Streams(AbstractContextManager[None]):
    """The streams that a server serves; `Service.serve_stream` is in it as long as it serves one.

    Args:
        listening: Is cancelled when no more will come.
    """

    # It knows no server: that would be a cycle.

    def __init__(self, listening: trio.CancelScope) -> None:
        self._listening = listening
        self.count = 0
        """How many there are; whoever starts one has counted it before that."""
        self.idle = trio.Event()
        """Set when the last one has ended, and no more will come."""
        self.interrupt: KeyboardInterrupt | SystemExit | None = None
        """What ended one of them, and the program with it."""

    def set_idle(self) -> None:
        """Note that nothing is left to wait for, if that is so."""
        if self._listening.cancel_called and not self.count:
            self.idle.set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            # The nursery makes a group of it, with what it has set off itself.
            self.interrupt = error
        self.count -= 1
        self.set_idle()


@trio.lowlevel.enable_ki_protection
async def serve(
    handler: Handler,
    port: int | None = None,
    *,
    host: str | None = "localhost",
    listeners: Sequence[Listener] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    origins: Origins = None,
    hosts: Hosts = None,
    proxies: TrustedProxies | None = None,
    subprotocols: Sequence[str] = (),
    compression: Deflate | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable, and its repr documents the default
    keepalive: Keepalive = Keepalive(),  # noqa: B008 - immutable as well
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP and WebSocket requests, until cancelled or drained.

    Each request runs the handler in a task of its own. A handler's error closes its connection with
    1011, is logged with its traceback on ``trio_ws.server``, and costs no other connection
    anything::

        trio.run(trio_ws.serve, greet, 8080)

    Args:
        handler: What to do with a request.
        port: The TCP port; 0 lets the system choose one, the same for all addresses of the host.
        host: A name or address to listen on; None for all interfaces.
        listeners: Listeners to use instead of a port: Unix sockets, or any other. They are closed
            at the end, also if that is an error in the other arguments.
        ssl_context: Serves TLS; with ``verify_mode`` set to ``CERT_REQUIRED``, mutual TLS: whose
            certificate it is says `Request.tls`. One without a certificate of its own is logged as
            a warning.
        origins: Whose pages may open a WebSocket (RFC 6455 §10.2). None: those of the same
            host and port. A sequence of origins such as ``https://example.com``: those; a
            wildcard as in ``https://*.example.com`` stands for one label or more, so not for
            ``https://example.com`` itself. ``"*"``: all. Other pages are answered 403. What is no
            browser sends no ``Origin`` and is not affected.
        hosts: The names in the ``Host`` header to answer to (RFC 9110 §7.4), against DNS
            rebinding; other requests are answered 421. None: any, but on the loopback
            addresses, ``localhost``, names below it, and IP addresses alone. A sequence of hosts
            such as ``example.com``, ``*.example.com``, ``example.com:8443`` or ``[::1]``: those;
            without a port, on any port. ``"*"``: any.
        proxies: Who is believed about `Request.remote` and `Request.secure`; by default nobody.
        subprotocols: What the application speaks, best first; see `Request.accept`.
        compression: How to compress messages, for clients that offer it; None for not at all.
        limits: What a peer may cost.
        keepalive: When to probe a silent peer.
        task_status: For ``nursery.start``, which returns the `Server` once it listens.

    Raises:
        OSError: It cannot listen there.
        TypeError: Neither a port nor listeners are given, or both; or ``compression`` is no
            `Deflate`.
        ValueError: An origin, a host or a subprotocol is malformed, or ``ssl_context`` is a
            client's.

    Cancellation:
        Listening stops. Handlers are cancelled, and their connections told goodbye with 1001,
        within `Limits.close_timeout`. So it is with Ctrl-C. Where the main task runs this
        function itself, as above, a second Ctrl-C cuts all lines at once; where it runs in a
        nursery, Trio gives that one to the nursery, which waits for the goodbyes.
    """
    try:
        _check_place(port, listeners)
        with lone_errors():
            async with open_background() as background:
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
                    keepalive=keepalive,
                )
                if ssl_context is not None and (why := why_useless(ssl_context)) is not None:
                    _logger.warning(
                        "no client gets through TLS with this ssl_context (%s), unless by a key "
                        "shared beforehand; has it a certificate? load_cert_chain() loads one",
                        why,
                    )
                sockets = listeners is None or any(map(is_socket, listeners))
                # Before it listens, so that its tasks are there when it does.
                with kept_poller() if sockets else nullcontext():
                    if listeners is None:
                        assert port is not None
                        listeners = await _listen(port, host)
                    server = Server(service, listeners, limits.max_connections)
                    _logger.info("serving on %s", ", ".join(map(describe, server.endpoints)))
                    await server._run(task_status)  # noqa: SLF001 - the same module
                _logger.info("stopped serving")
    except BaseException:
        # Whoever hands listeners over need not ask how far this came; most are closed by now.
        for listener in listeners or ():
            await cut(listener)
        raise


def _check_place(port: int | None, listeners: Sequence[Listener] | None) -> None:
    if (port is None) is (listeners is None):
        raise TypeError("serve() takes a port or listeners=, one of them")


async def _listen(port: int, host: str | None) -> Sequence[trio.SocketListener]:
    """Listen on all addresses of a host, with one port even if the system is to choose it."""
    for _ in range(_PORT_TRIES if port == 0 else 0):
        chosen = await trio.open_tcp_listeners(0, host=host)
        if len(chosen) == 1:
            return chosen
        free = int(chosen[0].socket.getsockname()[1])
        for listener in chosen:
            # Without a checkpoint, where a cancellation would leave the others open.
            listener.socket.close()
        try:
            return await trio.open_tcp_listeners(free, host=host)
        except OSError as error:
            # Taken on one of the addresses; the next choice will be another.
            if error.errno != errno.EADDRINUSE:
                raise
    return await trio.open_tcp_listeners(port, host=host)
