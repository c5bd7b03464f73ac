"""`TlsStream`: TLS over a socket, until a wire takes it over."""

import ssl
from contextlib import suppress
from typing import cast

import trio
import trio.abc

from trio_ws._transport.tls import PIECE, TlsSession
from trio_ws._transport.tls_facts import TlsFacts, facts_of


class TlsStream(trio.abc.Stream):
    """TLS over a socket, for the opening handshake. Created by `start_tls`.

    After that `TlsWire` goes on with the socket and the session. It sends no close alert, and
    needs none: a WebSocket says goodbye by its Close frame.

    Args:
        transport_stream: The socket.
        session: This side of TLS.
    """

    __slots__ = ("_broken", "_sending", "facts", "session", "transport_stream")

    def __init__(self, transport_stream: trio.SocketStream, session: TlsSession) -> None:
        self.transport_stream = transport_stream
        """The stream beneath."""
        self.session = session
        """This side of TLS, with what has come in and was not read yet."""
        self.facts: TlsFacts | None = None
        """What the handshake has told of the peer, once it is done."""
        self._broken = False
        # Reading may have to send something as well; each has its turn.
        self._sending = trio.Lock()

    async def do_handshake(self) -> None:
        """Agree with the peer on keys, and on who is who.

        Raises:
            trio.BrokenResourceError: That has failed; the cause tells why.
        """
        try:
            while not self.session.begin():
                await self._send_output()
                self.session.feed(await self.transport_stream.receive_some(PIECE))
        except ssl.SSLError as error:
            # The peer may have no ear for it; that must not hide the reason.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send_output()
            self._broken = True
            raise tls_broken(error) from error
        self.facts = self.session.facts()
        await self._send_output()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data.

        Raises:
            trio.BrokenResourceError: The line is broken, or the peer wants another TLS handshake
                before it takes anything.

        Cancellation:
            Part of it may have left; nothing can be sent any more.
        """
        async with self._sending:
            with memoryview(data) as view:
                start = 0
                while start < len(view):
                    start += await self._send_piece(view[start : start + PIECE])

    async def _send_piece(self, piece: memoryview) -> int:
        try:
            sealed, count = self.session.encrypt((piece,), PIECE)
        except ssl.SSLError as error:
            self._broken = True
            raise tls_broken(error) from error
        await self._send(b"".join(sealed))
        if not count:
            self._broken = True
            if self.session.error is not None:
                raise tls_broken(self.session.error)
            raise trio.BrokenResourceError("the peer asks for another TLS handshake")
        return count

    async def _send_output(self) -> None:
        if self.session.output:
            async with self._sending:
                await self._send(self.session.take_output())

    async def _send(self, sealed: bytes) -> None:
        if self._broken:
            raise trio.BrokenResourceError("TLS has failed before")
        # Should this be cancelled, nobody knows where in a record the peer is.
        self._broken = True
        await self.transport_stream.send_all(sealed)
        self._broken = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket may take something."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data, of one record at most.

        Returns:
            What there is; nothing at the end, whether the peer announced it or not.

        Raises:
            trio.BrokenResourceError: The line is broken, or what came is not from the peer.

        Cancellation:
            Nothing is lost.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        session = self.session
        buffer = memoryview(bytearray(PIECE if max_bytes is None else min(max_bytes, PIECE)))
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not (count := session.read(buffer)) and not session.ended:
            await self._send_output()
            if session.waiting:
                # What has come so far was no data; others have their turn before it is read on.
                session.go_on()
                await trio.lowlevel.checkpoint()
            else:
                session.feed(await self.transport_stream.receive_some(PIECE))
            waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if session.error is not None and not count:
            raise tls_broken(session.error)
        return bytes(buffer[:count])

    async def aclose(self) -> None:
        """Close the socket."""
        await self.transport_stream.aclose()


def tls_of(stream: trio.abc.Stream) -> TlsFacts | None:
    """Tell what TLS knows of the peer at the other end of a stream; None without TLS.

    Args:
        stream: A stream, its handshake done.

    Raises:
        trio.BrokenResourceError: TLS has failed meanwhile.
    """
    if isinstance(stream, trio.SocketStream):
        return None
    if isinstance(stream, TlsStream):
        return stream.facts
    if isinstance(stream, trio.SSLStream):
        # It passes on what it is asked for.
        return facts_of(cast("ssl.SSLObject", stream))
    return None


def tls_broken(error: ssl.SSLError) -> trio.BrokenResourceError:
    """Make Trio's error for a failure of TLS."""
    broken = trio.BrokenResourceError(f"TLS failed: {error}")
    broken.__cause__ = error
    return broken
