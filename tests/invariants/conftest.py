"""Fixtures for the tests of the invariants."""

import pytest

from tests._transport.fakes import Tls
from tests.invariants.cancelling import Line, Side
from trio_ws._transport.watchers import make_watcher


@pytest.fixture(params=["memory", "poller", "tasks"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Give each kind of line: in memory, and over sockets with and without the poller."""
    line = Line(request.param)
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "0" if line.kind == "poller" else "1")
    if line.kind == "poller":
        watcher = make_watcher()
        if watcher is None:
            pytest.skip("there is neither epoll nor kqueue on this system")
        watcher.close()
    return line


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> Side:
    """Give each side that a connection can be on."""
    side: Side = request.param
    return side


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Give a certificate for this machine and the contexts that go with it."""
    return Tls()
