"""`Opened`: the block that a connection lives in, and its goodbye."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType

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


class Opened(AbstractAsyncContextManager[Connection]):
    """Runs a connection for as long as a block lasts, and says goodbye at its end.

    It is no generator, whose frame an idle connection would hold.

    Args:
        connection: A connection whose opening handshake is done.
        background: Where its tasks live; see `open_background`.
        keepalive: When to probe the peer.
        head: The response head to write first; a client has none.
        rest: Bytes that were read behind the peer's head.
    """

    __slots__ = ("_background", "_connection", "_head", "_keepalive", "_rest")

    def __init__(
        self,
        connection: Connection,
        background: trio.Nursery,
        keepalive: Keepalive,
        *,
        head: bytes = b"",
        rest: bytes = b"",
    ) -> None:
        self._connection = connection
        self._background = background
        self._keepalive = keepalive
        self._head = head
        self._rest = rest

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Connection:
        connection = self._connection
        connection._link.start(  # noqa: SLF001 - a connection and its lifetime are one piece
            self._background, self._keepalive, head=self._head, rest=self._rest
        )
        self._head = self._rest = b""
        return connection

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An error is the application's own, and may fail when it is asked for its code.
        code = int(CloseCode.INTERNAL_ERROR)
        try:
            code = int(CloseCode.NORMAL) if error is None else goodbye_code(error)
        finally:
            await self._say_goodbye(code)

    async def _say_goodbye(self, code: int) -> None:
        connection = self._connection
        link = connection._link  # noqa: SLF001 - as above
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
