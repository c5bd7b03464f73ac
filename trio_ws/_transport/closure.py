"""`Closure`: how a connection ended, and `PendingFault`: how it is about to end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import trio

from trio_ws._errors import CloseReason
from trio_ws._transport.alarms import current_alarms


@dataclass(frozen=True, slots=True)
class Closure:
    """How a connection ended."""

    reason: CloseReason
    by: Literal["local", "remote"] | None
    """Who closed first; None when the line was lost."""
    detail: str
    """What happened, for people."""
    own: bool = False
    """Whether the application did it itself, so that using the connection is its mistake."""


class PendingFault:
    """A fault of the peer behind messages that the application is still busy with.

    Args:
        closure: How the connection will have ended.
        patience: Seconds after which to wait no longer.
        settle: Ends it.
    """

    __slots__ = ("_entry", "_settle", "closure")

    def __init__(self, closure: Closure, patience: float, settle: Callable[[], object]) -> None:
        self.closure = closure
        self._settle = settle
        self._entry = current_alarms().at(trio.current_time() + patience, self)

    def due(self) -> None:
        """Wait no longer; see `Alarm`."""
        self._settle()

    def withdraw(self) -> None:
        """Take the alarm back."""
        current_alarms().cancel(self._entry)
