"""`serve` listens wherever it is told to, and ends in order, whatever its clients do."""

import errno
import logging
import socket
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests._transport.fakes import (
    MemoryListener,
    Resolver,
    Tls,
    handshake,
    read_to_end,
)
from trio_ws._config import Limits
from trio_ws._errors import (
    ConnectionClosed,
    ConnectionClosedOK,
    HandshakeError,
    HandshakeRejected,
)
from trio_ws._protocol.frames import implementation
from trio_ws._protocol.hosts import Hosts
from trio_ws._transport import poller as poller_module
from trio_ws._transport.client import connect
from trio_ws._transport.endpoint import Endpoint
from trio_ws._transport.handshake import Request
from trio_ws._transport.poller import Poller, can_poll
from trio_ws._transport.server import Server, ServerStatistics, serve
from trio_ws._transport.watchers import Watcher
from trio_ws._types import Response

needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")

GET = b"GET / HTTP/1.1\r\nHost: testserver\r\n\r\n"

# Only Linux answers on all of 127.0.0.0/8 by itself.
SECOND_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "::1"


async def echo(request: Request) -> Response | None:
    if not request.upgrade:
        return Response(200, "a page")
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)
    return None


class Running:
    """A server in a task of its own.

    Args:
        handler: As for `serve`.
        options: As for `serve`; by default it listens in memory.
    """

    def __init__(self, handler: trio_ws.Handler = echo, **options: Any) -> None:  # noqa: ANN401 - serve() checks them
        self.listener = MemoryListener()
        if "port" not in options:
            options.setdefault("listeners", [self.listener])
        self._serve = partial(serve, handler, **options)
        self.scope = trio.CancelScope()
        self.returned = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Server]) -> None:
        with self.scope:
            await self._serve(task_status=task_status)
        self.returned.set()

    async def start(self, nursery: trio.Nursery) -> Server:
        server: Server = await nursery.start(self.run)
        return server

    async def open_clients(self, count: int, nursery: trio.Nursery) -> list[trio_ws.Connection]:
        """Open connections that live until they are closed."""

        async def live(*, task_status: trio.TaskStatus[trio_ws.Connection]) -> None:
            async with connect("ws://testserver/", stream=self.listener.dial()) as client:
                task_status.started(client)
                await client.wait_closed()

        return [await nursery.start(live) for _ in range(count)]


@pytest.mark.parametrize("options", [{}, {"port": 0, "listeners": []}])
async def test_serve_takes_either_a_port_or_listeners(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="a port or listeners=, one of them"):
        await serve(echo, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0},
        {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        {"origins": ["no origin"]},
        {"hosts": ["no host"]},
        {"subprotocols": "chat"},
        {"compression": True},
        {"limits": None},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_listeners_are_closed_when_another_argument_is_refused(
    options: dict[str, Any],
) -> None:
    in_memory = MemoryListener()
    sockets = await trio.open_tcp_listeners(0, host="127.0.0.1")

    with pytest.raises((TypeError, ValueError, AttributeError)):
        await serve(echo, listeners=[in_memory, *sockets], **options)
    with pytest.raises(trio.BrokenResourceError):
        in_memory.dial()
    assert [listener.socket.fileno() for listener in sockets] == [-1]


async def test_listeners_are_closed_when_nobody_takes_the_server(nursery: trio.Nursery) -> None:
    class Unwilling(trio.TaskStatus[Server]):
        def started(self, value: Server) -> None:  # noqa: ARG002 - it has a caller, not a use
            raise RuntimeError("nobody is there")

    listener = MemoryListener()

    with pytest.raises(RuntimeError, match="nobody is there"):
        await serve(echo, listeners=[listener], task_status=Unwilling())
    with pytest.raises(trio.BrokenResourceError):
        listener.dial()


@pytest.mark.network
async def test_a_server_on_port_0_tells_its_port(nursery: trio.Nursery) -> None:
    server = await Running(port=0, host="127.0.0.1").start(nursery)

    async with connect(f"ws://127.0.0.1:{server.port}/") as client:
        await client.send("hello")
        assert await client.receive() == "hello"
        assert repr(server) == f"<Server 127.0.0.1:{server.port}, 1 connections>"
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_port_0_is_one_port_on_every_address_of_the_host(nursery: trio.Nursery) -> None:
    _resolve("127.0.0.1", SECOND_ADDRESS)

    server = await Running(port=0).start(nursery)

    assert len(server.endpoints) == 2
    assert {_port(endpoint) for endpoint in server.endpoints} == {server.port}
    nursery.cancel_scope.cancel()


def _resolve(*addresses: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(*addresses))


def _port(endpoint: object) -> int:
    assert isinstance(endpoint, Endpoint)
    return int(endpoint.port)


class Thief(trio.abc.SocketFactory):
    """Takes the port that was free on one address from the other, just in time.

    Args:
        thefts: How often.
        error: What happens instead of a theft.
    """

    def __init__(self, thefts: float, error: OSError | None = None) -> None:
        self._thefts = thefts
        self._error = error
        self._last: trio.socket.SocketType | None = None
        self._seen: set[int] = set()
        self._stolen: list[socket.socket] = []

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002 - as Trio names it
        proto: int = 0,
    ) -> trio.socket.SocketType:
        port = self._port_in_use_again()
        if port is not None and self._thefts > 0:
            self._thefts -= 1
            self._seen.clear()
            if self._error is not None:
                raise self._error
            self._steal(family, port)
        self._last = trio.socket.from_stdlib_socket(socket.socket(family, type, proto))
        return self._last

    def _port_in_use_again(self) -> int | None:
        """Return the port of the socket made last, if one before it had the same."""
        if self._last is None or self._last.fileno() < 0:
            return None
        port = int(self._last.getsockname()[1])
        again = port in self._seen
        self._seen.add(port)
        return port if again else None

    def _steal(self, family: int, port: int) -> None:
        sock = socket.socket(family)
        self._stolen.append(sock)
        sock.bind((SECOND_ADDRESS, port))
        sock.listen()

    def close(self) -> None:
        for sock in self._stolen:
            sock.close()


