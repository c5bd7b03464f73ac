"""`Poller`: waits for all sockets of a run at once, and writes to them.

Theory of operation
-------------------
Waiting for a socket costs Trio a failed `recv`, a system call to register, and a task step, for
each socket and each time. Here one task per run waits on the descriptor of an epoll (or kqueue) of
its own, which Trio can wait for like any other. It asks that epoll which sockets are ready, serves
each of them once, and lets all other tasks have their step before it asks again. So none is read
twice before every ready one was read once, and a round is bounded by the number of events asked
for.

A second task writes. The first frame queued in a tick puts its socket on a list and wakes it; it
runs after the tasks of that tick, and writes to each listed socket, in rounds bounded like the
others. A socket whose buffer is full is watched by the epoll like one that is to be read.

Both begin with the first socket or server, and end with the last. Whatever goes wrong with one
socket stays with that socket.

The system forgets a closed descriptor by itself, unless there is a copy of it: then it reports,
for ever, what nobody knows any more, or what another socket of the same number does not have. An
event that is of no use twice running is taken for that, and all is watched anew.
"""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Protocol

import trio

from trio_ws._protocol.messages import forget_message
from trio_ws._transport.watchers import Watcher, can_watch, make_watcher

READ_SIZE = 256 * 1024
"""Bytes of one read. Three messages of 64 KiB are within it, and a read costs all tasks a turn;
twice as many would leave less of the processor's cache to what is made of them."""

LARGE_READ = 1024 * 1024
"""Bytes of one read while a large frame arrives: a message of the largest size that is allowed by
default. Every read costs a turn of all tasks, and a message in eight reads half as much again."""

_KEPT_FREE = 2 * 1024 * 1024
"""Bytes of a block that is taken and freed at once: two of the largest messages that are allowed by
default. On 64 bits GNU's C library takes its size for a measure: what was freed of smaller ones it
keeps for the next, up to twice as much. Else it gives the memory of each large message back to the
system, and the next one pays for every page of its own: a sixth to a quarter of all that messages
of 200 kB to 1 MB cost. The price is that after a first peak of them memory may stay with the
process, as it does after every later one anyway. Elsewhere this does nothing."""

_MAX_BYTES = 4 * 1024 * 1024  # bytes read before all other tasks have their step

_MAX_TIME = 0.005
"""Seconds of serving before all other tasks have their step: what a byte costs is for its sender to
choose, above all one that is decrypted or inflated. Writing takes the system as long as there is
much to copy, or to encrypt."""

_MAX_FLUSHES = 256  # sockets written to before all other tasks have their step

_MAX_SERVED = 32
"""Sockets read before all other tasks have their step. A message is read, received and answered by
tasks that take turns; in small rounds what a connection consists of stays in the processor's caches
from the one to the other. With a thousand busy ones that saves a sixth of the time."""

_GRACE = 10.0  # seconds in which what is left at the end of a run can say goodbye

_logger = logging.getLogger("trio_ws.wire")


class Polled(Protocol):
    """What the poller serves. A method that raises costs this one its place."""

    interest: int
    """What it is watched for."""

    def ready(self, interest: int, now: float, /) -> bool:
        """Read once, or write on, as far as it is wanted.

        Args:
            interest: `READ`, `WRITE` or both; an error of the socket counts as both.
            now: `trio.current_time`.

        Returns:
            Whether there was something to do.
        """
        ...

    def flush(self) -> None:
        """Write what waits."""

    def replaced(self) -> None:
        """Note that the descriptor was closed behind our back: another socket has it now."""


