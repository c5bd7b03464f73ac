"""`start_tls` puts TLS over any stream: of ours over sockets, else Trio's, which do the same."""

import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests._transport.fakes import Tls, read_to_end
from trio_ws._transport.endpoint import beneath_tls
from trio_ws._transport.start_tls import check_context, start_tls, why_useless
from trio_ws._transport.tls_stream import TlsStream
from trio_ws.testing import stream_pair

pytestmark = pytest.mark.network

Pair: TypeAlias = tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]


def socket_pair() -> Pair:
    here, there = trio.socket.socketpair()
    return trio.SocketStream(here), trio.SocketStream(there)


@pytest.fixture(params=["socket", "socket without poller", "memory"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Give both ends of a stream."""
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "1" if "without" in request.param else "0")
    return stream_pair() if request.param == "memory" else socket_pair()


async def why_it_fails(
    stream: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str | None = None
) -> BaseException | None:
    """Return why TLS cannot be started."""
    async with stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await start_tls(stream, context, server_hostname=server_hostname)
    return caught.value.__cause__


async def serve(stream: trio.abc.Stream, context: ssl.SSLContext) -> None:
    """Send back what comes, in capitals, until nothing comes any more."""
    async with await start_tls(stream, context) as secure:
        while data := await secure.receive_some():
            await secure.send_all(bytes(data).upper())


@pytest.mark.parametrize("server", [True, False])
def test_a_context_is_checked_for_the_side_it_is_for(server: bool, tls: Tls) -> None:
    right, wrong = (tls.server, tls.client) if server else (tls.client, tls.server)

    check_context(right, server=server)
    with pytest.raises(ValueError, match=r"ssl_context is a (client|server)'s"):
        check_context(wrong, server=server)


def with_certificate(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("localhost").configure_cert(context)
    return context


def of_rsa(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = tls.authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    certificate.configure_cert(context)
    return context


def of_the_newest_alone(tls: Tls) -> ssl.SSLContext:
    context = with_certificate(tls)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def that_wants_a_certificate(tls: Tls) -> ssl.SSLContext:
    context = with_certificate(tls)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def anonymous(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


def that_chooses_by_name(tls: Tls) -> ssl.SSLContext:
    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        raise AssertionError("nobody is there to choose for")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = choose
    return context


@pytest.mark.parametrize(
    "make",
    [
        with_certificate,
        of_rsa,
        of_the_newest_alone,
        that_wants_a_certificate,
        anonymous,
        that_chooses_by_name,
    ],
)
def test_a_context_that_may_serve_is_useful(
    make: Callable[[Tls], ssl.SSLContext], tls: Tls
) -> None:
    assert why_useless(make(tls)) is None


def bare() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def bare_of_the_newest_alone() -> ssl.SSLContext:
    context = bare()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def of_another_kind_of_key() -> ssl.SSLContext:
    context = bare()
    trustme.CA().issue_cert("localhost").configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aRSA")
    return context


@pytest.mark.parametrize("make", [bare, bare_of_the_newest_alone, of_another_kind_of_key])
def test_a_context_that_serves_nobody_is_useless(make: Callable[[], ssl.SSLContext]) -> None:
    assert why_useless(make()) in {"NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL"}


async def test_both_sides_understand_each_other(
    pair: Pair, tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = pair
    nursery.start_soon(serve, far, tls.server)

    async with await start_tls(near, tls.client, server_hostname="localhost") as secure:
        await secure.send_all(b"one")
        answer = await secure.receive_some()

    assert answer == b"ONE"
    assert beneath_tls(secure) is near


@pytest.mark.parametrize(
    ("make_pair", "no_poller", "kind"),
    [
        (socket_pair, "0", TlsStream),
        (socket_pair, "1", trio.SSLStream),
        (stream_pair, "0", trio.SSLStream),
    ],
)
async def test_tls_is_ours_where_the_poller_can_serve_it(
    make_pair: Callable[[], Pair], no_poller: str, kind: type, tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = make_pair()
    nursery.start_soon(serve, far, tls.server)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIO_WS_NO_POLLER", no_poller)
        secure = await start_tls(near, tls.client, server_hostname="localhost")
    await secure.aclose()

    assert isinstance(secure, kind)


@pytest.mark.parametrize(("name", "trusted"), [("localhost", False), ("example.com", True)])
async def test_a_client_refuses_a_certificate_and_says_why(
    name: str, trusted: bool, pair: Pair, tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = pair
    context = tls.client if trusted else ssl.create_default_context()
    nursery.start_soon(why_it_fails, far, tls.server)

    assert isinstance(await why_it_fails(near, context, name), ssl.SSLCertVerificationError)


async def test_a_server_that_wants_a_certificate_refuses_a_client_without(
    pair: Pair, tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("localhost").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(context)

    nursery.start_soon(partial(start_tls, near, tls.client, server_hostname="localhost"))
    error = await why_it_fails(far, context)
    await near.aclose()

    assert isinstance(error, ssl.SSLError)
    assert error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


async def test_a_peer_that_goes_away_is_told_of(pair: Pair, tls: Tls) -> None:
    near, far = pair
    await far.aclose()

    error = await why_it_fails(near, tls.server)

    assert isinstance(error, ssl.SSLEOFError)


async def test_a_peer_that_speaks_no_tls_is_told_of(pair: Pair, tls: Tls) -> None:
    near, far = pair
    await far.send_all(b"GET / HTTP/1.1\r\n\r\n")

    error = await why_it_fails(near, tls.server)
    await far.aclose()

    assert isinstance(error, ssl.SSLError)
    assert error.reason == "HTTP_REQUEST"


async def test_a_silent_peer_is_left_to_the_callers_deadline(
    pair: Pair, tls: Tls, autojump_clock: MockClock
) -> None:
    near, far = pair

    with trio.move_on_after(10) as scope:
        await start_tls(near, tls.client, server_hostname="localhost")

    assert scope.cancelled_caught
    await near.aclose()
    await far.aclose()


async def test_an_end_without_a_close_alert_is_an_end(
    pair: Pair, tls: Tls, nursery: trio.Nursery
) -> None:
    near, far = pair

    async def say_and_end() -> None:
        secure = await start_tls(far, tls.server)
        await secure.send_all(b"last")
        await far.send_eof()

    nursery.start_soon(say_and_end)
    async with await start_tls(near, tls.client, server_hostname="localhost") as secure:
        assert await read_to_end(secure) == b"last"
    await far.aclose()
