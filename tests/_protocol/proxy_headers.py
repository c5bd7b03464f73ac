"""PROXY headers, written by hand for tests of several layers."""

from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(
    addresses: bytes = b"", *, command: int = 0x21, family: int = 0x11, extras: bytes = b""
) -> bytes:
    """Write a header, right or wrong."""
    body = addresses + extras
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def tcp_addresses(source: str, port: int) -> bytes:
    """Write the addresses of a TCP header; the destination does not matter."""
    packed = ip_address(source).packed
    return packed + bytes(len(packed)) + port.to_bytes(2, "big") + b"\0\x50"


def unix_addresses(path: bytes) -> bytes:
    """Write the addresses of a header for a Unix socket."""
    return path.ljust(108, b"\0") + bytes(108)


def extra(kind: int, value: bytes) -> bytes:
    """Write an extra."""
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value
