"""`unbroken` and `interruptible` say where Ctrl-C may come in between."""

import inspect
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.lowlevel import currently_ki_protected

from trio_ws._transport.interrupts import interruptible, unbroken


@unbroken
@asynccontextmanager
async def block(protected: list[bool]) -> AsyncGenerator[str, None]:
    """Note whether the entry and the exit are protected."""
    protected.append(currently_ki_protected())
    try:
        yield "yielded"
    finally:
        protected.append(currently_ki_protected())


async def test_unbroken_protects_entry_and_exit_of_a_block_and_not_the_block() -> None:
    protected: list[bool] = []

    async with block(protected) as value:
        protected.append(currently_ki_protected())

    assert value == "yielded"
    assert protected == [True, False, True]


async def test_unbroken_passes_on_what_leaves_the_block() -> None:
    protected: list[bool] = []

    with pytest.raises(ValueError, match="mine"):
        async with block(protected):
            raise ValueError("mine")

    assert protected == [True, True]


async def test_unbroken_lets_a_manager_suppress_an_error() -> None:
    @unbroken
    @asynccontextmanager
    async def suppress() -> AsyncGenerator[None, None]:
        try:
            yield
        except ValueError:
            return

    async with suppress():
        raise ValueError


def test_unbroken_keeps_name_and_signature() -> None:
    assert block.__name__ == "block"
    assert list(inspect.signature(block).parameters) == ["protected"]


async def test_interruptible_takes_the_protection_off() -> None:
    async def ask(answer: int) -> tuple[int, bool]:
        await trio.lowlevel.checkpoint()
        return answer, currently_ki_protected()

    @trio.lowlevel.enable_ki_protection
    async def protected() -> tuple[int, bool]:
        assert currently_ki_protected()
        return await interruptible(ask, 3)

    assert await protected() == (3, False)


def test_interrupt_on_the_way_into_a_block_comes_at_its_next_wait() -> None:
    steps: list[str] = []

    @unbroken
    @asynccontextmanager
    async def interrupted() -> AsyncGenerator[None, None]:
        signal.raise_signal(signal.SIGINT)
        steps.append("entered")
        yield
        steps.append("left")

    async def main() -> None:
        async with interrupted():
            steps.append("inside")
            await trio.lowlevel.checkpoint()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)

    assert steps == ["entered", "inside"]


async def test_whoever_awaits_a_block_is_told_to_enter_it() -> None:
    opened: object = block([])

    with pytest.raises(TypeError, match="write `async with`, not `await`"):
        await opened  # type: ignore[misc]
