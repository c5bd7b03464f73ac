"""`Limits` and `Keepalive`: every bound and every timeout, each documented once."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a peer may cost. ``math.inf`` means no limit.

    Sizes are in bytes, times in seconds.

    Raises:
        TypeError: A value is no number, or a count or a size is no whole one.
        ValueError: A value is not positive.
    """

    max_message: float = 1024 * 1024
    """Bytes of one incoming message, as sent (text counts in UTF-8); a larger one closes with
    1009, before it is read. 1 MiB holds any chat or game message, and is what trio-websocket
    and `websockets` allow."""

    max_fragments: float = 1024
    """Frames of one incoming message, empty ones too; more close with 1009. Bookkeeping costs
    more than the payload of tiny fragments, so bytes alone do not bound memory."""

    inbox_messages: float = 1024
    """Messages read ahead of the application. When so many wait, reading pauses and the peer
    feels back-pressure. 1024 small messages are one read of a fast sender."""

    inbox_bytes: float = 1024 * 1024
    """Bytes read ahead of the application: reading pauses once so many wait, so at most this and
    one message are held. 1 MiB, so that one message of the largest default size fits."""

    outgoing_bytes: float = 64 * 1024
    """Bytes waiting to be written, above which `send` blocks. 64 KiB is what one write hands
    to the system; more would only hide back-pressure."""

    max_head: float = 16 * 1024
    """Bytes of a request or response head; a larger request is answered 431 (414 when its first
    line is what is long). Cookies and tokens fit; 16 KiB is what h11 and IIS allow."""

    max_headers: float = 100
    """Header fields of a head; more are answered 431."""

    open_timeout: float = 10
    """Seconds for name lookup, TCP, TLS and the opening handshake together (client), or for TLS
    and the request head together (server, answered 408). Two lost packets can be made good."""

    close_timeout: float = 5
    """Seconds for the closing handshake as a whole, from the first Close frame to the end of
    the transport. Then the line is cut. People wait for this after Ctrl-C."""

    write_timeout: float = 20
    """Seconds in which a peer has to take at least one byte (16 KiB on streams that are no plain
    sockets) of what waits to be written; else it is dropped. Progress is judged, not speed."""

    max_connections: float = math.inf
    """Connections a server serves at a time, opening handshakes included; the one too many is
    answered 503. Unlimited by default, because the operating system limits file descriptors."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _check_positive(f"Limits.{field.name}", value)
            whole = field.name.endswith("_timeout") or value == math.inf or value == int(value)
            if not whole:
                raise TypeError(f"Limits.{field.name} counts whole things, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """When to probe a silent peer, and when to give it up. Seconds.

    Any byte from the peer counts as life. The clock stands still while reading is paused because
    this side's application is behind: a healthy peer is never blamed for our slowness.
    ``Keepalive(interval=math.inf)`` turns it off.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is not positive.
    """

    interval: float = 20
    """Seconds of silence before a ping. 20 s keeps the NAT and proxy tables of common
    equipment (30 to 60 s) from forgetting the connection."""

    timeout: float = 20
    """Seconds of further silence before the peer is dropped. Mobile networks stall for several
    seconds and come back."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_positive(f"Keepalive.{field.name}", getattr(self, field.name))


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number or math.inf, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} is greater than 0, not {value!r}")
