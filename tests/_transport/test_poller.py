"""`Poller` serves every ready socket once a round, and lives as long as it is needed."""

import gc
import os
import platform
import socket
import sys
import weakref
from collections.abc import Callable, Iterable
from tempfile import TemporaryFile
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.watchers import each_watcher, make_selector_watcher
from trio_ws._protocol.messages import message_frame
from trio_ws._transport import poller as poller_module
from trio_ws._transport import watchers as watchers_module
from trio_ws._transport.poller import (
    LARGE_READ,
    READ_SIZE,
    Polled,
    Poller,
    can_poll,
    current_poller,
    kept_poller,
)
from trio_ws._transport.watchers import READ, WRITE, Watcher

pytestmark = pytest.mark.network


class Served(Polled):
    """A socket that writes down what it is told.

    Args:
        then: Called each time it is ready or flushed.
    """

    def __init__(self, then: Callable[[], object] = bool) -> None:
        self._then = then
        self.readies: list[int] = []
        self.flushes = 0
        self.replacements = 0
        self.interest = READ
        self.useful = True

    def ready(self, interest: int, now: float, /) -> bool:
        assert now <= trio.current_time()
        self.readies.append(interest)
        self._then()
        return self.useful

    def flush(self) -> None:
        self.flushes += 1
        self._then()

    def replaced(self) -> None:
        self.replacements += 1


class SpyWatcher(Watcher):
    """A watcher for which sockets are ready when the test says so."""

    def __init__(self) -> None:
        self._ours, self._bell = socket.socketpair()
        self._ours.setblocking(False)
        self.events: list[tuple[int, int]] = []
        self.watched: list[tuple[int, int, int]] = []
        self.closed = False

    def ring(self, *events: tuple[int, int]) -> None:
        self.events = list(events)
        self._bell.send(b"!")

    def fileno(self) -> int:
        return self._ours.fileno()

    def watch(self, fd: int, interest: int, before: int) -> None:
        self.watched.append((fd, interest, before))

    def ready(self) -> Iterable[tuple[int, int]]:
        self._ours.recv(100)
        yield from self.events

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self._ours.close()
        self._bell.close()


@each_watcher
async def test_a_ready_socket_is_served(make: Callable[[], Watcher]) -> None:
    watcher = make()
    poller = Poller(watcher)
    here, there = socket.socketpair()
    with here, there:
        fd = here.fileno()
        served = Served(lambda: here.recv(10))
        poller.add(fd, served)
        poller.watch(fd, READ, 0)
        await wait_all_tasks_blocked()

        there.send(b"x")
        await wait_all_tasks_blocked()
        poller.watch(fd, 0, READ)
        there.send(b"x")
        await wait_all_tasks_blocked()
        poller.remove(fd, served)

    assert served.readies == [READ]


async def test_the_tasks_end_with_the_last_socket() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    first, last = Served(), Served()
    poller.add(1001, first)
    poller.add(1002, last)
    await wait_all_tasks_blocked()

    poller.remove(1001, first)
    await wait_all_tasks_blocked()
    before = (poller.ended, watcher.closed)
    poller.remove(1002, last)
    await wait_all_tasks_blocked()

    assert before == (False, False)
    assert (poller.ended, watcher.closed) == (True, True)


async def test_a_poller_can_end_before_its_tasks_began() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    served = Served()
    poller.add(1001, served)

    poller.remove(1001, served)
    await wait_all_tasks_blocked()

    assert watcher.closed


async def test_each_ready_socket_is_served_once_a_round() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    sockets = {1000 + number: Served() for number in range(300)}
    for fd, served in sockets.items():
        poller.add(fd, served)

    watcher.ring(*((fd, READ | (WRITE if fd % 2 else 0)) for fd in sockets))
    await wait_all_tasks_blocked()
    for fd, served in sockets.items():
        poller.remove(fd, served)

    assert all(
        served.readies == [READ | (WRITE if fd % 2 else 0)] for fd, served in sockets.items()
    )


