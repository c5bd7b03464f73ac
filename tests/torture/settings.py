"""What the server under test and its clients have to agree on."""

from dataclasses import dataclass

HOST = "127.0.0.1"

MAX_MESSAGE = 1024 * 1024
"""Bytes that the server takes as one message."""

RELEASED = "release"
DESCRIPTORS = "descriptors"
FIGURES = "figures"
DRAIN = "drain"
STOP = "stop"
"""What a server under test can be ordered, one order a line."""


@dataclass(frozen=True, slots=True)
class Times:
    """How patient the server is, in seconds; all of it far below its defaults."""

    scale: float = 1.0
    """Shorter ones suit a test of few clients; hundreds at once need the generator's time, too."""

    @property
    def open(self) -> float:
        """For an opening handshake."""
        return 5.0 * self.scale

    @property
    def write(self) -> float:
        """For one byte that is written."""
        return 2.0 * self.scale

    @property
    def close(self) -> float:
        """For a closing handshake."""
        return 2.0 * self.scale

    @property
    def ping_interval(self) -> float:
        """Of silence, before a ping."""
        return 1.0 * self.scale

    @property
    def ping_timeout(self) -> float:
        """Of further silence; a client that is well but starved has to answer in it."""
        return 4.0 * self.scale

    @property
    def stubborn(self) -> float:
        """For which a handler does not heed its cancellation."""
        return 0.3 * self.scale
