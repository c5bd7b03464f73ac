"""`Inbox` keeps order and bounds, and wakes the one task that receives."""

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests._transport.fakes import Steps
from trio_ws._transport.inbox import Delivery, Inbox, message_size
from trio_ws._types import Message


def make_inbox(
    max_messages: float = inf, max_bytes: float = inf, on_room: Callable[[], None] = lambda: None
) -> Inbox:
    return Inbox(max_messages=max_messages, max_bytes=max_bytes, on_room=on_room)


class Receiver:
    """A task that waits for one message."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.scope = trio.CancelScope()
        self.got: list[Message] = []

    async def run(self) -> None:
        with self.scope:
            self.got.append(await self._inbox.receive())


@pytest.mark.parametrize(
    ("message", "size"), [("", 0), ("abc", 3), ("olá", 4), (b"abc", 3), ("🐍", 4)]
)
def test_message_size_counts_text_in_utf8(message: Message, size: int) -> None:
    assert message_size(message) == size


async def test_receive_takes_messages_in_order() -> None:
    inbox = make_inbox()
    for message in ("one", b"two", "three"):
        inbox.put(message)

    assert [await inbox.receive() for _ in range(3)] == ["one", b"two", "three"]


async def test_receive_waits_for_a_message(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()

    inbox.put("hello")
    inbox.put("again")
    await wait_all_tasks_blocked()

    assert receiver.got == ["hello"]


@pytest.mark.parametrize("kind", ["value", "generator", "async generator"])
async def test_a_message_is_delivered_as_outcomes_are(kind: str) -> None:
    def generator() -> Generator[None, Message, None]:
        received.append((yield))
        yield

    async def async_generator() -> AsyncGenerator[None, Message]:
        received.append((yield))
        yield

    received: list[Message] = []
    delivery = Delivery()
    for message in ("one", "two"):
        delivery.message = message
        if kind == "value":
            received.append(delivery.unwrap())
        elif kind == "generator":
            waiting = generator()
            next(waiting)
            delivery.send(waiting)
        else:
            awaiting = async_generator()
            await anext(awaiting)
            await delivery.asend(awaiting)
            await awaiting.aclose()

    assert received == ["one", "two"]


async def test_a_message_that_was_delivered_is_let_go(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()
    message = bytes(1000)
    before = sys.getrefcount(message)

    inbox.put(message)
    await wait_all_tasks_blocked()
    receiver.got.clear()

    assert sys.getrefcount(message) == before


async def test_an_iteration_ends_with_the_channel() -> None:
    inbox = make_inbox()
    inbox.put("last")
    inbox.end(trio.EndOfChannel)

    assert await inbox.receive(iterating=True) == "last"
    with pytest.raises(StopAsyncIteration):
        await inbox.receive(iterating=True)
    with pytest.raises(trio.EndOfChannel):
        await inbox.receive()


async def test_an_iteration_raises_what_is_no_end() -> None:
    inbox = make_inbox()
    inbox.end(trio.ClosedResourceError)

    with pytest.raises(trio.ClosedResourceError):
        await inbox.receive(iterating=True)


async def test_size_and_length_follow_what_waits() -> None:
    inbox = make_inbox()
    inbox.put("olá")
    inbox.put(b"abc")
    before = (len(inbox), inbox.size)

    await inbox.receive()

    assert before == (2, 7)
    assert (len(inbox), inbox.size) == (1, 3)


def test_inbox_is_full_at_its_last_message() -> None:
    inbox = make_inbox(max_messages=2)
    inbox.put("")
    before = inbox.full

    inbox.put("")

    assert (before, inbox.full) == (False, True)


def test_inbox_is_full_at_its_last_byte_and_keeps_what_crosses_the_mark() -> None:
    inbox = make_inbox(max_bytes=4)
    inbox.put(b"abc")
    before = inbox.full

    inbox.put("long enough to cross it")

    assert (before, inbox.full) == (False, True)
    assert len(inbox) == 2


async def test_inbox_holds_up_until_it_has_asked_for_more() -> None:
    inbox = make_inbox(max_messages=4)
    inbox.extend(["1", "2", "3"], 3)
    seen = [inbox.holds_up]
    inbox.put("4")

    for _ in range(3):
        seen.append(inbox.holds_up)
        await inbox.receive()

    # Between full and half empty it is not full, and has not asked.
    assert [*seen, inbox.holds_up] == [False, True, True, False, False]


def test_room_is_what_makes_it_full() -> None:
    inbox = make_inbox(max_messages=3, max_bytes=10)
    before = inbox.room
    inbox.put("olá")

    assert (before, inbox.room) == ((3, 10), (2, 6))
    assert make_inbox().room == (inf, inf)


async def test_extend_adds_messages_in_order_and_counts_their_bytes() -> None:
    inbox = make_inbox()
    inbox.put("zero")

    inbox.extend(["olá", b"two", ""], 7)

    assert (len(inbox), inbox.size) == (4, 11)
    assert [await inbox.receive() for _ in range(4)] == ["zero", "olá", b"two", ""]


async def test_extend_wakes_the_receiver_once(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()

    inbox.extend(["one", "two"], 6)
    inbox.extend(["three"], 5)
    await wait_all_tasks_blocked()

    assert receiver.got == ["one"]
    assert len(inbox) == 2


async def test_what_is_handed_over_at_once_does_not_wait(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()

    inbox.extend(["olá", "two", "three"], 12)

    assert (len(inbox), inbox.size) == (2, 8)
    await wait_all_tasks_blocked()
    assert receiver.got == ["olá"]


async def test_extend_to_the_last_message_announces_room_later() -> None:
    announced: list[int] = []
    inbox = make_inbox(max_messages=2, on_room=lambda: announced.append(len(inbox)))

    inbox.extend(["one", "two"], 6)

    assert inbox.full
    await inbox.receive()
    assert announced == [1]


def test_extend_after_the_end_drops_the_messages() -> None:
    inbox = make_inbox()
    inbox.end(trio.EndOfChannel)

    inbox.extend(["too", "late"], 7)

    assert (len(inbox), inbox.size) == (0, 0)


async def test_receive_raises_busy_while_another_task_waits(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    nursery.start_soon(inbox.receive)
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError, match="already receiving"):
        await inbox.receive()
    inbox.put("for the first")


async def test_receive_cancelled_beforehand_takes_nothing() -> None:
    inbox = make_inbox()
    inbox.put("kept")

    with trio.CancelScope() as scope:
        scope.cancel()
        await inbox.receive()

    assert scope.cancelled_caught
    assert await inbox.receive() == "kept"


async def test_receive_cancelled_while_it_waits_takes_nothing(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()

    receiver.scope.cancel()
    inbox.put("kept")
    await wait_all_tasks_blocked()

    assert receiver.got == []
    assert await inbox.receive() == "kept"


async def test_receive_cancelled_after_it_was_woken_has_its_message(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    receiver = Receiver(inbox)
    nursery.start_soon(receiver.run)
    await wait_all_tasks_blocked()

    inbox.put("taken")
    receiver.scope.cancel()
    await wait_all_tasks_blocked()

    assert receiver.got == ["taken"]
    assert len(inbox) == 0


async def test_receive_gives_way_every_32_messages() -> None:
    inbox = make_inbox()
    for number in range(64):
        inbox.put(str(number))

    with Steps() as steps:
        counts = [(await inbox.receive(), steps.count)[1] for _ in range(64)]

    assert counts == [0] * 31 + [1] * 32 + [2]


async def test_receive_counts_anew_after_a_wait(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    for number in range(31):
        inbox.put(str(number))
        await inbox.receive()
    nursery.start_soon(Receiver(inbox).run)
    await wait_all_tasks_blocked()
    inbox.put("waited for")
    await wait_all_tasks_blocked()
    inbox.put("next")

    with Steps() as steps:
        await inbox.receive()

    assert steps.count == 0


async def test_receive_keeps_its_message_when_cancelled_while_giving_way() -> None:
    inbox = make_inbox()
    for number in range(32):
        inbox.put(str(number))
    got: list[Message] = []

    with trio.CancelScope() as scope, Steps(then=scope.cancel):
        for _ in range(32):
            got.append(await inbox.receive())  # noqa: PERF401 - what comes before a cancellation counts

    assert len(got) == 32
    assert len(inbox) == 0


async def test_receive_raises_busy_while_another_task_gives_way(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    errors: list[trio.BusyResourceError] = []

    async def intrude() -> None:
        while not errors:
            inbox.put("for the other")
            try:
                await inbox.receive()
            except trio.BusyResourceError as error:
                errors.append(error)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(intrude)
    while not errors:
        inbox.put("x")
        await inbox.receive()

    assert "already receiving" in str(errors[0])


async def test_receive_raises_the_end_after_what_is_left() -> None:
    inbox = make_inbox()
    inbox.put("last")

    inbox.end(lambda: trio.EndOfChannel("over"))

    assert await inbox.receive() == "last"
    with pytest.raises(trio.EndOfChannel, match="over"):
        await inbox.receive()


async def test_receive_raises_a_new_error_each_time() -> None:
    inbox = make_inbox()
    inbox.end(trio.EndOfChannel)

    with pytest.raises(trio.EndOfChannel) as first:
        await inbox.receive()
    with pytest.raises(trio.EndOfChannel) as second:
        await inbox.receive()

    assert first.value is not second.value


async def test_end_wakes_the_receiver(nursery: trio.Nursery) -> None:
    inbox = make_inbox()
    nursery.start_soon(_end_soon, inbox)

    with pytest.raises(trio.EndOfChannel):
        await inbox.receive()


async def _end_soon(inbox: Inbox) -> None:
    await wait_all_tasks_blocked()
    inbox.end(trio.EndOfChannel)


async def test_put_after_the_end_is_dropped() -> None:
    inbox = make_inbox()
    inbox.end(trio.EndOfChannel)

    inbox.put("too late")

    assert (len(inbox), inbox.size) == (0, 0)


async def test_the_first_end_counts() -> None:
    inbox = make_inbox()
    inbox.end(lambda: trio.EndOfChannel("first"))

    inbox.end(lambda: trio.EndOfChannel("second"))

    with pytest.raises(trio.EndOfChannel, match="first"):
        await inbox.receive()


async def test_an_end_that_discards_throws_away_what_is_left() -> None:
    inbox = make_inbox(max_messages=1)
    inbox.put("unread")
    inbox.end(lambda: trio.EndOfChannel("first"))

    inbox.end(lambda: trio.ClosedResourceError("second"), discard=True)

    assert (len(inbox), inbox.size, inbox.full) == (0, 0, False)
    with pytest.raises(trio.ClosedResourceError, match="second"):
        await inbox.receive()


async def test_room_is_announced_once_when_half_of_the_messages_are_gone() -> None:
    announced: list[int] = []
    inbox = make_inbox(max_messages=4, on_room=lambda: announced.append(len(inbox)))
    for _ in range(4):
        inbox.put("x")

    for _ in range(4):
        await inbox.receive()

    assert announced == [2]


async def test_room_is_announced_once_when_half_of_the_bytes_are_gone() -> None:
    announced: list[int] = []
    inbox = make_inbox(max_bytes=10, on_room=lambda: announced.append(inbox.size))
    for size in (4, 1, 5):
        inbox.put(bytes(size))

    for _ in range(3):
        await inbox.receive()

    assert announced == [5]


async def test_room_is_not_announced_by_an_inbox_that_was_never_full() -> None:
    announced: list[int] = []
    inbox = make_inbox(max_messages=4, on_room=lambda: announced.append(len(inbox)))
    for _ in range(3):
        inbox.put("x")

    for _ in range(3):
        await inbox.receive()

    assert announced == []