async def test_other_tasks_run_between_two_rounds() -> None:
    poller = Poller(make_selector_watcher())
    here, there = socket.socketpair()
    with here, there:
        # It never reads, so it is ready in every round.
        served = Served()
        poller.add(here.fileno(), served)
        poller.watch(here.fileno(), READ, 0)
        there.send(b"x")

        counts: list[int] = []
        while len(served.readies) < 5:
            await trio.lowlevel.checkpoint()
            counts.append(len(served.readies))
        poller.watch(here.fileno(), 0, READ)
        poller.remove(here.fileno(), served)

    assert len(set(counts)) > 2


async def test_other_tasks_run_in_a_round_that_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    served = Served()
    monkeypatch.setattr(
        "trio_ws._transport.poller.perf_counter", lambda: 0.002 * len(served.readies)
    )
    for fd in range(1000, 1012):
        poller.add(fd, served)

    watcher.ring(*((fd, READ) for fd in range(1000, 1012)))
    counts: list[int] = []
    while len(served.readies) < 12:
        await trio.lowlevel.checkpoint()
        counts.append(len(served.readies))
    for fd in range(1000, 1012):
        poller.remove(fd, served)

    assert {0, 3, 6, 9, 12} >= set(counts)
    assert {3, 6, 9} & set(counts)


async def test_other_tasks_run_after_every_32_sockets_of_a_round() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    served = Served()
    for fd in range(1000, 1080):
        poller.add(fd, served)

    watcher.ring(*((fd, READ) for fd in range(1000, 1080)))
    counts: list[int] = []
    while len(served.readies) < 80:
        await trio.lowlevel.checkpoint()
        counts.append(len(served.readies))
    for fd in range(1000, 1080):
        poller.remove(fd, served)

    # Tasks that are ready have their step in any order, so one of these may lie between two steps.
    assert {0, 32, 64, 80} >= set(counts)
    assert {32, 64} & set(counts)


async def test_a_socket_that_another_one_removed_in_this_round_is_not_served() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    second = Served()
    first = Served(lambda: poller.remove(1002, second))
    poller.add(1001, first)
    poller.add(1002, second)

    watcher.ring((1001, READ), (1002, READ))
    await wait_all_tasks_blocked()
    poller.remove(1001, first)

    assert (len(first.readies), len(second.readies)) == (1, 0)


async def test_what_a_socket_is_watched_for_is_passed_on() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    served = Served()
    poller.add(1001, served)

    poller.watch(1001, READ | WRITE, READ)
    poller.remove(1001, served)

    assert watcher.watched == [(1001, READ | WRITE, READ)]


async def test_a_socket_is_told_that_its_descriptor_is_anothers() -> None:
    poller = Poller(SpyWatcher())
    stale, fresh = Served(), Served()
    poller.add(1001, stale)

    poller.add(1001, fresh)
    poller.remove(1001, stale)
    ended = poller.ended
    poller.remove(1001, fresh)

    assert (stale.replacements, fresh.replacements) == (1, 0)
    assert not ended


async def test_flush_runs_after_the_tasks_of_the_tick() -> None:
    poller = Poller(SpyWatcher())
    served = Served()
    poller.add(1001, served)
    counts: list[int] = []

    async def queue() -> None:
        poller.flush_soon(served)
        counts.append(served.flushes)

    for _ in range(2):
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(queue)
    await wait_all_tasks_blocked()
    poller.remove(1001, served)

    assert counts == [0, 0, 0, 3, 3, 3]
    assert served.flushes == 6


async def test_what_is_queued_before_the_tasks_begin_is_flushed() -> None:
    poller = Poller(SpyWatcher())
    served = Served()
    poller.add(1001, served)

    poller.flush_soon(served)
    await wait_all_tasks_blocked()
    poller.remove(1001, served)

    assert served.flushes == 1


