"""`read_source`: the binary header of the PROXY protocol, version 2.

A proxy that only passes bytes on cannot add header fields. It sends this before everything else,
TLS included, as HAProxy defined it and load balancers of all kinds do:

    signature (12 bytes) | version and command | family | length (2 bytes) | addresses | extras
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from trio_ws._types import escaped

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""What the header begins with; no HTTP request and no TLS hello does."""

PREFIX_SIZE = 16
"""Bytes that tell how many follow."""

Source: TypeAlias = tuple[IPv4Address | IPv6Address, int] | str
"""An address and a port, or the text ``unix:`` and a path."""

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_UNIX_PATH = 108

_CRC32C = 0x03


class ProxyHeaderError(Exception):
    """What came is no PROXY header, or not a sound one."""


def read_length(prefix: bytes) -> int:
    """Return how many bytes follow the first `PREFIX_SIZE`.

    Raises:
        ProxyHeaderError: It is no header of this protocol and version.
    """
    if not prefix.startswith(SIGNATURE):
        raise ProxyHeaderError("it does not begin with the signature of version 2")
    if prefix[12] not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError(f"the version and command are {prefix[12]:#04x}")
    return int.from_bytes(prefix[14:16], "big")


def read_source(prefix: bytes, body: bytes) -> Source | None:
    """Read who the client is.

    Args:
        prefix: The first `PREFIX_SIZE` bytes.
        body: What follows, as many bytes as `read_length` tells.

    Returns:
        The client's address; None when the proxy speaks for itself (a health check), or does
        not know it.

    Raises:
        ProxyHeaderError: It is malformed, of no stream, or its checksum is wrong.
    """
    command, family = prefix[12], prefix[13]
    if command == _LOCAL:
        # The rest is to be thrown away, whatever it is.
        return None
    if family not in _ADDRESS_SIZES:
        raise ProxyHeaderError(f"the family is {family:#04x}, not TCP or a Unix socket")
    size = _ADDRESS_SIZES[family]
    if len(body) < size:
        raise ProxyHeaderError(f"{len(body)} bytes are too few for its addresses")
    _check_extras(prefix, body, size)
    if family == _TCP4:
        return IPv4Address(body[:4]), int.from_bytes(body[8:10], "big")
    if family == _TCP6:
        return IPv6Address(body[:16]), int.from_bytes(body[32:34], "big")
    if family == _UNIX:
        # An abstract name begins with a NUL, a path ends at one.
        path = body[:1] + body[1:_UNIX_PATH].partition(b"\0")[0]
        return "unix:" + escaped(path.rstrip(b"\0").decode(errors="backslashreplace"))
    return None


def _check_extras(prefix: bytes, body: bytes, start: int) -> None:
    """Walk over the extras, each a type, a length and a value; of use is the checksum alone."""
    summed = False
    while start < len(body):
        if len(body) - start < 3:
            raise ProxyHeaderError("an extra is cut off")
        kind, size = struct.unpack_from("!BH", body, start)
        start += 3
        if len(body) - start < size:
            raise ProxyHeaderError("an extra is longer than the header")
        if kind == _CRC32C:
            if summed:
                # Each costs a walk over the whole header, and they could be made to fit each other.
                raise ProxyHeaderError("it has two checksums")
            summed = True
            _check_sum(prefix, body, start, size)
        start += size


def _check_sum(prefix: bytes, body: bytes, start: int, size: int) -> None:
    without = prefix + body[:start] + bytes(size) + body[start + size :]
    if body[start : start + size] != crc32c(without).to_bytes(4, "big"):
        raise ProxyHeaderError("its checksum is wrong")


def _make_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """Compute the checksum of RFC 3720, appendix B.4; the standard library has another."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
