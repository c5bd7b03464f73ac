"""`open_tasks` cancels its tasks when the connection ends, and never its block."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests._transport.fakes import link_of, open_near, open_pair
from trio_ws._transport.connection import Connection
from trio_ws._transport.tasks import open_tasks


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_tasks_are_cancelled_when_either_side_closes(closer: str) -> None:
    async with open_pair() as (client, server):
        async with open_tasks(link_of(client)) as nursery:
            nursery.start_soon(trio.sleep_forever)
            await (client if closer == "client" else server).aclose()

        assert not nursery.child_tasks


async def test_tasks_are_cancelled_when_the_connection_is_lost() -> None:
    async with open_near() as (near, peer):
        async with open_tasks(link_of(near)) as nursery:
            nursery.start_soon(trio.sleep_forever)
            await peer.stream.aclose()

        assert near.close_code == 1006


async def test_the_block_is_not_cancelled_and_receives_what_arrived_before() -> None:
    async with open_pair() as (client, server), open_tasks(link_of(client)) as nursery:
        nursery.start_soon(trio.sleep_forever)
        await server.send("last")
        await server.aclose()
        await wait_all_tasks_blocked()

        assert not nursery.child_tasks
        assert await client.receive() == "last"


async def test_a_task_started_after_the_close_is_cancelled_at_once() -> None:
    done: list[str] = []

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        done.append("work")

    async with open_pair() as (client, server), open_tasks(link_of(client)) as nursery:
        await server.aclose()
        await wait_all_tasks_blocked()
        nursery.start_soon(work)
        await wait_all_tasks_blocked()

    assert done == []


async def test_a_nursery_opened_after_the_close_cancels_its_tasks_at_once() -> None:
    async with open_pair() as (client, server):
        await server.aclose()

        async with open_tasks(link_of(client)) as nursery:
            nursery.start_soon(trio.sleep_forever)

        assert not nursery.child_tasks


async def test_leaving_the_block_waits_for_the_tasks() -> None:
    done: list[str] = []

    async def work() -> None:
        await wait_all_tasks_blocked()
        done.append("work")

    async with open_pair() as (client, _), open_tasks(link_of(client)) as nursery:
        nursery.start_soon(work)

    assert done == ["work"]


async def test_tasks_that_are_waited_for_are_cancelled_by_the_close() -> None:
    async with open_pair() as (client, server):
        async with trio.open_nursery() as other, open_tasks(link_of(client)) as nursery:
            nursery.start_soon(trio.sleep_forever)
            other.start_soon(_close_when_blocked, server)

        assert client.closed_by == "remote"


async def _close_when_blocked(connection: Connection) -> None:
    await wait_all_tasks_blocked()
    await connection.aclose()


async def test_an_error_of_a_task_cancels_the_block_and_leaves_it_alone() -> None:
    error = ValueError("lone")

    async def live() -> None:
        async with open_near() as (near, _), open_tasks(link_of(near)) as nursery:
            nursery.start_soon(fail, error)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="lone") as caught:
        await live()
    assert caught.value is error


async def test_an_error_of_the_block_cancels_the_tasks_and_leaves_it_alone() -> None:
    error = ValueError("lone")

    async def live() -> None:
        async with open_near() as (near, _), open_tasks(link_of(near)) as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    with pytest.raises(ValueError, match="lone") as caught:
        await live()
    assert caught.value is error


async def test_an_error_of_a_cancelled_block_is_raised_all_the_same() -> None:
    error = ValueError("lone")

    async def live() -> None:
        async with open_near() as (near, _):
            with trio.CancelScope() as scope:
                async with open_tasks(link_of(near)):
                    scope.cancel()
                    raise error

    with pytest.raises(ValueError, match="lone") as caught:
        await live()
    assert caught.value is error


async def test_errors_of_the_block_and_of_a_task_leave_in_one_group() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError

    async def live() -> None:
        async with open_near() as (near, _), open_tasks(link_of(near)) as nursery:
            nursery.start_soon(fail_when_cancelled)
            await wait_all_tasks_blocked()
            raise ValueError

    with pytest.raises(ExceptionGroup) as caught:
        await live()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


async def test_errors_of_two_tasks_stay_a_group() -> None:
    async def live() -> None:
        async with open_near() as (near, _), open_tasks(link_of(near)) as nursery:
            nursery.start_soon(fail, ValueError())
            nursery.start_soon(fail, KeyError())

    with pytest.raises(ExceptionGroup) as caught:
        await live()
    assert caught.group_contains(ValueError)
    assert caught.group_contains(KeyError)


async def test_a_cancelled_block_cancels_its_tasks() -> None:
    async with open_near() as (near, _):
        with trio.CancelScope() as scope:
            async with open_tasks(link_of(near)) as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
                await trio.sleep_forever()

    assert scope.cancelled_caught


async def test_a_block_that_was_cancelled_beforehand_is_entered_and_left() -> None:
    entered = False

    async with open_pair() as (client, server):
        await server.aclose()
        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_tasks(link_of(client)):
                entered = True
                await trio.lowlevel.checkpoint()

    assert entered
    assert scope.cancelled_caught


async def test_a_block_cancelled_after_the_close_is_left() -> None:
    async with open_pair() as (client, server):
        with trio.CancelScope() as scope:
            async with open_tasks(link_of(client)) as nursery:
                await server.aclose()
                await wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()

        assert scope.cancelled_caught
        assert not nursery.child_tasks


async def test_a_connection_forgets_a_nursery_that_is_over() -> None:
    async with open_near() as (near, _):
        for _ in range(3):
            async with open_tasks(link_of(near)):
                pass

        assert not link_of(near)._scopes  # noqa: SLF001 - what would leak
