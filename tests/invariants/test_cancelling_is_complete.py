"""Every public coroutine is cancelled at every moment, and the harness finds what it is to find."""

import inspect
from collections.abc import Callable, Coroutine, Iterator
from types import FunctionType, ModuleType
from typing import cast

import pytest
import trio

import trio_ws
import trio_ws.middleware
import trio_ws.testing
from tests.invariants import (
    test_cancelling_clients,
    test_cancelling_connections,
    test_cancelling_servers,
    test_cancelling_test_kit,
)
from tests.invariants.cancelling import Canceller, Line, at_every_moment

_TESTS = (
    test_cancelling_clients,
    test_cancelling_connections,
    test_cancelling_servers,
    test_cancelling_test_kit,
)
_MEMORY = Line("memory")


def _covered() -> set[str]:
    tests = [test for module in _TESTS for test in vars(module).values() if callable(test)]
    return {name for test in tests for name in getattr(test, "covers", ())}


def _public_coroutines(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        public = getattr(module, name)
        path = f"{module.__name__}.{name}"
        if inspect.isclass(public):
            yield from (f"{path}.{method}" for method in dir(public) if _is_async(public, method))
        elif _can_be_awaited(public):
            yield path


def _is_async(public: type, name: str) -> bool:
    hidden = name.startswith("_") and not name.startswith("__")
    return not hidden and _can_be_awaited(inspect.getattr_static(public, name))


def _can_be_awaited(public: object) -> bool:
    """Tell whether calling something gives what is awaited, entered, or an async function."""
    public = getattr(public, "__func__", public)
    if not isinstance(public, FunctionType):
        return False
    function = inspect.unwrap(public)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return True
    returned = str(inspect.get_annotations(function).get("return"))
    return any(kind in returned for kind in ("Async", "Awaitable", "Coroutine"))


def test_every_public_coroutine_is_cancelled_at_every_moment() -> None:
    modules = (trio_ws, trio_ws.middleware, trio_ws.testing)

    public = {name for module in modules for name in _public_coroutines(module)}

    assert len(public) > 40
    # One that is missing here needs a test that says what a cancellation of it leaves behind.
    assert public == _covered()


@pytest.mark.parametrize(
    "name",
    [
        "trio_ws.serve",
        "trio_ws.connect",
        "trio_ws.Connection.__anext__",
        "trio_ws.Connection.open_nursery",
        "trio_ws.Request.accept",
        "trio_ws.middleware.limit_rate",
        "trio_ws.testing.FaultyStream.__aexit__",
    ],
)
def test_every_kind_of_public_coroutine_is_found(name: str) -> None:
    assert name in _covered()


def test_every_public_coroutine_says_what_a_cancellation_does() -> None:
    silent = [
        name
        for module in (trio_ws, trio_ws.middleware, trio_ws.testing)
        for name in _public_coroutines(module)
        if "Cancellation:" not in (inspect.getdoc(_of(module, name)) or "")
        and not name.rpartition(".")[2].startswith("__")
        and "Awaitable" not in str(inspect.get_annotations(_of(module, name)).get("return"))
    ]

    assert silent == []


def _of(module: ModuleType, path: str) -> Callable[..., object]:
    found: object = module
    for name in path.removeprefix(module.__name__ + ".").split("."):
        found = getattr(found, name)
    return cast("Callable[..., object]", found)


async def _swallow() -> None:
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        return


async def _swallow_late() -> None:
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    await _swallow()


@pytest.mark.parametrize("act", [_swallow, _swallow_late])
def test_swallowed_cancellation_is_found(
    act: Callable[[], Coroutine[object, object, None]],
) -> None:
    async def scenario(cancel: Canceller) -> None:
        await cancel(act)

    with pytest.raises(AssertionError, match="swallowed"):
        at_every_moment(scenario, _MEMORY, least=1)


def test_call_without_a_checkpoint_is_found() -> None:
    async def act() -> None:
        return

    async def scenario(cancel: Canceller) -> None:
        await cancel(act)

    with pytest.raises(AssertionError, match="no checkpoint"):
        at_every_moment(scenario, _MEMORY, least=0)


def test_call_with_fewer_checkpoints_than_it_should_have_is_found() -> None:
    async def scenario(cancel: Canceller) -> None:
        await cancel(trio.lowlevel.checkpoint)

    with pytest.raises(AssertionError, match="has 1 checkpoints"):
        at_every_moment(scenario, _MEMORY, least=2)


def test_call_is_cancelled_at_each_of_its_checkpoints_and_at_each_step_of_others() -> None:
    reached: list[int] = []

    async def scenario(cancel: Canceller) -> None:
        count = 0

        async def act() -> None:
            nonlocal count
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                count += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_step_three_times)
            await cancel(act)
        reached.append(count)

    at_every_moment(scenario, _MEMORY, least=3)

    assert {0, 1, 2, 3} == set(reached)
    assert len(reached) >= 5 + 5


async def _step_three_times() -> None:
    for _ in range(3):
        await trio.lowlevel.checkpoint()


def test_cancellation_inside_of_a_shield_comes_at_the_next_checkpoint_behind_it() -> None:
    shielded: list[bool] = []

    async def scenario(cancel: Canceller) -> None:
        done = False

        async def act() -> None:
            nonlocal done
            with trio.move_on_after(1, shield=True):
                await trio.sleep(2)
            done = True
            await trio.lowlevel.checkpoint()

        await cancel(act)
        shielded.append(done)

    at_every_moment(scenario, _MEMORY, least=2)

    # Even a scope that was cancelled beforehand lets the shielded part go to its end.
    assert all(shielded)


def test_scenario_that_leaves_a_task_behind_is_found() -> None:
    async def scenario(cancel: Canceller) -> None:
        await cancel(trio.lowlevel.checkpoint)
        trio.lowlevel.spawn_system_task(trio.sleep_forever)

    with pytest.raises(AssertionError):
        at_every_moment(scenario, _MEMORY, least=0)
