"""Endpoints of every kind of stream and listener, and how they are written."""

import os
import socket
import ssl
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.socket import AF_INET6

from trio_ws._transport.endpoint import (
    Endpoint,
    beneath_tls,
    describe,
    endpoint_of,
    is_loopback,
    is_socket,
    listening_at,
)
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream
from trio_ws.testing import stream_pair

needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")


class OtherListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener that is on no socket."""

    async def accept(self) -> trio.abc.Stream:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


def fields_of(endpoint: Endpoint | str) -> tuple[str, int, bool]:
    assert isinstance(endpoint, Endpoint)
    return str(endpoint.address), endpoint.port, endpoint.is_ssl


def secured(stream: trio.abc.Stream) -> "trio.SSLStream[trio.abc.Stream]":
    return trio.SSLStream(stream, ssl.create_default_context(), server_hostname="localhost")


def test_a_stream_without_addresses_is_described_by_its_type() -> None:
    stream, _ = stream_pair()

    assert endpoint_of(stream, local=True) == "<MemoryStream>"


def test_tls_over_a_stream_without_addresses_is_looked_through() -> None:
    stream, _ = stream_pair()
    secure = secured(secured(stream))

    assert beneath_tls(secure) is stream
    assert endpoint_of(secure, local=False) == "<MemoryStream>"


async def test_tls_of_ours_is_looked_through_as_well() -> None:
    here, there = trio.socket.socketpair()
    session = TlsSession(ssl.create_default_context(), server_hostname="localhost")
    with there:
        async with trio.SocketStream(here) as stream:
            assert beneath_tls(TlsStream(stream, session)) is stream


def test_beneath_tls_returns_another_stream_as_it_is() -> None:
    stream, _ = stream_pair()

    assert beneath_tls(stream) is stream


@pytest.mark.network
async def test_both_ends_of_a_tcp_stream_are_endpoints() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as stream:
        port = listener.socket.getsockname()[1]

        remote, local = endpoint_of(stream, local=False), endpoint_of(stream, local=True)

    assert fields_of(remote) == ("127.0.0.1", port, False)
    assert fields_of(local)[0] == "127.0.0.1"


@pytest.mark.network
async def test_an_endpoint_is_what_its_own_initialiser_makes() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as stream:
        first, second = endpoint_of(stream, local=True), endpoint_of(stream, local=True)
        host, port = stream.socket.getsockname()[:2]

    assert vars(first) == vars(Endpoint(host, port, False))
    assert vars(second) == vars(first)
    assert first is not second


@pytest.mark.network
async def test_the_endpoint_of_a_tls_stream_says_that_it_is_secure() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as stream:
        remote = endpoint_of(secured(stream), local=False)

    assert fields_of(remote)[2] is True


@pytest.mark.network
async def test_the_endpoint_of_a_closed_socket_is_unknown() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        stream = await trio.testing.open_stream_to_socket_listener(listener)
        await stream.aclose()

    assert endpoint_of(stream, local=False) == "unknown"


@needs_unix
@pytest.mark.network
async def test_the_endpoint_of_a_unix_stream_is_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()
        async with await trio.open_unix_socket(path) as stream:
            remote, local = endpoint_of(stream, local=False), endpoint_of(stream, local=True)
        listening = listening_at(trio.SocketListener(sock))

    assert (remote, local) == (f"unix:{path}", "unix:")
    assert listening == f"unix:{path}"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are of Linux")
@pytest.mark.network
async def test_the_endpoint_of_an_abstract_unix_name_is_unknown() -> None:
    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(f"\0trio_ws-{os.getpid()}")
        sock.listen()

        assert listening_at(trio.SocketListener(sock)) == "unknown"


@pytest.mark.network
async def test_a_tcp_listener_listens_at_an_endpoint() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]

        assert fields_of(listening_at(listener)) == ("127.0.0.1", port, False)


@pytest.mark.network
async def test_a_tls_listener_listens_at_a_secure_endpoint() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        where = listening_at(trio.SSLListener(listener, context))

    assert fields_of(where)[2] is True


@pytest.mark.network
async def test_a_listener_is_a_socket_with_tls_and_without() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        secure = trio.SSLListener(listener, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        listeners = (listener, secure, OtherListener())

        assert list(map(is_socket, listeners)) == [True, True, False]


@pytest.mark.network
async def test_an_ipv6_listener_listens_at_an_endpoint_in_brackets() -> None:
    with trio.socket.socket(AF_INET6) as sock:
        try:
            await sock.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        sock.listen()
        port = sock.getsockname()[1]

        assert describe(listening_at(trio.SocketListener(sock))) == f"[::1]:{port}"


class NamedSocket(trio.socket.SocketType):
    """A socket of a kind that this machine may not have.

    Args:
        name: What it is called.
    """

    def __init__(self, name: object) -> None:
        self._name = name

    def getpeername(self) -> object:
        return self._name


@pytest.mark.parametrize(
    "name",
    [
        (2, 1234),  # a virtual machine's
        ("00:11:22:33:44:55", 3),  # Bluetooth's
        ("lo", 2048, 0, 1, b""),  # a packet socket's
        b"\0abstract",
        b"ab",
        b"",
        (),
    ],
)
def test_the_endpoint_of_another_kind_of_socket_is_unknown(name: object) -> None:
    stream = trio.SocketStream.__new__(trio.SocketStream)
    stream.socket = NamedSocket(name)

    assert endpoint_of(stream, local=False) == "unknown"


def test_another_listener_is_described_by_its_type() -> None:
    assert listening_at(OtherListener()) == "<OtherListener>"


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:/tmp/\x1b[31m\n", r"unix:/tmp/\x1b[31m\n"),
        ("unix:/" + "x" * 1000, "unix:/" + "x" * 194 + "…"),
        (Endpoint("127.0.0.1", 80, False), "127.0.0.1:80"),
        (Endpoint("::1", 8080, True), "[::1]:8080"),
    ],
)
def test_describe_writes_an_endpoint_for_people(endpoint: Endpoint | str, text: str) -> None:
    assert describe(endpoint) == text


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_address_is_known_in_every_form(address: str) -> None:
    assert is_loopback(Endpoint(address, 80, False))


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::", "::ffff:192.0.2.1"])  # noqa: S104 - nobody listens
def test_other_address_is_no_loopback(address: str) -> None:
    assert not is_loopback(Endpoint(address, 80, False))


def test_what_is_no_address_is_no_loopback() -> None:
    assert not is_loopback("unix:/run/app.sock")
