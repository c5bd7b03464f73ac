"""`read_upgrade` and `check_answer`: the opening handshake of RFC 6455 §4, both sides."""

import base64
import binascii
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from trio_ws._protocol.http import RequestHead, refuse, write_head
from trio_ws._types import Headers, escaped, is_token

# RFC 6455 §1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_KEY_SIZE = 16

RESERVED = frozenset(
    {
        "connection",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
    }
)
"""Header names, in lower case, that belong to the handshake and are not for callers to set."""


class UpgradeError(Exception):
    """The server's answer to the opening handshake is not one that may be accepted."""


def make_key() -> str:
    """Make a ``Sec-WebSocket-Key``: 16 fresh random bytes (RFC 6455 §4.1)."""
    return base64.b64encode(os.urandom(_KEY_SIZE)).decode()


def accept_key(key: str) -> str:
    """Compute ``Sec-WebSocket-Accept`` (RFC 6455 §4.2.2)."""
    # S324: the RFC fixes SHA-1 here; it guards against confused intermediaries, not attackers.
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def tokens(values: Sequence[str]) -> list[str]:
    """Split header values at their commas, in linear time; empty elements are dropped."""
    return [
        part for value in values for element in value.split(",") if (part := element.strip(" \t"))
    ]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A well-formed opening handshake, from the server's side."""

    key: str
    """``Sec-WebSocket-Key``."""
    subprotocols: tuple[str, ...]
    """What the client offers, best first."""
    extensions: tuple[str, ...] = ()
    """``Sec-WebSocket-Extensions``, as it was sent: what the client offers there may be declined,
    and is, if it is malformed."""


def read_upgrade(head: RequestHead) -> Upgrade | None:
    """Tell whether a request is an opening handshake, and check it (RFC 6455 §4.2.1).

    Returns:
        None for an ordinary request.

    Raises:
        RequestError: 400, 405 or 426: it wants to be a handshake, and is wrong.
    """
    headers = head.headers
    wanted = {token.lower() for token in tokens(headers.get_all("Upgrade"))}
    # RFC 9110 §7.8: Upgrade in an HTTP/1.0 request is ignored.
    if "websocket" not in wanted or head.version == "1.0":
        return None
    if head.method != "GET":
        raise refuse(405, "a WebSocket is opened with GET", ("Allow", "GET"))
    if "upgrade" not in {token.lower() for token in tokens(headers.get_all("Connection"))}:
        raise refuse(400, "bad handshake: the Connection header does not say Upgrade")
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        # RFC 6455 §4.4.
        why = f"this server speaks version {_VERSION} of the WebSocket protocol"
        raise refuse(426, why, ("Sec-WebSocket-Version", _VERSION), ("Upgrade", "websocket"))
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise refuse(400, "bad handshake: Sec-WebSocket-Key is not 16 bytes in base64")
    offered = tokens(headers.get_all("Sec-WebSocket-Protocol"))
    if not all(map(is_token, offered)) or len(set(offered)) != len(offered):
        raise refuse(400, "bad handshake: Sec-WebSocket-Protocol is not a list of unique tokens")
    extensions = tuple(headers.get_all("Sec-WebSocket-Extensions"))
    return Upgrade(keys[0], tuple(offered), extensions)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def accept_head(
    upgrade: Upgrade, *, subprotocol: str | None, headers: Headers, extension: str | None = None
) -> bytes:
    """Serialise the 101 that accepts an opening handshake (RFC 6455 §4.2.2).

    Args:
        upgrade: The opening handshake.
        subprotocol: The subprotocol chosen, if any.
        headers: Further header fields.
        extension: The extension agreed on, with its parameters, if any.

    Raises:
        ValueError: The subprotocol is none of those that the client offers.
    """
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(upgrade.key)),
    ]
    if subprotocol is not None:
        if subprotocol not in upgrade.subprotocols:
            raise ValueError(f"the client does not offer the subprotocol {subprotocol!r}")
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if extension is not None:
        fields.append(("Sec-WebSocket-Extensions", extension))
    return write_head("HTTP/1.1 101 Switching Protocols", [*fields, *headers.fields])


def check_subprotocols(subprotocols: Collection[str]) -> tuple[str, ...]:
    """Check names of subprotocols (RFC 6455 §4.1), and return them.

    Raises:
        TypeError: They are one string.
        ValueError: One is no token, or stands there twice.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols is a sequence of names, not one string")
    names = tuple(subprotocols)
    for name in names:
        if not is_token(name):
            raise ValueError(f"the subprotocol {name!r} is no token (RFC 6455 §4.1)")
    if len(set(names)) != len(names):
        raise ValueError("a subprotocol stands twice in the list")
    return names


def request_fields(
    key: str, subprotocols: Collection[str], extensions: str | None = None
) -> list[tuple[str, str]]:
    """Return the header fields of an opening handshake, but for ``Host`` (RFC 6455 §4.1).

    Args:
        key: The key.
        subprotocols: What to offer, best first; see `check_subprotocols`.
        extensions: The extensions to offer, if any.

    Raises:
        TypeError: As `check_subprotocols`.
        ValueError: As `check_subprotocols`.
    """
    subprotocols = check_subprotocols(subprotocols)
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", _VERSION),
    ]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions is not None:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    return fields


def check_answer(headers: Headers, key: str, offered: Collection[str]) -> str | None:
    """Check the headers of a 101 (RFC 6455 §4.1, page 19), but for the extensions.

    Args:
        headers: The answer's header fields.
        key: The key that was sent.
        offered: The subprotocols that were offered.

    Returns:
        The subprotocol the server chose, or None.

    Raises:
        UpgradeError: The answer may not be accepted; the message says why.
    """
    if [token.lower() for token in tokens(headers.get_all("Upgrade"))] != ["websocket"]:
        raise UpgradeError("its answer does not upgrade to WebSocket")
    if "upgrade" not in {token.lower() for token in tokens(headers.get_all("Connection"))}:
        raise UpgradeError("the Connection header of its answer does not say Upgrade")
    if headers.get("Sec-WebSocket-Accept") != accept_key(key):
        raise UpgradeError(
            "Sec-WebSocket-Accept does not fit the key: it is not a WebSocket server"
        )
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if not chosen:
        return None
    if len(chosen) > 1 or chosen[0] not in offered:
        name = escaped(chosen[0])
        raise UpgradeError(f"it chose the subprotocol '{name}', which was not offered")
    return chosen[0]