@pytest.mark.network
@pytest.mark.parametrize(("thefts", "ports"), [(1, 1), (15, 1), (100, 2)])
async def test_a_port_that_is_taken_on_one_address_is_replaced_by_another(
    thefts: float, ports: int, nursery: trio.Nursery
) -> None:
    _resolve("127.0.0.1", SECOND_ADDRESS)
    thief = Thief(thefts)
    trio.socket.set_custom_socket_factory(thief)

    server = await Running(port=0).start(nursery)
    thief.close()

    assert len({_port(endpoint) for endpoint in server.endpoints}) == ports
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_an_address_that_cannot_be_used_is_an_error_at_once() -> None:
    _resolve("127.0.0.1", SECOND_ADDRESS)
    trio.socket.set_custom_socket_factory(Thief(1, OSError(errno.EACCES, "denied")))

    with pytest.raises(PermissionError, match="denied"):
        await serve(echo, 0)


@pytest.mark.network
async def test_a_port_that_is_taken_is_a_lone_error(nursery: trio.Nursery) -> None:
    server = await Running(port=0, host="127.0.0.1").start(nursery)

    with pytest.raises(OSError, match="in use") as caught:
        await serve(echo, server.port, host="127.0.0.1")
    assert caught.value.errno == errno.EADDRINUSE
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_a_server_listens_on_ipv6(nursery: trio.Nursery) -> None:
    try:
        server = await Running(port=0, host="::1").start(nursery)
    except OSError:
        pytest.skip("this machine has no IPv6")

    async with connect(f"ws://[::1]:{server.port}/") as client:
        await client.send("hello")
        assert await client.receive() == "hello"
    nursery.cancel_scope.cancel()


@needs_unix
@pytest.mark.network
async def test_a_server_listens_on_a_unix_socket(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / "socket"
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    server = await Running(listeners=[trio.SocketListener(sock)]).start(nursery)

    async with connect(f"ws+unix:{path}:/") as client:
        await client.send("hello")
        assert await client.receive() == "hello"
    assert server.endpoints == (f"unix:{path}",)
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_a_server_keeps_the_poller_between_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Poller] = []

    def make(watcher: Watcher) -> Poller:
        made.append(Poller(watcher))
        return made[-1]

    monkeypatch.setattr(poller_module, "Poller", make)
    listeners = [MemoryListener(), *await trio.open_tcp_listeners(0, host="127.0.0.1")]
    running = Running(listeners=listeners, hosts="*")
    async with trio.open_nursery() as servers:
        server = await running.start(servers)
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(handshake())
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            while server.statistics().streams:
                await trio.lowlevel.checkpoint()
        ended = [poller.ended for poller in made]
        running.scope.cancel()

    assert ended == [False] * can_poll()
    assert all(poller.ended for poller in made)


