"""Fixtures of the protocol layer: what may be compiled, compiled and in Python."""

import pytest

from tests._protocol.implementations import (
    EITHER,
    Mask,
    MaskInPlace,
    Serialise,
    SmallFrame,
    Split,
    either,
)
from trio_ws._protocol.frames import python_serialise, python_split
from trio_ws._protocol.masking import python_mask, python_mask_in_place
from trio_ws._protocol.messages import python_small_frame


@pytest.fixture(scope="session", params=EITHER)
def mask(request: pytest.FixtureRequest) -> Mask:
    return either(request, python_mask)


@pytest.fixture(scope="session", params=EITHER)
def mask_in_place(request: pytest.FixtureRequest) -> MaskInPlace:
    return either(request, python_mask_in_place)


@pytest.fixture(scope="session", params=EITHER)
def serialise(request: pytest.FixtureRequest) -> Serialise:
    return either(request, python_serialise)


@pytest.fixture(scope="session", params=EITHER)
def small_frame(request: pytest.FixtureRequest) -> SmallFrame:
    return either(request, python_small_frame)


@pytest.fixture(scope="session", params=EITHER)
def split(request: pytest.FixtureRequest) -> Split:
    return either(request, python_split)
