"""`split`, `read_header` and `serialise`: the frames of RFC 6455 §5.2, as plain functions.

What a frame means in its place (fragments, limits, the closing handshake) is the engine's business;
all that is kept here is the latest message with its frame, for others that are sent the same.
`split`, `serialise`, `small_frame` and `forget_frame` are compiled if that was possible, and then
the ones written here are what tests hold them against.
"""

import os
from typing import Literal, TypeAlias

from trio_ws._protocol.compiled import speedups
from trio_ws._protocol.masking import mask, python_mask
from trio_ws._types import Message, Sendable

Frame: TypeAlias = bytes | tuple[bytes, bytes]
"""A frame to write; a large one without mask is its header and, not copied, its payload."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MAX_CONTROL_PAYLOAD = 125
"""Bytes that a control frame can carry (RFC 6455 §5.5)."""

_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

LARGE = 16 * 1024
"""Bytes from which on a payload is not copied to stand behind its header: there the copy costs more
than handing the system two buffers."""

_FIN = _MASK = 0x80

DEFLATED = 0x40
"""RSV1, the bit of the first byte that says that a message is compressed (RFC 7692 §6)."""

# RFC 6455 §5.2: lengths that stand for a length of two or eight bytes behind them.
_IN_TWO_BYTES, _IN_EIGHT_BYTES = 126, 127

# What is too long for two bytes.
_LONG = 0x10000

# First bytes without a fault: no reserved bit, a known opcode, control frames in one piece.
_SOUND = frozenset(op | fin for op in _OPCODES for fin in (0, _FIN) if fin or op < CLOSE)

# RFC 7692 §6.1: the bit stands in the first frame of a message, and in no other.
_SOUND_WITH_DEFLATE = _SOUND.union(
    op | fin | DEFLATED for op in (TEXT, BINARY) for fin in (0, _FIN)
)


class FrameError(Exception):
    """The peer broke the protocol.

    Args:
        code: The close code to answer with (RFC 6455 §7.4.1).
        message: What was wrong; it goes into the Close frame, so it is short.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_header(
    data: bytes | bytearray | memoryview, start: int, *, masked: bool, deflate: bool = False
) -> tuple[bool, int, int, int] | None:
    """Read the frame header that begins at `start` (RFC 6455 §5.2).

    Args:
        data: The bytes at hand; they may end anywhere.
        start: The index of the header's first byte.
        masked: Whether this side takes masked frames (a server) or plain ones (a client).
        deflate: Whether messages may be compressed; then the first byte tells, see `DEFLATED`.

    Returns:
        FIN, opcode, payload length and the index of the payload's first byte; the four bytes
        before it are the masking key of a masked frame. None while the header is incomplete.

    Raises:
        FrameError: 1002, as soon as the first bytes show that the header is wrong.
    """
    available = len(data)
    if start >= available:
        return None
    first = data[start]
    if first not in (_SOUND_WITH_DEFLATE if deflate else _SOUND):
        raise FrameError(1002, _fault_of(first))
    if start + 1 >= available:
        return None
    second = data[start + 1]
    if (second >= _MASK) is not masked:
        # RFC 6455 §5.1: clients mask every frame, servers none.
        raise FrameError(1002, "frame is not masked" if masked else "frame is masked")
    length = second & 0x7F
    payload = start + 2
    if length >= _IN_TWO_BYTES:
        extended = _read_length(data, start)
        if extended is None:
            return None
        length, payload = extended
    if masked:
        payload += 4
        if available < payload:
            return None
    return first >= _FIN, first & 0x0F, length, payload


def _read_length(data: bytes | bytearray | memoryview, start: int) -> tuple[int, int] | None:
    """Read the length of a longer frame; return it and the index behind it."""
    if data[start] & 0x08:
        raise FrameError(1002, "control frame is longer than 125 bytes")
    long = data[start + 1] & 0x7F == _IN_EIGHT_BYTES
    end = start + (10 if long else 4)
    if len(data) < end:
        return None
    length = int.from_bytes(data[start + 2 : end], "big")
    # RFC 6455 §5.2: the shortest encoding, and the top bit of 64 is zero.
    if length < (_LONG if long else _IN_TWO_BYTES):
        raise FrameError(1002, "frame length is not in its shortest form")
    if length >> 63:
        raise FrameError(1002, "frame length is out of range")
    return length, end


def _fault_of(first: int) -> str:
    if first & 0x70:
        return "reserved bit is set without an extension"
    if first & 0x0F not in _OPCODES:
        return f"opcode {first & 0x0F:#x} is reserved"
    return "control frame is fragmented"


