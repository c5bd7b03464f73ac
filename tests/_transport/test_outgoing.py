"""`Outgoing` keeps frames whole and in order, control frames first, and senders in a row."""

from collections.abc import Callable
from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests._transport.fakes import cancel_when_blocked
from trio_ws._protocol.messages import message_frame
from trio_ws._transport.outgoing import CHUNK, MAX_PONGS, Outgoing


async def send(outgoing: Outgoing, frame: bytes) -> None:
    """Queue a frame as a connection does."""
    try:
        if outgoing.crowded:
            await outgoing.wait_for_room()
        outgoing.push(frame)
    finally:
        outgoing.pass_on()


async def start_senders(nursery: trio.Nursery, outgoing: Outgoing, *frames: bytes) -> None:
    for frame in frames:
        nursery.start_soon(send, outgoing, frame)
        await wait_all_tasks_blocked()


def test_take_returns_nothing_when_nothing_waits() -> None:
    outgoing = Outgoing(inf)

    assert outgoing.empty
    assert b"".join(outgoing.take()) == b""


def test_take_hands_out_messages_in_order_and_forgets_them() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(b"one")
    outgoing.push(b"two")

    assert not outgoing.empty
    assert b"".join(outgoing.take()) == b"onetwo"
    assert outgoing.empty


def test_take_does_not_copy_a_single_frame() -> None:
    outgoing = Outgoing(inf)
    frame = bytes(1000)
    outgoing.push(frame)

    assert outgoing.take()[0] is frame


def test_take_puts_pongs_and_pings_before_messages() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(b"message ")
    outgoing.push_ping(b"ping ")
    outgoing.push_pong(b"pong ")

    assert b"".join(outgoing.take()) == b"pong ping message "
    assert outgoing.empty


def test_the_head_comes_before_everything_and_is_not_dropped() -> None:
    outgoing = Outgoing(inf)
    outgoing.push_head(b"head ")
    waiting = (outgoing.empty, outgoing.size)

    outgoing.push(b"message ")
    outgoing.push_pong(b"pong ")
    outgoing.push_close(b"close", drop_messages=True)

    assert waiting == (False, 5)
    assert b"".join(outgoing.take()) == b"head pong close"
    assert outgoing.empty


@pytest.mark.parametrize("push", [Outgoing.push_pong, Outgoing.push_ping])
def test_a_control_frame_alone_is_something_to_take(
    push: Callable[[Outgoing, bytes], None],
) -> None:
    outgoing = Outgoing(inf)

    push(outgoing, b"control")

    assert not outgoing.empty
    assert b"".join(outgoing.take()) == b"control"


@pytest.mark.parametrize(("second", "taken"), [(CHUNK - 10, CHUNK), (CHUNK - 9, 10)])
def test_take_gathers_no_more_than_a_chunk(second: int, taken: int) -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(10))
    outgoing.push(bytes(second))

    assert len(b"".join(outgoing.take())) == taken


def test_take_hands_out_a_frame_larger_than_a_chunk_alone() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(CHUNK + 1))
    outgoing.push(b"next")

    assert len(b"".join(outgoing.take())) == CHUNK + 1
    assert b"".join(outgoing.take()) == b"next"


def test_take_counts_control_frames_against_the_chunk() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(CHUNK))
    outgoing.push_pong(b"p")

    assert b"".join(outgoing.take()) == b"p"
    assert len(b"".join(outgoing.take())) == CHUNK


def test_pongs_beyond_their_limit_drop_the_oldest() -> None:
    outgoing = Outgoing(inf)
    for number in range(MAX_PONGS):
        outgoing.push_pong(bytes([number]))
    before = outgoing.size

    outgoing.push_pong(b"next")

    assert before == MAX_PONGS
    assert outgoing.size == MAX_PONGS - 1 + 4
    assert b"".join(outgoing.take()) == bytes(range(1, MAX_PONGS)) + b"next"


