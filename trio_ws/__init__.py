"""trio_ws: real-time WebSocket servers and clients for Trio, in which every lifetime is a block."""

from trio_ws._config import Deflate, Keepalive, Limits, TrustedProxies
from trio_ws._errors import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeError,
    HandshakeRejected,
    WebSocketError,
)
from trio_ws._transport.client import connect
from trio_ws._transport.connection import Connection
from trio_ws._transport.handshake import Handler, Request
from trio_ws._transport.router import Router
from trio_ws._transport.server import Server, serve
from trio_ws._types import CloseCode, Response

__all__ = [
    "CloseCode",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Deflate",
    "Handler",
    "HandshakeError",
    "HandshakeRejected",
    "Keepalive",
    "Limits",
    "Request",
    "Response",
    "Router",
    "Server",
    "TrustedProxies",
    "WebSocketError",
    "connect",
    "serve",
]


def _show_public_path() -> None:
    """Make names say where to import them from, in tracebacks and documentation."""
    for name in __all__:
        # Handler is a type alias, and has no module of its own to set.
        if name != "Handler":
            globals()[name].__module__ = __name__


_show_public_path()