async def test_a_server_without_sockets_has_no_poller(nursery: trio.Nursery) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    await Running().start(nursery)
    await wait_all_tasks_blocked()

    # `run`, what holds the tasks of connections, and what waits for clients.
    assert trio.lowlevel.current_statistics().tasks_living == before + 3
    nursery.cancel_scope.cancel()


async def test_a_server_without_tcp_has_no_port(nursery: trio.Nursery) -> None:
    server = await Running().start(nursery)

    with pytest.raises(ValueError, match="has no TCP port"):
        _ = server.port
    assert server.endpoints == ("<MemoryListener>",)
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_a_server_speaks_tls(tls: Tls, nursery: trio.Nursery) -> None:
    running = Running(port=0, host="127.0.0.1", ssl_context=tls.server)
    server = await running.start(nursery)

    async with connect(f"wss://127.0.0.1:{server.port}/", ssl_context=tls.client) as client:
        await client.send("x" * 1_000_000)
        assert len(await client.receive()) == 1_000_000
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_mutual_tls_lets_in_who_has_a_certificate_and_nobody_else(
    tls: Tls, nursery: trio.Nursery
) -> None:
    context, with_certificate = tls.mutual(ssl.CERT_REQUIRED)
    server = await Running(port=0, host="127.0.0.1", ssl_context=context).start(nursery)
    url = f"wss://127.0.0.1:{server.port}/"

    async with connect(url, ssl_context=with_certificate) as client:
        await client.send("hello")
        assert await client.receive() == "hello"
    with pytest.raises(HandshakeError):
        async with connect(url, ssl_context=tls.client):
            pass
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("useful", [True, False])
async def test_a_context_without_a_certificate_is_told_of_at_once(
    useful: bool, tls: Tls, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    context = tls.server if useful else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    await Running(ssl_context=context).start(nursery)
    nursery.cancel_scope.cancel()

    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == (0 if useful else 1)
    assert ("load_cert_chain() loads one" in caplog.text) is not useful


async def test_http_and_websocket_share_a_port(nursery: trio.Nursery) -> None:
    running = Running()
    await running.start(nursery)
    stream = running.listener.dial()
    await stream.send_all(GET)
    await stream.send_eof()

    assert (await read_to_end(stream)).endswith(b"\r\n\r\na page")
    (client,) = await running.open_clients(1, nursery)
    await client.send("hello")
    assert await client.receive() == "hello"
    nursery.cancel_scope.cancel()


async def test_the_options_of_serve_reach_the_service(nursery: trio.Nursery) -> None:
    running = Running(subprotocols=["a"], origins=["https://a.example"], hosts=["testserver"])
    await running.start(nursery)
    stream = running.listener.dial()

    async with connect(
        "ws://testserver/", stream=stream, subprotocols=["a"], origin="https://a.example"
    ) as client:
        assert client.subprotocol == "a"
    async with running.listener.dial() as stream:
        await stream.send_all(GET.replace(b"testserver", b"evil.com"))
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    nursery.cancel_scope.cancel()


@pytest.mark.network
@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("localhost", None, b"200"),
        ("127.0.0.1:1", None, b"200"),
        ("rebound.example", None, b"421"),
        ("rebound.example", ["rebound.example"], b"200"),
        ("localhost", ["rebound.example"], b"421"),
        ("rebound.example", "*", b"200"),
    ],
)
async def test_a_server_on_a_loopback_address_answers_to_local_names(
    host: str, hosts: Hosts, status: bytes, nursery: trio.Nursery
) -> None:
    server = await Running(port=0, host="127.0.0.1", hosts=hosts).start(nursery)

    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(GET.replace(b"testserver", host.encode()))
        answer = await read_to_end(stream)
    nursery.cancel_scope.cancel()

    assert answer.split()[1] == status


async def test_statistics_count_what_the_server_did(nursery: trio.Nursery) -> None:
    running = Running(_fail_on_post)
    server = await running.start(nursery)
    for data in (GET, GET.replace(b"GET", b"POST"), b"nonsense\r\n\r\n"):
        async with running.listener.dial() as stream:
            await stream.send_all(data)
            await read_to_end(stream)
    (client,) = await running.open_clients(1, nursery)
    before = server.statistics()
    await client.aclose()
    await wait_all_tasks_blocked()

    assert before == ServerStatistics(
        connections_open=1,
        connections_total=1,
        streams=1,
        requests=3,
        refused=1,
        handler_failures=1,
        frames=implementation(),
    )
    assert (server.statistics().connections_open, server.statistics().streams) == (0, 0)
    nursery.cancel_scope.cancel()


