"""`Assembly`: a message whose frames are still arriving, or being inflated."""

import codecs
from io import BytesIO, StringIO
from typing import Protocol

from trio_ws._protocol.deflate import PIECE, TAIL, Inflater
from trio_ws._protocol.frames import TEXT, FrameError
from trio_ws._protocol.masking import mask, mask_in_place
from trio_ws._types import Message

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")

CHUNK = 32 * 1024
"""Bytes that come out of inflating at a time."""

# What a compressed message may have on the wire, beside the bytes it may have: DEFLATE adds 5 to
# each block that it cannot compress, which is much where somebody flushes after every few bytes.
_MAX_GROWTH = 2
_EXCESS = 1024


class Assembly:
    """A message in the making.

    A frame is begun with `begin_frame`, and its payload taken as it arrives. Everything is checked
    as early as it can be: sizes from a frame's header, text by the byte.

    Args:
        opcode: `TEXT` or `BINARY`.
        max_message: Bytes the message may have.
        max_fragments: Frames it may have.
        inflater: What inflates it, if it is compressed.
    """

    __slots__ = (
        "_content",
        "_fin",
        "_fragments",
        "_inflater",
        "_key",
        "_max_fragments",
        "_max_message",
        "_padded",
        "_size",
        "_taken",
        "_wire_size",
        "in_frame",
        "missing",
        "whole",
    )

    def __init__(
        self,
        opcode: int,
        *,
        max_message: float,
        max_fragments: float,
        inflater: Inflater | None = None,
    ) -> None:
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._inflater = inflater
        self._content = _Text() if opcode == TEXT else _Binary()
        self._size = self._wire_size = 0
        self._fragments = 0
        # The frame whose payload is arriving: its mask, and bytes taken so far.
        self._fin = False
        self._key = b""
        self._taken = 0
        # Whether what the sender has left out at the end of a compressed message was put back.
        self._padded = False
        self.missing = 0
        """Bytes of the frame that are still to come."""
        self.in_frame = False
        """Whether the frame is not done with: bytes are to come, or to be inflated."""
        self.whole = False
        """Whether the message is complete."""

    @property
    def compressed(self) -> bool:
        """Whether it is inflated as it arrives."""
        return self._inflater is not None

    def begin_frame(self, length: int, key: bytes, *, fin: bool) -> None:
        """Begin a frame, before any of it is kept.

        Args:
            length: Bytes of its payload.
            key: Its masking key; empty if it has none.
            fin: Whether it ends the message.

        Raises:
            FrameError: 1009: the message becomes too large, or has too many frames.
        """
        check_frame(
            length + self._wire_size,
            self._fragments + 1,
            self._max_message,
            self._max_fragments,
            compressed=self._inflater is not None,
        )
        if self._inflater is not None:
            self._inflater.begin_frame()
        self._fragments += 1
        self._wire_size += length
        self._fin = fin
        self._key = key
        self._taken = 0
        self.missing = length
        self.in_frame = True

    def begin_inflated(self, output: bytes) -> None:
        """Begin with a frame that is the whole message, and was fed to the inflater.

        Args:
            output: What has come out so far.

        Raises:
            FrameError: 1009: that is too large already. 1007: it is not valid text.
        """
        self._fin = self._padded = self.in_frame = True
        self._keep(output)

    def take(self, data: bytes | bytearray | memoryview, position: int) -> int:
        """Take what has arrived of the frame's payload.

        Args:
            data: The bytes at hand.
            position: Where among them the payload goes on.

        Returns:
            Where to go on behind what was taken. `in_frame` tells whether all of it was here, and
            `whole` whether the message is complete.

        Raises:
            FrameError: 1007: text is not valid UTF-8, or what is compressed cannot be inflated.
                1009: what comes out of it is too large.
        """
        if self._inflater is not None:
            return self._inflate(self._inflater, data, position)
        end = min(position + self.missing, len(data))
        count = end - position
        offset = self._taken
        self._taken += count
        self.missing -= count
        self._size += count
        self._end_frame_if_done()
        with memoryview(data) as view, view[position:end] as piece:
            self._content.add(piece, self._key, offset, final=self.whole)
        return end

    def _inflate(
        self, inflater: Inflater, data: bytes | bytearray | memoryview, position: int
    ) -> int:
        """Do the same with a compressed message, as far as the inflater's budget goes."""
        while inflater.budget > 0:
            if inflater.waiting:
                # One byte more than there is room for tells that there is too much.
                room = self._max_message - self._size
                self._keep(inflater.read(int(min(room + 1, CHUNK))))
            elif self.missing:
                piece = bytearray(data[position : position + min(self.missing, PIECE)])
                if not piece:
                    break
                if self._key:
                    mask_in_place(piece, self._key, self._taken)
                count = len(piece)
                self._taken += count
                self.missing -= count
                position += count
                inflater.feed(piece)
            elif self._fin and not self._padded:
                self._padded = True
                inflater.feed(TAIL)
            else:
                self._end_frame_if_done()
                break
        if self.whole:
            inflater.end_message()
            self._content.add(b"", final=True)
        return position

    def _keep(self, output: bytes) -> None:
        if len(output) > self._max_message - self._size:
            raise _too_large(self._max_message)
        self._size += len(output)
        self._content.add(output, final=False)

    def _end_frame_if_done(self) -> None:
        self.in_frame = self.missing > 0
        self.whole = self._fin and not self.in_frame

    def message(self) -> Message:
        """Return the message, once it is `whole`."""
        return self._content.whole()


