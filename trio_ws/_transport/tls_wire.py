"""`TlsWire`: the wire of a socket with TLS over it, served by the shared poller.

Theory of operation
-------------------
It is a `SocketWire` with TLS between: what is read is decrypted in one go and handed over, and what
is to be written is encrypted just before, a few records at a time. After that all that has come in
is decrypted, but for the beginning of a record; so nothing waits here while the socket has nothing
to tell, and a pause of reading leaves the rest to the system, as without TLS.

Only when a read has brought very many records, some of them wait, until others have had their turn.
Nothing is read meanwhile, and the end of reading, should it come, waits behind them.
"""

from typing import TYPE_CHECKING

import trio

from trio_ws._transport.alarms import current_alarms
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.poller import Poller
from trio_ws._transport.socket_wire import MAX_WRITES, SocketWire, rest_of
from trio_ws._transport.tls import PIECE
from trio_ws._transport.tls_stream import TlsStream, tls_broken
from trio_ws._transport.watchers import READ, WRITE
from trio_ws._transport.wire import WireOwner

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOT = 128 * 1024  # bytes that are encrypted for one write

_MAX_OUTPUT = 64 * 1024
"""Bytes that TLS itself wants to send and the peer does not take; its own wishes caused them."""


class TlsWire(SocketWire):
    """Reads and writes TLS without a task of its own.

    Args:
        stream: The stream, its handshake done; the wire closes its socket.
        outgoing: What there is to write.
        owner: The connection.
        poller: The poller of this run.
        client: Whether this side is the client, which waits for the server to end the line.
        write_timeout: Seconds without progress after which the peer is dropped.
        close_timeout: Seconds for everything from `begin_close` to the end.
    """

    # What a step does not decrypt is held, and that is to be little.
    _READS_AHEAD = False

    __slots__ = ("_lost", "_plain", "_session", "_stalled", "_turn")

    def __init__(
        self,
        stream: TlsStream,
        outgoing: Outgoing,
        owner: WireOwner,
        *,
        poller: Poller,
        client: bool,
        write_timeout: float,
        close_timeout: float,
    ) -> None:
        super().__init__(
            stream.transport_stream,
            outgoing,
            owner,
            poller=poller,
            client=client,
            write_timeout=write_timeout,
            close_timeout=close_timeout,
        )
        self._session = stream.session
        # What was taken to be written, and is not encrypted yet; at most two buffers.
        self._plain: Sequence[bytes | memoryview] = ()
        # Whether TLS has to read something before it can write on.
        self._stalled = False
        # Whether an alarm will go on with records that wait, and the end of reading behind them.
        self._turn = False
        self._lost: tuple[BaseException | None] | None = None

    def _start_reading(self, rest: bytes) -> None:
        # What came in one piece with the head was fed, and not all of it was read.
        behind = bytearray(2 * PIECE if self._session.pending else 0)
        count = self._session.read(memoryview(behind))
        super()._start_reading(rest + behind[:count])
        if self._reading:
            self._note_session()
        if self._give_way():
            self._watch(self.interest & ~READ)

    def _take_in(self, data: bytes | bytearray | memoryview, now: float) -> bool:
        """Decrypt what was read, and hand it over; tell whether to read on."""
        # Any byte is a sign of life, also where it is not a whole record yet.
        self.heard = now
        self._decrypt(data, now)
        return not (self._give_way() or self.paused)

    def _decrypt(self, data: bytes | bytearray | memoryview, now: float) -> None:
        session, plain = self._session, self._poller.workspace
        count = session.decrypt(data, plain)
        while count:
            self._hand_over(plain[:count], now)
            count = session.read(plain)
        self._note_session()

    def _give_way(self) -> bool:
        """Have what waits decrypted when others have had their turn; tell whether any does."""
        if not self._session.waiting:
            return False
        current_alarms().at(trio.current_time(), _Turn(self))
        self._turn = True
        return True

    def go_on(self) -> None:
        """Decrypt on, after others have had their turn."""
        self._turn = False
        if not self._reading:
            return
        try:
            self._decrypt(b"", self.heard)
            if self._give_way():
                return
            if self._lost is not None:
                self._end_reading(*self._lost)
            elif not self.paused:
                self._go_on()
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._failed(failure)

    def _go_on(self) -> None:
        if not self._turn:
            super()._go_on()

    def _end_reading(self, error: BaseException | None) -> None:
        if self._turn and not self.stopped:
            self._lost = (error,)
        else:
            super()._end_reading(error)

    def _note_session(self) -> None:
        """Do what reading has made necessary."""
        session = self._session
        if self.stopped:
            return
        if self._stalled:
            self._stalled = False
            self._poller.flush_soon(self)
        elif session.output and not self.writing:
            self.writing = True
            self._start_writing()
        if session.ended:
            self._end_reading(None if session.error is None else tls_broken(session.error))
        elif session.output > _MAX_OUTPUT:
            text = "the peer makes TLS answer, and does not take the answers"
            self._end_reading(trio.BrokenResourceError(text))

    def flush(self) -> None:
        """Encrypt and write what waits, as far as the system takes it; see `Polled`."""
        if not self.writing:
            return
        try:
            for _ in range(MAX_WRITES):
                if not (self._unwritten or self._seal()):
                    return
                if not self._write(self._unwritten):
                    self._wait_writable()
                    return
            self._poller.flush_soon(self)
        except Exception as failure:  # noqa: BLE001 - it is logged
            self._flush_failed(failure)

    def _seal(self) -> bool:
        """Encrypt what is to be written next; tell whether there is anything."""
        plain = self._plain or self._outgoing.take()
        sealed, count = self._session.encrypt(plain, _LOT)
        self._plain = rest_of(plain, count)
        if sealed:
            self._outgoing.grow(sum(map(len, sealed)) - count)
            self._unwritten = sealed
            return True
        if self._plain:
            self._stalled = True
            self._watch(self.interest & ~WRITE)
            self._expect_progress()
        else:
            self._written()
        return False

    def due(self) -> None:
        """Drop the peer if it took nothing for too long; see `Alarm`."""
        if self._stalled and self.paused:
            # It is this side that does not read what the peer has to say first.
            self._progress = trio.current_time()
        super().due()

    def _written(self) -> None:
        self._plain = ()
        self._stalled = False
        super()._written()


class _Turn:
    """The alarm that goes on with records that wait.

    Args:
        wire: Their wire.
    """

    __slots__ = ("_wire",)

    def __init__(self, wire: TlsWire) -> None:
        self._wire = wire

    def due(self) -> None:
        """Go on; see `Alarm`."""
        self._wire.go_on()
