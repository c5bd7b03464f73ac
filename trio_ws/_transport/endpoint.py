"""`endpoint_of`: the address at either end of a stream."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

import trio
import trio.abc
import trio.socket
from trio_websocket import Endpoint

from trio_ws._protocol.forwarded import plain_address
from trio_ws._transport.tls_stream import TlsStream
from trio_ws._types import escaped

__all__ = [
    "UNKNOWN",
    "Endpoint",
    "beneath_tls",
    "describe",
    "endpoint_of",
    "is_loopback",
    "is_socket",
    "listening_at",
]

_WITH_TLS = (trio.SSLStream, TlsStream)

_INTERNET = (2, 4)  # how many fields the names of IPv4 and IPv6 sockets have

_MAX_ADDRESSES = 1024  # addresses that are kept parsed

UNKNOWN = "unknown"
"""The address of a socket whose peer has gone already."""


def endpoint_of(stream: trio.abc.Stream, *, local: bool) -> Endpoint | str:
    """Return where one end of a stream is.

    Args:
        stream: Any stream; TLS is looked through.
        local: This side's end, or the peer's.

    Returns:
        An `Endpoint` for TCP; for anything else a text, such as ``unix:/run/app.sock``.
    """
    inner = beneath_tls(stream)
    secure = inner is not stream
    if isinstance(inner, trio.SocketStream):
        return _address(inner.socket, local=local, secure=secure)
    return f"<{type(inner).__name__}>"


def beneath_tls(stream: trio.abc.Stream) -> trio.abc.Stream:
    """Return the stream that TLS is spoken over; a stream without TLS as it is."""
    # To say that it is not one of the others, which are abstract, takes longer.
    while not isinstance(stream, trio.SocketStream) and isinstance(stream, _WITH_TLS):
        stream = cast("trio.SSLStream[trio.abc.Stream] | TlsStream", stream).transport_stream
    return stream


def listening_at(listener: trio.abc.Listener[trio.abc.Stream]) -> Endpoint | str:
    """Return where a listener listens, as `endpoint_of` does."""
    inner = _listener_beneath_tls(listener)
    secure = inner is not listener
    if isinstance(inner, trio.SocketListener):
        return _address(inner.socket, local=True, secure=secure)
    return f"<{type(inner).__name__}>"


def is_socket(listener: trio.abc.Listener[trio.abc.Stream]) -> bool:
    """Tell whether a listener is a socket, with TLS over it or without."""
    return isinstance(_listener_beneath_tls(listener), trio.SocketListener)


def _listener_beneath_tls(listener: trio.abc.Listener[trio.abc.Stream]) -> object:
    inner: object = listener
    while isinstance(inner, trio.SSLListener):
        inner = cast("trio.SSLListener[trio.abc.Stream]", inner).transport_listener
    return inner


def _address(sock: trio.socket.SocketType, *, local: bool, secure: bool) -> Endpoint | str:
    try:
        name: Any = sock.getsockname() if local else sock.getpeername()
    except OSError:
        # The peer may have gone already; its connection says so when it is used.
        return UNKNOWN
    if isinstance(name, str):
        return f"unix:{name}"
    # Asking a socket for its family costs more than the address itself, so its form has to do.
    try:
        if len(name) in _INTERNET and isinstance(name[0], str):
            return _internet(name[0], name[1], secure=secure)
    except ValueError:
        # A pair as well, and no address of the internet: Bluetooth's, for one.
        pass
    return UNKNOWN


def _internet(host: str, port: int, *, secure: bool) -> Endpoint:
    """Make an endpoint as its initialiser does, but parse no address again that is known."""
    endpoint = Endpoint.__new__(Endpoint)
    endpoint.address = _parsed(host)
    endpoint.port = port
    endpoint.is_ssl = secure
    return endpoint


# The server's own address is one of a few; and parsing it would be a twentieth of a handshake.
@lru_cache(maxsize=_MAX_ADDRESSES)
def _parsed(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host)


def is_loopback(endpoint: Endpoint | str) -> bool:
    """Tell whether only this machine reaches an address; not so for what is no IP address."""
    if isinstance(endpoint, str):
        return False
    # A socket that listens for both versions shows an IPv4 address as ``::ffff:127.0.0.1``.
    return plain_address(endpoint.address).is_loopback


def describe(endpoint: Endpoint | str) -> str:
    """Write an endpoint for people: ``127.0.0.1:8080``, ``[::1]:8080``.

    A Unix peer chooses the path of its own socket, so that is escaped.
    """
    if isinstance(endpoint, str):
        return escaped(endpoint)
    host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
    return f"{host}:{endpoint.port}"
