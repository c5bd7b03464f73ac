"""Fixtures for the tests of the transport."""

import pytest

from tests._transport.fakes import EngineType, Tls
from tests.fakes import WholeMessages
from trio_ws._protocol.engine import Engine


@pytest.fixture(params=[Engine, WholeMessages], ids=["ours", "wsproto"])
def engine_type(request: pytest.FixtureRequest) -> EngineType:
    """Give each of the two engines that a connection can run on."""
    engine_type: EngineType = request.param
    return engine_type


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Give a certificate for this machine and the contexts that go with it."""
    return Tls()
