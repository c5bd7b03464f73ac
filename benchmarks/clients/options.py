"""What every measured client is told."""

import argparse
import signal

from benchmarks.servers.options import MAX_MESSAGE

__all__ = ["MAX_MESSAGE", "parse"]

_LIFETIME = 600  # seconds, after which a client ends that nobody ended


def parse() -> tuple[str, int]:
    """Return the URL to connect to, and how often."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1)
    arguments = parser.parse_args()
    if hasattr(signal, "alarm"):
        signal.alarm(_LIFETIME)
    return f"ws://127.0.0.1:{arguments.port}/", arguments.connections