def test_a_ping_is_withdrawn_while_it_waits() -> None:
    outgoing = Outgoing(inf)
    outgoing.push_ping(b"one")
    outgoing.push_ping(b"three")

    outgoing.withdraw_ping(b"one")

    assert outgoing.size == 5
    assert b"".join(outgoing.take()) == b"three"


def test_withdrawing_a_ping_that_was_taken_changes_nothing() -> None:
    outgoing = Outgoing(inf)
    outgoing.push_ping(b"taken")
    outgoing.take()

    outgoing.withdraw_ping(b"taken")

    assert outgoing.size == 5


def test_withdrawing_a_ping_that_never_was_changes_nothing() -> None:
    outgoing = Outgoing(inf)

    outgoing.withdraw_ping(b"never")

    assert outgoing.size == 0


def test_size_counts_what_was_taken_until_it_is_written() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(10))
    outgoing.take()
    before = outgoing.size

    outgoing.written(4)

    assert (before, outgoing.size) == (10, 6)


def test_what_was_taken_may_grow_on_its_way() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(b"data")
    outgoing.take()

    outgoing.grow(22)
    outgoing.written(20)

    assert outgoing.size == 6


def test_size_is_never_negative() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(10))
    outgoing.take()
    outgoing.clear()

    outgoing.written(10)

    assert outgoing.size == 0


def test_outgoing_is_crowded_one_byte_above_its_mark() -> None:
    outgoing = Outgoing(10)
    outgoing.push(bytes(10))
    before = outgoing.crowded

    outgoing.push(b"x")

    assert (before, outgoing.crowded) == (False, True)


def test_a_close_follows_the_messages_before_it() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(b"message ")

    outgoing.push_close(b"close")

    assert b"".join(outgoing.take()) == b"message close"


def test_a_close_that_reports_a_fault_drops_the_messages_before_it() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(b"message ")
    outgoing.push_pong(b"pong ")

    outgoing.push_close(b"close", drop_messages=True)

    assert outgoing.size == len(b"pong close")
    assert b"".join(outgoing.take()) == b"pong close"


def test_clear_forgets_everything() -> None:
    outgoing = Outgoing(0)
    outgoing.push_head(b"head")
    outgoing.push(b"message")
    outgoing.push_ping(b"ping")
    outgoing.push_pong(b"pong")

    outgoing.clear()

    assert outgoing.empty
    assert outgoing.size == 0


def test_clear_forgets_the_message_that_was_sent_to_many() -> None:
    message = "for many"
    outgoing = Outgoing(0)
    outgoing.push(frame := message_frame(message, masked=False))
    known = message_frame(message, masked=False)

    outgoing.clear()

    assert known is frame
    assert message_frame(message, masked=False) is not frame


async def test_wait_for_room_returns_at_once_when_there_is_room() -> None:
    outgoing = Outgoing(10)
    outgoing.push(bytes(10))

    await outgoing.wait_for_room()

    assert outgoing.size == 10


