"""`expected`: what a stream of frames means, read off RFC 6455 in the plainest way.

It is given the whole stream at once, and knows neither buffers nor speed; so there is little in it
that could be wrong. The engine is held against it.
"""

import contextlib
import re
import zlib
from dataclasses import dataclass, field
from math import inf

from wsproto.events import BytesMessage, Event, Ping, Pong, TextMessage

from trio_ws._types import Message

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10

# The Unicode Standard, table 3-7: well-formed sequences of UTF-8, and the beginnings of one.
_SEQUENCE = (
    rb"[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_BEGINNING = (
    rb"[\xc2-\xf4]|\xe0[\xa0-\xbf]|\xed[\x80-\x9f]|[\xe1-\xec\xee\xef][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?"
)
_WHOLE_TEXT = re.compile(rb"(?:%s)*+" % _SEQUENCE)
_TEXT_SO_FAR = re.compile(rb"(?:%s)*+(?:%s)?" % (_SEQUENCE, _BEGINNING))


@dataclass
class Expected:
    """What a stream means."""

    events: list[Event] = field(default_factory=list)
    """Messages, pings and pongs, in order."""
    close: tuple[int, str] | None = None
    """The code and the reason of the peer's Close."""
    faults: set[int] = field(default_factory=set)
    """The code with which the peer is to be refused, or codes where either is right."""
    ends: list[int] = field(default_factory=list)
    """Where each frame ends."""

    @property
    def messages(self) -> list[Message]:
        """The messages alone."""
        found: list[Message] = []
        for event in self.events:
            if isinstance(event, TextMessage):
                found.append(event.data)
            elif isinstance(event, BytesMessage):
                found.append(bytes(event.data))
        return found

    @property
    def control(self) -> list[Event]:
        """The pings and pongs alone."""
        return [each for each in self.events if isinstance(each, (Ping, Pong))]


@dataclass(frozen=True)
class Deflated:
    """How messages are compressed (RFC 7692)."""

    window_bits: int = 15
    takeover: bool = True


class _FaultError(Exception):
    """The peer is to be refused."""

    def __init__(self, *codes: int) -> None:
        self.codes = set(codes)


class _CutError(Exception):
    """The stream ends within a frame, and nothing is wrong with it so far."""


def expected(
    stream: bytes,
    *,
    client: bool,
    max_message: float = inf,
    max_fragments: float = inf,
    deflated: Deflated | None = None,
) -> Expected:
    """Tell what a stream means to the client or to the server.

    Args:
        stream: All that the peer has sent; it may end anywhere.
        client: Whether the client receives it.
        max_message: Bytes of a message, above which the peer is refused.
        max_fragments: Frames of a message, above which the peer is refused.
        deflated: How messages may be compressed.
    """
    meaning = _Meaning(max_message, max_fragments, deflated)
    position = 0
    try:
        while position < len(stream) and meaning.found.close is None:
            first, length, body = _header(stream, position, client=client, deflated=deflated)
            payload = _unmasked(stream, body, length, client=client)
            position = body + length
            meaning.found.ends.append(position)
            whole = position <= len(stream)
            if first & 15 >= _CLOSE:
                meaning.add_control(first & 15, payload, whole=whole)
            else:
                meaning.add_data(first, payload, length, whole=whole)
    except _FaultError as fault:
        meaning.found.faults = fault.codes
    except _CutError:
        pass
    return meaning.found


class _Meaning:
    def __init__(self, max_message: float, max_fragments: float, deflated: Deflated | None) -> None:
        self.found = Expected()
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._opcode = 0
        self._payloads: list[bytes] = []
        self._inflater = None if deflated is None else _Inflater(deflated, max_message)
        self._compressed = False

    def add_control(self, opcode: int, payload: bytes, *, whole: bool) -> None:
        if not whole:
            raise _CutError
        if opcode == _CLOSE:
            self.found.close = _close(payload)
        else:
            self.found.events.append((Ping if opcode == _PING else Pong)(payload=payload))

    def add_data(self, first: int, payload: bytes, length: int, *, whole: bool) -> None:
        """Add a frame, or as much of it as is here."""
        opcode, last = first & 15, first >= 128
        if (opcode == 0) is not bool(self._opcode):
            raise _FaultError(1002)
        if opcode:
            self._opcode, self._compressed = opcode, first & 0x40 > 0
        size = sum(map(len, self._payloads)) + length
        # What was compressed badly may be larger than what comes out of it.
        allowed = self._max_message * 2 + 1024 if self._compressed else self._max_message
        if size > allowed or len(self._payloads) + 1 > self._max_fragments:
            raise _FaultError(1009)
        self._payloads.append(payload)
        self._add_content(b"".join(self._payloads), whole=whole and last)

    def _add_content(self, content: bytes, *, whole: bool) -> None:
        text = self._opcode == _TEXT
        too_large = False
        if self._compressed:
            assert self._inflater is not None
            content = self._inflater.inflate(content, whole=whole)
            too_large = len(content) > self._max_message
        pattern = _WHOLE_TEXT if whole and not too_large else _TEXT_SO_FAR
        no_text = text and not pattern.fullmatch(content)
        if too_large:
            # Which of the two is seen first depends on the pieces.
            raise _FaultError(1009, *([1007] if no_text else []))
        if no_text:
            raise _FaultError(1007)
        if whole:
            event = TextMessage(data=content.decode()) if text else BytesMessage(data=content)
            self.found.events.append(event)
            self._opcode, self._payloads = 0, []


