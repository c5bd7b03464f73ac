"""`Watch`: probes a silent peer, and gives it up when it stays silent.

Theory of operation
-------------------
A watch has one alarm, for the time at which there will be something to decide if nothing is heard
until then. Nothing is done when a byte comes in, which happens often; the watch asks when due:

    listening ── interval without a byte: ping ──> probing ── timeout without a byte: give up
        ^                                             │
        └───────────────── a byte ────────────────────┘

While reading is paused, by this side's own back-pressure, the peer cannot be heard, so the clock
stands still: a watch that comes due then judges nothing, and begins anew when reading goes on. It
pings all the same, because a line that is lost is noticed by nothing but writing to it: a peer that
filled the inbox of a handler that never receives, and left, would otherwise be kept for ever.
"""

from math import inf
from typing import Protocol

import trio

from trio_ws._config import Keepalive
from trio_ws._transport.alarms import Entry, current_alarms


class Probed(Protocol):
    """What the keepalive needs to know of a connection, and to do to it. No method may raise."""

    @property
    def heard(self) -> float:
        """When the last byte came in, or reading was resumed; `trio.current_time`."""
        ...

    @property
    def paused(self) -> bool:
        """Whether reading waits for this side's application."""
        ...

    def probe(self) -> None:
        """Send a ping, overtaking every message that waits."""

    def give_up(self, silence: float) -> None:
        """Drop the peer after so many seconds of silence."""


class Watch:
    """The watch over one connection.

    Args:
        peer: The connection.
        keepalive: When to do what.
    """

    __slots__ = ("_alarms", "_entry", "_keepalive", "_peer", "_probed_after")

    def __init__(self, peer: Probed, keepalive: Keepalive) -> None:
        self._peer = peer
        self._keepalive = keepalive
        self._alarms = current_alarms()
        # The alarm that is set; None before the start and after the end.
        self._entry: Entry | None = None
        # What was last heard when the ping went out; None while listening. What is heard in a pause
        # is its end.
        self._probed_after: float | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._set(self._peer.heard + self._keepalive.interval)

    def end(self) -> None:
        """Watch no more."""
        if self._entry is not None:
            self._alarms.cancel(self._entry)
            self._entry = None

    def _set(self, time: float) -> None:
        self._entry = self._alarms.at(time, self)

    def due(self) -> None:
        """Decide what is to be done now; see `Alarm`."""
        self._entry = None
        peer = self._peer
        now = trio.current_time()
        if peer.paused:
            peer.probe()
            self._set(now + self._keepalive.interval)
            return
        heard = peer.heard
        if heard != self._probed_after:
            self._probed_after = None
        if self._probed_after is None:
            if heard + self._keepalive.interval > now:
                self._set(heard + self._keepalive.interval)
                return
            self._probed_after = heard
        elif self._keepalive.timeout < inf:
            peer.give_up(now - heard)
            return
        peer.probe()
        # Without a timeout it goes on asking, for the sake of what lies between the two.
        patience = self._keepalive.timeout
        self._set(now + (self._keepalive.interval if patience == inf else patience))
