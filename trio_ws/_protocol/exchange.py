"""`Exchange`: the client's side of HTTP/1.1, one request and its answer."""

from http import HTTPStatus
from typing import cast

import h11

from trio_ws._protocol.http import MAX_ECHO, count_fields, decoded, find_end, has_controls
from trio_ws._types import Headers

_SWITCHED = HTTPStatus.SWITCHING_PROTOCOLS
_MAX_STATUS = 599

# Answers like 103 that may come before the final one.
_MAX_INTERIM = 32

# Bytes of a body that h11 gets at a time. It bounds what it keeps of a line only between two
# reads, and may take time quadratic in the length of a line.
_PIECE = 1024


class Exchange:
    """A client's one request and its answer.

    Call `start`, write what it returns, then call `receive` with what is read until the answer
    is `complete`: either `switched`, or an ordinary response with a body cut at `max_body`.

    Args:
        max_head: Bytes the response head may have.
        max_headers: Header fields it may have.
        max_body: Bytes of a body that are kept.
    """

    def __init__(self, *, max_head: float, max_headers: float, max_body: int) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_PIECE)
        self._max_head = max_head
        self._max_headers = max_headers
        self._max_body = max_body
        self._head = bytearray()
        self._body = bytearray()
        self._interim = 0
        self.status: int | None = None
        """The status of the answer; None until its head is whole."""
        self.headers = Headers()
        """The header fields of the answer."""
        self.complete = False
        """Whether the answer is here as far as it is wanted."""

    @property
    def switched(self) -> bool:
        """Whether the server answered 101."""
        return self.status == _SWITCHED

    @property
    def body(self) -> bytes:
        """The body so far, at most `max_body` bytes."""
        return bytes(self._body)

    @property
    def rest(self) -> bytes:
        """What followed the head of a 101."""
        return bytes(self._head)

    def start(self, method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
        """Return the bytes of the request.

        Raises:
            ValueError: A header field, the method or the target is not well formed.
        """
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        try:
            head = self._parser.send(h11.Request(method=method, target=target, headers=fields))
            return head + self._parser.send(h11.EndOfMessage())
        except h11.LocalProtocolError as fault:
            raise ValueError(str(fault)) from None

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes that were read; empty ones are the end of the stream.

        Raises:
            ValueError: The answer is not HTTP, too long, or ended before its head was whole.
        """
        if self.complete:
            return
        if self.status is not None:
            self._receive_body(data)
        elif data:
            self._receive_heads(data)
        else:
            raise ValueError("the connection ended before the answer was whole")

    def _receive_heads(self, data: bytes | bytearray) -> None:
        searched = len(self._head)
        self._head += data
        while self.status is None:
            if not self._head.startswith(b"HTTP/"[: len(self._head)]):
                # Another protocol's greeting, for one: no use in waiting for an empty line.
                start = bytes(self._head[:20])
                raise ValueError(f"the answer is not HTTP, it begins with {start!r}")
            end = find_end(self._head, searched)
            if (len(self._head) if end is None else end) > self._max_head:
                raise ValueError(f"the head of the answer is longer than {self._max_head} bytes")
            if end is None:
                return
            self._take_head(bytes(self._head[:end]))
            del self._head[:end]
            searched = 0
        if not self.switched:
            data, self._head = bytes(self._head), bytearray()
            self._take_body()
            if data:
                self._receive_body(data)

    def _take_head(self, head: bytes) -> None:
        if has_controls(head):
            raise ValueError("the head of the answer holds a control character")
        if count_fields(head) > self._max_headers:
            raise ValueError(f"the answer has more than {self._max_headers} header fields")
        self._parser.receive_data(head)
        try:
            # The head is whole, so this is what h11 makes of it.
            event = cast("h11.InformationalResponse | h11.Response", self._parser.next_event())
        except h11.RemoteProtocolError as fault:
            raise ValueError(str(fault)[:MAX_ECHO]) from None
        if event.status_code > _MAX_STATUS:
            raise ValueError(f"the answer has the status {event.status_code}")
        if event.status_code < HTTPStatus.OK and event.status_code != _SWITCHED:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise ValueError("the answer has interim responses without end")
            return
        self.status = event.status_code
        self.headers = decoded(event.headers.raw_items())
        self.complete = self.switched

    def _receive_body(self, data: bytes | bytearray) -> None:
        for start in range(0, max(1, len(data)), _PIECE):
            self._parser.receive_data(bytes(data[start : start + _PIECE]))
            self._take_body()

    def _take_body(self) -> None:
        while not self.complete:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError:
                # What is known of the answer is worth more than the rest of a broken body.
                self.complete = True
                return
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Data):
                self._body += event.data[: self._max_body - len(self._body)]
                self.complete = len(self._body) >= self._max_body
            else:
                self.complete = True
