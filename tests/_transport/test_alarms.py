"""`Alarms` call what is due, in order, with one task that lives while an alarm is set."""

from collections.abc import Callable
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_ws._transport.alarms import Alarm, Entry, current_alarms


class Bell(Alarm):
    """An alarm that writes down when it was called.

    Args:
        then: Called each time.
    """

    def __init__(self, then: Callable[[], object] = bool) -> None:
        self._then = then
        self.rung: list[float] = []

    def due(self) -> None:
        self.rung.append(trio.current_time())
        self._then()


def count_alarm_tasks() -> int:
    """Count the tasks that serve alarms."""
    system = trio.lowlevel.current_root_task()
    assert system is not None
    tasks = [task for nursery in system.child_nurseries for task in nursery.child_tasks]
    return sum("Alarms._run" in task.name for task in tasks)


async def test_an_alarm_is_called_once_at_its_time(autojump_clock: MockClock) -> None:
    bell = Bell()

    current_alarms().at(7, bell)
    await trio.sleep(100)

    assert bell.rung == [7]


async def test_alarms_are_called_in_the_order_of_their_times(autojump_clock: MockClock) -> None:
    order: list[float] = []
    alarms = current_alarms()

    for time in (3, 1, 2):
        alarms.at(time, Bell(lambda time=time: order.append(time)))  # type: ignore[misc]
    await trio.sleep(4)

    assert order == [1, 2, 3]


async def test_alarms_of_one_time_are_called_in_the_order_they_were_set(
    autojump_clock: MockClock,
) -> None:
    order: list[int] = []
    alarms = current_alarms()

    for number in range(10):
        alarms.at(1, Bell(lambda number=number: order.append(number)))  # type: ignore[misc]
    await trio.sleep(2)

    assert order == list(range(10))


async def test_an_alarm_that_is_due_already_is_called_after_this_tick() -> None:
    bell = Bell()

    current_alarms().at(trio.current_time() - 1, bell)
    before = list(bell.rung)
    await wait_all_tasks_blocked()

    assert before == []
    assert len(bell.rung) == 1


async def test_an_earlier_alarm_wakes_the_sleep(autojump_clock: MockClock) -> None:
    early, late = Bell(), Bell()
    alarms = current_alarms()
    alarms.at(100, late)
    await wait_all_tasks_blocked()

    alarms.at(10, early)
    await trio.sleep(101)

    assert (early.rung, late.rung) == ([10], [100])


async def test_a_cancelled_alarm_is_not_called(autojump_clock: MockClock) -> None:
    kept, cancelled = Bell(), Bell()
    alarms = current_alarms()
    alarms.at(2, kept)
    entry = alarms.at(1, cancelled)

    alarms.cancel(entry)
    alarms.cancel(entry)
    await trio.sleep(3)

    assert (kept.rung, cancelled.rung) == ([2], [])
    assert count_alarm_tasks() == 0


async def test_an_alarm_that_was_called_can_be_cancelled(autojump_clock: MockClock) -> None:
    called, waiting = Bell(), Bell()
    alarms = current_alarms()
    entry = alarms.at(1, called)
    alarms.at(3, waiting)
    await trio.sleep(2)

    alarms.cancel(entry)
    await trio.sleep(2)

    assert (called.rung, waiting.rung) == ([1], [3])


async def test_an_alarm_for_never_needs_no_task(autojump_clock: MockClock) -> None:
    bell = Bell()
    alarms = current_alarms()

    entry = alarms.at(inf, bell)
    tasks = count_alarm_tasks()
    alarms.cancel(entry)
    await trio.sleep(1000)

    assert tasks == 0
    assert bell.rung == []


async def test_the_task_ends_with_the_last_alarm(autojump_clock: MockClock) -> None:
    alarms = current_alarms()
    alarms.at(1, Bell())
    alarms.at(2, Bell())
    await trio.sleep(1.5)
    before = count_alarm_tasks()

    await trio.sleep(1)

    assert (before, count_alarm_tasks()) == (1, 0)


async def test_the_task_ends_when_the_last_alarm_is_cancelled() -> None:
    alarms = current_alarms()
    entries = [alarms.at(trio.current_time() + 1000, Bell()) for _ in range(3)]
    await wait_all_tasks_blocked()
    before = count_alarm_tasks()

    for entry in entries:
        alarms.cancel(entry)
    await wait_all_tasks_blocked()

    assert (before, count_alarm_tasks()) == (1, 0)


async def test_the_task_does_not_wait_for_what_was_cancelled_before_the_last_alarm_was_called(
    autojump_clock: MockClock,
) -> None:
    alarms = current_alarms()

    entry = alarms.at(10, Bell())
    alarms.at(1, Bell())
    alarms.cancel(entry)
    await trio.sleep(2)

    assert count_alarm_tasks() == 0