async def test_senders_get_through_in_the_order_they_came(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(0)
    outgoing.push(b"0")
    await start_senders(nursery, outgoing, b"1", b"2", b"3")
    taken: list[bytes] = []

    while data := outgoing.take():
        taken += data
        outgoing.written(len(b"".join(data)))
        await wait_all_tasks_blocked()

    assert b"".join(taken) == b"0123"


async def test_senders_get_through_one_by_one(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(0)
    outgoing.push(b"0")
    await start_senders(nursery, outgoing, b"1", b"2", b"3")

    outgoing.written(len(b"".join(outgoing.take())))
    await wait_all_tasks_blocked()

    assert b"".join(outgoing.take()) == b"1"
    outgoing.clear()


async def test_each_sender_wakes_the_next_while_there_is_room(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(2)
    outgoing.push(b"000")
    await start_senders(nursery, outgoing, b"1", b"2", b"3", b"4")

    outgoing.written(len(b"".join(outgoing.take())))
    await wait_all_tasks_blocked()

    assert b"".join(outgoing.take()) == b"123"
    outgoing.clear()


async def test_a_newcomer_does_not_overtake_a_sender_that_was_woken(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(0)
    outgoing.push(b"0")
    await start_senders(nursery, outgoing, b"1", b"2")
    taken = outgoing.take()

    outgoing.written(1)
    crowded = outgoing.crowded
    nursery.start_soon(send, outgoing, b"3")
    while data := outgoing.take() or await _next(outgoing):
        taken += data
        outgoing.written(1)

    assert crowded
    assert b"".join(taken) == b"0123"


async def _next(outgoing: Outgoing) -> tuple[bytes, ...]:
    await wait_all_tasks_blocked()
    return outgoing.take()


async def test_written_wakes_nobody_above_the_mark(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(2)
    outgoing.push(b"00000")
    await start_senders(nursery, outgoing, b"1")
    outgoing.take()

    outgoing.written(2)
    await wait_all_tasks_blocked()
    before = outgoing.empty
    outgoing.written(1)
    await wait_all_tasks_blocked()

    assert before
    assert b"".join(outgoing.take()) == b"1"


async def test_a_sender_cancelled_while_it_waits_leaves_its_place(nursery: trio.Nursery) -> None:
    outgoing = Outgoing(0)
    outgoing.push(b"0")
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await send(outgoing, b"cancelled")
    await start_senders(nursery, outgoing, b"1")

    outgoing.written(len(b"".join(outgoing.take())))
    await wait_all_tasks_blocked()

    assert b"".join(outgoing.take()) == b"1"


@pytest.mark.parametrize("end", ["push_close", "clear", "release"])
async def test_every_sender_is_woken_by_the_end(end: str, nursery: trio.Nursery) -> None:
    outgoing = Outgoing(0)
    outgoing.push(b"0")
    await start_senders(nursery, outgoing, b"1", b"2")

    if end == "push_close":
        outgoing.push_close(b"close")
    elif end == "clear":
        outgoing.clear()
    else:
        outgoing.clear()
        outgoing.release()
    await wait_all_tasks_blocked()

    assert not nursery.child_tasks


LARGE_FRAME = (b"header ", b"p" * 20_000)


def test_take_hands_out_a_large_payload_as_it_is() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(LARGE_FRAME)
    size = outgoing.size

    buffers = outgoing.take()

    assert size == 20_007
    assert buffers[0] == b"header "
    assert buffers[1] is LARGE_FRAME[1]
    assert outgoing.empty


def test_a_large_frame_ends_the_chunk_and_keeps_its_place() -> None:
    outgoing = Outgoing(inf)
    for frame in (b"one ", LARGE_FRAME, b"two ", b"three ", LARGE_FRAME, b"four"):
        outgoing.push(frame)
    outgoing.push_pong(b"pong ")

    taken = [outgoing.take() for _ in range(4)]

    payload = LARGE_FRAME[1]
    assert taken == [
        (b"pong one header ", payload),
        (b"two three header ", payload),
        (b"four",),
        (),
    ]


def test_a_large_frame_that_does_not_fit_waits_for_the_next_chunk() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(bytes(CHUNK - 20_007 + 1))
    outgoing.push(LARGE_FRAME)

    assert len(outgoing.take()) == 1
    assert outgoing.take() == LARGE_FRAME


def test_small_frames_behind_the_last_large_one_are_taken_at_once() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(LARGE_FRAME)
    outgoing.take()
    outgoing.written(20_007)

    outgoing.push(b"one ")
    outgoing.push(b"two")

    assert outgoing.take() == (b"one two",)


def test_a_fault_drops_large_messages_as_well() -> None:
    outgoing = Outgoing(inf)
    outgoing.push(LARGE_FRAME)

    outgoing.push_close(b"close", drop_messages=True)

    assert outgoing.size == 5
    assert outgoing.take() == (b"close",)
