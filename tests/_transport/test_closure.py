"""How a connection is about to end: a fault waits for the application, but not for ever."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_ws._errors import CloseReason
from trio_ws._transport.closure import Closure, PendingFault

FAULT = Closure(CloseReason(1002, "nonsense"), "local", "peer broke the protocol: nonsense")


async def test_a_fault_is_settled_when_patience_ends(autojump_clock: MockClock) -> None:
    settled: list[float] = []

    fault = PendingFault(FAULT, 5, lambda: settled.append(trio.current_time()))
    start = trio.current_time()
    await trio.sleep(4.9)
    early = list(settled)
    await trio.sleep(0.2)

    assert early == []
    assert settled == [start + 5]
    assert fault.closure is FAULT


async def test_a_fault_that_was_settled_otherwise_is_withdrawn(autojump_clock: MockClock) -> None:
    settled: list[str] = []

    PendingFault(FAULT, 5, lambda: settled.append("late")).withdraw()
    await trio.sleep(10)
    await wait_all_tasks_blocked()

    assert settled == []
