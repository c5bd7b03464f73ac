"""`Proxies`: who the client is, as trusted proxies say."""

import trio
import trio.abc

from trio_ws._config import TrustedProxies
from trio_ws._protocol.forwarded import ProxyPolicy, plain_address, said_secure
from trio_ws._protocol.proxy_header import (
    PREFIX_SIZE,
    ProxyHeaderError,
    read_length,
    read_source,
)
from trio_ws._transport.endpoint import UNKNOWN, Endpoint, beneath_tls
from trio_ws._types import Headers


class Proxies:
    """The trusted proxies of a server.

    Args:
        proxies: As `serve` takes it.
    """

    def __init__(self, proxies: TrustedProxies) -> None:
        self._policy = ProxyPolicy(proxies)

    @property
    def speak_first(self) -> bool:
        """Whether they begin with a PROXY header."""
        return self._policy.speaks_first

    def include(self, peer: Endpoint | str) -> bool:
        """Tell whether a peer is one of them."""
        if isinstance(peer, Endpoint):
            return self._policy.trusts(peer.address)
        # A TCP socket that has been reset has forgotten its address.
        return peer != UNKNOWN and self._policy.trusts(None)

    async def read_header(
        self, stream: trio.abc.Stream, peer: Endpoint | str, *, secure: bool, max_size: float
    ) -> Endpoint | str:
        """Read the header that comes before all else, and not a byte more.

        Args:
            stream: The stream; no TLS handshake has been made on it yet.
            peer: The proxy.
            secure: Whether TLS follows.
            max_size: Bytes that the header may have.

        Returns:
            The client's address, or the proxy's when that speaks for itself.

        Raises:
            ProxyHeaderError: There is none, or not a sound one.
            trio.BrokenResourceError: The line broke, or ended before the header began.
        """
        # Where a listener has put TLS around it, the header comes before that, too.
        raw = beneath_tls(stream)
        prefix = await _read_exactly(raw, PREFIX_SIZE)
        length = read_length(prefix)
        if PREFIX_SIZE + length > max_size:
            raise ProxyHeaderError(f"it is longer than {max_size} bytes")
        source = read_source(prefix, await _read_exactly(raw, length))
        if source is None or isinstance(source, str):
            return peer if source is None else source
        return Endpoint(str(plain_address(source[0])), source[1], secure)

    def read_fields(
        self, headers: Headers, peer: Endpoint | str, *, secure: bool
    ) -> tuple[Endpoint | str, bool]:
        """Read what one of them says in a request.

        Args:
            headers: The header fields.
            peer: The proxy.
            secure: Whether it speaks TLS.

        Returns:
            The client's address, and whether it speaks TLS.

        Raises:
            RequestError: 400, for what makes no sense.
        """
        said = said_secure(headers)
        if said is not None:
            secure = said
        client = self._policy.client(headers)
        if client is None:
            return peer, secure
        return Endpoint(str(client[0]), client[1], secure), secure


async def _read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        if not piece:
            if not data:
                # Some proxies ask in this way whether the server is alive.
                raise trio.BrokenResourceError("the connection ended without a PROXY header")
            raise ProxyHeaderError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)
