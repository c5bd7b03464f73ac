"""`split`, `read_header` and `serialise`: the frames of RFC 6455 §5.2, as plain functions.

What a frame means in its place (fragments, limits, the closing handshake) is the engine's business.
`split` and `serialise` are compiled if that was possible, and then the ones written here are what
tests hold them against.
"""

import os
from typing import Literal

from trio_ws._protocol.compiled import speedups
from trio_ws._protocol.masking import python_mask
from trio_ws._types import Message

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MAX_CONTROL_PAYLOAD = 125
"""Bytes that a control frame can carry (RFC 6455 §5.5)."""

_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

FIN = MASK = 0x80
"""The first bit of the first byte ends a message, that of the second says that a mask follows."""

DEFLATED = 0x40
"""RSV1, the bit of the first byte that says that a message is compressed (RFC 7692 §6)."""

# RFC 6455 §5.2: lengths that stand for a length of two or eight bytes behind them.
_IN_TWO_BYTES, _IN_EIGHT_BYTES = 126, 127

# What is too long for two bytes.
_LONG = 0x10000

# First bytes without a fault: no reserved bit, a known opcode, control frames in one piece.
_SOUND = frozenset(op | fin for op in _OPCODES for fin in (0, FIN) if fin or op < CLOSE)

# RFC 7692 §6.1: the bit stands in the first frame of a message, and in no other.
_SOUND_WITH_DEFLATE = _SOUND.union(op | fin | DEFLATED for op in (TEXT, BINARY) for fin in (0, FIN))


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
    if (second >= MASK) is not masked:
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
    return first >= FIN, first & 0x0F, length, payload


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
    header = make_header((FIN if fin else 0) | opcode, MASK if masked else 0, length)
    if masked:
        key = os.urandom(4)
        return b"".join((header, key, python_mask(payload, key)))
    return b"".join((header, payload))


def make_header(first: int, bit: int, length: int) -> bytes:
    """Make the header of a frame, without the masking key.

    Args:
        first: Its first byte.
        bit: `MASK` or 0.
        length: Bytes of its payload.
    """
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


serialise = python_serialise if speedups is None else speedups.serialise
split = python_split if speedups is None else speedups.split

MESSAGES_A_FRAME = 1 if speedups is None else 32
"""How many messages `split` takes in the time in which the engine takes one frame apart: some 50 ns
for each if it is compiled, and as long as for any other frame if it is not."""


def implementation() -> Literal["compiled", "python"]:
    """Tell which implementation of `mask`, `serialise`, `split` and their like is in use."""
    return "python" if speedups is None else "compiled"
