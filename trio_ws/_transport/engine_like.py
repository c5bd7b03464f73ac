"""`EngineLike`: what a link needs of an engine."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

from wsproto.connection import ConnectionState
from wsproto.events import Event

from trio_ws._protocol.messages import Frame
from trio_ws._types import Message, Sendable


class EngineLike(Protocol):
    """wsproto's interface, as far as a link uses it, and what `Engine` adds to it."""

    @property
    @abstractmethod
    def client(self) -> bool:
        """Whether this side is the client."""

    @property
    @abstractmethod
    def state(self) -> ConnectionState:
        """Where the connection stands."""

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes received and not parsed yet."""

    @property
    @abstractmethod
    def missing(self) -> int:
        """Bytes still to come of the payload that is arriving."""

    @property
    @abstractmethod
    def stalled(self) -> bool:
        """Whether `events` ended because this step has cost enough."""

    @property
    @abstractmethod
    def unseen(self) -> bool:
        """Whether `early_control` did, so that there may be more of what it looks for."""

    @abstractmethod
    def send(self, event: Event, /) -> bytes:
        """Turn an event into bytes to write."""

    @abstractmethod
    def send_message(self, message: Sendable, compress: bool | None, /) -> Frame:
        """Make the frame of a message."""

    @abstractmethod
    def receive_messages(
        self, data: bytes | bytearray | memoryview, max_count: float, max_bytes: float, /
    ) -> tuple[list[Message], int, bool]:
        """Take bytes that were read; return what `messages` would, and whether these were all.

        They may change after the next `keep`, or if nothing of them is buffered. An engine may
        leave all to `events`.
        """

    @abstractmethod
    def keep(self) -> None:
        """Copy what is left of lent bytes."""

    @abstractmethod
    def go_on(self) -> None:
        """Begin another step, after `events` has stalled or something is `unseen`."""

    @abstractmethod
    def messages(self, max_count: float, max_bytes: float, /) -> tuple[list[Message], int]:
        """Take the run of plain messages that comes next, and tell their bytes.

        An engine may leave all to `events`.
        """

    @abstractmethod
    def events(self) -> Iterator[Event]:
        """Yield what they mean, in order, as far as it is asked for."""

    @abstractmethod
    def early_control(self) -> Iterator[Event]:
        """Yield the control events among the rest."""
