"""`answer_offers`, `make_offer`, `read_answer`: agreeing on permessage-deflate (RFC 7692 §7.1).

Extension headers are split at their commas, semicolons and equals signs, each character once. A
quoted value has to be a token as well (RFC 6455 §9.1), so none of those stands inside of one; and
because one malformed element spoils the whole header, nothing that looks like an offer can come out
of the middle of a string.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from trio_ws._config import Deflate
from trio_ws._protocol.upgrade import UpgradeError
from trio_ws._types import escaped, is_token

_NAME = "permessage-deflate"

# RFC 7692 §7.1.2.1: no leading zero.
_WINDOW_BITS = {str(bits): bits for bits in range(8, 16)}

_LARGEST_WINDOW = 15

SMALLEST_WINDOW = 9
"""zlib compresses with no window of 8 bits; what a peer has compressed so can be inflated."""

_FLAGS = frozenset({"client_no_context_takeover", "server_no_context_takeover"})
_BITS = frozenset({"client_max_window_bits", "server_max_window_bits"})

_Parameters: TypeAlias = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two sides have agreed on, as one of them sees it."""

    send_window_bits: int
    """The largest window that this side may compress with; below 9 it cannot compress at all."""
    send_context_takeover: bool
    """Whether this side may refer to earlier messages."""
    receive_window_bits: int
    """The window that is large enough for what the peer compresses."""
    receive_context_takeover: bool
    """Whether the peer may refer to earlier messages."""
    text: str
    """The server's answer."""
    settings: Deflate
    """What this side was told."""


def answer_offers(values: Sequence[str], settings: Deflate) -> Agreement | None:
    """Choose among a client's offers, for a server.

    Args:
        values: The ``Sec-WebSocket-Extensions`` headers of the request.
        settings: What the server wants.

    Returns:
        The first offer that can be accepted; None when there is none. An offer with anything odd
        is declined, and so are all offers of a header that is malformed.
    """
    for name, fields in _parse(values) or ():
        offer = _read_parameters(fields) if name == _NAME else None
        if offer is not None and (agreement := _accept(offer, settings)) is not None:
            return agreement
    return None


def _accept(offer: _Parameters, settings: Deflate) -> Agreement | None:
    asked = offer.get("server_max_window_bits", _LARGEST_WINDOW)
    if asked is None or asked < SMALLEST_WINDOW:
        return None
    send_bits = min(settings.send_window_bits, asked)
    send_takeover = settings.send_context_takeover and "server_no_context_takeover" not in offer
    # Of this one a client that will do it by itself only gives notice; the answer holds it to that.
    receive_takeover = (
        settings.receive_context_takeover and "client_no_context_takeover" not in offer
    )
    parts = [_NAME]
    if not send_takeover:
        parts.append("server_no_context_takeover")
    if not receive_takeover:
        parts.append("client_no_context_takeover")
    if send_bits < _LARGEST_WINDOW or "server_max_window_bits" in offer:
        parts.append(f"server_max_window_bits={send_bits}")
    receive_bits = _LARGEST_WINDOW
    if "client_max_window_bits" in offer:
        # RFC 7692 §7.1.2.2: else the client would not understand it, and has the largest.
        hint = offer["client_max_window_bits"] or _LARGEST_WINDOW
        receive_bits = min(settings.receive_window_bits, hint)
        parts.append(f"client_max_window_bits={receive_bits}")
    return Agreement(
        send_bits,
        send_takeover,
        max(receive_bits, SMALLEST_WINDOW),
        receive_takeover,
        "; ".join(parts),
        settings,
    )


def make_offer(settings: Deflate) -> str:
    """Make the ``Sec-WebSocket-Extensions`` header of a client.

    A server that cannot limit its window may not ignore that it is asked to, and would have to
    decline; for its sake there is a second offer without that wish (RFC 7692 §7.1.3).
    """
    parts = [_NAME]
    if not settings.receive_context_takeover:
        parts.append("server_no_context_takeover")
    if not settings.send_context_takeover:
        parts.append("client_no_context_takeover")
    if settings.send_window_bits < _LARGEST_WINDOW:
        parts.append(f"client_max_window_bits={settings.send_window_bits}")
    else:
        parts.append("client_max_window_bits")
    offer = "; ".join(parts)
    if settings.receive_window_bits == _LARGEST_WINDOW:
        return offer
    return f"{offer}; server_max_window_bits={settings.receive_window_bits}, {offer}"


