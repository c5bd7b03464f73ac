"""`start_tls`: puts TLS over a stream; `check_context`, `why_useless`: if the context is fit."""

import ssl
from contextlib import suppress

import trio
import trio.abc

from trio_ws._transport.poller import can_poll
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream


def check_context(context: ssl.SSLContext, *, server: bool) -> None:
    """Check that a context is for this side.

    Args:
        context: A caller's.
        server: Whether this side is the server.

    Raises:
        ValueError: It is for the other side only.
    """
    if server and context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl_context is a client's; ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), which "
            "then loads the server's certificate, makes one for a server"
        )
    if not server and context.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ValueError(
            "ssl_context is a server's; ssl.create_default_context() makes one for a client"
        )


def why_useless(context: ssl.SSLContext) -> str | None:
    """Try a server's context on a client that takes whatever it is offered.

    No context says whether it has a certificate. This one may do without, by what the client cannot
    know, a key that was shared before; so it is no reason to refuse it.

    Args:
        context: A server's.

    Returns:
        Why no handshake comes about, in OpenSSL's words; None if one does, or it cannot be told.
    """
    if context.sni_callback is not None:
        # It may choose another one, by a name that is not known here.
        return None
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with suppress(ssl.SSLError):
        # Level 0 allows those without any certificate; not every library has levels.
        anybody.set_ciphers("ALL:@SECLEVEL=0")
    said, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        anybody.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    heard.write(said.read())
    why = None
    try:
        context.wrap_bio(heard, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLError as error:
        # If it wants to read, it has answered, and all the rest is up to the client.
        if not isinstance(error, ssl.SSLWantReadError):
            why = error.reason
    return why


async def start_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, *, server_hostname: str | None = None
) -> trio.abc.Stream:
    """Put TLS over a stream, and do its handshake.

    A socket gets TLS of ours, which the poller can serve, where there is one; any other stream
    Trio's.

    Args:
        stream: What is beneath.
        context: Certificates, and what else there is to choose.
        server_hostname: Whose certificate a client expects; None for a server.

    Raises:
        trio.BrokenResourceError: The handshake has failed; the cause tells why.
    """
    if isinstance(stream, trio.SocketStream) and can_poll():
        session = TlsSession(context, server_hostname=server_hostname)
        secured: TlsStream | trio.SSLStream[trio.abc.Stream] = TlsStream(stream, session)
    else:
        secured = trio.SSLStream(
            stream,
            context,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
            # A WebSocket says goodbye by its Close frame, not by TLS.
            https_compatible=True,
        )
    await secured.do_handshake()
    return secured
