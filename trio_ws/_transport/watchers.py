"""`make_watcher`: an epoll, or what does its work elsewhere, to watch many sockets at once."""

import select
import selectors
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

READ, WRITE = 1, 4
"""What to watch a socket for; to be combined. They are epoll's own numbers for it."""

_MAX_EVENTS = 256  # sockets told of at a time, so that a round of the poller stays short


class Watcher(Protocol):
    """An epoll, or what does its work elsewhere."""

    def fileno(self) -> int:
        """Return the descriptor that is readable while a socket is ready."""
        ...

    def watch(self, fd: int, interest: int, before: int) -> None:
        """Change what a descriptor is watched for."""

    def ready(self) -> Iterable[tuple[int, int]]:
        """Return descriptors that are ready, and for what, without waiting."""
        ...

    def close(self) -> None:
        """Let go of the descriptor."""


_PLAIN = (READ, WRITE, READ | WRITE)


class EpollWatcher:
    """Watches with Linux's epoll itself: `selectors` would add a third to the cost of an event."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return the epoll's descriptor."""
        return self._epoll.fileno()

    def watch(self, fd: int, interest: int, before: int) -> None:
        """Change what a descriptor is watched for."""
        # Without an interest it has to go: a hang-up is reported whatever one asks for.
        if not interest:
            if before:
                # Of a descriptor that was closed the system knows nothing any more.
                with suppress(OSError):
                    self._epoll.unregister(fd)
        elif before:
            self._epoll.modify(fd, interest)
        else:
            try:
                self._epoll.register(fd, interest)
            except FileExistsError:
                # The same open file under the same number, in a socket object that is a new one.
                self._epoll.modify(fd, interest)

    def ready(self) -> Iterable[tuple[int, int]]:
        """Return descriptors that are ready, and for what, at most `_MAX_EVENTS`."""
        # An error or a hang-up has bits of its own; a read or a write will tell what it is.
        return [
            (fd, mask if mask in _PLAIN else READ | WRITE)
            for fd, mask in self._epoll.poll(0, _MAX_EVENTS)
        ]

    def close(self) -> None:
        """Close the epoll."""
        self._epoll.close()


class DescribedSelector(Protocol):
    """A `selectors.BaseSelector` that has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def register(self, fileobj: int, events: int) -> selectors.SelectorKey:
        """Watch a descriptor."""
        ...

    def modify(self, fileobj: int, events: int) -> selectors.SelectorKey:
        """Watch it for something else."""
        ...

    def unregister(self, fileobj: int) -> selectors.SelectorKey:
        """Watch it no more."""
        ...

    def select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        ...

    def close(self) -> None:
        """Let go of the descriptor."""


class SelectorWatcher:
    """Watches with a selector of the standard library that has a descriptor: kqueue's."""

    def __init__(self, selector: DescribedSelector) -> None:
        self._selector = selector

    def fileno(self) -> int:
        """Return the selector's descriptor."""
        return self._selector.fileno()

    def watch(self, fd: int, interest: int, before: int) -> None:
        """Change what a descriptor is watched for."""
        mask = (selectors.EVENT_READ if interest & READ else 0) | (
            selectors.EVENT_WRITE if interest & WRITE else 0
        )
        if before and mask:
            self._selector.modify(fd, mask)
            return
        # It may know the number still, from a socket that somebody else has closed.
        with suppress(KeyError, OSError):
            self._selector.unregister(fd)
        if mask:
            self._selector.register(fd, mask)

    def ready(self) -> Iterable[tuple[int, int]]:
        """Return descriptors that are ready, and for what."""
        for key, mask in self._selector.select(0):
            yield (
                key.fd,
                (READ if mask & selectors.EVENT_READ else 0)
                | (WRITE if mask & selectors.EVENT_WRITE else 0),
            )

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()


def can_watch() -> bool:
    """Tell whether this system has a watcher."""
    return hasattr(select, "epoll") or hasattr(selectors, "KqueueSelector")


def make_watcher() -> Watcher | None:
    """Make the best watcher of this system; None where there is neither epoll nor kqueue."""
    if hasattr(select, "epoll"):
        return EpollWatcher()
    kqueue_selector: type[DescribedSelector] | None = getattr(selectors, "KqueueSelector", None)
    return None if kqueue_selector is None else SelectorWatcher(kqueue_selector())
