"""`open_background` and `lone_errors`: what our own nurseries have in common."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import trio


@contextmanager
def lone_errors() -> Generator[None, None, None]:
    """Let an error that came out of nurseries of ours leave as itself when it is the only one.

    `trio.Cancelled` beside it does not count: the error takes the same way out. Ctrl-C counts once,
    however often it was pressed.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, rest = group.split(trio.Cancelled)
        error = _alone(group if rest is None else rest)
        context = error.__context__
        try:
            raise error
        finally:
            # Raising here made the group the error's context, and with it a cycle.
            error.__context__ = context
            del error, context, rest


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the errors of a group; none for an error that is no group."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def _alone(error: BaseException) -> BaseException:
    while inner := members(error):
        if len(inner) > 1 and not _is_interrupt(error):
            break
        error = next(iter(inner))
    return error


def _is_interrupt(error: BaseException) -> bool:
    """Tell whether an error, or all of a group, is Ctrl-C."""
    if inner := members(error):
        return all(map(_is_interrupt, inner))
    return isinstance(error, KeyboardInterrupt)


@asynccontextmanager
async def open_background() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery for tasks that a cancellation from outside does not reach.

    A connection's reader and writer have to go on while a cancelled block says goodbye. The
    nursery lives in a task of its own, under a shield; when this block is left, in whatever way,
    that is cancelled, and so the shield lasts no longer than the block. An error of the block
    leaves as it is, in no group.
    """
    failure: BaseException | None = None
    with lone_errors():
        async with trio.open_nursery() as outer:
            held: list[trio.Nursery] = []
            outer.start_soon(_hold, held)
            while not held:
                # One step of that task is all there is to wait for. Neither a cancellation nor
                # Ctrl-C comes in between: either would leave the task behind its shield.
                await trio.lowlevel.cancel_shielded_checkpoint()
            background = held[0]
            try:
                yield background
            except BaseException as error:  # noqa: BLE001 - it is raised below, out of the nursery
                failure = error
            background.cancel_scope.cancel()
    if failure is not None:
        raise failure


@trio.lowlevel.enable_ki_protection
async def _hold(held: list[trio.Nursery]) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            held.append(nursery)
            await trio.sleep_forever()
