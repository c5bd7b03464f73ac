"""`Block`, `unbroken` and `interruptible`: where Ctrl-C may come in between, and where it waits.

Trio raises `KeyboardInterrupt` wherever it finds the program, except in functions marked by
`trio.lowlevel.enable_ki_protection` and what they call; from there it goes to the main task, at its
next checkpoint. Our state is not to be found half changed, and a nursery not half opened, so all
that an application or Trio calls is marked; handlers are called by `interruptible`, so that one
which never comes to a checkpoint can still be stopped.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import NoReturn, ParamSpec, TypeVar

import trio

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")


class Block(AbstractAsyncContextManager[_T]):
    """What ``async with`` enters, and ``await``, as other libraries have it, does not."""

    __slots__ = ()

    def __await__(self) -> NoReturn:
        raise TypeError("this lasts as long as its block: write `async with`, not `await`")


class _Unbroken(Block[_T]):
    """A context manager whose entry and exit Ctrl-C does not interrupt, but for their waits."""

    __slots__ = ("_manager",)

    def __init__(self, manager: AbstractAsyncContextManager[_T]) -> None:
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> _T:
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)


def unbroken(
    make: Callable[_P, AbstractAsyncContextManager[_T]],
) -> Callable[_P, AbstractAsyncContextManager[_T]]:
    """Have Ctrl-C tear neither the entry nor the exit of a block.

    It goes around `asynccontextmanager`, which is code as any other: an interrupt on its first line
    would leave a block without leaving the nursery in it, and with that end in an internal error
    of Trio.
    """

    @wraps(make)
    @trio.lowlevel.enable_ki_protection
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> AbstractAsyncContextManager[_T]:
        return _Unbroken(make(*args, **kwargs))

    return wrapper


@trio.lowlevel.disable_ki_protection
async def interruptible(function: Callable[[_T], Awaitable[_U]], argument: _T) -> _U:
    """Call what is not ours, where Ctrl-C may come in between."""
    return await function(argument)
