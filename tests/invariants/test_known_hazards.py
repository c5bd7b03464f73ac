"""Hazards seen elsewhere that belong to no invariant: doors left open, and small things."""

import logging
import random
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    BINARY,
    HANDSHAKE,
    NET,
    TEXT,
    MemoryListener,
    Peer,
    close,
    echo,
    frame,
    held,
    serving,
    serving_tcp,
)
from trio_ws.testing import stream_pair


async def _status(origin: str, host: str = "localhost") -> bytes:
    """Open a WebSocket as a page of an origin does; return the status of the answer."""
    head = HANDSHAKE.replace(b"localhost", f"{host}\r\nOrigin: {origin}".encode())
    async with serving(echo) as served:
        peer = Peer(await served.open())
        await peer.send_bytes(head)
        return (await peer.read_head())[9:12]


# A
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "localhost"),
        ("http://localhost.evil.example", "localhost"),
        ("http://localhost:3000", "localhost:8080"),
        ("http://evil.example", "127.0.0.1:8080"),
        ("null", "localhost"),
    ],
)
async def test_hazard_page_of_another_origin_cannot_open_a_websocket_by_default(
    origin: str, host: str, autojump_clock: MockClock
) -> None:
    assert await _status(origin, host) == b"403"


async def test_page_of_the_same_origin_can_open_a_websocket(autojump_clock: MockClock) -> None:
    assert await _status("http://localhost") == b"101"


async def _keys() -> list[bytes]:
    """Return the masking keys of eight equal frames of a client."""
    mine, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        server = Peer(theirs, masked=False)
        nursery.start_soon(server.answer_handshake)
        async with trio_ws.connect("ws://localhost/", stream=mine) as connection:
            for _ in range(8):
                await connection.send(bytes(10))
            data = await theirs.receive_some(8 * 16)
            nursery.start_soon(server.read_to_end)
            nursery.cancel_scope.cancel()
    return [data[start + 2 : start + 6] for start in range(0, 8 * 16, 16)]


# A
async def test_hazard_masking_keys_are_fresh_and_come_from_no_seeded_generator(
    autojump_clock: MockClock,
) -> None:
    seen: set[bytes] = set()
    for _ in range(2):
        random.seed(7)
        seen.update(await _keys())

    assert len(seen) == 16


# A
def test_hazard_control_characters_of_a_peer_are_escaped_in_what_is_shown_of_errors() -> None:
    escape = "\x1b[2J"
    rejected = trio_ws.HandshakeRejected("ws://a/", trio_ws.Response(403, escape))

    assert "\x1b" not in str(rejected)


# A
async def test_hazard_control_characters_of_a_close_reason_are_escaped(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send_bytes(close(4000, "\x1b[2J"))

        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await connections[0].receive()

        shown = f"{caught.value} {caught.value!r} {connections[0]!r}"
        assert "\x1b" not in shown


# A
@pytest.mark.parametrize("path", ["/%1b[2J", "/\x1b[2J", "/%0a%0d"])
async def test_hazard_control_characters_of_a_target_do_not_reach_the_log(
    path: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: trio_ws.Request) -> None:
        raise RuntimeError

    caplog.set_level(logging.DEBUG)
    async with serving(fail) as served:
        peer = Peer(await served.open())
        await peer.send_bytes(HANDSHAKE.replace(b"/echo", path.encode()))
        await peer.read_to_end()

    assert all(record.getMessage().isprintable() for record in caplog.records)


# T
@pytest.mark.network
async def test_hazard_addresses_can_be_asked_for_after_the_close() -> None:
    async with serving_tcp(echo) as served:
        async with trio_ws.connect(f"ws://127.0.0.1:{served.server.port}") as connection:
            pass

        assert isinstance(connection.remote, type(connection.local))
        assert str(served.server.port) in repr(connection)


async def _host_of(url: str) -> str:
    """Return the ``Host`` header that a client sends for a URL."""
    hosts: list[str] = []

    async def note(request: trio_ws.Request) -> None:
        hosts.append(request.headers["Host"])

    with pytest.raises(trio_ws.HandshakeRejected):
        async with trio_ws.testing.connect(note, url):
            pass
    return hosts[0]


# T
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://[::1]/", "[::1]"),
        ("ws://[::1]:8080/", "[::1]:8080"),
        ("ws://example.com:443/", "example.com:443"),
        ("ws://example.com:80/", "example.com"),
    ],
)
async def test_hazard_host_header_has_brackets_and_the_port_that_is_not_the_default(
    url: str, host: str, autojump_clock: MockClock
) -> None:
    assert await _host_of(url) == host


