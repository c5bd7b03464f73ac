"""`FAULTS`: all that a hostile client can do to a server."""

from tests.torture.faults import compression, floods, frames, handlers, handshakes, tls
from tests.torture.hostile import Fault

FAULTS: tuple[Fault, ...] = (
    *handshakes.FAULTS,
    *frames.FAULTS,
    *compression.FAULTS,
    *floods.FAULTS,
    *handlers.FAULTS,
    *tls.FAULTS,
)
