"""Both implementations of what may be compiled, for tests that run over either or compare them."""

import os
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import pytest

from trio_ws._types import Message

try:
    # The compiled half itself, whatever TRIO_WS_NO_SPEEDUPS says.
    from trio_ws._protocol import speedups
except ImportError:
    BUILT = False
else:
    BUILT = True

needs_speedups = pytest.mark.skipif(
    not BUILT and os.environ.get("TRIO_WS_REQUIRE_SPEEDUPS") != "1",
    reason="the compiled half is not built",
)

Function = TypeVar("Function", bound=Callable[..., object])


class Mask(Protocol):
    def __call__(
        self, data: bytes | bytearray | memoryview, key: bytes, offset: int = 0
    ) -> bytes: ...


class MaskInPlace(Protocol):
    def __call__(self, data: bytearray | memoryview, key: bytes, offset: int = 0) -> None: ...


class Serialise(Protocol):
    def __call__(
        self,
        opcode: int,
        payload: bytes | bytearray | memoryview,
        *,
        masked: bool,
        fin: bool = True,
    ) -> bytes: ...


class SmallFrame(Protocol):
    def __call__(self, message: object, masked: bool, /) -> bytes | None: ...


class Split(Protocol):
    def __call__(
        self,
        data: bytes | bytearray | memoryview,
        start: int,
        *,
        masked: bool,
        max_message: float,
        max_count: float,
        max_bytes: float,
    ) -> tuple[list[Message], int, int]: ...


def either(request: pytest.FixtureRequest, twin: Function) -> Function:
    """Return a Python function or its compiled twin, as a fixture's parameter says."""
    return twin if request.param == "python" else compiled(twin)


def compiled(twin: Function) -> Function:
    """Return the compiled twin of a Python function."""
    # Interned: Python remembers names that attributes were looked up by, and tests count memory.
    name = sys.intern(twin.__name__.removeprefix("python_"))
    return cast("Function", getattr(speedups, name))


EITHER = ["python", pytest.param("compiled", marks=needs_speedups)]
