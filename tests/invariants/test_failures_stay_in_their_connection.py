"""Invariant 4: one connection's failure ends that connection, and nothing else."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias, cast

import pytest
import trio
import trio.abc
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    MALFORMED_HEADS,
    PING,
    PONG,
    TEXT,
    MemoryListener,
    Peer,
    Served,
    close,
    echo,
    flood,
    frame,
    header,
    held,
    no_task_left,
    serving,
    serving_tcp,
    until,
)
from trio_ws.testing import FaultyStream, MemoryStream

_Attack: TypeAlias = Callable[[Served], Awaitable[None]]
_Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Served]]


async def _reset_at_every_byte_of_the_handshake(served: Served) -> None:
    for size in range(len(HANDSHAKE) + 1):
        peer = Peer(await served.open())
        await peer.send_bytes(HANDSHAKE[:size])
        await peer.reset()


async def _reset_at_every_byte_of_a_frame(served: Served) -> None:
    message = frame(TEXT, b"hello")
    for size in range(len(message) + 1):
        peer = await served.peer()
        await peer.send_bytes(message[:size])
        await peer.reset()


async def _end_at_every_byte_of_a_frame(served: Served) -> None:
    message = frame(TEXT, b"hello")
    for size in range(len(message)):
        peer = await served.peer()
        await peer.send_bytes(message[:size])
        await cast("trio.SocketStream", peer.stream).send_eof()
        await peer.read_to_end()


# T
async def _get_then_reset(served: Served) -> None:
    for _ in range(20):
        peer = Peer(await served.open())
        await peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await peer.reset()


async def _handshake_with_all_that_follows_then_reset(served: Served) -> None:
    for _ in range(20):
        peer = Peer(await served.open())
        await peer.send_bytes(HANDSHAKE + frame(TEXT, b"hello") + close())
        await peer.reset()


# T
async def _malformed_heads(served: Served) -> None:
    for head in MALFORMED_HEADS:
        peer = Peer(await served.open())
        await peer.send_bytes(head)
        await cast("trio.SocketStream", peer.stream).send_eof()
        await peer.read_to_end()
        await peer.stream.aclose()


async def _one_byte_at_a_time(served: Served) -> None:
    peer = Peer(await served.open())
    for byte in HANDSHAKE + frame(PING, b"abc") + frame(TEXT, b"hello") + close():
        await peer.send_bytes(bytes([byte]))
    await peer.read_head()
    assert await peer.receive_frames() == [(PONG, b"abc"), (TEXT, b"hello"), (CLOSE, b"\x03\xe8")]


async def _flood_and_reset(data: bytes, served: Served) -> None:
    """Flood until the server has had enough, or until it has taken much."""
    peer = await served.peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, peer, data)
        with trio.move_on_after(0.2):
            await peer.read_to_end()
        nursery.cancel_scope.cancel()
    await peer.reset()


async def _sent_then_read(data: bytes, served: Served) -> None:
    peer = await served.peer()
    await peer.send_bytes(data)
    await peer.read_to_end()
    await peer.stream.aclose()


# T
async def _ping_after_the_close_of_the_server(served: Served) -> None:
    for path in ("/leave", "/raise", "/nonsense"):
        peer = await served.peer(path)
        await peer.send_bytes(frame(PING, b"late") * 3 + frame(TEXT, b"late") * 3)
        await peer.receive_close()
        await peer.stream.aclose()


# T
async def _too_large_message_and_ping_in_one_write(served: Served) -> None:
    await _sent_then_read(header(BINARY, 2**30) + frame(PING) * 100, served)


# T
async def _reset_while_the_handler_works(served: Served) -> None:
    for path in ("/work", "/send", "/leave", "/raise", "/close"):
        peer = await served.peer(path)
        await peer.reset()


async def _close_while_the_handler_works(served: Served) -> None:
    for path in ("/work", "/send", "/leave", "/raise", "/close"):
        peer = await served.peer(path)
        await peer.close()
        await peer.read_to_end()
        await peer.stream.aclose()


async def _read_nothing(served: Served) -> None:
    peer = await served.peer("/send")
    await until(lambda: served.server.statistics().connections_open == 1)
    await peer.reset()


_ATTACKS: list[_Attack] = [
    _reset_at_every_byte_of_the_handshake,
    _reset_at_every_byte_of_a_frame,
    _end_at_every_byte_of_a_frame,
    _get_then_reset,
    _handshake_with_all_that_follows_then_reset,
    _malformed_heads,
    _one_byte_at_a_time,
    _ping_after_the_close_of_the_server,
    _too_large_message_and_ping_in_one_write,
    _reset_while_the_handler_works,
    _close_while_the_handler_works,
    _read_nothing,
    partial(_flood_and_reset, frame(PING, b"x" * 125) * 100),
    partial(_flood_and_reset, frame(PONG, b"x" * 125) * 100),
    partial(_flood_and_reset, frame(TEXT) * 1000),
    partial(_flood_and_reset, frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 5000),
    partial(_flood_and_reset, frame(CLOSE) * 1000),
    partial(_sent_then_read, header(TEXT, 2**63 - 1)),
    partial(_sent_then_read, header(TEXT, 2**64 - 1)),
    partial(_sent_then_read, frame(TEXT, b"\xff")),
    partial(_sent_then_read, frame(CLOSE, b"x")),
    partial(_sent_then_read, close(1006)),
    partial(_sent_then_read, frame(CLOSE, b"\x03\xe8\xff")),
    partial(_sent_then_read, b"\x81\x05hello"),
    partial(_sent_then_read, frame(3)),
    partial(_sent_then_read, frame(PING, fin=False)),
    partial(_sent_then_read, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
]


async def _app(request: trio_ws.Request) -> trio_ws.Response | None:
    """Do what the path says."""
    if not request.upgrade:
        return trio_ws.Response(200, "hello")
    async with request.accept() as connection:
        if request.path == "/echo":
            async for message in connection:
                await connection.send(message)
        elif request.path == "/work":
            async with connection.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        elif request.path == "/send":
            while True:
                await connection.send("x" * 100_000)
        elif request.path == "/close":
            await connection.aclose(4000, "in the middle")
            await connection.send("after the end")
        elif request.path == "/raise":
            raise RuntimeError("the handler fails")
    return cast("None", "nonsense") if request.path == "/nonsense" else None


@asynccontextmanager
async def _chatting(served: Served) -> AsyncGenerator[None, None]:
    """Have a client exchange messages all the while; it must not feel anything."""
    left = trio.Event()
    rounds = 0

    async def chat() -> None:
        nonlocal rounds
        async with await served.connect() as connection:
            while not left.is_set():
                await connection.send(f"round {rounds}")
                assert await connection.receive() == f"round {rounds}"
                rounds += 1
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat)
        await until(lambda: rounds > 2)
        yield
        before = rounds
        await until(lambda: rounds > before + 2)
        left.set()


@pytest.mark.parametrize("serve", [serving, pytest.param(serving_tcp, marks=pytest.mark.network)])
@pytest.mark.parametrize("attack", _ATTACKS)
async def test_other_client_goes_on_unharmed_and_nothing_is_left_after_an_attack(
    attack: _Attack, serve: _Serving
) -> None:
    # The write timeout rids the server of the peer that reads nothing.
    async with serve(_app, limits=trio_ws.Limits(write_timeout=0.3, close_timeout=0.3)) as served:
        async with _chatting(served):
            await attack(served)
        await until(lambda: served.server.statistics().streams == 0)

        assert served.server.statistics().connections_open == 0


@pytest.mark.parametrize("head", MALFORMED_HEADS)
async def test_malformed_head_is_answered_with_a_status_or_not_at_all(
    head: bytes, autojump_clock: MockClock
) -> None:
    async with serving(echo) as served:
        peer = Peer(await served.open())

        await peer.send_bytes(head)
        answer = await peer.read_to_end()

        assert answer[:10] in {b"", b"HTTP/1.1 4", b"HTTP/1.1 5"} or answer[:12] == b"HTTP/1.1 101"


# T
async def test_hazard_exception_of_a_handler_closes_its_connection_with_1011_and_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(_app) as served:
        other = await served.peer()

        assert await (await served.peer("/raise")).receive_close() == 1011

        await other.send(TEXT, b"still here")
        assert await other.receive() == (TEXT, b"still here")
        await wait_all_tasks_blocked()
        assert served.server.statistics().handler_failures == 1
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in failures] == ["trio_ws.server"]
    assert failures[0].exc_info
    assert "the handler fails" in str(failures[0].exc_info[1])


# T
async def test_hazard_connection_closed_after_a_clients_normal_close_is_no_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive_for_ever(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            while True:
                await connection.receive()

    async with serving(receive_for_ever) as served:
        peer = await served.peer()
        await peer.close()
        await peer.receive_close()
        await wait_all_tasks_blocked()

        assert served.server.statistics().handler_failures == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# T
@pytest.mark.network
@pytest.mark.parametrize("path", [b"/echo", b"/send", b"/leave", b"/plain"])
async def test_hazard_accepting_or_refusing_a_client_that_has_reset_harms_nothing(
    path: bytes,
) -> None:
    asked, reset = trio.Event(), trio.Event()

    async def handler(request: trio_ws.Request) -> trio_ws.Response | None:
        asked.set()
        await reset.wait()
        return await _app(request)

    async with serving_tcp(handler) as served:
        peer = Peer(await served.open())
        head = HANDSHAKE.replace(b"Upgrade", b"X") if path == b"/plain" else HANDSHAKE
        await peer.send_bytes(head.replace(b"/echo", path))
        await asked.wait()
        await peer.reset()
        reset.set()
        await until(lambda: served.server.statistics().streams == 0)

        await (await served.peer()).leave()


@pytest.mark.network
async def test_client_that_resets_before_it_is_answered_is_no_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving_tcp(_app) as served:
        await _reset_at_every_byte_of_the_handshake(served)
        await _get_then_reset(served)
        await until(lambda: served.server.statistics().streams == 0)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("answer", ["hello", b"hello", 404, {"status": 200}, object()])
async def test_handler_that_returns_nonsense_costs_its_own_request_only(
    answer: object, autojump_clock: MockClock
) -> None:
    async def handler(request: trio_ws.Request) -> trio_ws.Response | None:
        return cast("None", answer)

    async with serving(handler) as served:
        for _ in range(2):
            peer = Peer(await served.open())
            await peer.send_bytes(HANDSHAKE)
            assert (await peer.read_head()).startswith(b"HTTP/1.1 500 ")

        assert served.server.statistics().handler_failures == 2


async def test_handler_that_never_returns_holds_up_nobody(autojump_clock: MockClock) -> None:
    async def never(request: trio_ws.Request) -> None:
        if request.path == "/never":
            await trio.sleep_forever()
        await echo(request)

    async with serving(never) as served:
        await Peer(await served.open()).send_bytes(HANDSHAKE.replace(b"/echo", b"/never"))
        await wait_all_tasks_blocked()

        peer = await served.peer()
        await peer.send(TEXT, b"hello")
        assert await peer.receive() == (TEXT, b"hello")


async def test_group_of_errors_of_a_handler_is_one_failure(autojump_clock: MockClock) -> None:
    async def fail_twice(request: trio_ws.Request) -> None:
        async with request.accept():
            raise ExceptionGroup("two", [ValueError("one"), ExceptionGroup("", [KeyError("two")])])

    async with serving(fail_twice) as served:
        assert await (await served.peer()).receive_close() == 1011
        await wait_all_tasks_blocked()

        assert served.server.statistics().handler_failures == 1


class _BrokenStream(trio.abc.HalfCloseableStream):
    """A stream that breaks its contract: one of its methods raises what no stream may raise."""

    def __init__(self, stream: MemoryStream, broken: str, calls: int) -> None:
        self._stream = stream
        self._broken = broken
        self._calls = calls

    def _check(self, name: str) -> None:
        if name == self._broken:
            self._calls -= 1
            if self._calls < 0:
                raise RuntimeError(f"{name} is broken")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check("send_all")
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        self._check("send_eof")
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._check("receive_some")
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._check("aclose")


@pytest.mark.parametrize("broken", ["send_all", "send_eof", "receive_some", "aclose"])
@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("path", ["/echo", "/leave", "/raise", "/plain"])
async def test_stream_that_breaks_its_contract_costs_its_own_connection_only(
    broken: str, calls: int, path: str, autojump_clock: MockClock
) -> None:
    streams: list[trio.abc.Stream] = []

    def wrap(stream: MemoryStream) -> trio.abc.Stream:
        streams.append(stream)
        return stream if len(streams) == 1 else _BrokenStream(stream, broken, calls)

    async with serving(_app, listener=MemoryListener(wrap=wrap)) as served:
        other = await served.peer()
        peer = Peer(await served.open())
        request = HANDSHAKE.replace(b"/echo", path.encode())
        if path == "/plain":
            request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await peer.send_bytes(request + frame(TEXT, b"hello") + close())
        await peer.read_to_end()

        await other.send(TEXT, b"still here")
        assert await other.receive() == (TEXT, b"still here")


# T
async def test_hazard_request_that_is_no_upgrade_leaves_no_task_behind(
    autojump_clock: MockClock,
) -> None:
    async with serving(_app) as served:
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(10):
            peer = Peer(await served.open())
            await peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await peer.read_to_end()
            await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() < served.server.statistics().requests


# W
async def test_hazard_failing_task_in_a_connections_nursery_costs_its_own_connection_only(
    autojump_clock: MockClock,
) -> None:
    async def fail() -> None:
        raise RuntimeError

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection, connection.open_nursery() as nursery:
            nursery.start_soon(fail)
            await connection.receive()

    async with serving(handler) as served:
        for _ in range(2):
            assert await (await served.peer()).receive_close() == 1011


async def test_line_that_breaks_after_any_byte_raises_errors_of_our_own_only(
    autojump_clock: MockClock,
) -> None:
    for size in range(700):
        wrap = partial(FaultyStream, cut_after=size)
        try:
            async with no_task_left(), trio_ws.testing.connect(echo, wrap=wrap) as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
        except (trio_ws.HandshakeError, trio_ws.ConnectionClosedError):
            continue


# T, W
async def test_hazard_handler_does_not_go_on_working_for_a_client_that_has_left(
    autojump_clock: MockClock,
) -> None:
    async with serving(_app) as served:
        for end in (Peer.leave, Peer.reset):
            peer = await served.peer("/work")
            await end(peer)
            await wait_all_tasks_blocked()

            assert served.server.statistics().streams == 0


@pytest.mark.network
async def test_peer_that_reads_nothing_is_dropped_and_others_go_on() -> None:
    handler, connections = held()
    async with serving_tcp(handler, limits=trio_ws.Limits(write_timeout=0.1)) as served:
        peer = await served.peer()
        with pytest.raises(trio_ws.ConnectionClosedError, match="took nothing"):
            await _send_for_ever(connections[0])

        assert (await served.peer()) is not peer
        assert len(connections) == 2


async def _send_for_ever(connection: trio_ws.Connection) -> None:
    while True:
        await connection.send("x" * 100_000)
