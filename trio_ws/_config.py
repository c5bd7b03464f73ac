"""`Limits` and `Keepalive`: every bound and every timeout; `Deflate`, `Rate`, `TrustedProxies`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from ipaddress import ip_network
from typing import Literal, cast


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
    line is what is long). Cookies and tokens fit; 16 KiB is what h11 and IIS allow. A PROXY header
    of a trusted proxy may have as many."""

    max_headers: float = 100
    """Header fields of a head; more are answered 431."""

    open_timeout: float = 10
    """Seconds for name lookup, TCP, TLS and the opening handshake together (client), or for a PROXY
    header, TLS and the request head together (server, answered 408). Two lost packets can be made
    good."""

    close_timeout: float = 5
    """Seconds for the closing handshake as a whole, from the first Close frame to the end of
    the transport. Then the line is cut. People wait for this after Ctrl-C. Also for how long the
    messages before a peer's fault may still be answered, before the fault closes the connection."""

    write_timeout: float = 20
    """Seconds in which a peer has to take at least one byte (16 KiB on streams that are no plain
    sockets) of what waits to be written; else it is dropped. Progress is judged, not speed."""

    max_connections: float = math.inf
    """Connections a server serves at a time, opening handshakes included; the one too many is
    answered 503. Unlimited by default, because the operating system limits file descriptors."""

    max_connections_per_address: float = math.inf
    """Of those, connections of one remote address, or of the first 64 bits of an IPv6 one, which
    are one customer's; the one too many is answered 429. Unlimited by default, because behind a
    proxy, or one office's network, many clients have one address. `TrustedProxies` are not
    counted, their clients are."""

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
    this side's application is behind: a healthy peer is never blamed for our slowness. Pings go out
    all the same, because nothing but writing tells that the line of a peer one does not read from
    is lost. ``Keepalive(interval=math.inf)`` turns it off.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """How messages are compressed: permessage-deflate, RFC 7692.

    Both sides have to ask for it; else messages go as they are. With these defaults a connection
    holds 38 KiB once it has sent a compressed message, and 11 KiB once it has received one; what
    only waits holds nothing. A message of 1 KiB takes about 25 µs to compress and 5 µs to inflate,
    and chat messages in JSON shrink to about half.

    For messages that go to many, ``send_context_takeover=False`` lets a server compress each once
    for all connections instead of once for each, and holds nothing between messages.

    What is compressed gives away by its size how much of it repeats: do not let one message, or one
    connection with context takeover, hold both a secret and what an attacker chooses (CRIME).
    ``send(..., compress=False)`` keeps a message out of it.

    Raises:
        TypeError: A value is not of its kind.
        ValueError: A value is out of range.
    """

    send_window_bits: int = 12
    """How far back this side looks for repetitions when it compresses: 2 to the power of 9 to 15
    bytes. Compressing holds four times as much; 4 KiB is enough for messages of a few KiB. The
    peer may ask for less."""

    receive_window_bits: int = 12
    """What to ask of the peer for its own compressing. Inflating holds as much: 4 KiB. A browser
    that does not let itself be asked has 15, 32 KiB."""

    send_context_takeover: bool = True
    """Whether messages this side sends may refer to earlier ones. Small messages that resemble each
    other shrink to half of what they would be without; but what is needed for that is held as
    long as the connection, and no message can be compressed once for many. The peer may ask for
    False."""

    receive_context_takeover: bool = True
    """Whether messages of the peer may refer to earlier ones; False asks it not to."""

    level: int = 1
    """How hard to try, from 1 to 9. With small windows higher levels save 2 to 3 % of the bytes for
    up to 20 % more time."""

    memory_level: int = 5
    """From 1 to 9: compressing holds another 2 to the power of this plus 9 bytes, 16 KiB."""

    min_size: float = 128
    """Bytes below which a message is not compressed; 0 leaves none out. Beside the headers of TCP,
    IP and TLS nothing would be saved, for the price of sending it a second time."""

    max_size: float = 1024 * 1024
    """Bytes above which a message is not compressed: all other tasks wait meanwhile, and 1 MiB
    takes about 20 ms. Whoever sends more mostly sends what is compressed already."""

    def __post_init__(self) -> None:
        for name in ("send_window_bits", "receive_window_bits"):
            _check_range(f"Deflate.{name}", getattr(self, name), 9, 15)
        for name in ("level", "memory_level"):
            _check_range(f"Deflate.{name}", getattr(self, name), 1, 9)
        for name in ("send_context_takeover", "receive_context_takeover"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"Deflate.{name} is True or False, not {value!r}")
        if self.min_size != 0 or isinstance(self.min_size, bool):
            _check_positive("Deflate.min_size", self.min_size)
        _check_positive("Deflate.max_size", self.max_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a peer may send messages; see `limit_rate`. At least one of the two is limited.

    What counts are whole messages; control frames are bounded otherwise, and never held up.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is not positive, nothing is limited, or no message would ever pass.
    """

    messages: float = math.inf
    """Messages a second."""

    bytes: float = math.inf
    """Bytes a second, text in UTF-8. A message larger than that passes, and its bytes are owed."""

    burst: float = 10
    """Seconds whose messages and bytes may come at once, after a time of silence: people and mobile
    networks are idle, and then hasty. It is also what a connection may send at its beginning."""

    excess: Literal["slow_down", "close"] = "slow_down"
    """What happens beyond. ``"slow_down"``: messages are taken no faster, and the peer feels
    back-pressure; nothing is lost. ``"close"``: the connection is closed with 1008, and a line
    on the log ``trio_ws.rate`` says so."""

    def __post_init__(self) -> None:
        for name in ("messages", "bytes", "burst"):
            _check_positive(f"Rate.{name}", getattr(self, name))
        if self.messages == self.bytes == math.inf:
            raise ValueError("a Rate limits messages=, bytes=, or both")
        if self.burst == math.inf:
            raise ValueError("Rate.burst is finite; an infinite one would limit nothing")
        if self.messages * self.burst < 1 or self.bytes * self.burst < 1:
            raise ValueError(
                "a Rate lets through at least one message and one byte in the time of its burst="
            )
        if self.excess not in {"slow_down", "close"}:
            raise ValueError(f'Rate.excess is "slow_down" or "close", not {self.excess!r}')


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies in front of a server that are believed when they say who the client is.

    Name proxies only: whoever is named can pass for any client. An address that is not named is
    served as a client of its own, and what it says of others is ignored::

        proxies = trio_ws.TrustedProxies(["10.0.0.5", "fd00:1::/64"])
        await trio_ws.serve(handler, 8080, host=None, proxies=proxies)

    ``X-Forwarded-Host`` and ``Forwarded`` are never believed: have the proxy pass ``Host`` on.

    Raises:
        TypeError: What is trusted is one string, or a count is no whole number.
        ValueError: An address, the protocol or the count is not what it may be.
    """

    trusted: Sequence[str]
    """IP addresses, networks such as ``10.1.0.0/16``, and ``"unix"`` for everything that comes
    over a Unix socket or another stream without IP addresses."""

    protocol: Literal["x-forwarded", "proxy-v2"] = "x-forwarded"
    """How they say it. ``"x-forwarded"``: proxies for HTTP append the client's address to
    ``X-Forwarded-For`` and set ``X-Forwarded-Proto``; what is malformed there is answered 400.
    ``"proxy-v2"``: proxies for bytes send a binary header of the PROXY protocol before everything
    else; it is required of them, and header fields are not believed."""

    max_hops: int = 4
    """Trusted proxies that a request may have come through, with ``"x-forwarded"``; beyond it is
    answered 400. A content network, a load balancer and a sidecar are three."""

    def __post_init__(self) -> None:
        if isinstance(self.trusted, str):
            raise TypeError("TrustedProxies.trusted is a sequence of addresses, not one string")
        object.__setattr__(self, "trusted", tuple(self.trusted))
        for each in self.trusted:
            if each != "unix":
                _check_network(each)
        if self.protocol not in {"x-forwarded", "proxy-v2"}:
            raise ValueError(
                f'TrustedProxies.protocol is "x-forwarded" or "proxy-v2", not {self.protocol!r}'
            )
        hops = cast("object", self.max_hops)
        if isinstance(hops, bool) or not isinstance(hops, int):
            raise TypeError(f"TrustedProxies.max_hops is a whole number, not {hops!r}")
        _check_positive("TrustedProxies.max_hops", hops)


def _check_network(text: str) -> None:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"TrustedProxies.trusted holds IP addresses, networks and 'unix', unlike {text!r}: "
            f"{error}"
        ) from None
    if not network.prefixlen:
        raise ValueError(f"to trust {text!r} is to believe what anybody says of anybody")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number or math.inf, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} is greater than 0, not {value!r}")


def check_compression(compression: Deflate | None) -> Deflate | None:
    """Check what a caller gave as ``compression``, and return it.

    Raises:
        TypeError: It is something else, ``True`` perhaps.
    """
    # A caller without a type checker may give anything.
    if compression is None or isinstance(compression, Deflate):  # pyright: ignore[reportUnnecessaryIsInstance]
        return compression
    raise TypeError(f"compression is a trio_ws.Deflate or None, not {compression!r}")


def _check_range(name: str, value: object, smallest: int, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not smallest <= value <= largest:
        raise ValueError(f"{name} is {smallest} to {largest}, not {value}")
