"""`channel_pair` behaves as memory channels do, and takes messages only."""

from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_ws.testing import MemoryChannel, channel_pair


async def test_messages_arrive_in_both_directions() -> None:
    left, right = channel_pair()

    await left.send("text")
    await right.send(b"binary")

    assert await right.receive() == "text"
    assert await left.receive() == b"binary"


@pytest.mark.parametrize("value", [1, None, ["text"], bytearray(b"binary")])
async def test_send_refuses_what_is_no_message(value: object) -> None:
    left, _ = channel_pair()

    with pytest.raises(TypeError, match="str or bytes"):
        await left.send(value)  # type: ignore[arg-type] # it is what is tested
    with pytest.raises(TypeError, match="str or bytes"):
        left.send_nowait(value)  # type: ignore[arg-type] # it is what is tested


async def test_iteration_ends_when_the_other_end_has_closed() -> None:
    left, right = channel_pair()
    left.send_nowait("one")
    left.send_nowait("two")

    await left.aclose()

    assert [message async for message in right] == ["one", "two"]


async def test_receive_raises_end_of_channel_after_the_other_end_closed() -> None:
    left, right = channel_pair()
    await left.aclose()

    with pytest.raises(trio.EndOfChannel):
        await right.receive()


async def test_send_raises_broken_after_the_other_end_closed() -> None:
    left, right = channel_pair()
    await left.aclose()

    with pytest.raises(trio.BrokenResourceError):
        await right.send("to nobody")
    with pytest.raises(trio.BrokenResourceError):
        right.send_nowait("to nobody")


async def test_every_verb_raises_closed_after_aclose() -> None:
    left, _ = channel_pair()
    await left.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await left.receive()
    with pytest.raises(trio.ClosedResourceError):
        await left.send("late")
    with pytest.raises(trio.ClosedResourceError):
        left.send_nowait("late")


async def test_send_nowait_raises_would_block_when_the_channel_is_full() -> None:
    left, right = channel_pair(1)
    left.send_nowait("fits")

    with pytest.raises(trio.WouldBlock):
        left.send_nowait("does not")

    assert await right.receive() == "fits"


async def test_send_blocks_until_there_is_room(nursery: trio.Nursery) -> None:
    left, right = channel_pair(0)
    nursery.start_soon(left.send, "handed over")
    await wait_all_tasks_blocked()

    assert await right.receive() == "handed over"


async def test_a_channel_of_infinite_capacity_never_blocks() -> None:
    left, right = channel_pair(inf)

    for number in range(1000):
        left.send_nowait(str(number))

    assert await right.receive() == "0"


async def test_a_cancelled_send_has_sent_nothing() -> None:
    left, right = channel_pair(1)

    with trio.CancelScope() as scope:
        scope.cancel()
        await left.send("cancelled")
    left.send_nowait("sent")

    assert await right.receive() == "sent"


async def test_a_cancelled_receive_takes_nothing() -> None:
    left, right = channel_pair()
    left.send_nowait("kept")

    with trio.CancelScope() as scope:
        scope.cancel()
        await right.receive()

    assert await right.receive() == "kept"


async def test_a_cancelled_aclose_has_closed_all_the_same() -> None:
    left, right = channel_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()

    with pytest.raises(trio.EndOfChannel):
        await right.receive()


async def test_leaving_the_block_of_a_channel_closes_it() -> None:
    left, right = channel_pair()

    async with left:
        await left.send("last")

    assert [message async for message in right] == ["last"]


@pytest.mark.parametrize("name", ["MemoryChannel", "channel_pair"])
def test_a_public_name_says_where_to_import_it_from(name: str) -> None:
    public = {"MemoryChannel": MemoryChannel, "channel_pair": channel_pair}

    assert public[name].__module__ == "trio_ws.testing"
