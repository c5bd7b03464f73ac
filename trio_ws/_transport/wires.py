"""`make_wire`: chooses the wire for a stream."""

import trio
import trio.abc

from trio_ws._config import Limits
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.poller import current_poller
from trio_ws._transport.socket_wire import SocketWire
from trio_ws._transport.stream_wire import StreamWire
from trio_ws._transport.tls_stream import TlsStream
from trio_ws._transport.tls_wire import TlsWire
from trio_ws._transport.wire import Wire, WireOwner


def make_wire(
    stream: trio.abc.Stream, outgoing: Outgoing, owner: WireOwner, limits: Limits, *, client: bool
) -> Wire:
    """Make the wire that serves a stream best.

    Args:
        stream: The stream, its opening handshake done; the wire closes it.
        outgoing: What there is to write.
        owner: The connection.
        limits: What the peer may cost.
        client: Whether this side is the client.
    """
    write_timeout, close_timeout = limits.write_timeout, limits.close_timeout
    if isinstance(stream, (trio.SocketStream, TlsStream)):
        poller = current_poller()
        if poller is not None and isinstance(stream, trio.SocketStream):
            return SocketWire(
                stream,
                outgoing,
                owner,
                poller=poller,
                client=client,
                write_timeout=write_timeout,
                close_timeout=close_timeout,
            )
        if poller is not None and isinstance(stream, TlsStream):
            return TlsWire(
                stream,
                outgoing,
                owner,
                poller=poller,
                client=client,
                write_timeout=write_timeout,
                close_timeout=close_timeout,
            )
    return StreamWire(
        stream,
        outgoing,
        owner,
        client=client,
        write_timeout=write_timeout,
        close_timeout=close_timeout,
    )
