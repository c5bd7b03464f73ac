"""`TlsFacts`: what the two sides of TLS have told each other."""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import trio


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFacts:
    """What the TLS handshake has told of a peer; see `Request.tls` and `Connection.tls`."""

    version: str
    """The version of TLS, such as ``TLSv1.3``."""
    certificate: dict[str, Any] | None = field(repr=False)
    """The peer's certificate, as `ssl.SSLSocket.getpeercert` makes it; None if it has shown none.
    Empty if it was not verified, because the context's ``verify_mode`` is ``CERT_NONE``."""
    certificate_der: bytes | None = field(repr=False)
    """The same, whole, in DER form; None if the peer has shown none. It is there also when it was
    not verified, and then proves nothing."""


def facts_of(secured: ssl.SSLObject) -> TlsFacts:
    """Ask for the facts.

    It is not put off until somebody wants to know: OpenSSL tells nothing any more when something
    has gone wrong, nor while a peer of TLS 1.2 begins another handshake.

    Args:
        secured: One side of TLS; its handshake is done.

    Raises:
        trio.BrokenResourceError: It is too late.
    """
    version = secured.version()
    if version is None:
        raise trio.BrokenResourceError("TLS has failed, or the peer begins another handshake")
    der = secured.getpeercert(binary_form=True)
    if der is None:
        return _anonymous(version)
    return TlsFacts(version=version, certificate=secured.getpeercert(), certificate_der=der)


# Most clients show none, and theirs are all the same.
@lru_cache(maxsize=8)
def _anonymous(version: str) -> TlsFacts:
    return TlsFacts(version=version, certificate=None, certificate_der=None)
