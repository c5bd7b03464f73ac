"""`Wire`: reads and writes for one connection; what all kinds of it have in common.

Theory of operation
-------------------
A wire knows bytes, not frames. It hands what it reads to its owner, writes what waits in the
outgoing queue, and ends the transport. How it reads and writes is for its kinds: `StreamWire` has
tasks for that, `SocketWire` the shared poller.

Ending goes through `begin_close`, once, and then takes its course, whoever is cancelled:

    flush ──> wait for the peer's answer ──> half-close ──> wait for the peer's end ──> cut

All of it together has `close_timeout`; then, or after `abort`, the line is cut at once. A server
half-closes first and a client waits for that (RFC 6455 §7.1.1). Half-closing and reading on until
the peer has ended, instead of just closing, keeps the kernel from answering data that is still
under way with a reset, which would destroy the Close frame before the peer has read it. Behind the
peer's own Close nothing may be under way, so then a server does not wait for its end; some clients
never end by themselves.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import trio
import trio.abc

from trio_ws._transport.outgoing import Outgoing

if TYPE_CHECKING:
    from trio_ws._transport.alarms import Entry


class WireOwner(Protocol):
    """What a wire needs from the connection it serves."""

    @abstractmethod
    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        """Take what was read; return whether to read on, or to wait for `Wire.resume`.

        The bytes may lie in a buffer that is used again when this returns.
        """

    def line_ended(self, error: BaseException | None) -> None:
        """Note that nothing will be read any more; None means the peer ended it in order."""

    def line_stuck(self) -> None:
        """Note that the peer took no byte within the write timeout; the line is being cut."""


class Wire(ABC):
    """What all wires have in common: the pause of reading, and the course of the end.

    Args:
        stream: The stream; the wire closes it.
        outgoing: What there is to write.
        owner: The connection.
        client: Whether this side is the client, which waits for the server to end the line.
        write_timeout: Seconds without progress after which the peer is dropped.
        close_timeout: Seconds for everything from `begin_close` to the end.
    """

    kind: ClassVar[Literal["poller", "tasks"]] = "tasks"
    """What reads and writes."""

    __slots__ = (
        "_close_timeout",
        "_closing",
        "_half_close_first",
        "_nursery",
        "_outgoing",
        "_owner",
        "_reading",
        "_stopped",
        "_stream",
        "_write_error",
        "_write_timeout",
        "expected",
        "heard",
        "paused",
        "stopped",
        "writing",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        outgoing: Outgoing,
        owner: WireOwner,
        *,
        client: bool,
        write_timeout: float,
        close_timeout: float,
    ) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._owner = owner
        self._write_timeout = write_timeout
        self._close_timeout = close_timeout
        self._nursery: trio.Nursery | None = None
        self._reading = True
        self._write_error: BaseException | None = None
        self._closing: Closing | None = None
        self._half_close_first = not client
        self.expected = 0
        """Bytes of a payload that are still to come; 0 if they are not wanted now."""
        self.paused = False
        """Whether reading waits for the application: this side's own back-pressure."""
        self.writing = False
        """Whether what waits is being written, or will be."""
        self.heard = 0.0
        """When the last byte came in, or reading was resumed; `trio.current_time`."""
        self.stopped = False
        """Whether the line is cut and no task is left."""
        # Made when somebody waits, which is at the very end.
        self._stopped: trio.Event | None = None

    def start(self, nursery: trio.Nursery, rest: bytes) -> None:
        """Start reading and writing.

        Args:
            nursery: Where the tasks live. Cancellation of whoever uses the connection must
                not reach it.
            rest: What was read behind the peer's head, to be handed over first.
        """
        self._nursery = nursery
        self.heard = trio.current_time()
        self._start_reading(rest)
        self.write_soon()

    @abstractmethod
    def _start_reading(self, rest: bytes) -> None:
        """Begin to read."""

    @abstractmethod
    def _start_writing(self) -> None:
        """Begin to write what waits; `writing` was set."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop reading and writing, soon; `_reading_ended` and `_writing_ended` follow."""

    @abstractmethod
    def _go_on(self) -> None:
        """Read on after a pause."""

    def _hand_over(self, data: bytes | bytearray | memoryview, now: float) -> bool:
        """Give the owner what was read; tell whether to read on."""
        self.heard = now
        self.paused = not self._owner.receive_bytes(data)
        return not self.paused

    def resume(self) -> None:
        """Read on after `receive_bytes` asked to wait."""
        if not self.paused:
            return
        self.paused = False
        self.heard = trio.current_time()
        self._go_on()

    def _reading_ended(self, error: BaseException | None) -> None:
        self._reading = False
        self.resume()
        self._owner.line_ended(error or self._write_error)
        if self._closing is not None:
            self._closing.answered = self._closing.ended = True
            self._advance()

    def write_soon(self) -> None:
        """Have what waits written, after every task of this tick has had its step."""
        # What has a size waits; the longer question finds what a fault has made to have none.
        outgoing = self._outgoing
        if not self.writing and self._nursery is not None and (outgoing.size or not outgoing.empty):
            self.writing = True
            self._start_writing()

    def flush(self) -> None:  # noqa: B027 - nothing is what one does that cannot
        """Write what waits now, as far as that needs no wait; not every kind can."""

    def _writing_ended(self) -> None:
        self.writing = False
        if self._closing is not None:
            self._closing.flushed = True
            self._advance()

    @trio.lowlevel.enable_ki_protection
    def begin_close(
        self, *, answered: bool, linger: bool = True, half_close_first: bool = False
    ) -> None:
        """Begin to end the line; further calls change nothing.

        Args:
            answered: Whether the peer's Close is here already, or none is expected.
            linger: Whether the peer may still be sending, so that its end has to be waited for.
            half_close_first: Half-close as a server does, although this is a client.
        """
        if self._closing is not None or self._nursery is None:
            return
        self.write_soon()
        self._half_close_first = self._half_close_first or half_close_first
        self._closing = Closing()
        self._closing.linger = linger
        self._closing.flushed = not self.writing
        self._closing.answered = answered or not self._reading
        self._closing.ended = not self._reading
        self._advance()

    @trio.lowlevel.enable_ki_protection
    def answer_arrived(self, *, linger: bool = False) -> None:
        """Note that the peer's Close is here, or that it will not come any more.

        Args:
            linger: As for `begin_close`: it will not come, and the peer may still be sending.
        """
        if self._closing is not None:
            self._closing.linger = linger
            self._closing.answered = True
            self._advance()

    @trio.lowlevel.enable_ki_protection
    def abort(self) -> None:
        """Cut the line at once."""
        self.begin_close(answered=True)
        if self._closing is not None:
            self._closing.aborted = True
            self._advance()

    @abstractmethod
    def _advance(self) -> None:
        """Go on with the end, as far as `_closing` says that it has come."""

    def _has_stopped(self) -> None:
        self.stopped = True
        if self._stopped is not None:
            self._stopped.set()

    async def wait_stopped(self) -> None:
        """Wait until the line is cut and no task is left."""
        if self._stopped is None:
            self._stopped = trio.Event()
            if self.stopped:
                self._stopped.set()
        await self._stopped.wait()


class Closing:
    """How far the end of a line has come."""

    __slots__ = ("aborted", "answered", "deadline", "ended", "flushed", "half_closed", "linger")

    def __init__(self) -> None:
        self.flushed = False
        """Whether all is written."""
        self.answered = False
        """Whether the peer's Close is here, or is not expected."""
        self.linger = True
        """Whether the peer may still be sending then."""
        self.half_closed = False
        """Whether this side has ended its direction."""
        self.ended = False
        """Whether the peer has ended the line, or it is lost."""
        self.aborted = False
        """Whether all of that is of no interest any more."""
        self.deadline: Entry | None = None
        """The alarm at which it is not."""
