"""`Alarms`: calls things when their time has come, with one task for a whole run.

A sleeping task for each connection would cost more memory than the rest of an idle connection.
"""

import heapq
from itertools import count
from math import inf
from typing import Protocol

import trio

_MAX_ROUND = 256  # alarms called before all other tasks have their step


class Alarm(Protocol):
    """What can be called when it is due."""

    def due(self) -> None:
        """Do what is to be done now. It may not raise."""


class Alarms:
    """The shared task of one `trio.run`. Got by `current_alarms`.

    There is no way to take an alarm back: what waits here is asked when it is due, and then knows
    whether it is still wanted. Nothing should be waiting here twice.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()
        self._sleep = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._run)

    def at(self, time: float, alarm: Alarm) -> None:
        """Call an alarm at a time of `trio.current_time`; never, if that is infinite."""
        if time == inf:
            return
        heapq.heappush(self._heap, (time, next(self._order), alarm))
        if self._heap[0][2] is alarm:
            self._sleep.cancel()

    async def _run(self) -> None:
        while True:
            with trio.CancelScope() as self._sleep:
                await trio.sleep_until(self._heap[0][0] if self._heap else inf)
            now = trio.current_time()
            for _ in range(_MAX_ROUND):
                if not self._heap or self._heap[0][0] > now:
                    break
                heapq.heappop(self._heap)[2].due()


_current: trio.lowlevel.RunVar[Alarms] = trio.lowlevel.RunVar("trio_ws.alarms")


def current_alarms() -> Alarms:
    """Return the alarms of this run, started on the first call."""
    try:
        return _current.get()
    except LookupError:
        alarms = Alarms()
        _current.set(alarms)
        return alarms
