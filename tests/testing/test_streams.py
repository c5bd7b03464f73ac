"""`stream_pair` behaves as a pair of sockets does, to the byte."""

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from trio_ws.testing import MemoryStream, stream_pair

CAPACITY = 8


async def make_pair() -> tuple[MemoryStream, MemoryStream]:
    return stream_pair()


async def make_clogged_pair() -> tuple[MemoryStream, MemoryStream]:
    """Make a pair in which neither direction has room for a byte."""
    left, right = stream_pair(CAPACITY)
    await left.send_all(bytes(CAPACITY))
    await right.send_all(bytes(CAPACITY))
    return left, right


async def send_until_closed(stream: MemoryStream) -> None:
    """Send more than there is room for, until the stream is closed."""
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(bytes(CAPACITY + 1))


async def test_a_memory_stream_is_a_half_closeable_stream() -> None:
    await check_half_closeable_stream(make_pair, make_clogged_pair)


async def test_bytes_arrive_in_both_directions() -> None:
    left, right = stream_pair()

    await left.send_all(b"there")
    await right.send_all(b"back")

    assert await right.receive_some() == b"there"
    assert await left.receive_some() == b"back"


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_stream_without_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        stream_pair(capacity)


async def test_send_all_returns_at_once_when_the_capacity_is_just_enough() -> None:
    left, right = stream_pair(CAPACITY)

    await left.send_all(bytes(CAPACITY))

    assert await right.receive_some() == bytes(CAPACITY)


async def test_send_all_blocks_when_one_byte_is_too_many(nursery: trio.Nursery) -> None:
    left, right = stream_pair(CAPACITY)
    sent = trio.Event()

    async def send() -> None:
        await left.send_all(bytes(CAPACITY + 1))
        sent.set()

    nursery.start_soon(send)
    await wait_all_tasks_blocked()
    assert not sent.is_set()
    await right.receive_some(1)
    await sent.wait()


async def test_more_than_the_capacity_arrives_in_order(nursery: trio.Nursery) -> None:
    left, right = stream_pair(1)
    nursery.start_soon(left.send_all, b"in order")

    received = b"".join([await right.receive_some() for _ in range(8)])

    assert received == b"in order"


async def test_receive_some_gives_no_more_than_was_asked_for() -> None:
    left, right = stream_pair()
    await left.send_all(b"in two parts")

    assert await right.receive_some(6) == b"in two"
    assert await right.receive_some() == b" parts"


@pytest.mark.parametrize("max_bytes", [0, -1])
async def test_receive_some_refuses_a_size_below_one(max_bytes: int) -> None:
    left, _ = stream_pair()

    with pytest.raises(ValueError, match="max_bytes is at least 1"):
        await left.receive_some(max_bytes)


async def test_send_eof_ends_one_direction_only() -> None:
    left, right = stream_pair()
    await left.send_all(b"last")

    await left.send_eof()

    assert await right.receive_some() == b"last"
    assert await right.receive_some() == b""
    await right.send_all(b"answer")
    assert await left.receive_some() == b"answer"


async def test_send_all_raises_closed_after_send_eof() -> None:
    left, _ = stream_pair()
    await left.send_eof()

    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"late")
    with pytest.raises(trio.ClosedResourceError):
        await left.wait_send_all_might_not_block()


async def test_send_eof_raises_closed_after_aclose() -> None:
    left, _ = stream_pair()
    await left.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await left.send_eof()


async def test_what_was_sent_before_aclose_is_read_before_the_end() -> None:
    left, right = stream_pair()
    await left.send_all(b"last")

    await left.aclose()

    assert await right.receive_some() == b"last"
    assert await right.receive_some() == b""


async def test_every_verb_raises_closed_after_aclose() -> None:
    left, right = stream_pair()
    await right.send_all(b"never read")
    await left.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await left.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"")
    with pytest.raises(trio.ClosedResourceError):
        await left.wait_send_all_might_not_block()


async def test_send_all_raises_broken_after_the_other_end_closed() -> None:
    left, right = stream_pair()
    await right.aclose()

    with pytest.raises(trio.BrokenResourceError):
        await left.send_all(b"to nobody")


async def test_a_blocked_send_all_raises_broken_when_the_other_end_closes(
    nursery: trio.Nursery,
) -> None:
    left, right = await make_clogged_pair()
    nursery.start_soon(right.aclose)

    with pytest.raises(trio.BrokenResourceError):
        await left.send_all(b"to nobody")


async def test_a_second_sender_is_told_busy(nursery: trio.Nursery) -> None:
    left, _ = await make_clogged_pair()
    nursery.start_soon(send_until_closed, left)
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError, match="sending"):
        await left.send_all(b"two")
    await left.aclose()


async def test_send_eof_is_told_busy_while_a_task_is_sending(nursery: trio.Nursery) -> None:
    left, _ = await make_clogged_pair()
    nursery.start_soon(send_until_closed, left)
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError, match="sending"):
        await left.send_eof()
    await left.aclose()


async def test_a_second_receiver_is_told_busy(nursery: trio.Nursery) -> None:
    left, right = stream_pair()
    nursery.start_soon(left.receive_some)
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError, match="receiving"):
        await left.receive_some()
    await right.aclose()


async def test_a_cancelled_receive_some_takes_nothing() -> None:
    left, right = stream_pair()
    await left.send_all(b"kept")

    with trio.CancelScope() as scope:
        scope.cancel()
        await right.receive_some()

    assert scope.cancelled_caught
    assert await right.receive_some() == b"kept"


async def test_a_receive_some_cancelled_while_it_waits_takes_nothing() -> None:
    left, right = stream_pair()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(right.receive_some)
            await wait_all_tasks_blocked()
            scope.cancel()
    await left.send_all(b"kept")

    assert await right.receive_some() == b"kept"


async def test_a_cancelled_send_all_has_sent_what_there_was_room_for() -> None:
    left, right = stream_pair(4)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, b"part of it")
            await wait_all_tasks_blocked()
            scope.cancel()

    assert await right.receive_some() == b"part"


async def test_a_cancelled_send_eof_has_ended_nothing() -> None:
    left, right = stream_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await left.send_eof()
    await left.send_all(b"still open")

    assert await right.receive_some() == b"still open"


async def test_a_cancelled_wait_for_room_changes_nothing() -> None:
    left, right = await make_clogged_pair()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.wait_send_all_might_not_block)
            await wait_all_tasks_blocked()
            scope.cancel()

    assert len(await right.receive_some()) == CAPACITY


async def test_a_cancelled_aclose_has_closed_all_the_same() -> None:
    left, right = stream_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()

    assert await right.receive_some() == b""