async def test_the_task_begins_anew(autojump_clock: MockClock) -> None:
    bell = Bell()
    alarms = current_alarms()
    alarms.at(1, bell)
    await trio.sleep(2)

    alarms.at(3, bell)
    tasks = count_alarm_tasks()
    await trio.sleep(2)

    assert tasks == 1
    assert bell.rung == [1, 3]


async def test_an_alarm_set_while_the_task_is_ending_is_called(autojump_clock: MockClock) -> None:
    bell = Bell()
    alarms = current_alarms()
    entry = alarms.at(1000, bell)
    await wait_all_tasks_blocked()

    alarms.cancel(entry)
    alarms.at(5, bell)
    await trio.sleep(10)

    assert bell.rung == [5]


async def test_an_alarm_can_set_alarms_when_it_is_due(autojump_clock: MockClock) -> None:
    alarms = current_alarms()
    second = Bell()
    first = Bell(lambda: (alarms.at(1, second), alarms.at(4, second)))

    alarms.at(2, first)
    await trio.sleep(10)

    assert first.rung == [2]
    assert second.rung == [2, 4]


async def test_an_alarm_can_cancel_another_one_that_is_due(autojump_clock: MockClock) -> None:
    alarms = current_alarms()
    entries: list[Entry] = []
    other = Bell()

    alarms.at(1, Bell(lambda: alarms.cancel(entries[0])))
    entries.append(alarms.at(1, other))
    await trio.sleep(2)

    assert other.rung == []
    assert count_alarm_tasks() == 0


async def test_many_alarms_are_called_in_rounds_between_which_others_run(
    mock_clock: MockClock,
) -> None:
    alarms = current_alarms()
    bell = Bell()
    for _ in range(600):
        alarms.at(trio.current_time(), bell)

    counts: list[int] = []
    while len(bell.rung) < 600:
        await trio.lowlevel.checkpoint()
        counts.append(len(bell.rung))

    # Whether this task or theirs runs first is chance.
    assert {0, 256, 512, 600} >= set(counts)
    assert {256, 512} & set(counts)


async def test_others_run_between_alarms_that_take_long(mock_clock: MockClock) -> None:
    alarms = current_alarms()
    bell = Bell(lambda: mock_clock.jump(0.002))
    for _ in range(12):
        alarms.at(0, bell)

    counts: list[int] = []
    while len(bell.rung) < 12:
        await trio.lowlevel.checkpoint()
        counts.append(len(bell.rung))

    assert {0, 3, 6, 9, 12} >= set(counts)
    assert {3, 6, 9} & set(counts)


async def test_an_alarm_that_fails_is_logged_and_costs_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, other, later = Bell(lambda: 1 // 0), Bell(), Bell()
    alarms = current_alarms()

    alarms.at(1, faulty)
    alarms.at(1, other)
    await trio.sleep(2)
    alarms.at(3, later)
    await trio.sleep(2)

    assert (faulty.rung, other.rung, later.rung) == ([1], [1], [3])
    assert [record.getMessage() for record in caplog.records] == ["an alarm failed"]
    assert "ZeroDivisionError" in caplog.text
    assert count_alarm_tasks() == 0


async def test_a_run_has_alarms_of_its_own() -> None:
    assert current_alarms() is current_alarms()

    async def inner() -> object:
        await trio.lowlevel.checkpoint()
        return current_alarms()

    assert await trio.to_thread.run_sync(trio.run, inner) is not current_alarms()


async def test_cancelled_alarms_do_not_pile_up(autojump_clock: MockClock) -> None:
    alarms = current_alarms()
    kept = [Bell() for _ in range(10)]
    for bell in kept:
        alarms.at(5, bell)

    sizes: list[int] = []
    for _ in range(1000):
        alarms.cancel(alarms.at(1, Bell()))
        sizes.append(len(alarms._heap))  # noqa: SLF001 - it is the heap that must not grow

    await trio.sleep(10)
    assert max(sizes) <= 2 * 11 + 64
    assert [bell.rung for bell in kept] == [[5]] * 10


async def test_an_alarm_that_is_set_for_now_by_another_waits_for_all_other_tasks(
    autojump_clock: MockClock,
) -> None:
    order: list[str] = []
    again = Bell(lambda: order.append("again"))
    alarms = current_alarms()

    async def task() -> None:
        while "again" not in order:
            order.append("task")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        alarms.at(0, Bell(lambda: alarms.at(0, again)))
        alarms.at(0, Bell(lambda: order.append("beside")))
        await wait_all_tasks_blocked()

    rung, then = order.index("beside"), order.index("again")
    assert "task" in order[rung:then]
