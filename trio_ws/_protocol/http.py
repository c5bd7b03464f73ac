"""`RequestHead`, `read_request`, `write_response`: as much HTTP/1.1 as a WebSocket port needs.

Heads are parsed by h11. What h11 leaves to its caller is here: where a head ends and how large it
may get, which status answers which fault, and the target's path decoded once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import h11

from trio_ws._types import Headers, Response, is_token, known_headers, status_phrase

# A percent escape whose two hexadecimal digits are missing.
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")

# RFC 3986 §3.2.2 and §3.2.3: a host, which may be empty in a Host header, and a port.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:[0-9]*)?", re.ASCII)

# RFC 9110 §5.5: what a head consists of, its line feeds included.
_HEAD_BYTES = bytes((0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)))

MAX_ECHO = 200
"""Characters of a peer's mistake that are shown to it again."""

# Fields that tell of a body, in lower case.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

_SUPPORTED_SCHEMES = frozenset({"http", "https", "ws", "wss"})

# What nearly every opening handshake consists of, as browsers and libraries write it. A connection
# keeps its headers as long as it lives; these are kept once for all. What a client makes up is not
# remembered.
_COMMON = {
    text: text
    for text in (
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Cookie",
        "Host",
        "Origin",
        "Pragma",
        "Sec-Fetch-Dest",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Site",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Upgrade",
        "User-Agent",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "13",
        "gzip, deflate",
        "gzip, deflate, br",
        "gzip, deflate, br, zstd",
        "keep-alive, Upgrade",
        "no-cache",
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "websocket",
    )
}

# RFC 9110 §6.4.1 and §15.3.6: answers that never have a body.
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})


class RequestError(Exception):
    """A request that is answered without asking the handler.

    Args:
        response: The answer.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.text.strip()}")
        self.response = response


def refuse(status: int, why: str, *headers: tuple[str, str]) -> RequestError:
    """Make the error that answers a request with a status and one line of explanation."""
    return RequestError(Response(status, f"{why}\n", headers=headers))


class HeadBuffer:
    """The bytes of a request head while they arrive.

    Args:
        max_head: Bytes the head may have.
    """

    def __init__(self, max_head: float) -> None:
        self._max_head = max_head
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes | bytearray) -> tuple[bytes, bytes] | None:
        """Take bytes; return the head and what follows it, once the head is whole.

        Raises:
            RequestError: 400 for what cannot be HTTP, 414 or 431 for what is too long.
        """
        searched = len(self._data)
        # RFC 9112 §2.2: empty lines before the request line are ignored.
        self._data += data if searched else data.lstrip(b"\r\n")
        if self._data and not is_token(chr(self._data[0])):
            # A TLS hello, for one: waiting for the end of its head would take until the timeout.
            raise refuse(400, "this is a plain HTTP port, and the request is not HTTP")
        end = find_end(self._data, searched)
        if (len(self._data) if end is None else end) > self._max_head:
            if self._data.find(b"\n", 0, int(self._max_head)) < 0:
                raise refuse(414, f"the request line is longer than {self._max_head} bytes")
            raise refuse(431, f"the request head is longer than {self._max_head} bytes")
        if end is None:
            return None
        return bytes(self._data[:end]), bytes(self._data[end:])


def find_end(data: bytearray, searched: int) -> int | None:
    """Find where the head ends, as h11 does, but for the bytes that were searched before."""
    start = max(0, searched - 2)
    usual, bare = data.find(b"\n\r\n", start), data.find(b"\n\n", start)
    if usual >= 0 and not 0 <= bare < usual:
        return usual + 3
    return bare + 2 if bare >= 0 else None


def has_controls(head: bytes) -> bool:
    """Tell whether a head holds control characters, among them a CR that ends no line.

    h11 lets most of them through. And where it refuses one, its regular expression takes time
    quadratic in the number of spaces before it: most of a second for 16 KiB.
    """
    return bool(head.replace(b"\r\n", b"\n").translate(None, _HEAD_BYTES))


def count_fields(head: bytes) -> int:
    """Count the header lines, which lie between the first line and the empty one."""
    return head.count(b"\n") - 2


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and its headers."""

    method: str
    target: str
    """The request target as sent, in origin form."""
    path: str
    """The target's path, percent-decoded."""
    raw_path: str
    """The target's path as sent."""
    query: str
    """What follows the question mark, as sent."""
    authority: str
    """The ``Host`` header, or the target's own authority where it has one."""
    headers: Headers
    version: str
    """``1.0`` or ``1.1``."""


def read_request(head: bytes, *, max_headers: float) -> RequestHead:
    """Parse a whole request head (RFC 9112 §3).

    Args:
        head: The head with its empty line.
        max_headers: Header fields it may have.

    Raises:
        RequestError: 400, 413, 431, 501 or 505, with an explanation.
    """
    _check_version(head)
    if has_controls(head):
        raise refuse(400, "bad request: the head holds a control character")
    if count_fields(head) > max_headers:
        raise refuse(431, f"the request has more than {max_headers} header fields")
    method, target, version, headers = parse_plain(head) or parse_any(head)
    authority, target = _split_authority(target, headers.get("Host", ""))
    if not _AUTHORITY.fullmatch(authority):
        # RFC 9112 §3.2.
        raise refuse(400, "bad request: the host is not a host name or address with a port")
    raw_path, _, query = target.partition("?")
    return RequestHead(
        method=method,
        target=target,
        path=decode_path(raw_path),
        raw_path=raw_path,
        query=query,
        authority=authority,
        headers=headers,
        version=version,
    )


