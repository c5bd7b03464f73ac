"""What is done to streams: `write_all`, `read_now`, `half_close` and `cut`."""

import socket
import struct

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints

from tests._transport.fakes import Failing, Plain, Tls
from tests._transport.socket_benches import needs_watcher
from trio_ws._transport.streams import cut, half_close, read_now, write_all
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream
from trio_ws.testing import stream_pair


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), OSError("not connected")])
async def test_half_close_tells_that_the_line_is_broken(error: Exception) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors["send_eof"] = error

    assert not await half_close(stream)


async def test_an_odd_error_of_half_closing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors["send_eof"] = KeyError("odd")

    assert not await half_close(stream)
    assert "half-closing the stream failed" in caplog.text


async def test_half_close_ends_the_stream_beneath_tls(tls: Tls) -> None:
    inner, peer = stream_pair()
    stream = trio.SSLStream(inner, tls.client, server_hostname="localhost")

    assert await half_close(stream)
    assert await peer.receive_some() == b""


async def test_write_all_writes_in_slices() -> None:
    stream = Plain(stream_pair()[0])

    await write_all(stream, bytes(40 * 1024), 1)

    assert list(map(len, stream.writes)) == [16 * 1024, 16 * 1024, 8 * 1024]


@pytest.mark.network
async def test_write_all_writes_to_a_socket_as_it_takes_bytes(nursery: trio.Nursery) -> None:
    here, there = trio.socket.socketpair()
    stream, peer = trio.SocketStream(here), trio.SocketStream(there)
    data = bytes(range(256)) * 16 * 1024
    nursery.start_soon(write_all, stream, data, 60)

    received = bytearray()
    while len(received) < len(data):
        received += await peer.receive_some()

    assert received == data
    await stream.aclose()
    await peer.aclose()


@pytest.mark.network
async def test_write_all_finds_a_closed_socket_broken() -> None:
    here, there = trio.socket.socketpair()
    there.close()

    async with trio.SocketStream(here) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await write_all(stream, bytes(1024), 60)

    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.network
async def test_write_all_gives_up_a_socket_that_takes_nothing(autojump_clock: MockClock) -> None:
    here, there = trio.socket.socketpair()
    with there:
        async with trio.SocketStream(here) as stream:
            with pytest.raises(trio.TooSlowError):
                await write_all(stream, bytes(16 * 1024 * 1024), 20)

    assert trio.current_time() == 20


@needs_watcher
@pytest.mark.network
async def test_read_now_reads_what_a_socket_has_and_waits_for_nothing() -> None:
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    with theirs:
        nothing = read_now(stream, 4)
        theirs.send(b"abcdef")

        assert (nothing, read_now(stream, 4), read_now(stream, 4)) == (b"", b"abcd", b"ef")
        theirs.shutdown(socket.SHUT_WR)
        assert read_now(stream, 4) == await stream.receive_some(4) == b""
        await stream.aclose()
        assert read_now(stream, 4) == b""


@needs_watcher
@pytest.mark.network
async def test_read_now_tells_of_a_reset() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    far = await trio.testing.open_stream_to_socket_listener(listeners[0])
    async with listeners[0], await listeners[0].accept() as stream:
        far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await far.aclose()
        await trio.lowlevel.wait_readable(stream.socket)

        with pytest.raises(trio.BrokenResourceError) as caught:
            read_now(stream, 4)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_read_now_leaves_other_streams_alone() -> None:
    stream, far = stream_pair()
    await far.send_all(b"abc")

    assert read_now(stream, 3) == b""
    assert await stream.receive_some(3) == b"abc"


async def test_half_close_leaves_a_stream_alone_that_has_no_halves() -> None:
    inner, peer = stream_pair()

    assert not await half_close(Plain(inner))
    await inner.send_all(b"still open")
    assert await peer.receive_some() == b"still open"


async def test_cut_closes_a_stream_although_it_is_cancelled() -> None:
    stream, peer = stream_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await cut(stream)

    assert not scope.cancelled_caught
    assert await peer.receive_some() == b""


@pytest.mark.network
@pytest.mark.parametrize("secure", [False, True])
async def test_cut_closes_a_socket_at_once(secure: bool, tls: Tls) -> None:
    here, there = trio.socket.socketpair()
    stream = trio.SocketStream(here)
    session = TlsSession(tls.server, server_hostname=None)

    with there, assert_no_checkpoints():
        await cut(TlsStream(stream, session) if secure else stream)

    assert here.fileno() == -1


async def test_an_odd_error_of_cutting_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors["aclose"] = KeyError("odd")

    await cut(stream)

    assert "closing the stream failed" in caplog.text
