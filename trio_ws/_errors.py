"""The errors trio_ws raises on its own behalf, each also the error trio-websocket would raise.

`WebSocketError` is the root. Facts are attributes; messages are for people and are never parsed.
"""

from typing import Any, Self

import trio
import trio_websocket

from trio_ws._types import Response, escaped, status_phrase


# The class of trio-websocket has a dictionary; slots would not spare it.
class CloseReason(str, trio_websocket.CloseReason):  # noqa: SLOT000 - see above
    """Why a connection was closed: the reason text, with `code`, `name` and `reason`.

    It is both the plain text that a Close frame carried (empty when there was none) and the
    object that trio-websocket hands out for it, so that code written for either can read it.
    """

    def __new__(cls, code: int, reason: str | None) -> Self:  # noqa: ARG004 - for the initialiser
        """Make the text; trio-websocket's initialiser sets the code."""
        return super().__new__(cls, reason or "")

    def __bool__(self) -> bool:
        # An object that says why is there, also when no text came with it: code written for
        # trio-websocket asks `if connection.closed`.
        return True

    def __repr__(self) -> str:
        return f"CloseReason({int(self.code)}, {str(self)!r})"

    def __reduce__(self) -> tuple[type["CloseReason"], tuple[int, str | None]]:
        return CloseReason, (int(self.code), self.reason)


class WebSocketError(Exception):
    """The root of everything that trio_ws raises on its own behalf."""


class HandshakeError(WebSocketError, trio_websocket.HandshakeError):
    """The opening handshake failed; no connection came about.

    The message names what happened and to which peer. Where an error of the system, of TLS
    or of a timeout is behind it, that is its ``__cause__``.
    """


_REDIRECTS = range(300, 400)


class HandshakeRejected(HandshakeError, trio_websocket.ConnectionRejected):
    """The server answered the opening handshake with HTTP instead of a WebSocket.

    Args:
        url: Where the request went, without user info.
        response: The answer; its body is cut after 64 KiB.
    """

    response: Response
    """The server's answer."""

    def __init__(self, url: str, response: Response) -> None:
        raw = tuple((n.lower().encode(), v.encode("latin-1")) for n, v in response.headers.fields)
        super().__init__(response.status, raw, response.body)
        self.url = url
        self.response = response

    def __str__(self) -> str:
        status = f"{self.response.status} {status_phrase(self.response.status)}".rstrip()
        text = f"{self.url} answered {status} instead of opening a WebSocket"
        location = self.response.headers.get("Location")
        if location and self.response.status in _REDIRECTS:
            text += f"; it points to '{escaped(location)}', and redirects are not followed"
        first_line = self.response.text.strip().partition("\n")[0][:200]
        return f"{text}: {first_line!r}" if first_line else text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.response)


class ConnectionClosed(WebSocketError, trio_websocket.ConnectionClosed):
    """The connection is closed or closing, and it was not this side's `aclose` that did it.

    Args:
        reason: The close code and the reason that came with it.
        detail: What happened, for people.
    """

    reason: CloseReason
    """The reason text; also an object with `code`, `name` and `reason`, as trio-websocket's."""
    source: object = None
    """What raised it; a server tells its handler's own connection from others by this."""

    def __init__(self, reason: CloseReason, detail: str = "the connection is closed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    @property
    def code(self) -> int:
        """The close code (RFC 6455 §7.1.5): 1005 for none given, 1006 for no Close frame."""
        return self.reason.code

    def __str__(self) -> str:
        return f"{self.detail} ({describe_close(self.reason)})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r}, {self.detail!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class ConnectionClosedOK(ConnectionClosed, trio.EndOfChannel):
    """The connection was closed in the normal way: code 1000, 1001 or none at all.

    It is a `trio.EndOfChannel`, so ``async for`` over the connection just ends.
    """


class ConnectionClosedError(ConnectionClosed, trio.BrokenResourceError):
    """The connection was lost, or closed with a code that tells of an error.

    It is a `trio.BrokenResourceError`.
    """


class ConnectionClosedHere(ConnectionClosed, trio.ClosedResourceError):
    """This side has closed the connection, and uses it by a method that trio-websocket has, too.

    It is a `trio.ClosedResourceError`, as for any channel, and still a `ConnectionClosed`, because
    code written for trio-websocket expects nothing else.
    """


def describe_close(reason: CloseReason) -> str:
    """Describe a close in one line, with nothing of the peer's text left unescaped."""
    code = int(reason.code)
    name = "" if reason.name == "PRIVATE_RESERVED" else f" {reason.name}"
    text = f"code {code}{name}"
    return f"{text}, reason {str(reason)!r}" if str(reason) else text


def close_error(reason: CloseReason, detail: str) -> ConnectionClosed:
    """Make the error that fits a close code: normal for 1000, 1001 and 1005."""
    normal = reason.code in {1000, 1001, 1005}
    return (ConnectionClosedOK if normal else ConnectionClosedError)(reason, detail)
