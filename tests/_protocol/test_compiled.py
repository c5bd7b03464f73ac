"""The choice between the compiled half and Python."""

import logging
import runpy
import sys
from typing import Any

import pytest

from tests._protocol.implementations import needs_speedups
from trio_ws._protocol import compiled


@pytest.fixture(autouse=True)
def debug(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_ws.protocol")
    monkeypatch.delenv("TRIO_WS_NO_SPEEDUPS", raising=False)


def load() -> Any:  # noqa: ANN401 - a module or None
    """Run the module anew, apart from the one that is in use."""
    return runpy.run_path(compiled.__file__)["speedups"]


@needs_speedups
def test_compiled_half_is_used_where_it_is_built(caplog: pytest.LogCaptureFixture) -> None:
    assert load().__name__ == "trio_ws._protocol.speedups"
    assert caplog.messages == []


def test_python_is_used_where_the_compiled_half_is_turned_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_WS_NO_SPEEDUPS", "1")

    assert load() is None
    assert caplog.messages == ["frames are made and parsed in Python: TRIO_WS_NO_SPEEDUPS=1"]


def test_python_is_used_where_nothing_was_built(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("trio_ws._protocol.speedups", raising=False)
    monkeypatch.setitem(sys.modules, "trio_ws._protocol.speedups", None)

    assert load() is None
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
