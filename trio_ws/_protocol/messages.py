"""`message_frame`: whole messages as frames to write, and the memory of the latest one.

A message that is sent to many connections is serialised for the first one, and its frame kept until
`forget_message`, which is called with every round of reading or writing, and when a line is gone.
`small_frame` and `forget_frame` are compiled if that was possible, and then the ones written here
are what tests hold them against.
"""

import os
from typing import TypeAlias

from trio_ws._protocol.compiled import speedups
from trio_ws._protocol.frames import (
    BINARY,
    DEFLATED,
    FIN,
    MASK,
    TEXT,
    make_header,
    python_serialise,
    serialise,
)
from trio_ws._protocol.masking import mask
from trio_ws._types import Sendable

Frame: TypeAlias = bytes | tuple[bytes, bytes]
"""A frame to write; a large one without mask is its header and, not copied, its payload."""

LARGE = 16 * 1024
"""Bytes from which on a payload is not copied to stand behind its header: there the copy costs more
than handing the system two buffers."""

# A message and its frame without mask; nothing at first. Threads are welcome to it: it is read and
# replaced as a whole.
_latest: tuple[object, bytes] = ("", b"")


# By position: for the compiled one, names would cost as much as the frame.
def python_small_frame(message: object, masked: bool, /) -> bytes | None:
    """Make the frame of a whole message, if that is ``str`` or ``bytes``, and short.

    A message that is sent to many is serialised once, if the same object is given each time and
    `forget_frame` is not called in between. That is for frames without mask, since each masked one
    needs a key of its own.

    Args:
        message: The message.
        masked: Whether to mask: a client does, a server does not.

    Returns:
        The frame; None for what is something else, or has `LARGE` characters or bytes.

    Raises:
        UnicodeEncodeError: There are surrogates in the text.
    """
    global _latest  # noqa: PLW0603
    if not masked:
        known, frame = _latest
        if message is known and frame:
            return frame
    # What has a class of its own may have its own way of being encoded, too.
    if type(message) is str and len(message) < LARGE:
        opcode, payload = TEXT, message.encode()
    elif type(message) is bytes and len(message) < LARGE:
        opcode, payload = BINARY, message
    else:
        return None
    frame = python_serialise(opcode, payload, masked=masked)
    if not masked:
        _latest = message, frame
    return frame


def python_forget_frame() -> None:
    """Let go of the latest message of `small_frame` and its frame."""
    global _latest  # noqa: PLW0603
    _latest = "", b""


small_frame = python_small_frame if speedups is None else speedups.small_frame
forget_frame = python_forget_frame if speedups is None else speedups.forget_frame


def message_frame(message: Sendable, *, masked: bool) -> Frame:
    """Make the frame of a whole message.

    Args:
        message: The message. One that is sent to many is serialised once; see
            `python_small_frame`.
        masked: Whether to mask: a client does, a server does not.

    Raises:
        TypeError: It is no message.
    """
    return small_frame(message, masked) or other_frame(message, masked=masked)


# As `_latest`, for a large message.
_latest_large: tuple[object, Frame] = ("", b"")


def other_frame(message: Sendable, *, masked: bool) -> Frame:
    """Make the frame of a message that `small_frame` makes none of; see `message_frame`."""
    global _latest_large  # noqa: PLW0603
    if not masked:
        known, frame = _latest_large
        if message is known and frame:
            return frame
    opcode, payload = encoded(message)
    if masked or len(payload) < LARGE:
        return serialise(opcode, payload, masked=masked)
    # A view's length counts items, which may be larger than a byte; and it may be changed.
    payload = bytes(payload)
    frame = make_header(FIN | opcode, 0, len(payload)), payload
    if type(message) is str or type(message) is bytes:
        _latest_large = message, frame
    return frame


def deflated_frame(opcode: int, payload: bytes, *, masked: bool) -> Frame:
    """Make the frame of a compressed message.

    Args:
        opcode: Its opcode.
        payload: What came out of compressing it.
        masked: Whether to mask: a client does, a server does not.
    """
    header = make_header(FIN | DEFLATED | opcode, MASK if masked else 0, len(payload))
    if masked:
        key = os.urandom(4)
        return b"".join((header, key, mask(payload, key)))
    return header + payload if len(payload) < LARGE else (header, payload)


# A message, and its frame for each way in which it was to be compressed. Connections that were
# agreed on differently take turns in a broadcast, so one frame would not do; there are few ways.
_latest_deflated: tuple[object, dict[object, Frame]] = ("", {})


def remember_deflated(message: Sendable, shared: object, frame: Frame) -> None:
    """Keep the frame of a message for other connections, until `forget_message`.

    Args:
        message: The message; nothing is kept of one that can be changed.
        shared: How it was compressed.
        frame: Its frame; the plain one if compressing does not make it smaller.
    """
    global _latest_deflated  # noqa: PLW0603
    if message.__class__ is not str and message.__class__ is not bytes:
        return
    known, frames = _latest_deflated
    if message is known:
        frames[shared] = frame
    else:
        _latest_deflated = message, {shared: frame}


def recall_deflated(message: Sendable, shared: object) -> Frame | None:
    """Return the frame of the latest message, if it is this one and was compressed this way."""
    known, frames = _latest_deflated
    return frames.get(shared) if message is known else None


def forget_message() -> None:
    """Let go of the latest message and its frames, which may be large, and may be secret."""
    global _latest_large, _latest_deflated  # noqa: PLW0603
    forget_frame()
    _latest_large = "", b""
    _latest_deflated = "", {}


def encoded(message: Sendable) -> tuple[int, bytes | bytearray | memoryview]:
    """Return the opcode of a message, and its payload.

    Raises:
        TypeError: It is no message.
    """
    if isinstance(message, str):
        return TEXT, message.encode()
    # A caller without a type checker may give anything.
    if isinstance(message, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
        return BINARY, message
    raise TypeError(f"a message is str or bytes-like, not {type(message).__name__}")
