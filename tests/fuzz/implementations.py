"""`using`: run the engine with the compiled frames, or with those in Python."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from tests._protocol.implementations import BUILT, compiled
from trio_ws._protocol import assembly, engine, frames
from trio_ws._protocol.frames import python_serialise, python_split
from trio_ws._protocol.masking import python_mask, python_mask_in_place

Implementation: TypeAlias = Literal["python", "compiled"]

IMPLEMENTATIONS: tuple[Implementation, ...] = ("python", "compiled") if BUILT else ("python",)
"""Those there are here."""

_TWINS = (python_mask, python_mask_in_place, python_serialise, python_split)


@contextmanager
def using(implementation: Implementation) -> Generator[None, None, None]:
    """Have the engine use one implementation within a block."""
    changed: list[tuple[object, str, object]] = []
    modules: tuple[object, ...] = (assembly, engine, frames)
    for twin in _TWINS:
        name = twin.__name__.removeprefix("python_")
        for module in modules:
            if hasattr(module, name):
                changed.append((module, name, getattr(module, name)))
                setattr(module, name, twin if implementation == "python" else compiled(twin))
    try:
        yield
    finally:
        for changed_module, name, value in changed:
            setattr(changed_module, name, value)
