"""What TLS knows of a peer is told by requests and connections, whoever speaks TLS for them."""

import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeAlias

import pytest
import trio

from tests._transport.fakes import Tls, handshake, read_to_end
from trio_ws._errors import HandshakeError
from trio_ws._transport.client import connect
from trio_ws._transport.connection import Connection
from trio_ws._transport.handshake import Request
from trio_ws._transport.server import serve
from trio_ws._transport.tls_facts import TlsFacts, facts_of
from trio_ws._transport.tls_stream import tls_of
from trio_ws.testing import connection_pair, stream_pair

pytestmark = pytest.mark.network

ANA = (("commonName", "Ana"),)

Meeting: TypeAlias = tuple[Connection, Request, Connection]
"""A client's connection, the request it made, and the server's connection."""


@pytest.fixture(params=["poller", "tasks", "streams of Trio's"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give each way to have TLS."""
    kind: str = request.param
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "1" if kind == "tasks" else "0")
    return kind


@asynccontextmanager
async def meeting(
    kind: str, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncGenerator[Meeting, None]:
    """Connect to a server of one's own over TLS."""
    met: list[tuple[Request, Connection]] = []

    async def meet(request: Request) -> None:
        async with request.accept() as connection:
            met.append((request, connection))
            await connection.send("met")
            await connection.wait_closed()

    of_trio = kind == "streams of Trio's"
    (socket,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = socket.socket.getsockname()[1]
    listener = trio.SSLListener(socket, server_context) if of_trio else socket
    context = None if of_trio else server_context
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, meet, listeners=[listener], ssl_context=context))
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
        if of_trio:
            stream = trio.SSLStream(
                stream, client_context, server_hostname="localhost", https_compatible=True
            )
        url = f"wss://localhost:{port}/"
        given = None if of_trio else client_context
        async with connect(url, stream=stream, ssl_context=given) as client:
            assert await client.receive() == "met"
            yield client, *met[0]
        nursery.cancel_scope.cancel()


async def test_both_sides_are_told_whose_certificates_there_are(kind: str, tls: Tls) -> None:
    server_context, client_context = tls.mutual(ssl.CERT_REQUIRED)

    async with meeting(kind, server_context, client_context) as (client, request, server):
        known, of_server = request.tls, client.tls

    assert known is not None
    assert known.certificate is not None
    assert ANA in known.certificate["subject"]
    assert ("email", "ana@example.com") in known.certificate["subjectAltName"]
    assert known.certificate_der is not None
    assert ssl.DER_cert_to_PEM_cert(known.certificate_der).startswith("-----BEGIN CERTIFICATE")
    assert known.version == "TLSv1.3"
    assert of_server is not None
    assert of_server.certificate is not None
    assert ("DNS", "localhost") in of_server.certificate["subjectAltName"]
    # Also after the close.
    assert (server.tls, client.tls) == (known, of_server)


async def test_a_client_that_shows_no_certificate_has_none(kind: str, tls: Tls) -> None:
    server_context, _ = tls.mutual(ssl.CERT_OPTIONAL)

    async with meeting(kind, server_context, tls.client) as (_, request, server):
        pass

    assert request.tls == TlsFacts(version="TLSv1.3", certificate=None, certificate_der=None)
    assert server.tls == request.tls


async def test_the_version_is_the_one_agreed_on(kind: str, tls: Tls) -> None:
    server_context, client_context = tls.mutual(ssl.CERT_OPTIONAL)
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2

    async with meeting(kind, server_context, client_context) as (client, request, _):
        pass

    assert request.tls is not None
    assert client.tls is not None
    assert (request.tls.version, client.tls.version) == ("TLSv1.2", "TLSv1.2")
    assert request.tls.certificate is not None


async def test_a_certificate_that_nobody_has_verified_tells_no_name(kind: str, tls: Tls) -> None:
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE

    async with meeting(kind, tls.server, careless) as (client, request, _):
        pass

    assert client.tls is not None
    assert client.tls.certificate == {}
    assert client.tls.certificate_der
    # A server that does not ask is shown none.
    assert request.tls is not None
    assert request.tls.certificate is None


async def test_who_has_no_certificate_is_refused_where_one_is_required(
    kind: str, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    server_context, _ = tls.mutual(ssl.CERT_REQUIRED)

    with (
        caplog.at_level(logging.DEBUG, "trio_ws.server"),
        # The test's own nursery makes a group of it.
        pytest.RaisesGroup(pytest.RaisesExc(HandshakeError)),
    ):
        async with meeting(kind, server_context, tls.client):
            pass

    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in caplog.text
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG, logging.INFO}


async def test_whose_certificate_is_of_another_authority_is_refused(kind: str, tls: Tls) -> None:
    server_context, _ = tls.mutual(ssl.CERT_OPTIONAL)
    _, stranger = tls.mutual(ssl.CERT_OPTIONAL)

    with pytest.RaisesGroup(pytest.RaisesExc(HandshakeError)):
        async with meeting(kind, server_context, stranger):
            pass


async def test_without_tls_there_is_nothing_to_tell() -> None:
    requests: list[Request] = []

    async def take(request: Request) -> None:
        requests.append(request)

    async with connection_pair() as (client, server), trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(partial(serve, take, listeners=listeners, hosts="*"))
        async with await trio.testing.open_stream_to_socket_listener(listeners[0]) as stream:
            await stream.send_all(handshake())
            await read_to_end(stream)
        nursery.cancel_scope.cancel()
        assert (client.tls, server.tls, requests[0].tls) == (None, None, None)


async def test_garbage_behind_the_head_does_not_hide_who_the_client_is(tls: Tls) -> None:
    facts: list[TlsFacts | None] = []

    async def note(request: Request) -> None:
        facts.append(request.tls)

    server_context, client_context = tls.mutual(ssl.CERT_REQUIRED)
    async with trio.open_nursery() as nursery:
        start = partial(serve, note, 0, hosts="*", ssl_context=server_context)
        server = await nursery.start(start)
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as socket:
            line = _Held(socket)
            client = trio.SSLStream(line, client_context, server_hostname="localhost")
            await client.do_handshake()
            line.held = b""
            await client.send_all(handshake())
            # A record that no key fits, in one piece with the request.
            await socket.send_all(line.held + b"\x17\x03\x03\x00\x20" + bytes(32))
            await read_to_end(socket)
        nursery.cancel_scope.cancel()

    (known,) = facts
    assert known is not None
    assert known.certificate is not None
    assert ANA in known.certificate["subject"]


class _Held(trio.abc.Stream):
    """A stream that keeps what is sent, once there is something to keep it in."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.held: bytes | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.held is None:
            await self._stream.send_all(data)
        else:
            await trio.lowlevel.checkpoint()
            self.held += bytes(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_facts_that_are_asked_for_too_late_are_an_error(tls: Tls) -> None:
    near, far = stream_pair()
    ours = trio.SSLStream(near, tls.client, server_hostname="localhost")
    theirs = trio.SSLStream(far, tls.server, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.do_handshake)
        await ours.do_handshake()
    assert tls_of(ours) is not None

    await far.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()

    with pytest.raises(trio.BrokenResourceError, match="TLS has failed"):
        tls_of(ours)


def test_those_who_show_nothing_share_what_is_known_of_them(tls: Tls) -> None:
    assert facts_of(_agreed(tls)) is facts_of(_agreed(tls))


def _agreed(tls: Tls) -> ssl.SSLObject:
    """Return the server's side of a handshake in memory."""
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    client = tls.client.wrap_bio(a, b, server_hostname="localhost")
    server = tls.server.wrap_bio(c, d, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
        c.write(b.read())
        a.write(d.read())
    return server


def test_the_repr_holds_nothing_that_a_peer_has_chosen() -> None:
    facts = TlsFacts(version="TLSv1.3", certificate={"subject": "x"}, certificate_der=b"y")

    assert repr(facts) == "TlsFacts(version='TLSv1.3')"
