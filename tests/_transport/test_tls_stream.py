"""`TlsStream` serves an opening handshake over a socket, with Trio's TLS on the other side."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests._transport.fakes import Steps, Tls, cancel_when_blocked, with_certificate_later
from tests._transport.socket_benches import shake_hands
from trio_ws._transport import tls as tls_module
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream

pytestmark = pytest.mark.network


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    here, there = trio.socket.socketpair()
    await trio.lowlevel.checkpoint()
    return trio.SocketStream(here), trio.SocketStream(there)


@asynccontextmanager
async def open_pair(
    tls: Tls, *, client: bool = False
) -> AsyncGenerator[tuple[TlsStream, "trio.SSLStream[trio.SocketStream]"], None]:
    """Open both ends of a line with TLS, ours first."""
    near, far = await socket_pair()
    ours, theirs = await shake_hands(tls, near, far, client=client)
    async with ours, theirs:
        yield ours, theirs


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


@pytest.mark.parametrize("client", [True, False])
async def test_what_is_sent_arrives(client: bool, tls: Tls) -> None:
    data = bytes(range(256)) * 400
    async with open_pair(tls, client=client) as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, data)
        heard = b""
        while len(heard) < len(data):
            heard += await theirs.receive_some()

    assert heard == data


async def test_what_arrives_is_received_piece_by_piece(tls: Tls) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.send_all(b"one two")

        pieces = [await ours.receive_some(3), await ours.receive_some()]

    assert pieces == [b"one", b" two"]


async def test_receiving_goes_through_a_checkpoint_whether_it_waits_or_not(tls: Tls) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.send_all(b"one two")
        with assert_checkpoints():
            await ours.receive_some(3)
        with assert_checkpoints():
            await ours.receive_some(3)


async def test_receiving_gives_way_while_what_comes_is_no_data(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls.server, "num_tickets", 40)
    monkeypatch.setattr(tls_module, "RECORDS", 2)
    async with open_pair(tls, client=True) as (ours, theirs):
        await theirs.send_all(b"data")

        with Steps() as steps:
            data = await ours.receive_some()

        assert data == b"data"
        assert steps.count >= 40 // 2


async def test_receiving_that_is_cancelled_while_it_gives_way_loses_nothing(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls.server, "num_tickets", 40)
    monkeypatch.setattr(tls_module, "RECORDS", 2)
    async with open_pair(tls, client=True) as (ours, theirs):
        await theirs.send_all(b"data")
        cancelled = 0
        data = b""
        while not data:
            with trio.CancelScope() as scope, Steps(scope.cancel):
                data = await ours.receive_some()
            cancelled += scope.cancelled_caught

        assert data == b"data"
        assert cancelled > 10


async def test_a_cancelled_receiving_loses_nothing(tls: Tls) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.send_all(b"one two")
        await ours.receive_some(3)
        with trio.CancelScope() as scope:
            scope.cancel()
            await ours.receive_some()

        assert scope.cancelled_caught
        assert await ours.receive_some() == b" two"


@pytest.mark.parametrize("size", [0, -1])
async def test_nothing_cannot_be_asked_for(size: int, tls: Tls) -> None:
    async with open_pair(tls) as (ours, _):
        with pytest.raises(ValueError, match="max_bytes"):
            await ours.receive_some(size)


@pytest.mark.parametrize("announced", [True, False])
async def test_the_peers_end_is_an_end(announced: bool, tls: Tls) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.send_all(b"last")
        if announced:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.unwrap)
                heard = await read_all(ours)
                nursery.cancel_scope.cancel()
        else:
            await theirs.transport_stream.send_eof()
            heard = await read_all(ours)

        assert heard == b"last"
        assert await ours.receive_some() == b""


async def test_what_is_not_from_the_peer_is_an_error(tls: Tls) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.send_all(b"good")
        await theirs.transport_stream.send_all(b"GET / HTTP/1.1\r\n\r\n")

        assert await ours.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError) as again:
            await ours.send_all(b"x")

    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert isinstance(again.value.__cause__, ssl.SSLError)


async def test_nothing_can_be_sent_when_tls_has_failed_and_the_peer_is_told_why(
    tls: Tls,
) -> None:
    async with open_pair(tls) as (ours, theirs):
        await theirs.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()

        # What versions of OpenSSL call it.
        names = "bad record mac|record layer failure"
        with pytest.raises(trio.BrokenResourceError, match=names):
            await ours.send_all(b"data")

        with pytest.raises(trio.BrokenResourceError) as told:
            await theirs.receive_some()
    assert "alert bad record mac" in str(told.value.__cause__)


async def test_a_failed_handshake_tells_both_why(tls: Tls) -> None:
    near, far = await socket_pair()
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(stranger)
    ours = TlsStream(near, TlsSession(tls.client, server_hostname="localhost"))
    theirs = trio.SSLStream(far, stranger, server_side=True)
    errors: dict[object, BaseException | None] = {}

    async def fail(stream: TlsStream | trio.SSLStream[trio.SocketStream]) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.do_handshake()
        errors[stream] = caught.value.__cause__

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(fail, ours)
        await fail(theirs)

    assert isinstance(errors[ours], ssl.SSLCertVerificationError)
    assert "unknown ca" in str(errors[theirs])


async def test_nothing_can_be_sent_after_a_handshake_has_failed(tls: Tls) -> None:
    near, far = await socket_pair()
    ours = TlsStream(near, TlsSession(tls.server, server_hostname=None))
    await far.send_all(b"GET / HTTP/1.1\r\n\r\n")

    async with ours, far:
        with pytest.raises(trio.BrokenResourceError):
            await ours.do_handshake()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")


async def test_a_failed_handshake_says_why_although_the_peer_is_gone(tls: Tls) -> None:
    near, far = await socket_pair()
    await far.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await far.aclose()
    # Its hello is lost, which is noticed when it is to be sent; a server has none.
    ours = TlsStream(near, TlsSession(tls.server, server_hostname=None))

    async with ours:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.do_handshake()

    assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_a_peer_that_goes_away_in_the_handshake_breaks_it(tls: Tls) -> None:
    near, far = await socket_pair()
    ours = TlsStream(near, TlsSession(tls.client, server_hostname="localhost"))
    await far.send_eof()

    async with ours, far:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.do_handshake()

    assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


async def test_nothing_can_be_sent_after_a_sending_was_cancelled(
    tls: Tls, nursery: trio.Nursery
) -> None:
    async with open_pair(tls) as (ours, _):
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await ours.send_all(bytes(8 * 1024 * 1024))

        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")


async def test_a_peer_that_wants_another_handshake_before_it_is_answered_is_left(tls: Tls) -> None:
    near, far = await socket_pair()
    # One that has not begun looks the same to whoever sends.
    ours = TlsStream(near, TlsSession(tls.client, server_hostname="localhost"))

    async with ours, far:
        with pytest.raises(trio.BrokenResourceError, match="another TLS handshake"):
            await ours.send_all(b"x")


async def test_receiving_sends_what_tls_has_to_say(tls: Tls) -> None:
    near, far = await socket_pair()
    ours = TlsStream(near, TlsSession(tls.server, server_hostname=None))
    theirs = trio.SSLStream(far, tls.client, server_hostname="localhost", https_compatible=True)

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"data")

        assert await ours.receive_some() == b"data"


async def test_what_tls_has_to_say_goes_between_the_records_that_are_being_sent(
    tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = await socket_pair()
    client, server = with_certificate_later(tls)
    ours = TlsStream(near, TlsSession(client, server_hostname="localhost"))
    theirs = trio.SSLStream(far, server, server_side=True, https_compatible=True)
    nursery.start_soon(ours.do_handshake)
    await theirs.do_handshake()
    async with ours, theirs:
        nursery.start_soon(ours.send_all, bytes(8 * 1024 * 1024))
        await wait_all_tasks_blocked()
        theirs._ssl_object.verify_client_post_handshake()  # noqa: SLF001 - Trio does not forward it
        await theirs.send_all(b"who are you?")
        heard = await ours.receive_some()
        nursery.start_soon(ours.receive_some)

        size = 0
        while size < 8 * 1024 * 1024:
            size += len(await theirs.receive_some())
        nursery.cancel_scope.cancel()

        assert heard == b"who are you?"
        assert theirs.getpeercert()


async def test_waiting_for_room_is_the_sockets(tls: Tls) -> None:
    async with open_pair(tls) as (ours, _):
        await ours.wait_send_all_might_not_block()