class _Content(Protocol):
    """What has arrived of a message.

    It is one growing buffer, not a list of pieces: a peer that sends byte by byte must not make the
    bookkeeping larger than the message. What is whole is handed out without a copy.
    """

    def add(
        self, piece: bytes | memoryview, key: bytes = b"", offset: int = 0, *, final: bool
    ) -> None:
        """Add what has arrived.

        Args:
            piece: The bytes.
            key: Their masking key; empty if they have none.
            offset: How many bytes of the frame's payload lie before them.
            final: Whether they are the last ones.

        Raises:
            FrameError: 1007: they are not valid.
        """

    def whole(self) -> Message:
        """Return all of it."""
        ...


class _Binary(_Content):
    """Bytes, unmasked where they are kept."""

    __slots__ = ("_content",)

    def __init__(self) -> None:
        self._content = BytesIO()

    def add(
        self, piece: bytes | memoryview, key: bytes = b"", offset: int = 0, *, final: bool
    ) -> None:
        del final  # Bytes are valid wherever they end.
        start = self._content.tell()
        self._content.write(piece)
        if key:
            with self._content.getbuffer() as content, content[start:] as masked:
                mask_in_place(masked, key, offset)

    def whole(self) -> bytes:
        return self._content.getvalue()


class _Text(_Content):
    """Text, decoded as it arrives, so that no byte of it is gone through twice.

    What is not valid is refused as soon as its bad byte is here (RFC 6455 §8.1).
    """

    __slots__ = ("_content", "_utf8")

    def __init__(self) -> None:
        self._content = StringIO()
        self._utf8 = _Utf8Decoder()

    def add(
        self, piece: bytes | memoryview, key: bytes = b"", offset: int = 0, *, final: bool
    ) -> None:
        try:
            plain = mask(piece, key, offset) if key else piece
            self._content.write(self._utf8.decode(plain, final))
        except UnicodeDecodeError:
            raise FrameError(1007, "text is not valid UTF-8") from None
        waiting, _ = self._utf8.getstate()
        if waiting.startswith(b"\xed") and waiting[1:] >= b"\xa0":
            # Half a surrogate: Python waits for its third byte before it refuses it.
            raise FrameError(1007, "text is not valid UTF-8")

    def whole(self) -> str:
        return self._content.getvalue()


def check_frame(
    size: int,
    fragments: int,
    max_message: float,
    max_fragments: float,
    *,
    compressed: bool = False,
) -> None:
    """Check a message by the header of its next frame.

    Args:
        size: Bytes of its payloads, with that frame.
        fragments: Its frames, with that one.
        max_message: Bytes it may have.
        max_fragments: Frames it may have.
        compressed: Whether it is compressed, so that its size is not known yet.

    Raises:
        FrameError: 1009.
    """
    if not compressed:
        if size > max_message:
            raise _too_large(max_message)
    elif size > (most := _MAX_GROWTH * max_message + _EXCESS):
        raise FrameError(1009, f"compressed message is larger than {most} bytes")
    if fragments > max_fragments:
        raise FrameError(1009, f"message has more than {max_fragments} fragments")


def _too_large(max_message: float) -> FrameError:
    return FrameError(1009, f"message is larger than {max_message} bytes")
