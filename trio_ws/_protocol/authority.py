"""`split_authority`, `HostPattern`: hosts and ports as headers and settings name them."""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_MAX_PORT = 65535

# What has no place in a host. An asterisk has one in patterns only.
_MARKS = frozenset(" /?#@\\%[]:*")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A host; or, written with ``*.`` before it, every host below it and not itself."""

    host: str
    """The host, in lower case, without the wildcard."""
    below: bool
    """Whether the hosts below it are meant."""

    def matches(self, host: str) -> bool:
        """Tell whether a host that `split_authority` returned is meant.

        The wildcard stands for one label or more, as in a Content Security Policy (CSP3
        §6.7.2.8), which is where those who write the list know it from.
        """
        if not self.below:
            return host == self.host
        # With the dot, so that ``evilexample.com`` is not below ``example.com``.
        return host.endswith(f".{self.host}") and not host.startswith(".")


def parse_pattern(authority: str, default_port: int) -> tuple[HostPattern, int] | None:
    """Split a host pattern and its port; None when it is malformed."""
    below = authority.startswith("*.")
    parsed = split_authority(authority.removeprefix("*."), default_port)
    if parsed is None:
        return None
    host, port = parsed
    # What ends in a number is an IPv4 address (WHATWG URL §3.5), and nothing is below an address.
    numeric = ":" in host or host.rpartition(".")[2].isdigit()
    if host.startswith(".") or (below and numeric):
        return None
    return HostPattern(host, below), port


def split_authority(authority: str, default_port: int) -> tuple[str, int] | None:
    """Split host and port (RFC 3986 §3.2).

    Args:
        authority: As in a ``Host`` header.
        default_port: The port when none is given.

    Returns:
        The host in the form in which two are compared, and the port; None when it is malformed.
    """
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    name = _host(host)
    if name is None or (port and not (port.isascii() and port.isdigit())):
        return None
    # Six digits tell whether it is too large, whatever follows.
    number = int(port.lstrip("0")[:6] or "0") if port else default_port
    return (name, number) if number <= _MAX_PORT else None


def is_address(host: str) -> bool:
    """Tell whether a host that `split_authority` returned is an IP address."""
    if ":" in host:
        return True
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _host(host: str) -> str | None:
    """Bring a host into the form in which two are compared; None when it is none."""
    if host.startswith("[") and host.endswith("]"):
        if "%" in host:
            # A zone means something on the machine that wrote it only, and may be any text.
            return None
        try:
            return str(IPv6Address(host[1:-1]))
        except AddressValueError:
            return None
    # A browser writes names that are not ASCII in their ASCII form.
    sound = host.isascii() and host.isprintable() and _MARKS.isdisjoint(host)
    return host.lower() if host and sound else None
