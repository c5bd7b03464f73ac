"""`keep_alive`: probe a silent peer, and give it up when it stays silent."""

import math
from abc import abstractmethod
from typing import Protocol

import trio

from trio_ws._config import Keepalive


class Probed(Protocol):
    """What the keepalive needs to know of a connection, and to do to it."""

    @property
    @abstractmethod
    def heard(self) -> float:
        """When the last byte came in, or reading was resumed; `trio.current_time`."""

    @property
    @abstractmethod
    def paused(self) -> bool:
        """Whether reading waits for this side's application."""

    async def wait_resumed(self) -> None:
        """Wait until reading is not paused."""

    def probe(self) -> None:
        """Send a ping, overtaking every message that waits."""

    def give_up(self, silence: float) -> None:
        """Drop the peer after so many seconds of silence."""


async def keep_alive(peer: Probed, keepalive: Keepalive) -> None:
    """Watch one connection until it is cancelled or the peer has to be dropped.

    Any byte is life. While reading is paused the peer cannot be heard, so the clock stands still;
    it starts anew when reading goes on.

    Args:
        peer: The connection.
        keepalive: When to do what.
    """
    patience = keepalive.interval if keepalive.timeout == math.inf else keepalive.timeout
    while True:
        await _silence(peer, keepalive.interval)
        began = peer.heard
        peer.probe()
        await trio.sleep(patience)
        if peer.paused:
            await peer.wait_resumed()
        if peer.heard == began and patience == keepalive.timeout:
            peer.give_up(trio.current_time() - began)
            return


async def _silence(peer: Probed, seconds: float) -> None:
    """Return when nothing was heard for so long."""
    while True:
        if peer.paused:
            await peer.wait_resumed()
        rest = peer.heard + seconds - trio.current_time()
        if rest <= 0:
            return
        await trio.sleep(rest)