def python_serialise(
    opcode: int, payload: bytes | bytearray | memoryview, *, masked: bool, fin: bool = True
) -> bytes:
    """Make one frame.

    A masked frame gets a fresh key from the operating system's entropy (RFC 6455 §5.3 and §10.3:
    nobody may predict it).

    Args:
        opcode: One of this module's opcodes.
        payload: What the frame carries, without mask.
        masked: Whether to mask: a client does, a server does not.
        fin: Whether the frame ends its message.

    Raises:
        ValueError: The payload does not fit into a control frame.
    """
    if isinstance(payload, memoryview):
        # Its length counts items, which may be larger than a byte, and it may have gaps.
        payload = payload.tobytes()
    length = len(payload)
    if opcode >= CLOSE and length > MAX_CONTROL_PAYLOAD:
        raise ValueError(
            f"a control frame carries at most {MAX_CONTROL_PAYLOAD} bytes, not {length}"
        )
    header = _header((_FIN if fin else 0) | opcode, _MASK if masked else 0, length)
    if masked:
        key = os.urandom(4)
        return b"".join((header, key, python_mask(payload, key)))
    return b"".join((header, payload))


def _header(first: int, bit: int, length: int) -> bytes:
    if length < _IN_TWO_BYTES:
        return bytes((first, bit | length))
    if length < _LONG:
        return bytes((first, bit | _IN_TWO_BYTES)) + length.to_bytes(2, "big")
    return bytes((first, bit | _IN_EIGHT_BYTES)) + length.to_bytes(8, "big")


def python_split(
    data: bytes | bytearray | memoryview,
    start: int,
    *,
    masked: bool,
    max_message: float,
    max_count: float,
    max_bytes: float,
) -> tuple[list[Message], int, int]:
    """Take plain messages from the front of what was read.

    A plain message is whole, in one sound frame, text in valid UTF-8. In front of anything else
    this stops, without an error: a control frame, a fragment, a fault, a frame that is incomplete
    or too large, a compressed message.

    Args:
        data: The bytes at hand; they may end anywhere.
        start: The index of the first frame's first byte.
        masked: Whether this side takes masked frames (a server) or plain ones (a client).
        max_message: Bytes of a message; a larger one is left.
        max_count: Messages after which to stop.
        max_bytes: Bytes of messages after which to stop; the one that crosses the mark is taken.

    Returns:
        The messages, the index behind them, and how many bytes they are without headers.

    Raises:
        ValueError: `start` is negative.
    """
    if start < 0:
        raise ValueError("start is an index from the front")
    messages: list[Message] = []
    taken = 0
    while len(messages) < max_count and taken < max_bytes:
        plain = _read_plain(data, start, max_message, masked=masked)
        if plain is None:
            break
        message, length, start = plain
        messages.append(message)
        taken += length
    return messages, start, taken


def _read_plain(
    data: bytes | bytearray | memoryview, start: int, max_message: float, *, masked: bool
) -> tuple[Message, int, int] | None:
    """Read one plain message; return it, its length and the index behind it."""
    try:
        header = read_header(data, start, masked=masked)
    except FrameError:
        return None
    if header is None:
        return None
    fin, opcode, length, payload = header
    end = payload + length
    if not fin or opcode not in {TEXT, BINARY} or end > len(data) or length > max_message:
        return None
    content = bytes(data[payload:end])
    if masked:
        content = python_mask(content, bytes(data[payload - 4 : payload]))
    if opcode == BINARY:
        return content, length, end
    try:
        return content.decode(), length, end
    except UnicodeDecodeError:
        return None


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


serialise = python_serialise if speedups is None else speedups.serialise
small_frame = python_small_frame if speedups is None else speedups.small_frame
forget_frame = python_forget_frame if speedups is None else speedups.forget_frame
split = python_split if speedups is None else speedups.split

MESSAGES_A_FRAME = 1 if speedups is None else 32
"""How many messages `split` takes in the time in which the engine takes one frame apart: some 50 ns
for each if it is compiled, and as long as for any other frame if it is not."""


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
    frame = _header(_FIN | opcode, 0, len(payload)), payload
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
    header = _header(_FIN | DEFLATED | opcode, _MASK if masked else 0, len(payload))
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


def implementation() -> Literal["compiled", "python"]:
    """Tell which implementation of `mask`, `serialise`, `split` and their like is in use."""
    return "python" if speedups is None else "compiled"