# T
async def test_hazard_path_that_is_not_ascii_arrives(autojump_clock: MockClock) -> None:
    paths: list[str] = []

    async def note(request: trio_ws.Request) -> None:
        paths.append(request.path)
        await echo(request)

    async with trio_ws.testing.connect(note, "ws://localhost/olá/日本"):
        pass

    assert paths == ["/olá/日本"]


# T
@pytest.mark.network
@pytest.mark.skipif(sys.platform == "win32", reason="Trio has no Unix sockets there")
async def test_hazard_unix_listener_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.sock"
    caplog.set_level(logging.DEBUG)
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    with trio.fail_after(NET):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, [trio.SocketListener(sock)])
            async with trio_ws.connect(f"ws+unix:{path}:/chat") as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
            nursery.cancel_scope.cancel()


async def _serve(listeners: list[trio.SocketListener]) -> None:
    await trio_ws.serve(echo, listeners=listeners)


# T
async def test_hazard_close_code_of_this_side_is_reported_and_sent(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(connections[0].aclose, 4000, "enough")

        assert await peer.receive_close() == 4000
    assert (connections[0].close_code, connections[0].close_reason) == (4000, "enough")


# T
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
async def test_hazard_close_code_that_may_not_be_sent_is_refused(
    code: int, autojump_clock: MockClock
) -> None:
    async with trio_ws.testing.connection_pair() as (client, _):
        with pytest.raises(ValueError, match=str(code)):
            await client.aclose(code)

        assert client.close_code is None


# T
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_hazard_anything_like_bytes_goes_out_as_binary(
    make: Callable[[bytes], bytes | bytearray | memoryview], autojump_clock: MockClock
) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()

        await connections[0].send(make(b"\0\xff"))

        assert await peer.receive() == (BINARY, b"\0\xff")


# T
@pytest.mark.network
async def test_hazard_listeners_of_port_0_have_one_port() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(trio_ws.serve, echo, 0)
        ports = {endpoint.port for endpoint in server.endpoints if not isinstance(endpoint, str)}
        nursery.cancel_scope.cancel()

    assert ports == {server.port}


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


# T
@pytest.mark.network
async def test_hazard_untrusted_certificate_is_named_at_once() -> None:
    async with serving_tcp(echo, ssl_context=_tls()) as served:
        with pytest.raises(trio_ws.HandshakeError, match="certificate") as caught:
            async with trio_ws.connect(f"wss://127.0.0.1:{served.server.port}"):
                pass

        assert not isinstance(caught.value.__cause__, trio.TooSlowError)


@pytest.mark.network
async def test_tls_server_survives_plain_bytes_resets_and_half_a_hello() -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
    async with serving_tcp(echo, ssl_context=_tls()) as served:
        for data in (b"", HANDSHAKE, hello, hello[:3], b"\x15\x03\x01\x00\x02\x02\x00"):
            peer = Peer(await served.open())
            await peer.send_bytes(data)
            await peer.reset()

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        url = f"wss://127.0.0.1:{served.server.port}"
        async with trio_ws.connect(url, ssl_context=context) as connection:
            await connection.send("hello")
            assert await connection.receive() == "hello"


# W
async def test_hazard_messages_to_many_do_not_wait_for_the_one_that_is_stuck(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        stuck, well = await served.peer(), await served.peer()
        while True:
            try:
                connections[0].send_nowait("x" * 40_000)
            except trio.WouldBlock:
                break

        for connection in connections[1:]:
            await connection.send("news")

        assert await well.receive() == (TEXT, b"news")
        assert trio.current_time() == 0
        await stuck.reset()


async def test_messages_that_came_before_a_reset_can_still_be_received(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()
        await peer.send_bytes(frame(TEXT, b"first") + frame(TEXT, b"last") + b"\x81")
        await peer.stream.aclose()
        await connections[0].wait_closed()

        assert [await connections[0].receive() for _ in range(2)] == ["first", "last"]
        with pytest.raises(trio_ws.ConnectionClosedError):
            await connections[0].receive()
