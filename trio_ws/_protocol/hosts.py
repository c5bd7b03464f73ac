"""`HostPolicy`: which names a server answers to (RFC 9110 §7.4).

A name that a stranger owns can be made to point at this machine after its page was loaded (DNS
rebinding). The page and the server are then of one origin for the browser, and only the ``Host``
header tells that the name is not one of ours.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from trio_ws._protocol.authority import (
    HostPattern,
    is_address,
    parse_pattern,
    split_authority,
)

Hosts: TypeAlias = Iterable[str] | Literal["*"] | None
"""None for what is safe where the server listens, a sequence of hosts, or ``"*"`` for all."""

# In a Host header the port of the scheme may be left out; which scheme, a proxy knows.
_UNNAMED_PORTS = frozenset({80, 443})

_NO_PORT = -1


class HostPolicy:
    """Decides by a request's ``Host``.

    Args:
        hosts: As `serve` takes it.

    Raises:
        ValueError: A host is not of the form ``example.com`` or ``example.com:8080``.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._anything = isinstance(hosts, str) and hosts == "*"
        if isinstance(hosts, str) and not self._anything:
            raise ValueError('hosts is None, "*" or a sequence of hosts, not one string')
        self._allowed: tuple[tuple[HostPattern, int], ...] | None = None
        if hosts is not None and not self._anything:
            self._allowed = tuple(map(_checked, hosts))

    def refusal(self, host: str, *, is_loopback: bool) -> str | None:
        """Return why a request is refused, or None when it may go on.

        Args:
            host: The ``Host`` header.
            is_loopback: Whether the request came in on an address that only this machine reaches.
                There a name is safe only if nobody else can own it.
        """
        if self._anything or (self._allowed is None and not is_loopback):
            return None
        parsed = split_authority(host, _NO_PORT)
        if self._allowed is None:
            # No page can own an address, and what is no browser may well send no Host.
            if not host or (parsed is not None and _is_local(parsed[0])):
                return None
            return (
                f"this is a server for its own machine, and {host[:200]!r} is none of its names; "
                f"to allow it, name it in the hosts= of the server"
            )
        if parsed is not None and any(_matches(allowed, *parsed) for allowed in self._allowed):
            return None
        return (
            f"the host {host[:200]!r} is not served here; "
            f"to allow it, name it in the hosts= of the server"
        )


def _checked(host: str) -> tuple[HostPattern, int]:
    parsed = parse_pattern(host, _NO_PORT)
    if parsed is None:
        raise ValueError(
            f"{host!r} is no host: write it like 'example.com', 'example.com:8080', '[::1]' or "
            "'*.example.com', in ASCII and without a scheme"
        )
    return parsed


def _matches(allowed: tuple[HostPattern, int], host: str, port: int) -> bool:
    pattern, wanted = allowed
    if wanted not in {_NO_PORT, port} and (port != _NO_PORT or wanted not in _UNNAMED_PORTS):
        return False
    return pattern.matches(host)


def _is_local(host: str) -> bool:
    """Tell whether no stranger can own a host: RFC 6761 §6.3 keeps ``localhost`` from everybody."""
    return host == "localhost" or host.endswith(".localhost") or is_address(host)
