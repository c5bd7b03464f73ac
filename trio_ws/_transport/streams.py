"""`write_all`, `send_last`, `read_now`, `half_close`, `cut`: what is done to any kind of stream."""

import logging
import os
import ssl
from collections.abc import Awaitable, Callable

import trio
import trio.abc

from trio_ws._transport.endpoint import beneath_tls
from trio_ws._transport.tls_stream import TlsStream

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

_SLICE = 16 * 1024  # bytes of one send_all on a stream that does not tell its progress

_LINGER = 1.0  # seconds in which what the peer still sends must not reset what it has not read yet

_logger = logging.getLogger("trio_ws.wire")


async def write_all(stream: trio.abc.SendStream, data: bytes, patience: float) -> None:
    """Write bytes to a stream, as long as the peer takes some now and then.

    Args:
        stream: Where to.
        data: What.
        patience: Seconds in which one byte, or 16 KiB on streams that are no plain sockets, has
            to be taken.

    Raises:
        trio.TooSlowError: There was no progress.
        trio.BrokenResourceError: The line broke.
    """
    send = sender(stream)
    with memoryview(data) as view, trio.fail_after(patience) as scope:
        start = 0
        while start < len(view):
            start += await send(view[start:])
            scope.deadline = trio.current_time() + patience


def sender(stream: trio.abc.SendStream) -> Callable[[memoryview], Awaitable[int]]:
    """Return what sends the beginning of some bytes, and tells how many those were.

    It raises `trio.BrokenResourceError` when the line is broken.
    """
    if isinstance(stream, trio.SocketStream):
        sock = stream.socket

        async def send(view: memoryview) -> int:
            try:
                return await sock.send(view)
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

        return send

    async def send_slice(view: memoryview) -> int:
        part = view[:_SLICE]
        await stream.send_all(part)
        return len(part)

    return send_slice


def read_now(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Read what has arrived on a stream already, where a socket's descriptor can be read.

    Returns:
        At most `size` bytes; none if there are none, or reading has ended, or the stream cannot be
        asked without waiting. Reading it the ordinary way will tell.

    Raises:
        trio.BrokenResourceError: The line broke. It is not told a second time.
    """
    if not isinstance(stream, trio.SocketStream):
        return b""
    fd = stream.socket.fileno()
    try:
        return b"" if fd < 0 else os.read(fd, size)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


async def half_close(stream: trio.abc.Stream) -> bool:
    """End this side's direction of a stream, below TLS if there is TLS.

    The Close frame has told the peer already that all is said; a TLS alert would add nothing.

    Returns:
        False when the stream cannot do that.
    """
    inner = beneath_tls(stream)
    if not isinstance(inner, trio.abc.HalfCloseableStream):
        return False
    try:
        await inner.send_eof()
    except (*BROKEN, OSError, ssl.SSLError):
        return False
    except Exception:
        # A stream that breaks its contract costs its own connection only.
        _logger.exception("half-closing the stream failed")
        return False
    return True


async def send_last(stream: trio.abc.Stream, data: bytes, patience: float) -> None:
    """Write the last bytes on a stream, and give the peer a second to read them and end its side.

    Args:
        stream: Where to.
        data: What.
        patience: As for `write_all`.

    Raises:
        trio.TooSlowError: There was no progress.
        trio.BrokenResourceError: The line broke.
    """
    await write_all(stream, data, patience)
    if await half_close(stream):
        with trio.move_on_after(_LINGER):
            while await stream.receive_some(64 * 1024):
                pass


async def cut(stream: trio.abc.AsyncResource) -> None:
    """Close a stream at once, whatever comes of it.

    Cancellation:
        It is closed all the same.
    """
    if not isinstance(stream, trio.SocketStream) and isinstance(stream, TlsStream):
        stream = stream.transport_stream
    try:
        if isinstance(stream, trio.SocketStream):
            # What its own closing does, without a checkpoint; three scopes would cost a fifth of a
            # short connection, and most are cut more than once on their way out.
            stream.socket.close()
            return
        # It waits for nobody, so the shield needs no deadline. Without it a cancellation would
        # take the place of the error that is on its way out, a KeyboardInterrupt for one.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
    except Exception:
        _logger.exception("closing the stream failed")
