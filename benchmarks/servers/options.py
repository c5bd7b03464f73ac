"""`Options`: what every measured server is told, and how it says where it listens."""

import argparse
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"

MAX_MESSAGE = 64 * 1024 * 1024  # above the largest message of any work

_LIFETIME = 3600  # seconds, after which a server ends that nobody ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a server is to serve. Created by `parse`."""

    broadcast: bool
    """Whether each message goes to all connections, instead of back to its sender."""
    certificate: Path | None
    """A folder with ``key.pem`` and ``chain.pem``, to serve TLS with."""

    @classmethod
    def parse(cls) -> Self:
        """Read the command line, and make sure that the process ends some day."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--broadcast", action="store_true")
        parser.add_argument("--certificate", type=Path)
        arguments = parser.parse_args()
        if hasattr(signal, "alarm"):
            signal.alarm(_LIFETIME)
        return cls(broadcast=arguments.broadcast, certificate=arguments.certificate)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context for TLS, if it is wanted."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate / "chain.pem", self.certificate / "key.pem")
        return context


def announce(port: int) -> None:
    """Say on which port the server listens, now that it does."""
    print(port, flush=True)


def free_port() -> int:
    """Return a port that is free, for servers that cannot say which one the system chose."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