class Poller:
    """The shared tasks of one `trio.run`. Got by `current_poller`."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._sockets: dict[int, Polled] = {}
        self._unwritten: list[Polled] = []
        self._idle_flusher: trio.lowlevel.Task | None = None
        # One buffer for all reads; whoever is handed a part of it copies what it wants to keep.
        self._buffers = [bytearray(READ_SIZE)]
        self._view = memoryview(self._buffers[0])
        # Of its pages only the first is touched.
        bytes(_KEPT_FREE)
        # These are made when they are needed.
        self._large: memoryview | None = None
        self._workspace: memoryview | None = None
        self._read_in_round = 0
        # Events of the last round that were of no use.
        self._useless: set[int] = set()
        # How many want it to stay when there is no socket.
        self._keepers = 0
        self._closed = False
        # Connections of system tasks are still there at the end of a run, and say goodbye.
        self._serving = trio.CancelScope(shield=True)
        trio.lowlevel.spawn_system_task(self._serve)

    @property
    def ended(self) -> bool:
        """Whether nobody needs it any more; `current_poller` gives another one."""
        return self._closed or self._serving.cancel_called

    @trio.lowlevel.enable_ki_protection
    def add(self, fd: int, polled: Polled) -> None:
        """Know a socket from now on; `watch` says for what."""
        stale = self._sockets.get(fd)
        self._sockets[fd] = polled
        if stale is not None:
            try:
                stale.replaced()
            except Exception:
                _logger.exception("ending a connection whose socket was closed failed")

    @trio.lowlevel.enable_ki_protection
    def remove(self, fd: int, polled: Polled) -> None:
        """Forget a socket, before its descriptor is closed.

        With the last one the tasks end, unless somebody has asked to `keep` them.
        """
        if self._sockets.get(fd) is polled:
            del self._sockets[fd]
        self._end_if_unneeded()

    @trio.lowlevel.enable_ki_protection
    def keep(self) -> None:
        """Stay, sockets or not, until `let_go` is called as often as this."""
        self._keepers += 1

    @trio.lowlevel.enable_ki_protection
    def let_go(self) -> None:
        """Note that somebody who has called `keep` does not need it any more."""
        self._keepers -= 1
        self._end_if_unneeded()

    def _end_if_unneeded(self) -> None:
        if not (self._sockets or self._keepers):
            if _current.get() is self:
                _current.set(None)
            self._serving.cancel()

    def watch(self, fd: int, interest: int, before: int) -> None:
        """Change what a socket is watched for.

        Args:
            fd: Its descriptor.
            interest: `READ`, `WRITE`, both or 0.
            before: What it was watched for until now.

        Raises:
            OSError: The system does not watch it: there is no memory for that, or it is closed.
                To watch for nothing always succeeds.
        """
        if not self._closed:
            self._watcher.watch(fd, interest, before)

    def read(self, fd: int, expected: int = 0) -> memoryview:
        """Read once from a descriptor.

        Args:
            fd: The descriptor.
            expected: Bytes without which what was read before is of no use. If they are more than
                `READ_SIZE`, so many are read, up to `LARGE_READ`, and not one behind them.

        Returns:
            What was read, until the next call; empty at the end.

        Raises:
            OSError: The system says so; `BlockingIOError` when there is nothing to read.
        """
        if expected > READ_SIZE:
            if self._large is None:
                self._large = memoryview(bytearray(LARGE_READ))
            view = self._large
            count = os.readv(fd, (view[:expected],))
        else:
            view = self._view
            count = os.readv(fd, self._buffers)
        self._read_in_round += count
        return view[:count]

    @property
    def workspace(self) -> memoryview:
        """Room for what is made of what was read; whoever wants to keep a part of it copies it."""
        if self._workspace is None:
            self._workspace = memoryview(bytearray(READ_SIZE))
        return self._workspace

    @trio.lowlevel.enable_ki_protection
    def flush_soon(self, polled: Polled) -> None:
        """Have `flush` called after the tasks of this tick have had their step."""
        if self._closed:
            polled.flush()
            return
        self._unwritten.append(polled)
        if self._idle_flusher is not None:
            trio.lowlevel.reschedule(self._idle_flusher)
            self._idle_flusher = None

    @trio.lowlevel.enable_ki_protection
    async def _serve(self) -> None:
        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(self._bound_the_end)
                with self._serving:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._poll)
                        nursery.start_soon(self._flush)
                outer.cancel_scope.cancel()
        finally:
            self._closed = True
            if _current.get() is self:
                _current.set(None)
            self._watcher.close()

    @trio.lowlevel.enable_ki_protection
    async def _bound_the_end(self) -> None:
        """Give the shield of the shared tasks a deadline when the run ends."""
        try:
            await trio.sleep_forever()
        finally:
            if self._sockets or self._keepers:
                self._serving.deadline = trio.current_time() + _GRACE
            else:
                self._serving.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _poll(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._watcher.fileno())
            now = trio.current_time()
            # A socket that is written to because it can be again passes the flusher by.
            forget_message()
            # Asked for each event, where Trio's clock would show.
            began = perf_counter()
            useless: set[int] = set()
            served = 0
            polled: Polled | None
            for fd, interest in self._watcher.ready():
                # One that was served before it in this round may have removed it.
                polled = self._sockets.get(fd)
                if polled is None:
                    useless.add(fd)
                    continue
                try:
                    if not polled.ready(interest, now):
                        useless.add(fd)
                except Exception:
                    _logger.exception("serving a socket failed; it is not served any more")
                    # It may have removed itself before it failed.
                    self._sockets.pop(fd, None)
                    self._watcher.watch(fd, 0, polled.interest)
                served += 1
                if (
                    served == _MAX_SERVED
                    or self._read_in_round >= _MAX_BYTES
                    or perf_counter() - began >= _MAX_TIME
                ):
                    served = self._read_in_round = 0
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
                    began = perf_counter()
            # Waiting for the next one may take long, and nothing is to be kept from going away.
            polled = None
            self._read_in_round = 0
            if useless & self._useless:
                self._watch_anew()
                useless.clear()
            self._useless = useless

    def _watch_anew(self) -> None:
        """Forget what the system still watches, and nobody knows."""
        try:
            watcher = make_watcher()
        except OSError:
            # No descriptor is free; the next round will ask again.
            return
        assert watcher is not None
        for fd, polled in self._sockets.items():
            # Closed behind our back: its own next read or write will tell.
            with suppress(OSError):
                watcher.watch(fd, polled.interest, 0)
        self._watcher.close()
        self._watcher = watcher

    @trio.lowlevel.enable_ki_protection
    async def _flush(self) -> None:
        while True:
            if not self._unwritten:
                self._idle_flusher = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
            unwritten = self._unwritten[:_MAX_FLUSHES]
            # Whatever was sent to many in this tick has been sent by now.
            forget_message()
            began = perf_counter()
            flushed = 0
            polled: Polled | None
            for polled in unwritten:
                flushed += 1
                try:
                    polled.flush()
                except Exception:
                    _logger.exception("writing to a socket failed")
                if perf_counter() - began >= _MAX_TIME:
                    break
            # Those that have more to write have come again behind them.
            del self._unwritten[:flushed]
            # As in `_poll`.
            polled = None
            unwritten.clear()
            if self._unwritten:
                # A large backlog is written in rounds, between those of all other tasks.
                await trio.lowlevel.checkpoint()

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._idle_flusher = None
        return trio.lowlevel.Abort.SUCCEEDED


_current: trio.lowlevel.RunVar[Poller | None] = trio.lowlevel.RunVar("trio_ws.poller", None)


def current_poller() -> Poller | None:
    """Return the poller of this run, started if there is none; None where there can be none.

    ``TRIO_WS_NO_POLLER=1`` in the environment turns it off, and every connection gets tasks of
    its own.
    """
    poller = _current.get()
    if poller is None and can_poll():
        poller = _make_poller()
        _current.set(poller)
    return poller


@contextmanager
def kept_poller() -> Generator[None, None, None]:
    """Keep the poller of this run as long as a block lasts.

    Where connections are short and few, its tasks would else begin and end with every other one,
    which is a twentieth of their cost.
    """
    poller = current_poller()
    if poller is None:
        yield
        return
    poller.keep()
    try:
        yield
    finally:
        poller.let_go()


def can_poll() -> bool:
    """Tell whether `current_poller` has one, unless the system is short of something."""
    return os.environ.get("TRIO_WS_NO_POLLER") != "1" and can_watch()


def _make_poller() -> Poller | None:
    try:
        watcher = make_watcher()
    except OSError as error:
        _logger.warning("no poller can be had now, tasks do its work: %s", error)
        return None
    return None if watcher is None else Poller(watcher)
