"""`ProxyPolicy`: who the client is, when proxies stand between it and the server.

Each proxy appends the address it was called from to ``X-Forwarded-For``. Whatever stands left of
what trusted proxies wrote, anybody may have written; so the list is read from its right end, and
no further than to the first address that is no trusted proxy: the client's.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from trio_ws._config import TrustedProxies
from trio_ws._protocol.http import refuse
from trio_ws._types import Headers

Address: TypeAlias = IPv4Address | IPv6Address

_SECURE = {"http": False, "https": True, "ws": False, "wss": True}

# Characters that the longest address, in brackets and with a port, may have.
_MAX_NODE = 64

_MAX_PORT = 65535


def plain_address(address: Address) -> Address:
    """Return an IPv4 address written as IPv6 (``::ffff:192.0.2.1``) as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


class ProxyPolicy:
    """Decides whom to believe, and what they say.

    Args:
        proxies: As `serve` takes it.
    """

    def __init__(self, proxies: TrustedProxies) -> None:
        self.speaks_first = proxies.protocol == "proxy-v2"
        """Whether trusted proxies begin with a PROXY header, and nothing else is believed."""
        self._max_hops = proxies.max_hops
        self._unix = "unix" in proxies.trusted
        self._networks = tuple(ip_network(each) for each in proxies.trusted if each != "unix")

    def trusts(self, address: Address | None) -> bool:
        """Tell whether a peer is a trusted proxy; None is one on a Unix socket."""
        if address is None:
            return self._unix
        plain = plain_address(address)
        return any(plain in network for network in self._networks)

    def client(self, headers: Headers) -> tuple[Address, int] | None:
        """Read what a trusted proxy says of the client's address.

        Args:
            headers: The header fields of a request that a trusted proxy sent.

        Returns:
            The address and the port, 0 if that is unknown; None when nothing is said.

        Raises:
            RequestError: 400: it is no address, or there are more trusted proxies than may be.
        """
        nodes = ",".join(headers.get_all("X-Forwarded-For")).split(",")
        client: tuple[Address, int] | None = None
        hops = 0
        for node in reversed(nodes):
            text = node.strip(" \t")
            if not text:
                # RFC 9110 §5.6.1: empty elements of a list do not count.
                continue
            if hops == self._max_hops:
                raise refuse(
                    400,
                    f"bad request: it came through more than {hops} trusted proxies; "
                    "to allow it, raise the max_hops= of the proxies= of the server",
                )
            hops += 1
            client = _node(text)
            if not self.trusts(client[0]):
                break
        return client


def said_secure(headers: Headers) -> bool | None:
    """Read what a trusted proxy says of the client's scheme.

    Of several values the last counts, which the nearest proxy wrote.

    Returns:
        Whether the client speaks TLS; None when nothing is said.

    Raises:
        RequestError: 400: it is none of http, https, ws and wss.
    """
    said = ",".join(headers.get_all("X-Forwarded-Proto")).rpartition(",")[2].strip(" \t").lower()
    if not said:
        return None
    if said not in _SECURE:
        why = f"bad request: X-Forwarded-Proto says {said[:_MAX_NODE]!r}, not http or https"
        raise refuse(400, why)
    return _SECURE[said]


def _node(text: str) -> tuple[Address, int]:
    """Read one address, with or without brackets and port; some proxies write them."""
    host, port = text, "0"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not rest.startswith(":"):
            # With a port that is no number, what is neither closed nor ended is refused.
            rest = ":0" if bracket and not rest else ":-"
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    # A zone means something on the machine that wrote it only.
    sound = len(text) <= _MAX_NODE and "%" not in text and port.isascii() and port.isdigit()
    try:
        address = ip_address(host) if sound else None
    except ValueError:
        address = None
    if address is None or int(port) > _MAX_PORT:
        why = f"bad request: X-Forwarded-For names {text[:_MAX_NODE]!r}, which is no address"
        raise refuse(400, why)
    return plain_address(address), int(port)
