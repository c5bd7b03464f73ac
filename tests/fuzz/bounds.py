"""`bounded` and `held`: how much work a piece of code does, and how much it keeps.

Neither asks a clock. Work is counted in lines of Python that were executed, whoever wrote them, so
it is the same on every machine. What compiled code does between two lines is not seen.
"""

import sys
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from tests.fuzz.haste import is_time_to_count

Trace: TypeAlias = Callable[[types.FrameType, str, object], "Trace | None"]

# What is shared by all, and not held by anybody.
_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


class TooMuchWorkError(AssertionError):
    """More lines were executed than there are reasons for."""


class Work:
    """How much was done in the block of `counted`."""

    def __init__(self) -> None:
        self.lines = 0
        """Lines of Python that were executed in functions called from the block."""


@contextmanager
def counted(limit: float = float("inf")) -> Generator[Work, None, None]:
    """Count the lines executed by what the block calls.

    Args:
        limit: Lines after which it is interrupted.

    Yields:
        Where they are counted.

    Raises:
        TooMuchWorkError: There were more.
    """
    work = Work()
    if not is_time_to_count():
        yield work
        return

    def on_event(_frame: types.FrameType, event: str, _argument: object) -> Trace:
        if event == "line":
            work.lines += 1
            if work.lines > limit:
                raise TooMuchWorkError(f"more than {limit} lines of Python were executed")
        return on_event

    # Coverage and debuggers use the same hook, and get it back.
    before = sys.gettrace()
    sys.settrace(on_event)
    try:
        yield work
    finally:
        sys.settrace(before)
    # Whoever swallows every exception has swallowed that one, too.
    if work.lines > limit:
        raise TooMuchWorkError(f"{work.lines} lines of Python were executed, not {limit}")


def held(*roots: object) -> int:
    """Return the bytes of everything that can be reached from some objects, each counted once.

    What a `memoryview` looks at is not held by it, for the sake of these tests: such buffers are
    lent.
    """
    seen: set[int] = set()
    waiting = list(roots)
    size = 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        if isinstance(each, (str, bytes, bytearray, memoryview)):
            continue
        if isinstance(each, Mapping):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, Iterable) and hasattr(each, "__len__"):
            waiting += each
        waiting += _attributes(each)
    return size


def _attributes(thing: object) -> list[object]:
    attributes: list[object] = list(getattr(thing, "__dict__", {}).values())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        attributes += [getattr(thing, name) for name in names if hasattr(thing, name)]
    return attributes
