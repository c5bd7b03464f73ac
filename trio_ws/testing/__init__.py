"""Test applications without a network: handlers in memory, channels, pairs, and bad networks.

Everything here goes through the real opening handshake and the real protocol, only that the stream
is memory, so it all runs under `trio.testing.MockClock`: a day of keepalive takes about
a second.
"""

from trio_ws.testing._channels import MemoryChannel, channel_pair
from trio_ws.testing._faults import FaultyStream
from trio_ws.testing._handlers import connect, connection_pair, request
from trio_ws.testing._streams import MemoryStream, stream_pair

__all__ = [
    "FaultyStream",
    "MemoryChannel",
    "MemoryStream",
    "channel_pair",
    "connect",
    "connection_pair",
    "request",
    "stream_pair",
]


def _show_public_path() -> None:
    """Make names say where to import them from, in tracebacks and documentation."""
    for name in __all__:
        globals()[name].__module__ = __name__


_show_public_path()
