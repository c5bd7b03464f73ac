"""`Deflater` and `Inflater`: messages compressed by permessage-deflate (RFC 7692 §7.2).

Theory of operation
-------------------
A compressor and its decompressor at the other end have to see the same bytes in the same order. So
a message is compressed in the same breath in which it is queued for writing, and whatever goes
wrong in making its frame makes the `Deflater` begin afresh: a new compressor refers to nothing that
came before, and is right whatever the peer has seen.

Inflating is bounded in three ways, because a peer decides how much comes out of a byte (1032 at
most). What comes out at a time is limited inside zlib, so that no more than `Limits.max_message`
is ever made. What goes in at a time is `PIECE`. And what a connection may cost before others get
their turn is a `budget`, refilled for each step.
"""

import zlib

from trio_ws._protocol.extensions import SMALLEST_WINDOW, Agreement
from trio_ws._protocol.frames import FrameError
from trio_ws._protocol.messages import (
    Frame,
    deflated_frame,
    encoded,
    message_frame,
    recall_deflated,
    remember_deflated,
)
from trio_ws._types import Sendable

STEP = 64 * 1024
"""What one connection may inflate before others get their turn, in bytes that come out: a tenth of
a millisecond or two. With input made to cost as much as it can it is two milliseconds."""

PIECE = 8 * 1024
"""Compressed bytes that are inflated at a time."""

# Most of what a byte that goes in can cost lies in what comes out. But there are blocks that cost
# time and yield nothing (more than 70 ns a byte, where a byte that comes out costs 2 to 3 ns).
_COST_OF_INPUT = 2

# A frame, however short.
_COST_OF_FRAME = 512

# A new decompressor.
_COST_OF_RESTART = 1024

# RFC 7692 §7.2.1: what every message would end with is not sent.
TAIL = b"\x00\x00\xff\xff"


class Deflater:
    """Compresses what one side of a connection sends.

    Args:
        agreement: What was agreed on, and how to compress which messages.
    """

    __slots__ = ("_compressor", "_settings", "_takeover", "_window_bits", "shared")

    def __init__(self, agreement: Agreement) -> None:
        settings = self._settings = agreement.settings
        self._takeover = agreement.send_context_takeover
        self._window_bits = agreement.send_window_bits
        # Made with the first message: many connections only listen.
        self._compressor: zlib._Compress | None = None
        self.shared: tuple[int, int, int] | None = None
        """What makes two deflaters yield the same; None if each message depends on others."""
        if not self._takeover:
            self.shared = self._window_bits, settings.level, settings.memory_level

    def frame(self, message: Sendable, compress: bool | None, *, masked: bool) -> Frame | None:
        """Make the frame of a compressed message; it has to be sent before the next one is made.

        Args:
            message: The message.
            compress: As for `wants`.
            masked: Whether to mask: a client does, a server does not.

        Returns:
            None if the message is better sent as it is.

        Raises:
            TypeError: It is no message.
        """
        # Each masked frame has a key of its own.
        shared = None if masked else self.shared
        if shared is not None and (frame := recall_deflated(message, shared)) is not None:
            return frame
        opcode, payload = encoded(message)
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if not self.wants(size, compress):
            return None
        try:
            data = self.compress(payload)
            frame = (
                message_frame(message, masked=masked)
                if data is None
                else deflated_frame(opcode, data, masked=masked)
            )
        except BaseException:
            # It will not be sent.
            self.begin_afresh()
            raise
        if shared is not None:
            remember_deflated(message, shared, frame)
        return frame

    def wants(self, size: int, compress: bool | None) -> bool:
        """Tell whether to compress a message.

        Args:
            size: Its bytes.
            compress: What the application says; None leaves it to the size.
        """
        if self._window_bits < SMALLEST_WINDOW:
            return False
        if compress is None:
            return self._settings.min_size <= size <= self._settings.max_size
        return compress

    def compress(self, payload: bytes | bytearray | memoryview) -> bytes | None:
        """Compress a whole message; what comes out has to be sent, or to `begin_afresh`.

        Returns:
            None when the message would not become smaller. Where later messages may refer to it, it
            is compressed all the same.
        """
        compressor = self._compressor or zlib.compressobj(
            self._settings.level,
            zlib.DEFLATED,
            -self._window_bits,
            self._settings.memory_level,
        )
        data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        data = data[: -len(TAIL)]
        if self._takeover:
            self._compressor = compressor
        elif len(data) >= len(payload):
            return None
        return data

    def begin_afresh(self) -> None:
        """Forget what was compressed: it was not sent, or the peer does not know."""
        self._compressor = None


class Inflater:
    """Inflates what the peer sends, in bounded steps.

    Call `begin_frame` for each frame, `feed` it when it is not `waiting`, and `read` as long as it
    is; after the last piece of a message feed it `TAIL`, and call `end_message` when it is not
    waiting any more.

    Args:
        agreement: What was agreed on.
    """

    __slots__ = (
        "_decompressor",
        "_ended",
        "_input",
        "_takeover",
        "_window_bits",
        "budget",
        "waiting",
    )

    def __init__(self, agreement: Agreement) -> None:
        self._takeover = agreement.receive_context_takeover
        self._window_bits = agreement.receive_window_bits
        self._decompressor: zlib._Decompress | None = None
        self._input: bytes | bytearray = b""
        self._ended = False
        self.budget = STEP
        """What may be spent in this step; at 0 it is time to stop."""
        self.waiting = False
        """Whether there may be more to `read`."""

    def begin_frame(self) -> None:
        """Note that there is a frame to be taken apart."""
        self.budget -= _COST_OF_FRAME

    def feed(self, data: bytes | bytearray) -> None:
        """Take compressed bytes, at most `PIECE`."""
        self._input = data
        self.waiting = True
        self.budget -= _COST_OF_INPUT * len(data)

    def read(self, max_size: int) -> bytes:
        """Return what comes out next.

        Args:
            max_size: Bytes at most, one or more.

        Raises:
            FrameError: 1007: the peer has sent what cannot be inflated.
        """
        decompressor = self._decompressor
        if decompressor is None:
            decompressor = self._decompressor = zlib.decompressobj(-self._window_bits)
        try:
            output = decompressor.decompress(self._input, max_size)
        except zlib.error:
            raise FrameError(1007, "compressed message cannot be inflated") from None
        self.budget -= len(output)
        if decompressor.eof:
            # RFC 7692 §7.2.3.4: a final block may stand anywhere. What follows is a new stream,
            # and refers to nothing before it.
            self._decompressor = None
            self._ended = True
            self._input = decompressor.unused_data
            self.waiting = bool(self._input)
            self.budget -= _COST_OF_RESTART
        else:
            self._input = decompressor.unconsumed_tail
            # All of the input may be taken, and more may come out all the same.
            self.waiting = bool(self._input) or len(output) == max_size
        return output

    def end_message(self) -> None:
        """Note the end of a message."""
        if self._ended or not self._takeover:
            self._decompressor = None
            self._ended = False
