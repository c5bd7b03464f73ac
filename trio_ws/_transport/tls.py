"""`TlsSession`: one side of TLS, bytes in and bytes out.

Theory of operation
-------------------
OpenSSL reads what came from the peer from a buffer in memory, and leaves in another one what is to
be sent to it. Such buffers never shrink, so both are used in pieces: what a session keeps is a
record or two, however much passes through it.

Reading may leave something to be sent, an answer to the peer's wish for new keys for one. And
what is to be sent may have to wait for something to be read, when a peer that speaks TLS 1.2 begins
another handshake. So whoever uses a session looks at `output` after each reading, and offers
again what `encrypt` did not take.

What a record costs does not depend on its size. One that brings new keys costs as much as some
kilobytes of data, and OpenSSL goes on to the next one by itself. So it is given so many records at
a time, told apart by their headers, which nobody encrypts; the rest is `waiting` for another step.
"""

import ssl
from collections.abc import Callable, Sequence
from math import inf
from typing import cast

from trio_ws._transport.tls_facts import TlsFacts, facts_of

PIECE = 16 * 1024
"""Bytes that go through OpenSSL at a time: a record has no more."""

RECORDS = 64
"""Records of one connection that are taken before others get their turn. One that changes keys
takes 20 microseconds, twice that if it wants to be answered, and one with a little data a few. A
read of 256 KiB could have thousands; of full ones it has sixteen."""

_HEADER = 5  # bytes that a record begins with (RFC 8446 §5.1); the last two are its length


class TlsSession:
    """One side's keys and buffers.

    Args:
        context: Certificates, and what else there is to choose.
        server_hostname: Whose certificate a client expects; None for a server.
    """

    __slots__ = (
        "_incoming",
        "_missing",
        "_object",
        "_outgoing",
        "_read",
        "_rest",
        "_withheld",
        "ended",
        "error",
    )

    def __init__(self, context: ssl.SSLContext, *, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        # With a buffer to read into, it returns how many bytes there are.
        self._read = cast("Callable[[int, memoryview], int]", self._object.read)
        self._withheld = b""
        # What came and was not given to OpenSSL: records of later steps, or a part of a header.
        self._rest: bytes | bytearray | memoryview = b""
        # Bytes of the latest record that are still to come.
        self._missing = 0
        self.ended = False
        """Whether nothing more can be read."""
        self.error: ssl.SSLError | None = None
        """Why, unless the peer said that it ends."""

    def begin(self) -> bool:
        """Go on with the handshake, as far as what was fed takes it.

        Returns:
            Whether it is done. There may be `output` in either case.

        Raises:
            ssl.SSLError: It has failed; the `output` tells the peer why.
        """
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                if not self.waiting:
                    return False
                self.go_on()
            else:
                break
        if self._object.server_side and self._object.version() == "TLSv1.3":
            # These are session tickets. A client that reads nothing, but sends and closes, would
            # reset the connection over them, and what it has sent be lost.
            self._withheld = self._outgoing.read()
        return True

    def facts(self) -> TlsFacts:
        """Tell what the handshake, which has just been done, has told of the peer."""
        return facts_of(self._object)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what came from the peer, to begin or to `read`: about `PIECE` bytes at most.

        Without any, the peer has ended the line.
        """
        if data:
            self._incoming.write(self._next_step(data))
        else:
            self._incoming.write_eof()
            self.ended = True

    @property
    def waiting(self) -> bool:
        """Whether whole records wait for another step: `go_on`, before any more is fed."""
        return len(self._rest) >= _HEADER and not self.ended

    def go_on(self) -> None:
        """Begin another step with what is `waiting`."""
        self._incoming.write(self._next_step(b""))

    def _next_step(
        self, data: bytes | bytearray | memoryview, enough: float = inf
    ) -> bytes | bytearray | memoryview:
        """Return what one step may take of what waits and what came; the rest waits."""
        rest = self._rest
        if rest:
            data = bytes(rest) + data if data else rest
            self._rest = b""
        size = len(data)
        end = self._missing
        for _ in range(RECORDS):
            if end + _HEADER > size or end >= enough:
                break
            end += _HEADER + (data[end + 3] << 8 | data[end + 4])
        stop = min(end, size)
        self._missing = end - stop
        if stop == size:
            return data
        # What is lent is copied, once.
        self._rest = data[stop:] if data is rest else memoryview(bytes(data[stop:]))
        return data[:stop]

    @property
    def pending(self) -> bool:
        """Whether there may be something to read, without more of the peer's bytes."""
        return not self.ended and (self._incoming.pending > 0 or self._object.pending() > 0)

    def read(self, into: memoryview) -> int:
        """Decrypt what was fed, as far as there is room for it.

        Returns:
            How many bytes that were; 0 until more is fed, or at the end.
        """
        count = 0
        while count < len(into) and self.pending:
            try:
                size = self._read(len(into) - count, into[count:])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self.error = error
                size = 0
            if not size:
                self.ended = True
                break
            count += size
        return count

    def decrypt(self, data: bytes | bytearray | memoryview, into: memoryview) -> int:
        """Feed any number of bytes, or none, and read what one step takes.

        What it does not take is `waiting`; what finds no room is `pending`.

        Returns:
            As `read` does.
        """
        count = 0
        step = self._next_step(data, len(into))
        for start in range(0, len(step), PIECE):
            self._incoming.write(step[start : start + PIECE])
            count += self.read(into[count:])
        return count

    @property
    def output(self) -> int:
        """Bytes to be sent that are not the data's."""
        return self._outgoing.pending

    def take_output(self) -> bytes:
        """Return them."""
        return self._take_all() if self._outgoing.pending else b""

    def _take_all(self) -> bytes:
        # Records are numbered, so the withheld ones have to leave before any other.
        withheld, self._withheld = self._withheld, b""
        return withheld + self._outgoing.read()

    def encrypt(
        self, buffers: Sequence[bytes | memoryview], enough: int
    ) -> tuple[list[bytes], int]:
        """Encrypt the beginning of some buffers.

        Args:
            buffers: What is to be sent.
            enough: Bytes of it after which no further piece is begun.

        Returns:
            What to send, output included, and how many of the bytes it has. When it has none,
            something has to be read first, and then the same bytes have to be given again.

        Raises:
            ssl.SSLError: The session has failed, and no output is left.
        """
        count = 0
        begins = self._outgoing.pending or (self._withheld and buffers)
        sealed = [self._take_all()] if begins else []
        for data in buffers:
            with memoryview(data) as view:
                for start in range(0, len(view), PIECE):
                    if count >= enough:
                        return sealed, count
                    try:
                        # It takes all of the piece or nothing, also where a record has less room
                        # than usual: Python does not turn on OpenSSL's partial writes
                        # (SSL_MODE_ENABLE_PARTIAL_WRITE), and a buffer in memory takes whatever
                        # there is.
                        count += self._object.write(view[start : start + PIECE])
                    except ssl.SSLWantReadError:
                        enough = 0
                    except ssl.SSLError:
                        # The next call will fail as well; an alert that says why may leave first.
                        if not sealed:
                            raise
                        enough = 0
                    if self._outgoing.pending:
                        sealed.append(self._outgoing.read())
        return sealed, count