async def test_a_backlog_is_flushed_in_rounds_between_which_others_run() -> None:
    poller = Poller(SpyWatcher())

    def again() -> None:
        if served.flushes < 10:
            poller.flush_soon(served)

    served = Served(again)
    poller.add(1001, served)
    await wait_all_tasks_blocked()
    poller.flush_soon(served)

    counts: list[int] = []
    while served.flushes < 10:
        await trio.lowlevel.checkpoint()
        counts.append(served.flushes)
    await wait_all_tasks_blocked()
    poller.remove(1001, served)

    assert served.flushes == 10
    assert len(set(counts)) >= 5


async def test_a_run_has_one_poller_until_its_last_socket_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    monkeypatch.setattr(poller_module, "make_watcher", SpyWatcher)
    first = current_poller()
    assert first is not None
    same = current_poller()
    served = Served()
    first.add(1001, served)

    first.remove(1001, served)
    second = current_poller()
    # An old one that is told something late does not end the one of today.
    first.remove(1001, served)

    assert first is same
    assert second is not None
    assert second is not first
    assert current_poller() is second


async def test_a_poller_that_is_kept_stays_without_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    served = Served()
    with kept_poller():
        poller = current_poller()
        assert poller is not None
        with kept_poller():
            assert current_poller() is poller
        assert not poller.ended
        poller.add(1001, served)
        poller.remove(1001, served)
        assert current_poller() is poller
        poller.add(1001, served)
    # A socket keeps it as well.
    assert current_poller() is poller
    poller.remove(1001, served)

    assert poller.ended


async def test_an_idle_poller_keeps_no_socket_that_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    poller.keep()
    served = [Served() for _ in range(3)]
    left = [weakref.ref(each) for each in served]
    for fd, each in enumerate(served):
        poller.add(1001 + fd, each)
        poller.flush_soon(each)
    watcher.ring(*((1001 + fd, READ) for fd in range(3)))
    await wait_all_tasks_blocked()
    seen = [(len(each.readies), each.flushes) for each in served]
    for fd, each in enumerate(served):
        poller.remove(1001 + fd, each)
    del served, each
    gc.collect()

    assert seen == [(1, 1)] * 3
    assert [ref() for ref in left] == [None] * 3
    poller.let_go()


def test_a_kept_poller_serves_those_who_come_at_the_end_of_a_run(
    autojump_clock: MockClock,
) -> None:
    served = Served()
    watcher = SpyWatcher()

    async def come_late(poller: Poller) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                poller.add(1001, served)
                watcher.ring((1001, READ))
                await trio.sleep(1)
                poller.remove(1001, served)
                poller.let_go()

    async def main() -> Poller:
        poller = Poller(watcher)
        poller.keep()
        trio.lowlevel.spawn_system_task(come_late, poller)
        await wait_all_tasks_blocked()
        return poller

    poller = trio.run(main, clock=autojump_clock)

    assert served.readies
    assert poller.ended


async def test_no_poller_is_kept_where_there_can_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "1")

    with kept_poller():
        assert current_poller() is None


async def test_there_is_no_poller_when_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "1")

    assert current_poller() is None


@pytest.mark.parametrize("watchers", [True, False])
@pytest.mark.parametrize("value", ["1", "0", ""])
async def test_whether_there_can_be_a_poller_is_known_without_making_one(
    watchers: bool, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_WS_NO_POLLER", value)
    monkeypatch.setattr(poller_module, "can_watch", lambda: watchers)

    assert can_poll() is (watchers and value != "1")


async def test_the_workspace_is_as_large_as_a_read_and_another_room() -> None:
    poller = Poller(SpyWatcher())
    served = Served()
    poller.add(1001, served)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"data")
        data = poller.read(ours.fileno())
        poller.workspace[:4] = b"DATA"

        assert bytes(data) == b"data"
        assert len(poller.workspace) == READ_SIZE
        assert bytes(poller.workspace[:4]) == b"DATA"
    poller.remove(1001, served)