def parse_plain(head: bytes) -> tuple[str, str, str, Headers] | None:
    """Do what `parse_any` does, in a tenth of the time, for heads such as most clients send.

    Such a head is a GET without a body, in ASCII, written in the one way that RFC 9112 recommends.
    It holds no control characters but line ends.

    Returns:
        None for any other head, so that h11 remains the judge of it.
    """
    if not head.isascii() or b"\t" in head:
        return None
    first, *lines = head.decode("ascii").split("\r\n")
    # What the head ends with makes two empty lines; and no line feed stands alone.
    if len(lines) < 2 or lines.pop() or lines.pop() or head.count(b"\n") != len(lines) + 2:
        return None
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if method != "GET" or version != "HTTP/1.1" or not target:
        return None
    fields: list[tuple[str, str]] = []
    names: list[str] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not (name and colon):
            return None
        value = value.strip(" ")
        fields.append((_COMMON.get(name, name), _COMMON.get(value, value)))
        names.append(name.lower())
    if not is_token("".join(names)) or names.count("host") != 1 or not _FRAMING.isdisjoint(names):
        return None
    return method, target, "1.1", known_headers(fields)


def parse_any(head: bytes) -> tuple[str, str, str, Headers]:
    """Parse a head with h11.

    Returns:
        The method, the target, the version and the fields.

    Raises:
        RequestError: 400, 413 or 501.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    parser.receive_data(head)
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError as fault:
        raise refuse(fault.error_status_hint, f"bad request: {str(fault)[:MAX_ECHO]}") from None
    if not isinstance(event, h11.Request):
        raise refuse(400, "bad request: incomplete head")
    headers = decoded(event.headers.raw_items())
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip("0"):
        raise refuse(413, "this server takes no request bodies")
    # RFC 9110 §2.5: a later minor version is treated as the latest known one.
    version = "1.0" if event.http_version == b"1.0" else "1.1"
    return event.method.decode("ascii"), event.target.decode("ascii"), version, headers


def _check_version(head: bytes) -> None:
    line = head.partition(b"\n")[0].rstrip(b"\r")
    name, slash, version = line.rpartition(b" ")[2].partition(b"/")
    if name == b"HTTP" and slash and version[:1].isdigit() and not version.startswith(b"1."):
        raise refuse(505, "this server speaks HTTP/1.1")


def decoded(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Make header fields of what h11 gives."""
    return Headers([(name.decode("ascii"), value.decode("latin-1")) for name, value in fields])


def _split_authority(target: str, host: str) -> tuple[str, str]:
    """Bring a target into origin form; an absolute one overrides ``Host`` (RFC 9112 §3.2.2)."""
    if "#" in target:
        raise refuse(400, "bad request: the target has a fragment")
    if target.startswith("/") or target == "*":
        return host, target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in _SUPPORTED_SCHEMES:
        raise refuse(400, "bad request: the target does not begin with a slash")
    end = min((place for mark in "/?" if (place := rest.find(mark)) >= 0), default=len(rest))
    if not end:
        # RFC 9110 §4.2.1.
        raise refuse(400, "bad request: the target has no host")
    path = rest[end:]
    return rest[:end], path if path.startswith("/") else f"/{path}"


def decode_path(path: str) -> str:
    """Percent-decode a path, or a segment of one, once.

    Raises:
        RequestError: 400, for a broken escape, bytes that are not UTF-8, or a NUL.
    """
    if "%" not in path:
        return path
    if _BROKEN_ESCAPE.search(path):
        raise refuse(400, "bad request: the path has a broken percent escape")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise refuse(400, "bad request: the path is not UTF-8") from None
    if "\0" in decoded:
        raise refuse(400, "bad request: the path holds a NUL")
    return decoded


def write_response(response: Response, *, body: bool = True) -> bytes:
    """Serialise a response that is the connection's last.

    Args:
        response: What to send.
        body: False leaves the body out, as HEAD asks; ``Content-Length`` is the same.
    """
    fields = [
        (name, value)
        for name, value in response.headers.fields
        if name.lower() not in {"content-length", "transfer-encoding", "connection"}
    ]
    upgrade = "Upgrade" in response.headers
    fields.append(("Connection", "close, Upgrade" if upgrade else "close"))
    if "Date" not in response.headers:
        fields.append(("Date", formatdate(usegmt=True)))
    # RFC 9110 §8.6: no Content-Length with 204, and with 304 none but that of the 200.
    bodiless = response.status in _BODILESS
    if not bodiless:
        fields.append(("Content-Length", str(len(response.body))))
    head = write_head(f"HTTP/1.1 {response.status} {status_phrase(response.status)}", fields)
    return head + response.body if body and not bodiless else head


def write_head(first_line: str, fields: list[tuple[str, str]]) -> bytes:
    """Serialise a first line and header fields that are known to be well formed."""
    lines = [first_line, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")
