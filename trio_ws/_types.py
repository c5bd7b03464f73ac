"""`Headers`, `Response`, `CloseCode` and `Message`: the values every layer speaks of."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import TypeAlias, cast

Message: TypeAlias = str | bytes
"""A whole message: ``str`` is text, ``bytes`` is binary."""

Sendable: TypeAlias = str | bytes | bytearray | memoryview
"""What `send` takes; everything but ``str`` goes out as binary."""

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Header fields as a caller may write them."""

# RFC 9110 §5.6.2: the characters of a token.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# RFC 6455 §7.4 and the IANA registry: what lies between is reserved or stands for no code.
_WIRE_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))

_MAX_REASON = 123  # bytes: a control frame carries 125, two of them are the code (RFC 6455 §5.5)


class CloseCode(IntEnum):
    """Close codes of RFC 6455 §7.4.1 and the IANA registry.

    Applications may also use 3000 to 4999 (RFC 6455 §7.4.2).
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MISSING_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_FAILURE = 1015


def is_wire_code(code: int) -> bool:
    """Tell whether a Close frame may carry this code (RFC 6455 §7.4)."""
    return any(code in codes for codes in _WIRE_CODES)


def check_close(code: int, reason: str | None) -> None:
    """Check what a caller wants to put into a Close frame.

    Raises:
        ValueError: The code may not be sent, or the reason does not fit.
    """
    if not is_wire_code(code):
        raise ValueError(
            f"close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999"
        )
    size = len((reason or "").encode())
    if size > _MAX_REASON:
        raise ValueError(
            f"the close reason is {size} bytes long in UTF-8, at most {_MAX_REASON} fit in a frame"
        )


def escaped(text: str, limit: int = 200) -> str:
    """Make a stranger's text fit for a terminal and a log: one line, bounded, nothing hidden.

    What is not printable (control characters, line separators, what turns the direction of
    writing) is written as in a Python literal, and so is the backslash beside it.
    """
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    if shown.isprintable():
        return shown
    return "".join(
        each if each.isprintable() and each != "\\" else each.encode("unicode_escape").decode()
        for each in shown
    )


def is_token(text: str) -> bool:
    """Tell whether the text is a token of RFC 9110 §5.6.2."""
    return bool(text) and _TOKEN.issuperset(text)


class Headers(Mapping[str, str]):
    """HTTP header fields: names without regard to case, in order, repeats kept.

    ``headers["Accept"]`` joins the values of a repeated name with a comma (RFC 9110 §5.3);
    `get_all` gives them one by one. Iterating gives each name once, as first written.

    Args:
        fields: A mapping or pairs of name and value.

    Raises:
        ValueError: A name is no token, or a value holds a line break or another
            control character, or a character outside of Latin-1.
    """

    __slots__ = ("fields",)

    fields: tuple[tuple[str, str], ...]
    """Every field as a pair of name and value, in order."""

    def __init__(self, fields: HeadersLike = ()) -> None:
        pairs: Iterable[tuple[str, str]]
        if isinstance(fields, (tuple, list)):
            # First, because it is so nearly always, and the others are abstract: slow to deny.
            pairs = cast("Iterable[tuple[str, str]]", fields)
        elif isinstance(fields, Headers):
            pairs = fields.fields
        elif isinstance(fields, Mapping):
            pairs = cast("Mapping[str, str]", fields).items()
        else:
            pairs = fields
        # No index by name: it would be made for every request, and outlive it with the connection,
        # for the sake of some ten look-ups among some ten fields.
        self.fields = tuple(_checked(name, value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        """Return the value of a name, repeats joined with a comma."""
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, each once."""
        seen: set[str] = set()
        for name, _ in self.fields:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        """Count the distinct names."""
        return len({name.lower() for name, _ in self.fields})

    def __contains__(self, name: object) -> bool:
        """Tell whether the name is there."""
        return isinstance(name, str) and bool(self.get_all(name))

    def __eq__(self, other: object) -> bool:
        """Compare all fields in order, names without regard to case."""
        if isinstance(other, Headers):
            return _folded(self) == _folded(other)
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(_folded(self))

    def get_all(self, name: str) -> list[str]:
        """Return every value of a name, in order; an empty list when it is missing."""
        wanted = name.lower()
        size = len(wanted)
        # The length is asked first: lowering every name would take twice as long.
        return [
            value for name, value in self.fields if len(name) == size and name.lower() == wanted
        ]

    def __repr__(self) -> str:
        return f"Headers({list(self.fields)!r})"


def known_headers(fields: Iterable[tuple[str, str]]) -> Headers:
    """Make headers of fields that are known to be well formed."""
    headers = Headers.__new__(Headers)
    headers.fields = tuple(fields)
    return headers


def _folded(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers.fields)


def _checked(name: str, value: str) -> tuple[str, str]:
    if not is_token(name):
        raise ValueError(f"header name {name!r} is no token (RFC 9110 §5.6.2)")
    if not value.isascii() or not value.isprintable():
        _check_value(name, value)
    return name, value


def _check_value(name: str, value: str) -> None:
    """Refuse a line break first of all: it would let a value write headers of its own."""
    for character in value:
        # Tab is the one control character of RFC 9110 §5.5.
        if (character < " " and character != "\t") or character == "\x7f":
            raise ValueError(
                f"the value of header {name} holds the control character {character!r}"
            )
        if character > "\xff":
            raise ValueError(f"the value of header {name} holds {character!r}, outside of Latin-1")


# What is below 200 is no answer yet, and 101 is the accepting of a WebSocket.
_FINAL_STATUSES = range(200, 600)


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """An HTTP response: what a handler returns instead of accepting a WebSocket.

    ``Content-Length``, ``Connection: close`` and ``Date`` are added when it is sent; a text body
    gets ``Content-Type: text/plain; charset=utf-8`` unless `headers` names another.
    Comparing two responses compares all three fields.

    Example::

        return Response(200, "<p>Olá", headers={"Content-Type": "text/html; charset=utf-8"})

    Args:
        status: The status code, 200 to 599.
        body: Text is sent as UTF-8.
        headers: Further header fields.

    Raises:
        ValueError: The status is out of range, or a header is not well formed.
    """

    status: int
    """The status code."""
    body: bytes
    """The body, as bytes."""
    headers: Headers
    """The header fields."""

    def __init__(
        self, status: int = 200, body: str | bytes = b"", *, headers: HeadersLike = ()
    ) -> None:
        if status not in _FINAL_STATUSES:
            raise ValueError(f"a response has a status of 200 to 599, not {status}")
        checked = Headers(headers)
        if isinstance(body, str):
            body = body.encode()
            if "Content-Type" not in checked:
                checked = Headers((*checked.fields, ("Content-Type", "text/plain; charset=utf-8")))
        object.__setattr__(self, "status", status)
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "headers", checked)

    @property
    def text(self) -> str:
        """The body as text, bytes that are not UTF-8 replaced."""
        return self.body.decode(errors="replace")


def status_phrase(status: int) -> str:
    """Return the standard phrase of a status, or an empty string."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
