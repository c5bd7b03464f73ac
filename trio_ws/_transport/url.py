"""`Target`: what a WebSocket URL says (RFC 6455 §3)."""

import base64
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

import idna

from trio_ws._protocol.authority import split_authority

_PORTS = {"ws": 80, "wss": 443}

# What may stand in a request target as it is; "%" keeps escapes that are there already.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"

# RFC 1035 §2.3.4: 255 bytes on the wire, so 253 characters and a final dot.
_MAX_NAME = 254

_USER_INFO = re.compile("//[^/?#]*@")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to, and what to ask for."""

    secure: bool
    """Whether TLS is wanted."""
    host: str
    """The host's name in ASCII, or its address without brackets; empty for a Unix socket."""
    port: int
    """The TCP port; 0 for a Unix socket."""
    unix_path: str | None
    """The path of a Unix socket."""
    authority: str
    """What goes into the ``Host`` header."""
    resource: str
    """The request target: path and query, in ASCII."""
    credentials: str | None
    """What goes into the ``Authorization`` header, from the URL's user info."""
    name: str
    """The URL for people: without user info and query, which may hold secrets."""


def parse_url(url: str) -> Target:
    """Parse a URL of the scheme ``ws``, ``wss`` or ``ws+unix``.

    ``ws+unix:/run/app.sock:/path?query`` names a Unix socket and what to ask for there.

    Raises:
        ValueError: It is no such URL; the message says why.
    """
    # What a message repeats is without user info, which may be a password.
    shown = _USER_INFO.sub("//***@", url)
    if _BLANK.search(url):
        raise ValueError(f"{shown!r} is no URL: it holds white space or a control character")
    if _SURROGATE.search(url):
        # What is left of bytes that were no UTF-8, in an argument of a program for one.
        raise ValueError(f"{shown!r} is no URL: it holds half a surrogate pair, which is no text")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{shown!r} is no URL: {error}") from None
    if "#" in url:
        # RFC 6455 §3: fragment identifiers are meaningless here, and must not be used.
        raise ValueError(f"{shown!r} has a fragment, which a WebSocket URL may not have")
    if parts.scheme == "ws+unix":
        return _unix_target(shown, parts)
    if parts.scheme not in _PORTS:
        raise ValueError(f"{shown!r} is no WebSocket URL: it begins with ws:, wss: or ws+unix:")
    return _tcp_target(shown, parts)


def _tcp_target(url: str, parts: SplitResult) -> Target:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no WebSocket URL: {error}") from None
    if not host:
        raise ValueError(f"{url!r} names no host")
    if port == 0:
        raise ValueError(f"{url!r} names port 0, which nobody can connect to")
    if "[" in parts.netloc:
        # RFC 6874: the zone of an address concerns this machine alone, and "%25" is its "%".
        host = host.replace("%25", "%", 1)
        shown = f"[{host.partition('%')[0]}]"
    else:
        host = shown = _ascii_host(host)
    if split_authority(shown, 0) is None:
        raise ValueError(f"{url!r} names {shown!r}, which is no host name or address")
    default = _PORTS[parts.scheme]
    port = port or default
    authority = shown if port == default else f"{shown}:{port}"
    path = quote(parts.path or "/", safe=_SAFE)
    return Target(
        secure=parts.scheme == "wss",
        host=host,
        port=port,
        unix_path=None,
        authority=authority,
        resource=path + (f"?{quote(parts.query, safe=_SAFE)}" if "?" in url else ""),
        credentials=_credentials(parts),
        name=f"{parts.scheme}://{authority}{path}",
    )


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    if len(host) > _MAX_NAME:
        # Some versions of idna take a time quadratic in the length before they find out, those that
        # have CVE-2024-3651 mended among them.
        raise ValueError(f"a host name has {_MAX_NAME} characters at most, not {len(host)}")
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{host!r} is no host name: {error}") from None


def _credentials(parts: SplitResult) -> str | None:
    """Make Basic credentials of the URL's user info (RFC 7617 §2)."""
    if parts.username is None:
        return None
    user, password = unquote(parts.username), unquote(parts.password or "")
    if ":" in user:
        raise ValueError("the user name in the URL holds a colon, which Basic auth cannot carry")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _unix_target(url: str, parts: SplitResult) -> Target:
    if parts.netloc:
        raise ValueError(f"{url!r} names a host; write ws+unix:/path/of/socket:/resource")
    socket_path, _, resource = parts.path.partition(":")
    if not socket_path:
        raise ValueError(f"{url!r} names no socket; write ws+unix:/path/of/socket:/resource")
    path = quote(resource or "/", safe=_SAFE)
    if not path.startswith("/"):
        raise ValueError(f"what {url!r} asks for does not begin with a slash")
    return Target(
        secure=False,
        host="",
        port=0,
        unix_path=unquote(socket_path),
        authority="localhost",
        resource=path + (f"?{quote(parts.query, safe=_SAFE)}" if "?" in url else ""),
        credentials=None,
        name=f"ws+unix:{socket_path}:{path}",
    )