async def _fail_on_post(request: Request) -> Response | None:
    if request.method == "POST":
        raise ValueError
    return await echo(request)


async def test_connections_are_those_that_are_open(nursery: trio.Nursery) -> None:
    running = Running()
    server = await running.start(nursery)
    first, _ = await running.open_clients(2, nursery)

    (before, snapshot) = len(server.connections), server.connections
    await first.aclose()
    await wait_all_tasks_blocked()

    assert (before, len(snapshot), len(server.connections)) == (2, 2, 1)
    nursery.cancel_scope.cancel()


async def test_a_connection_is_open_no_more_when_its_block_was_left(nursery: trio.Nursery) -> None:
    left = trio.Event()

    async def work_on(request: Request) -> None:
        async with request.accept():
            pass
        left.set()
        await trio.sleep_forever()

    running = Running(work_on)
    server = await running.start(nursery)
    await running.open_clients(1, nursery)
    await left.wait()

    assert (len(server.connections), server.statistics().streams) == (0, 1)
    nursery.cancel_scope.cancel()


async def test_a_handler_that_fails_costs_no_other_connection_anything(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(_fail_on_bytes)
    server = await running.start(nursery)
    first, second = await running.open_clients(2, nursery)
    await first.send(b"fail")
    await first.wait_closed()
    await second.send("still there")

    assert first.close_code == 1011
    assert await second.receive() == "still there"
    await wait_all_tasks_blocked()
    assert server.statistics().handler_failures == 1
    assert [record.name for record in caplog.records if record.exc_info] == ["trio_ws.server"]
    nursery.cancel_scope.cancel()


async def _fail_on_bytes(request: Request) -> None:
    async with request.accept() as connection:
        async for message in connection:
            assert isinstance(message, str)
            await connection.send(message)


async def test_the_one_connection_too_many_is_answered_503_until_there_is_room(
    nursery: trio.Nursery,
) -> None:
    running = Running(limits=Limits(max_connections=2))
    server = await running.start(nursery)
    first, _ = await running.open_clients(2, nursery)

    with pytest.raises(HandshakeRejected) as caught:
        async with connect("ws://testserver/", stream=running.listener.dial()):
            pass
    await first.aclose()
    await wait_all_tasks_blocked()
    await running.open_clients(1, nursery)

    assert caught.value.response.status == 503
    assert server.statistics().refused == 1
    nursery.cancel_scope.cancel()


async def test_several_listeners_have_room_for_no_more_together(nursery: trio.Nursery) -> None:
    # All of them accept in one tick.
    listeners = [MemoryListener() for _ in range(3)]
    streams = [listener.dial() for listener in listeners]
    limits = Limits(max_connections=1)
    server = await nursery.start(partial(serve, echo, listeners=listeners, limits=limits))
    await wait_all_tasks_blocked()

    statistics = server.statistics()
    assert (statistics.streams, statistics.refused) == (1, 2)
    for stream in streams:
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_no_more_than_64_are_told_at_a_time_that_there_is_no_room(
    nursery: trio.Nursery,
) -> None:
    running = Running(limits=Limits(max_connections=1))
    await running.start(nursery)
    await running.open_clients(1, nursery)

    streams = [running.listener.dial() for _ in range(65)]
    await wait_all_tasks_blocked()
    answers = [(await stream.receive_some())[:12] for stream in streams]

    assert sorted(answers) == [b""] + [b"HTTP/1.1 503"] * 64
    nursery.cancel_scope.cancel()


async def test_a_cancelled_server_says_goodbye_to_every_client(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    await running.start(nursery)
    clients = await running.open_clients(3, nursery)

    running.scope.cancel()
    await running.returned.wait()

    assert [client.close_code for client in clients] == [1001] * 3
    assert running.scope.cancelled_caught
    assert trio.current_time() == 0


async def test_a_cancelled_server_waits_no_longer_than_the_close_timeout(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    await running.start(nursery)
    stream = running.listener.dial()
    await stream.send_all(handshake())
    await wait_all_tasks_blocked()

    running.scope.cancel()
    await running.returned.wait()

    assert trio.current_time() == 5


async def test_draining_an_idle_server_ends_it_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    server = await running.start(nursery)

    await server.drain(100)
    await running.returned.wait()

    assert trio.current_time() == 0
    assert not running.scope.cancel_called
    with pytest.raises(trio.BrokenResourceError):
        running.listener.dial()


class Slow:
    """A handler that takes its time after its connection has closed.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.finished = False

    async def __call__(self, request: Request) -> Response | None:
        if not request.upgrade:
            await trio.sleep(self._seconds)
            return Response(200, "at last")
        async with request.accept() as connection:
            await connection.wait_closed()
            await trio.sleep(self._seconds)
            self.finished = True
        return None


async def test_draining_lets_handlers_finish(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler = Slow(3)
    running = Running(handler)
    server = await running.start(nursery)
    (client,) = await running.open_clients(1, nursery)

    await server.drain(10)

    assert handler.finished
    assert client.close_code == 1001
    assert trio.current_time() == 3
    assert server.statistics().streams == 0


@pytest.mark.parametrize("grace", [0, 10])
async def test_draining_cancels_handlers_after_the_grace(
    grace: float, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler = Slow(100)
    running = Running(handler)
    server = await running.start(nursery)
    (client,) = await running.open_clients(1, nursery)

    await server.drain(grace)
    await running.returned.wait()

    assert not handler.finished
    assert client.close_code == 1001
    assert trio.current_time() == grace


async def test_draining_lets_a_plain_request_be_answered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running(Slow(3))
    server = await running.start(nursery)
    stream = running.listener.dial()
    await stream.send_all(GET)
    await stream.send_eof()
    await wait_all_tasks_blocked()

    await server.drain(10)

    assert (await read_to_end(stream)).endswith(b"at last")


async def test_draining_refuses_the_handshakes_under_way_with_503(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    server = await running.start(nursery)
    stream = running.listener.dial()
    await wait_all_tasks_blocked()
    nursery.start_soon(server.drain, 100)
    await wait_all_tasks_blocked()

    with pytest.raises(HandshakeRejected, match="503"):
        async with connect("ws://testserver/", stream=stream):
            pass
    await running.returned.wait()


async def test_draining_goes_on_when_the_caller_is_cancelled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running(Slow(3))
    server = await running.start(nursery)
    await running.open_clients(1, nursery)

    with trio.move_on_after(1):
        await server.drain(100)
    await running.returned.wait()

    assert trio.current_time() == 3


async def test_a_server_may_be_drained_twice(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running(Slow(100))
    server = await running.start(nursery)
    await running.open_clients(1, nursery)

    async with trio.open_nursery() as drains:
        drains.start_soon(server.drain, 50)
        drains.start_soon(server.drain, 5)
    await server.drain(1)

    assert trio.current_time() == 5


async def test_draining_a_server_that_was_cancelled_returns(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    server = await running.start(nursery)
    running.scope.cancel()
    await running.returned.wait()

    with trio.fail_after(1):
        await server.drain(0)


@pytest.mark.network
async def test_a_drained_server_refuses_connections(nursery: trio.Nursery) -> None:
    running = Running(port=0, host="127.0.0.1")
    server = await running.start(nursery)
    url = f"ws://127.0.0.1:{server.port}/"
    async with connect(url) as client:
        await server.drain(5)

        with pytest.raises(ConnectionClosedOK):
            await client.receive()
    with pytest.raises(HandshakeError, match="refused"):
        async with connect(url):
            pass


async def test_start_and_stop_are_logged(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_ws.server")
    running = Running()
    server = await running.start(nursery)
    await server.drain(0)
    await running.returned.wait()

    assert caplog.messages == ["serving on <MemoryListener>", "stopped serving"]


@pytest.mark.network
async def test_clients_that_reset_cost_the_server_nothing(nursery: trio.Nursery) -> None:
    server = await Running(port=0, host="127.0.0.1").start(nursery)
    for data in (b"", b"GET", GET, handshake(), handshake() + b"\x81\x85"):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.send(data)

    async with connect(f"ws://127.0.0.1:{server.port}/") as client:
        await client.send("hello")
        assert await client.receive() == "hello"
    nursery.cancel_scope.cancel()


async def test_a_connection_closed_by_the_server_is_told_to_its_handler(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    errors: list[ConnectionClosed] = []

    async def handler(request: Request) -> None:
        async with request.accept() as connection:
            try:
                await connection.receive()
            except ConnectionClosed as error:
                errors.append(error)

    running = Running(handler)
    server = await running.start(nursery)
    await running.open_clients(1, nursery)
    await server.drain(1)

    assert [error.code for error in errors] == [1001]
    assert "the server is going away" in str(errors[0])