class _Inflater:
    def __init__(self, deflated: Deflated, max_message: float) -> None:
        self._deflated = deflated
        self._limit = 0 if max_message == inf else int(max_message) + 1
        self._state = zlib.decompressobj(-deflated.window_bits)

    def inflate(self, data: bytes, *, whole: bool) -> bytes:
        """Inflate a message, or as much of it as is here; no more than one byte too many."""
        # RFC 7692 §7.2.2.
        rest = data + b"\0\0\xff\xff" if whole else data
        state, content, ended = self._state.copy(), b"", False
        while rest:
            limit = self._limit - len(content) if self._limit else 0
            before = state.copy()
            try:
                content += state.decompress(rest, limit)
            except zlib.error:
                # When too much has come out before, it depends on the pieces what is seen first.
                size = len(content) + _size_before_error(before, rest)
                codes = (1007, 1009) if self._limit and size >= self._limit else (1007,)
                raise _FaultError(*codes) from None
            if not state.eof or (self._limit and len(content) >= self._limit):
                break
            # RFC 7692 §7.2.3.4: a block may say that it is the last one.
            rest, ended = state.unused_data, True
            state = zlib.decompressobj(-self._deflated.window_bits)
        if whole:
            fresh = ended or not self._deflated.takeover
            self._state = zlib.decompressobj(-self._deflated.window_bits) if fresh else state
        return content


def _size_before_error(state: "zlib._Decompress", data: bytes) -> int:
    size = 0
    with contextlib.suppress(zlib.error):
        for index in range(len(data)):
            size += len(state.decompress(data[index : index + 1]))
    return size


def _header(
    stream: bytes, start: int, *, client: bool, deflated: Deflated | None
) -> tuple[int, int, int]:
    """Read a header (RFC 6455 §5.2): its first byte, the length, where the payload begins."""
    header = stream[start:]
    first = header[0]
    known = first & 15 in {0, _TEXT, _BINARY, _CLOSE, _PING, _PONG}
    fragmented_control = first & 15 >= _CLOSE and first < 128
    # RFC 7692 §6.1: the bit stands in the first frame of a message.
    sound = 0x40 if deflated is not None and first & 15 in {_TEXT, _BINARY} else 0
    if first & 0x70 & ~sound or not known or fragmented_control:
        raise _FaultError(1002)
    if len(header) < 2:
        raise _CutError
    masked, length = header[1] >= 128, header[1] & 127
    if masked is client or (first & 15 >= _CLOSE and length > 125):
        raise _FaultError(1002)
    size = {126: 2, 127: 8}.get(length, 0)
    if len(header) < 2 + size:
        raise _CutError
    if size:
        length = int.from_bytes(header[2 : 2 + size], "big")
        if length < (126 if size == 2 else 2**16) or length >= 2**63:
            raise _FaultError(1002)
    body = 2 + size + (0 if client else 4)
    if len(header) < body:
        raise _CutError
    return first, length, start + body


def _unmasked(stream: bytes, body: int, length: int, *, client: bool) -> bytes:
    payload = stream[body : body + length]
    if client:
        return payload
    key = stream[body - 4 : body]
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def _close(payload: bytes) -> tuple[int, str]:
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    registered = 1000 <= code <= 1014 and code not in {1004, 1005, 1006}
    if len(payload) == 1 or not (registered or 3000 <= code <= 4999):
        raise _FaultError(1002)
    if not _WHOLE_TEXT.fullmatch(payload[2:]):
        raise _FaultError(1007)
    return code, payload[2:].decode()
