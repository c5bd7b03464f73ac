"""`open_tasks`: a nursery that ends with a connection."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trio_ws._transport.link import Link
from trio_ws._transport.nurseries import lone_errors


@asynccontextmanager
async def open_tasks(link: Link) -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery whose tasks are cancelled when the link's connection ends; its block is not.

    The nursery lives in a task of its own, so that its cancel scope does not hold the block.

    Yields:
        The nursery.
    """
    failure: BaseException | None = None
    with lone_errors():
        async with trio.open_nursery() as outer:
            tasks, left = await outer.start(_hold, link)
            try:
                yield tasks
            except BaseException as error:  # noqa: BLE001 - it is raised below, out of the nurseries
                failure = error
                tasks.cancel_scope.cancel()
            left.set()
    if failure is not None:
        raise failure


async def _hold(
    link: Link, *, task_status: trio.TaskStatus[tuple[trio.Nursery, trio.Event]]
) -> None:
    left = trio.Event()
    async with trio.open_nursery() as tasks:
        link.add_scope(tasks.cancel_scope)
        try:
            task_status.started((tasks, left))
            await left.wait()
        except trio.Cancelled:
            if link.closure is not None:
                # The block goes on after the connection, and may start tasks yet: they are
                # cancelled at once, which is better than to be told that the nursery is closed. The
                # block itself is not shielded, and sets the event whichever way it is left.
                with trio.CancelScope(shield=True):
                    await left.wait()
            raise
        finally:
            link.discard_scope(tasks.cancel_scope)
