"""`OriginPolicy`: which web pages may open a WebSocket (RFC 6455 §10.2).

A browser lets any page open a WebSocket to any server and sends the user's cookies along; only the
server can tell a page of its own from a stranger's, by the ``Origin`` header.
"""

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, TypeAlias

from trio_ws._types import is_token

Origins: TypeAlias = Iterable[str] | Literal["*"] | None
"""None for the same origin, a sequence of origins, or ``"*"`` for all."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_PORT = 65535

# What has no place in the host of an origin.
_MARKS = frozenset(" /?#@\\%[]:")


class OriginPolicy:
    """Decides by a request's ``Origin`` and ``Host``.

    Args:
        origins: As `serve` takes it.

    Raises:
        ValueError: An origin is not of the form ``https://host`` or ``https://host:port``.
    """

    def __init__(self, origins: Origins) -> None:
        self._anything = isinstance(origins, str) and origins == "*"
        if isinstance(origins, str) and not self._anything:
            raise ValueError('origins is None, "*" or a sequence of origins, not one string')
        self._allowed: frozenset[tuple[str, str, int]] | None = None
        if origins is not None and not self._anything:
            self._allowed = frozenset(map(_checked, origins))

    def refusal(self, origin: str | None, host: str) -> str | None:
        """Return why a handshake is refused, or None when it may go on.

        Args:
            origin: The ``Origin`` header; None when there is none, and then it is no browser.
            host: The ``Host`` header.
        """
        if origin is None or self._anything:
            return None
        parsed = _parse(origin)
        if self._allowed is not None:
            if parsed in self._allowed:
                return None
        elif parsed is not None and _is_same(parsed, host):
            return None
        return (
            f"pages of the origin {origin[:200]!r} may not open a WebSocket here; "
            f"to allow it, name it in the origins= of the server"
        )


def _checked(origin: str) -> tuple[str, str, int]:
    parsed = _parse(origin)
    if parsed is None:
        raise ValueError(
            f"{origin!r} is no origin: write it like 'https://example.com:8443', "
            "in ASCII and without a path"
        )
    return parsed


def _parse(origin: str) -> tuple[str, str, int] | None:
    scheme, separator, authority = origin.partition("://")
    scheme = scheme.lower()
    if not separator or not is_token(scheme):
        return None
    parsed = _authority(authority, scheme)
    return None if parsed is None else (scheme, *parsed)


def _is_same(origin: tuple[str, str, int], host: str) -> bool:
    """Tell whether an origin is that of the server.

    The server's own scheme does not count: behind a proxy that ends TLS, a page of
    ``https://example.com`` comes with ``Host: example.com`` over a plain connection. But a page
    of a scheme of its own (an extension, an app in a web view) is never of this server.
    """
    return origin[0] in _DEFAULT_PORTS and origin[1:] == _authority(host, origin[0])


def _authority(authority: str, scheme: str) -> tuple[str, int] | None:
    """Split host and port (RFC 3986 §3.2); the port defaults to that of the scheme."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    name = _host(host)
    if name is None or (port and not (port.isascii() and port.isdigit())):
        return None
    # Six digits tell whether it is too large, whatever follows.
    number = int(port.lstrip("0")[:6] or "0") if port else _DEFAULT_PORTS.get(scheme, 0)
    return (name, number) if number <= _MAX_PORT else None


def _host(host: str) -> str | None:
    """Bring a host into the form in which two are compared; None when it is none."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(IPv6Address(host[1:-1]))
        except AddressValueError:
            return None
    # A browser writes names that are not ASCII in their ASCII form.
    sound = host.isascii() and host.isprintable() and _MARKS.isdisjoint(host)
    return host.lower() if host and sound else None
