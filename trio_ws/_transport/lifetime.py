"""`opened`: the block that a connection lives in, and its goodbye."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trio_ws._config import Keepalive
from trio_ws._transport.connection import Connection
from trio_ws._transport.nurseries import members
from trio_ws._types import CloseCode, is_wire_code


def goodbye_code(error: BaseException) -> int:
    """Choose the close code for a block that was left with an error."""
    if inner := members(error):
        codes = set(map(goodbye_code, inner))
        return codes.pop() if len(codes) == 1 else CloseCode.INTERNAL_ERROR
    if not isinstance(error, Exception):
        # Cancelled, KeyboardInterrupt, SystemExit: this side is going away.
        return CloseCode.GOING_AWAY
    code = getattr(error, "close_code", None)
    return code if isinstance(code, int) and is_wire_code(code) else CloseCode.INTERNAL_ERROR


@asynccontextmanager
async def opened(
    connection: Connection,
    background: trio.Nursery,
    keepalive: Keepalive,
    *,
    head: bytes = b"",
    rest: bytes = b"",
) -> AsyncGenerator[Connection, None]:
    """Run a connection for as long as a block lasts, and say goodbye at its end.

    Args:
        connection: A connection whose opening handshake is done.
        background: Where its tasks live; see `open_background`.
        keepalive: When to probe the peer.
        head: The response head to write first; a client has none.
        rest: Bytes that were read behind the peer's head.

    Yields:
        The connection.
    """
    link = connection._link  # noqa: SLF001 - a connection and its lifetime are one piece
    link.start(background, keepalive, head=head, rest=rest)
    code = int(CloseCode.NORMAL)
    try:
        yield connection
    except BaseException as error:
        code = goodbye_code(error)
        raise
    finally:
        try:
            link.close(code, None, "this side has left the connection's block", own=True)
            if not link.wire.stopped:
                with trio.move_on_after(connection._close_timeout, shield=True):  # noqa: SLF001
                    await link.wire.wait_stopped()
        finally:
            # Also when a KeyboardInterrupt has ended the waiting; nothing else would end the wire.
            if not link.wire.stopped:
                link.wire.abort()
                with trio.CancelScope(shield=True):
                    # Cutting the line waits for nobody, so this shield needs no deadline.
                    await link.wire.wait_stopped()
