"""The kinds of watchers, for the tests of what both do."""

import select
import selectors

import pytest

from trio_ws._transport.watchers import EpollWatcher, SelectorWatcher, Watcher


def make_epoll_watcher() -> Watcher:
    if not hasattr(select, "epoll"):  # pragma: no cover - only macOS and Windows have none
        pytest.skip("epoll is Linux's")
    return EpollWatcher()


def make_selector_watcher() -> Watcher:
    # The selector there is that has a descriptor: kqueue's or epoll's.
    return SelectorWatcher(selectors.DefaultSelector())


each_watcher = pytest.mark.parametrize("make", [make_epoll_watcher, make_selector_watcher])
