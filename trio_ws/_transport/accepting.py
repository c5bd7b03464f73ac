"""`serve_streams`: accepts streams without end, also while the system has no room for them."""

import errno
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import trio
import trio.abc

Listener = trio.abc.Listener[trio.abc.Stream]

_PAUSE = 0.1  # seconds until the next try, in which other streams may end
_CALM = 60.0  # seconds without a shortage after which the next one is news

_logger = logging.getLogger("trio_ws.server")


def _errnos(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_DESCRIPTORS = _errnos("EMFILE", "ENFILE")
_MEMORY = _errnos("ENOBUFS", "ENOMEM")

# What accept(2) reports of the one client that it was about to return, who is gone: Linux passes
# on what happened to the new socket, a firewall's rule included; BSD and Windows say that the
# client has reset. Nobody else is concerned.
_GONE = _errnos(
    "ECONNABORTED",
    "ECONNRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ENONET",
    "ENOPROTOOPT",
    "EOPNOTSUPP",
    "EPERM",
    "EPROTO",
    "ETIMEDOUT",
)


async def serve_streams(
    serve: Callable[[trio.abc.Stream], Awaitable[None]],
    listeners: Sequence[Listener],
    nursery: trio.Nursery,
) -> None:
    """Accept from all listeners, and serve each stream in a task of its own, until cancelled.

    Without a free file descriptor, or without memory for a socket, clients wait in the system's
    queue; it is tried again ten times a second, and logged once until there was room for a minute.

    Args:
        serve: What to do with a stream; it closes it, also when it is cancelled.
        listeners: Where to accept; they are closed at the end.
        nursery: Where the streams are served.

    Raises:
        OSError: A listener is broken.
    """
    shortage = _Shortage()
    async with trio.open_nursery() as accepting:
        for listener in listeners:
            accepting.start_soon(_accept, listener, shortage, serve, nursery)


@trio.lowlevel.enable_ki_protection
async def _accept(
    listener: Listener,
    shortage: "_Shortage",
    serve: Callable[[trio.abc.Stream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno in _DESCRIPTORS | _MEMORY:
                    shortage.noticed(error)
                    await trio.sleep(_PAUSE)
                elif error.errno in _GONE:
                    _logger.debug("a client was gone before it was accepted: %s", error)
                    # A listener that reports nothing else must not keep other tasks from running.
                    await trio.lowlevel.checkpoint()
                else:
                    raise
            else:
                nursery.start_soon(serve, stream)


class _Shortage:
    """Says once that the system is short of something, not with every try."""

    def __init__(self) -> None:
        self._last = -math.inf

    def noticed(self, error: OSError) -> None:
        now = trio.current_time()
        known = now < self._last + _CALM
        self._last = now
        if known:
            return
        assert error.errno is not None
        name = errno.errorcode[error.errno]
        if error.errno in _DESCRIPTORS:
            _logger.error(
                "no file descriptor is free for another client (%s); clients wait until one is. "
                "Allow more (ulimit -n, LimitNOFILE= of systemd), or set Limits.max_connections, "
                "so that the one too many is answered 503",
                name,
            )
        else:
            _logger.error(
                "the system has no memory for another client's socket (%s); clients wait until it "
                "has. Set Limits.max_connections, so that the one too many is answered 503",
                name,
            )
