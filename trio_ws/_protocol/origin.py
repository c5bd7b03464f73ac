"""`OriginPolicy`: which web pages may open a WebSocket (RFC 6455 §10.2).

A browser lets any page open a WebSocket to any server and sends the user's cookies along; only the
server can tell a page of its own from a stranger's, by the ``Origin`` header.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from trio_ws._protocol.authority import HostPattern, parse_pattern, split_authority

Origins: TypeAlias = Iterable[str] | Literal["*"] | None
"""None for the same origin, a sequence of origins, or ``"*"`` for all."""

# RFC 3986 §3.1, in lower case.
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")

_DEFAULT_PORTS = {"http": 80, "https": 443}

_Allowed: TypeAlias = tuple[str, HostPattern, int]
"""The scheme, the host or its wildcard, and the port of an origin that is allowed."""


class OriginPolicy:
    """Decides by a request's ``Origin`` and ``Host``.

    Args:
        origins: As `serve` takes it.

    Raises:
        ValueError: An origin is not of the form ``https://host`` or ``https://host:port``, where
            the host may begin with ``*.``.
    """

    def __init__(self, origins: Origins) -> None:
        self._anything = isinstance(origins, str) and origins == "*"
        if isinstance(origins, str) and not self._anything:
            raise ValueError('origins is None, "*" or a sequence of origins, not one string')
        self._allowed: tuple[_Allowed, ...] | None = None
        if origins is not None and not self._anything:
            self._allowed = tuple(map(_checked, origins))

    def refusal(self, origin: str | None, host: str) -> str | None:
        """Return why a handshake is refused, or None when it may go on.

        Args:
            origin: The ``Origin`` header; None when there is none, and then it is no browser.
            host: The ``Host`` header.
        """
        if origin is None or self._anything:
            return None
        parsed = _parse(origin)
        if parsed is not None and self._allows(parsed, host):
            return None
        return (
            f"pages of the origin {origin[:200]!r} may not open a WebSocket here; "
            f"to allow it, name it in the origins= of the server"
        )

    def _allows(self, origin: tuple[str, str, int], host: str) -> bool:
        if self._allowed is None:
            return _is_same(origin, host)
        scheme, name, port = origin
        return any(
            scheme == allowed_scheme and port == allowed_port and pattern.matches(name)
            for allowed_scheme, pattern, allowed_port in self._allowed
        )


def _checked(origin: str) -> _Allowed:
    scheme, authority = _split(origin)
    parsed = parse_pattern(authority, _DEFAULT_PORTS.get(scheme, 0))
    if not scheme or parsed is None:
        raise ValueError(
            f"{origin!r} is no origin: write it like 'https://example.com:8443' or "
            "'https://*.example.com', in ASCII and without a path"
        )
    return (scheme, *parsed)


def _parse(origin: str) -> tuple[str, str, int] | None:
    scheme, authority = _split(origin)
    parsed = split_authority(authority, _DEFAULT_PORTS.get(scheme, 0))
    return None if not scheme or parsed is None else (scheme, *parsed)


def _split(origin: str) -> tuple[str, str]:
    """Return the scheme, empty when there is none, and the rest."""
    scheme, separator, authority = origin.partition("://")
    scheme = scheme.lower()
    return (scheme if separator and _SCHEME.issuperset(scheme) else ""), authority


def _is_same(origin: tuple[str, str, int], host: str) -> bool:
    """Tell whether an origin is that of the server.

    The server's own scheme does not count: behind a proxy that ends TLS, a page of
    ``https://example.com`` comes with ``Host: example.com`` over a plain connection. But a page
    of a scheme of its own (an extension, an app in a web view) is never of this server.
    """
    return origin[0] in _DEFAULT_PORTS and origin[1:] == split_authority(
        host, _DEFAULT_PORTS[origin[0]]
    )
