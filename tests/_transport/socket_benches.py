"""Wires of sockets, with and without TLS, and all that belongs to one, for their tests."""

import os
import select
import selectors
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests._transport.fakes import Tls
from trio_ws._transport.endpoint import beneath_tls
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.poller import Poller
from trio_ws._transport.socket_wire import SocketWire
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream
from trio_ws._transport.tls_wire import TlsWire
from trio_ws._transport.watchers import WRITE, Watcher, make_watcher
from trio_ws._transport.wire import WireOwner

needs_watcher = pytest.mark.skipif(
    not hasattr(select, "epoll") and not hasattr(selectors, "KqueueSelector"),
    reason="there is neither epoll nor kqueue",
)


class Owner(WireOwner):
    """A connection that writes down what its wire tells it."""

    def __init__(self) -> None:
        self.data = b""
        self.reads_on = True
        self.fault: Exception | None = None
        self.end_fault: Exception | None = None
        self.then: Callable[[], object] = bool
        self.ends: list[BaseException | None] = []
        self.stuck = 0

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        if self.fault is not None:
            raise self.fault
        self.data += data
        self.then()
        return self.reads_on

    def line_ended(self, error: BaseException | None) -> None:
        self.ends.append(error)
        if self.end_fault is not None:
            raise self.end_fault

    def line_stuck(self) -> None:
        self.stuck += 1


class Faulty(Outgoing):
    """A queue with a fault."""

    fault: Exception | None = None

    def take(self) -> tuple[bytes, ...]:
        if self.fault is not None:
            raise self.fault
        return super().take()


class SpyWatcher(Watcher):
    """A watcher that writes down what it was told to watch."""

    def __init__(self) -> None:
        watcher = make_watcher()
        assert watcher is not None
        self._watcher = watcher
        self.interests: dict[int, int] = {}
        self.closed = False

    def fileno(self) -> int:
        return self._watcher.fileno()

    def watch(self, fd: int, interest: int, before: int) -> None:
        assert self.interests.get(fd, 0) == before
        self._watcher.watch(fd, interest, before)
        self.interests[fd] = interest

    def ready(self) -> Iterable[tuple[int, int]]:
        return self._watcher.ready()

    def close(self) -> None:
        self.closed = True
        self._watcher.close()


class Bench:
    """A wire with all that belongs to it. Created by `Benches`.

    Args:
        nursery: Where it closes.
        stream: What the wire gets.
        peer: The peer's end.
        raw: The peer's end beneath TLS.
        client: Whether it is a client's wire.
        write_timeout: Seconds without progress.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.SocketStream | TlsStream,
        peer: trio.abc.Stream,
        raw: trio.SocketStream,
        *,
        client: bool,
        write_timeout: float,
    ) -> None:
        self.nursery = nursery
        self.stream = stream
        inner = beneath_tls(stream)
        assert isinstance(inner, trio.SocketStream)
        self.here = inner.socket
        self.fd = self.here.fileno()
        self.peer = peer
        self.raw = raw
        self.owner = Owner()
        self.outgoing = Faulty(inf)
        self.watcher = SpyWatcher()
        self.poller = Poller(self.watcher)
        self._client = client
        self._write_timeout = write_timeout
        self.wire = self.make_wire()

    def make_wire(self) -> SocketWire:
        """Make a wire of this stream."""
        if isinstance(self.stream, TlsStream):
            return TlsWire(
                self.stream,
                self.outgoing,
                self.owner,
                poller=self.poller,
                client=self._client,
                write_timeout=self._write_timeout,
                close_timeout=5,
            )
        return SocketWire(
            self.stream,
            self.outgoing,
            self.owner,
            poller=self.poller,
            client=self._client,
            write_timeout=self._write_timeout,
            close_timeout=5,
        )

    @property
    def interest(self) -> int:
        """What the wire's socket is watched for."""
        return self.watcher.interests.get(self.fd, 0)

    def write(self, data: bytes) -> None:
        """Have something written."""
        self.outgoing.push(data)
        self.wire.write_soon()

    async def fill(self) -> int:
        """Write more than the system takes; return how much."""
        data = bytes(8 * 1024 * 1024)
        self.write(data)
        await wait_all_tasks_blocked()
        assert self.interest & WRITE
        return len(data)

    async def drain(self, size: int) -> None:
        """Take so many bytes from the peer's end."""
        while size > 0:
            size -= len(await self.peer.receive_some())
        assert size == 0

    def reset(self) -> None:
        """Have the peer go away without having read what it was sent."""
        self.raw.socket.close()

    def hand_over_descriptor(self) -> tuple[socket.socket, socket.socket]:
        """Close the wire's socket and give its descriptor to one of a new pair."""
        other, others_peer = socket.socketpair()
        os.dup2(other.fileno(), self.here.detach())
        other.close()
        return socket.socket(fileno=self.fd), others_peer


class Benches:
    """Makes benches, all with TLS or all without.

    Args:
        tls: The certificate, for TLS.
    """

    def __init__(self, tls: Tls | None) -> None:
        self._tls = tls

    async def make(
        self, nursery: trio.Nursery, *, client: bool = False, write_timeout: float = 20
    ) -> Bench:
        """Make a wire that was not started."""
        here, there = trio.socket.socketpair()
        near, raw = trio.SocketStream(here), trio.SocketStream(there)
        stream: trio.SocketStream | TlsStream = near
        peer: trio.abc.Stream = raw
        if self._tls is not None:
            stream, peer = await shake_hands(self._tls, near, raw, client=client)
        return Bench(nursery, stream, peer, raw, client=client, write_timeout=write_timeout)

    @asynccontextmanager
    async def open(
        self,
        *,
        client: bool = False,
        rest: bytes = b"",
        write_timeout: float = 20,
        start: bool = True,
    ) -> AsyncGenerator[Bench, None]:
        """Start a wire over a socket; at the end nothing is left of it."""
        async with trio.open_nursery() as nursery:
            bench = await self.make(nursery, client=client, write_timeout=write_timeout)
            if start:
                bench.wire.start(nursery, rest)
            yield bench
            if start:
                bench.wire.abort()
                await bench.wire.wait_stopped()
                await wait_all_tasks_blocked()
                assert bench.watcher.closed
                assert bench.here.fileno() == -1
            await bench.peer.aclose()


async def shake_hands(
    tls: Tls, near: trio.SocketStream, far: trio.SocketStream, *, client: bool
) -> tuple[TlsStream, "trio.SSLStream[trio.SocketStream]"]:
    """Put TLS of ours over one end of a pair of sockets, and Trio's over the other."""
    ours = TlsStream(
        near,
        TlsSession(
            tls.client if client else tls.server, server_hostname="localhost" if client else None
        ),
    )
    theirs = trio.SSLStream(
        far,
        tls.server if client else tls.client,
        server_side=client,
        server_hostname=None if client else "localhost",
        https_compatible=True,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.do_handshake)
        nursery.start_soon(theirs.do_handshake)
    return ours, theirs


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Return everything up to the end of a stream."""
    return b"".join([bytes(data) async for data in stream])