def read_answer(values: Sequence[str], settings: Deflate | None) -> Agreement | None:
    """Read a server's choice among the offers of `make_offer`, for a client.

    Args:
        values: The ``Sec-WebSocket-Extensions`` headers of the answer.
        settings: What was offered; None if nothing was.

    Returns:
        None when the server declines.

    Raises:
        UpgradeError: The choice is not one that may be accepted (RFC 7692 §5.1).
    """
    chosen = _parse(values)
    if chosen is None:
        raise UpgradeError("its Sec-WebSocket-Extensions header is malformed")
    if not chosen:
        return None
    name, fields = chosen[0]
    if settings is None or name != _NAME:
        raise UpgradeError(f"it chose the extension '{escaped(name)}', which was not offered")
    if len(chosen) > 1:
        raise UpgradeError(f"it chose more than one extension: {_NAME} and another")
    answer = _read_parameters(fields)
    if answer is None or None in (answer.get(each, 0) for each in _BITS):
        raise UpgradeError(f"it chose {_NAME} with a parameter that is unknown or malformed")
    return _agree(answer, settings)


def _agree(answer: _Parameters, settings: Deflate) -> Agreement:
    if not settings.receive_context_takeover and "server_no_context_takeover" not in answer:
        raise UpgradeError(f"it chose {_NAME} without the server_no_context_takeover asked for")
    # Some servers answer with more than was offered. A smaller window is right all the same.
    asked = answer.get("client_max_window_bits") or _LARGEST_WINDOW
    receive_bits = answer.get("server_max_window_bits") or _LARGEST_WINDOW
    parts = [_NAME]
    parts += [each if bits is None else f"{each}={bits}" for each, bits in answer.items()]
    return Agreement(
        min(settings.send_window_bits, asked),
        settings.send_context_takeover and "client_no_context_takeover" not in answer,
        max(receive_bits, SMALLEST_WINDOW),
        "server_no_context_takeover" not in answer,
        "; ".join(parts),
        settings,
    )


def _read_parameters(fields: Sequence[tuple[str, str | None]]) -> _Parameters | None:
    """Check the parameters of an offer or an answer; None if one is odd (RFC 7692 §7.1)."""
    parameters: _Parameters = {}
    for name, value in fields:
        if name in parameters:
            return None
        if name in _FLAGS and value is None:
            parameters[name] = None
        elif name == "client_max_window_bits" and value is None:
            # Right in an offer only.
            parameters[name] = None
        elif name in _BITS and value in _WINDOW_BITS:
            parameters[name] = _WINDOW_BITS[value]
        else:
            return None
    return parameters


def _parse(values: Sequence[str]) -> list[tuple[str, list[tuple[str, str | None]]]] | None:
    """Parse extension headers (RFC 6455 §9.1); None if they are malformed.

    Returns:
        For each extension its name and its parameters, in the order of the headers.
    """
    extensions: list[tuple[str, list[tuple[str, str | None]]]] = []
    for value in values:
        for element in value.split(","):
            name, *parameters = element.split(";")
            name = name.strip(" \t")
            if not name and not parameters:
                # RFC 9110 §5.6.1: empty elements of a list are ignored.
                continue
            fields = list(_parse_parameters(parameters))
            if not is_token(name) or len(fields) < len(parameters):
                return None
            extensions.append((name, fields))
    return extensions


def _parse_parameters(parameters: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield names and values, up to one that is malformed."""
    for parameter in parameters:
        name, equals, text = parameter.partition("=")
        name = name.strip(" \t")
        value = _unquoted(text.strip(" \t")) if equals else None
        if not is_token(name) or (value is not None and not is_token(value)):
            return
        yield name, value


def _unquoted(text: str) -> str:
    """Take the quotes off a quoted string; what is wrong with it remains, and is no token."""
    if len(text) < len('""') or not (text[0] == text[-1] == '"'):
        return text
    kept: list[str] = []
    quoted = False
    for character in text[1:-1]:
        # RFC 9110 §5.6.4: a backslash stands before a character that is meant as it is.
        quoted = character == "\\" and not quoted
        if not quoted:
            kept.append(character)
    return text if quoted else "".join(kept)
