"""Watchers tell which of many sockets are ready."""

import select
import selectors
import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests._transport.watchers import each_watcher
from trio_ws._transport import watchers as watchers_module
from trio_ws._transport.watchers import READ, WRITE, EpollWatcher, SelectorWatcher, Watcher

pytestmark = pytest.mark.network


@each_watcher
def test_a_watcher_tells_what_is_ready_as_far_as_it_was_asked(
    make: Callable[[], Watcher],
) -> None:
    watcher = make()
    here, there = socket.socketpair()
    with here, there:
        fd = here.fileno()
        there.send(b"x")

        seen = [list(watcher.ready())]
        for interest, before in ((READ, 0), (READ | WRITE, READ), (WRITE, READ | WRITE)):
            watcher.watch(fd, interest, before)
            seen.append(list(watcher.ready()))
        watcher.watch(fd, 0, WRITE)
        seen.append(list(watcher.ready()))
    watcher.close()

    assert seen == [[], [(fd, READ)], [(fd, READ | WRITE)], [(fd, WRITE)], []]


@each_watcher
def test_a_watcher_reports_a_hang_up_to_those_who_read(make: Callable[[], Watcher]) -> None:
    watcher = make()
    here, there = socket.socketpair()
    with here:
        fd = here.fileno()
        watcher.watch(fd, READ, 0)
        there.close()

        (event,) = watcher.ready()
        watcher.watch(fd, 0, READ)
        after = list(watcher.ready())
    watcher.close()

    assert event[0] == fd
    assert event[1] & READ
    assert after == []


def test_epoll_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(select, "epoll"):  # pragma: no cover - only macOS and Windows have none
        pytest.skip("epoll is Linux's")

    watcher = watchers_module.make_watcher()

    assert isinstance(watcher, EpollWatcher)
    watcher.close()


def test_kqueue_is_used_where_there_is_no_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers_module, "select", SimpleNamespace())
    fake = SimpleNamespace(KqueueSelector=selectors.DefaultSelector)
    monkeypatch.setattr(watchers_module, "selectors", fake)

    watcher = watchers_module.make_watcher()

    assert isinstance(watcher, SelectorWatcher)
    watcher.close()


@each_watcher
def test_to_watch_no_more_never_fails(make: Callable[[], Watcher]) -> None:
    watcher = make()
    here, there = socket.socketpair()
    fd = here.fileno()
    watcher.watch(fd, 0, 0)
    watcher.watch(fd, READ, 0)

    with there:
        here.close()
        watcher.watch(fd, 0, READ)
    watcher.close()


@each_watcher
def test_a_number_that_is_watched_already_can_be_watched_by_its_next_owner(
    make: Callable[[], Watcher],
) -> None:
    watcher = make()
    here, there = socket.socketpair()
    with there:
        fd = here.fileno()
        watcher.watch(fd, READ, 0)
        with socket.socket(fileno=here.detach()):
            watcher.watch(fd, WRITE, 0)

            seen = list(watcher.ready())
            watcher.watch(fd, 0, WRITE)
    watcher.close()

    assert seen == [(fd, WRITE)]


@each_watcher
def test_a_watchers_own_descriptor_is_readable_while_a_socket_is_ready(
    make: Callable[[], Watcher],
) -> None:
    watcher = make()
    here, there = socket.socketpair()
    with here, there:
        watcher.watch(here.fileno(), READ, 0)
        before = select.select([watcher.fileno()], [], [], 0)[0]
        there.send(b"x")
        after = select.select([watcher.fileno()], [], [], 0)[0]
    watcher.close()

    assert before == []
    assert len(after) == 1


def test_a_system_can_watch_when_it_has_a_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    before = watchers_module.can_watch()
    monkeypatch.setattr(watchers_module, "select", SimpleNamespace())
    monkeypatch.setattr(watchers_module, "selectors", SimpleNamespace())

    assert (before, watchers_module.can_watch()) == (True, False)
    assert watchers_module.make_watcher() is None
