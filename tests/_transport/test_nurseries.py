"""`lone_errors` lets lone errors out as themselves; `open_background` outlives a cancellation."""

import gc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_ws._transport.nurseries import lone_errors, members, open_background


async def fail(error: BaseException) -> None:
    raise error


def test_lone_errors_lets_an_error_pass_as_it_is() -> None:
    error = ValueError("lone")

    with pytest.raises(ValueError, match="lone") as caught, lone_errors():
        raise error

    assert caught.value is error


def test_lone_errors_takes_a_lone_error_out_of_its_groups() -> None:
    error = ValueError("lone")

    with pytest.raises(ValueError, match="lone") as caught, lone_errors():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [error])])

    assert caught.value is error


def test_lone_errors_keeps_a_real_group() -> None:
    with pytest.raises(ExceptionGroup) as caught, lone_errors():
        raise ExceptionGroup("both", [ValueError(), KeyError()])

    assert caught.group_contains(ValueError)
    assert caught.group_contains(KeyError)


def test_lone_errors_keeps_the_context_of_the_error() -> None:
    error, cause = ValueError("lone"), KeyError("before")
    error.__context__ = cause

    with pytest.raises(ValueError, match="lone") as caught, lone_errors():
        raise ExceptionGroup("outer", [error])

    assert caught.value.__context__ is cause


async def test_lone_errors_takes_an_error_from_among_cancellations() -> None:
    async def fail_among_others() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail, ValueError("lone"))
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="lone"), lone_errors():
        await fail_among_others()


async def test_lone_errors_lets_cancellations_alone_pass() -> None:
    with trio.CancelScope() as scope, lone_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught


def test_members_of_a_group_are_its_errors_and_of_an_error_none() -> None:
    errors = (ValueError(), KeyError())

    assert members(ExceptionGroup("both", errors)) == errors
    assert members(ValueError()) == ()


async def test_background_tasks_end_with_the_block() -> None:
    cancelled: list[str] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append("work")

    async with open_background() as background:
        background.start_soon(work)
        await wait_all_tasks_blocked()

    assert cancelled == ["work"]


async def test_background_tasks_go_on_while_a_cancelled_block_cleans_up() -> None:
    steps: list[str] = []

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        steps.append("worked")

    with trio.CancelScope() as scope:
        async with open_background() as background:
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                background.start_soon(work)
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert steps == ["worked"]


async def test_an_error_of_the_block_leaves_it_as_it_is() -> None:
    error = ValueError("lone")

    with pytest.raises(ValueError, match="lone") as caught:
        async with open_background():
            raise error

    assert caught.value is error


async def test_a_group_of_the_block_leaves_it_as_it_is() -> None:
    group = ExceptionGroup("one", [ValueError()])

    with pytest.raises(ExceptionGroup) as caught:
        async with open_background():
            raise group

    assert caught.value.exceptions == group.exceptions


async def test_an_error_of_a_background_task_cancels_the_block_and_leaves_it_alone() -> None:
    async def live() -> None:
        async with open_background() as background:
            background.start_soon(fail, ValueError("lone"))
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="lone"):
        await live()


async def test_a_cancelled_block_is_cancelled_and_no_more() -> None:
    with trio.CancelScope() as scope:
        async with open_background() as background:
            background.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.lowlevel.checkpoint()

    assert scope.cancelled_caught


async def test_a_block_that_was_cancelled_beforehand_is_entered_and_left() -> None:
    entered = False

    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_background() as background:
            entered = True
            background.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()

    assert entered
    assert scope.cancelled_caught


async def test_open_background_leaves_no_reference_cycle_behind() -> None:
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="lone"):
            async with open_background():
                raise ValueError("lone")
        found = gc.collect()
    finally:
        gc.enable()

    assert found == 0


def test_lone_errors_lets_ctrl_c_pass_once_however_often_it_was_pressed() -> None:
    pressed = KeyboardInterrupt()
    again = BaseExceptionGroup("again", [KeyboardInterrupt(), KeyboardInterrupt()])

    with pytest.raises(KeyboardInterrupt) as caught, lone_errors():
        raise BaseExceptionGroup("often", [pressed, again])

    assert caught.value is pressed


def test_lone_errors_keeps_ctrl_c_and_another_error_together() -> None:
    group = BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError()])

    with pytest.raises(BaseExceptionGroup) as caught, lone_errors():
        raise group

    assert caught.value.exceptions == group.exceptions