@pytest.mark.parametrize(
    ("expected", "read"),
    [
        (0, READ_SIZE),
        (1, READ_SIZE),
        (READ_SIZE, READ_SIZE),
        (READ_SIZE + 1, READ_SIZE + 1),
        (LARGE_READ, LARGE_READ),
        (LARGE_READ + 1, LARGE_READ),
    ],
)
async def test_so_much_is_read_as_is_expected(expected: int, read: int) -> None:
    poller = Poller(SpyWatcher())
    served = Served()
    poller.add(1001, served)
    # A file has all of it at once, however little a socket of this system holds.
    with TemporaryFile() as file:
        file.write(content := os.urandom(LARGE_READ + READ_SIZE + 1))
        file.seek(0)

        assert poller.read(file.fileno(), expected) == content[:read]
        assert poller.read(file.fileno()) == content[read : read + READ_SIZE]
    poller.remove(1001, served)


_LARGE_MESSAGES = """
import resource, trio
from trio_ws._transport.poller import current_poller

def come_and_go(count):
    for _ in range(count):
        read = bytearray(900_000)
        message = bytes(read)
        del read
        answer = bytes(memoryview(message))
        del message, answer

async def main():
    assert current_poller() is not None
    come_and_go(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    come_and_go(100)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

trio.run(main)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or sys.maxsize < 2**32,
    reason="needs the C library of GNU, on 64 bits",
)
async def test_memory_of_large_messages_is_kept_for_the_next_ones() -> None:
    # What is exported may be about that, too.
    others = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "TRIO_WS_")
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(others)}
    command = [sys.executable, "-c", _LARGE_MESSAGES]

    done = await trio.run_process(command, capture_stdout=True, env=environment)

    # A message has some 600 pages in all.
    assert int(done.stdout) < 100 * 60


async def test_there_is_no_poller_without_epoll_and_kqueue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    monkeypatch.setattr(watchers_module, "select", SimpleNamespace())
    monkeypatch.setattr(watchers_module, "selectors", SimpleNamespace())

    assert current_poller() is None


def test_each_run_has_a_poller_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    watchers: list[SpyWatcher] = []

    def make_watcher() -> Watcher:
        watchers.append(SpyWatcher())
        return watchers[-1]

    monkeypatch.setattr(poller_module, "make_watcher", make_watcher)

    async def use() -> Poller | None:
        await trio.lowlevel.checkpoint()
        return current_poller()

    async def use_threads() -> None:
        outer = current_poller()
        for _ in range(2):
            assert await trio.to_thread.run_sync(trio.run, use) is not outer
        assert current_poller() is outer

    trio.run(use)
    trio.run(use_threads)

    assert [watcher.closed for watcher in watchers] == [True] * 4


async def test_other_tasks_run_in_a_round_that_reads_much() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    chunk = bytes(32 * 1024)
    rounds: list[int] = []

    def read() -> None:
        # Nothing but this end takes bytes, so each read gets all of a chunk.
        for _ in range(4):
            theirs.send(chunk)
            assert len(poller.read(ours.fileno())) == len(chunk)
        rounds.append(steps[0])

    steps = [0]

    async def count() -> None:
        while True:
            steps[0] += 1
            await trio.lowlevel.checkpoint()

    served = Served(read)
    with ours, theirs:
        for fd in range(1000, 1200):
            poller.add(fd, served)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            watcher.ring(*((fd, READ) for fd in range(1000, 1200)))
            while len(rounds) < 200:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    for fd in range(1000, 1200):
        poller.remove(fd, served)

    # 200 sockets with 128 KiB each, and a pause after every 4 MiB. Tasks that are ready have their
    # step in any order, so two parts of the round may lie between two steps of another task.
    assert max(map(rounds.count, set(rounds))) <= 64


@pytest.mark.parametrize("known", [True, False])
async def test_what_nobody_uses_is_not_reported_for_ever(known: bool) -> None:
    poller = Poller(make_selector_watcher())
    keeper, stale = Served(), Served()
    stale.useful = stale.interest = 0  # type: ignore[assignment]  # it has no use for any event
    here, there = socket.socketpair()
    with here, there:
        copy = os.dup(here.fileno())
        poller.add(copy + 1000, keeper)
        if known:
            poller.add(here.fileno(), stale)
        poller.watch(here.fileno(), READ, 0)
        there.send(b"x")

        # It would never come to rest.
        await wait_all_tasks_blocked()
        os.close(copy)
        poller.remove(here.fileno(), stale)
        poller.remove(copy + 1000, keeper)

    assert len(stale.readies) == (2 if known else 0)


async def test_all_others_are_watched_as_before_when_all_is_watched_anew() -> None:
    poller = Poller(make_selector_watcher())
    ours, theirs = socket.socketpair()
    here, there = socket.socketpair()
    with here, there, ours, theirs:
        served = Served(lambda: ours.recv(10))
        gone = Served()
        poller.add(ours.fileno(), served)
        poller.watch(ours.fileno(), READ, 0)
        # Its descriptor is none, so it cannot be watched.
        poller.add(100_000, gone)
        poller.watch(here.fileno(), READ, 0)
        there.send(b"x")
        await wait_all_tasks_blocked()

        theirs.send(b"x")
        await wait_all_tasks_blocked()
        poller.remove(100_000, gone)
        poller.remove(ours.fileno(), served)

    assert served.readies == [READ]


async def test_watching_anew_waits_for_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    make = watchers_module.make_watcher
    tries: list[int] = []

    def make_watcher() -> Watcher | None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        return make()

    monkeypatch.setattr(poller_module, "make_watcher", make_watcher)
    poller = Poller(make_selector_watcher())
    served = Served()
    here, there = socket.socketpair()
    with here, there:
        poller.add(100_000, served)
        poller.watch(here.fileno(), READ, 0)
        there.send(b"x")
        await wait_all_tasks_blocked()
        poller.remove(100_000, served)

    assert len(tries) == 3


async def test_a_fault_while_serving_costs_that_socket_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    faulty, other = Served(lambda: 1 // 0), Served()
    poller.add(1001, faulty)
    poller.add(1002, other)

    poller.flush_soon(faulty)
    poller.flush_soon(other)
    watcher.ring((1001, READ), (1002, READ))
    await wait_all_tasks_blocked()
    watcher.ring((1001, READ), (1002, READ))
    await wait_all_tasks_blocked()
    poller.remove(1002, other)

    assert (len(faulty.readies), len(other.readies), other.flushes) == (1, 2, 1)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert watcher.watched == [(1001, 0, READ)]


async def test_each_round_of_reading_has_its_own_time(mock_clock: MockClock) -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    times: list[tuple[float, float]] = []

    class Timed(Served):
        def ready(self, interest: int, now: float, /) -> bool:
            times.append((now, trio.current_time()))
            return super().ready(interest, now)

    served = Timed()
    for fd in range(1000, 1080):
        poller.add(fd, served)

    watcher.ring(*((fd, READ) for fd in range(1000, 1080)))
    while len(times) < 80:
        await trio.lowlevel.checkpoint()
        mock_clock.jump(1)
    for fd in range(1000, 1080):
        poller.remove(fd, served)

    assert len({now for now, _ in times}) > 1
    assert [now for now, _ in times] == [time for _, time in times]


async def test_a_socket_that_removes_itself_and_then_fails_costs_no_other() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)

    def leave_and_fail() -> None:
        poller.remove(1001, faulty)
        raise RuntimeError

    faulty, other = Served(leave_and_fail), Served()
    poller.add(1001, faulty)
    poller.add(1002, other)
    watcher.ring((1001, READ), (1002, READ))
    await wait_all_tasks_blocked()
    poller.remove(1002, other)

    assert len(other.readies) == 1


async def test_a_fault_of_one_whose_descriptor_was_reused_costs_not_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    poller = Poller(SpyWatcher())

    class Faulty(Served):
        def replaced(self) -> None:
            raise RuntimeError("mine")

    poller.add(1001, Faulty())
    poller.add(1001, fresh := Served())
    poller.flush_soon(fresh)
    await wait_all_tasks_blocked()
    poller.remove(1001, fresh)

    assert fresh.flushes == 1
    assert "RuntimeError: mine" in caplog.text


async def test_other_tasks_run_while_writing_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    poller = Poller(SpyWatcher())
    order: list[int] = []

    class Numbered(Served):
        def flush(self) -> None:
            number = self.interest
            # The first one has more to write, for which its turn comes behind all others.
            if not order:
                poller.flush_soon(self)
            order.append(number)

    monkeypatch.setattr("trio_ws._transport.poller.perf_counter", lambda: 0.002 * len(order))
    poller.add(1001, served := Served())
    for number in range(12):
        each = Numbered()
        each.interest = number
        poller.flush_soon(each)

    counts: list[int] = []
    for _ in range(30):
        await trio.lowlevel.checkpoint()
        counts.append(len(order))
    poller.remove(1001, served)

    assert order == [*range(12), 0]
    assert {0, 3, 6, 9, 12, 13} >= set(counts)
    assert {3, 6, 9} & set(counts)


async def test_a_round_of_reading_forgets_the_message_that_was_sent_to_many() -> None:
    watcher = SpyWatcher()
    poller = Poller(watcher)
    poller.add(1001, served := Served())
    message = "for many"
    frame = message_frame(message, masked=False)
    known = message_frame(message, masked=False)

    watcher.ring((1001, WRITE))
    await wait_all_tasks_blocked()
    poller.remove(1001, served)

    assert known is frame
    assert message_frame(message, masked=False) is not frame


async def test_a_large_backlog_is_flushed_in_rounds() -> None:
    poller = Poller(SpyWatcher())
    flushed: list[int] = []
    served = Served(lambda: flushed.append(len(flushed)))
    poller.add(1001, served)
    steps: list[int] = []

    for _ in range(1000):
        poller.flush_soon(served)
    while len(flushed) < 1000:
        await trio.lowlevel.checkpoint()
        steps.append(len(flushed))
    poller.remove(1001, served)

    assert len(set(steps)) > 2


def test_a_connection_of_a_system_task_says_goodbye_at_the_end_of_the_run(
    autojump_clock: MockClock,
) -> None:
    pollers: list[Poller] = []
    served = Served()

    async def connection() -> None:
        poller = Poller(SpyWatcher())
        pollers.append(poller)
        poller.add(1001, served)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                poller.flush_soon(served)
                await trio.sleep(1)
                poller.remove(1001, served)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(connection)
        await wait_all_tasks_blocked()

    trio.run(main, clock=autojump_clock)

    assert (served.flushes, pollers[0].ended) == (1, True)


def test_the_shared_tasks_outlive_the_run_by_their_grace_only(autojump_clock: MockClock) -> None:
    served = Served()
    watcher = SpyWatcher()

    async def main() -> Poller:
        poller = Poller(watcher)
        poller.add(1001, served)
        await wait_all_tasks_blocked()
        return poller

    poller = trio.run(main, clock=autojump_clock)

    assert (poller.ended, watcher.closed) == (True, True)
    # Whoever comes now is served at once, and watches nothing.
    poller.flush_soon(served)
    poller.watch(1001, READ, 0)
    assert (served.flushes, watcher.watched) == (1, [])


async def test_there_is_no_poller_while_no_descriptor_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Watcher | None:
        raise OSError(24, "Too many open files")

    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    monkeypatch.setattr(poller_module, "make_watcher", fail)

    assert current_poller() is None
    assert "Too many open files" in caplog.text
