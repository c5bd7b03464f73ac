"""`open_tasks`: a nursery that ends with a connection."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from trio_ws._transport.link import Link
from trio_ws._transport.nurseries import lone_errors

_Held: TypeAlias = tuple[trio.Nursery, trio.Event]
"""The nursery, and the event that says its block was left."""


@asynccontextmanager
async def open_tasks(link: Link) -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery whose tasks are cancelled when the link's connection ends; its block is not.

    The nursery lives in a task of its own, so that its cancel scope does not hold the block.

    Yields:
        The nursery.
    """
    failure: BaseException | None = None
    try:
        with lone_errors():
            async with trio.open_nursery() as outer:
                held: list[_Held] = []
                outer.start_soon(_hold, link, held)
                while not held:
                    # One step of that task is all there is to wait for. Neither a cancellation nor
                    # Ctrl-C comes in between: either would leave it waiting for this block's end.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                tasks, left = held[0]
                try:
                    yield tasks
                except BaseException as error:  # noqa: BLE001 - it is raised below, out of the nurseries
                    failure = error
                    tasks.cancel_scope.cancel()
                left.set()
    except BaseException as error:
        if failure is None or isinstance(failure, trio.Cancelled):
            raise
        if isinstance(error, trio.Cancelled):
            raise failure from None
        text = "the block of a nursery failed, and so did a task in it"
        raise BaseExceptionGroup(text, [failure, error]) from None
    if failure is not None:
        raise failure


@trio.lowlevel.enable_ki_protection
async def _hold(link: Link, held: list[_Held]) -> None:
    left = trio.Event()
    scope = trio.CancelScope()
    link.add_scope(scope)
    try:
        with scope:
            async with trio.open_nursery() as tasks:
                held.append((tasks, left))
                await _wait_left(tasks, left)
    finally:
        # Not before its tasks have ended: they may go on for long after the block was left.
        link.discard_scope(scope)


async def _wait_left(tasks: trio.Nursery, left: trio.Event) -> None:
    try:
        await left.wait()
    except trio.Cancelled:
        if not tasks.cancel_scope.cancel_called:
            # The connection has ended, or all of this is cancelled, and the block may start tasks
            # yet: they are cancelled at once, which is better than to be told that the nursery is
            # closed. The block itself is not shielded, and sets the event whichever way it is left.
            # Only when a task has failed it is the block that waits to be cancelled.
            with trio.CancelScope(shield=True):
                await left.wait()
        raise
