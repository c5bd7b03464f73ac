"""`Alarms`: calls things when their time has come, with one task for a whole run.

A sleeping task for each connection would cost more memory than the rest of an idle connection.
"""

import heapq
import logging
from itertools import count
from math import inf
from typing import Protocol

import trio

_SPARE = 64  # cancelled alarms beside as many as are set that may stay until their time

_MAX_ROUND = 256  # alarms called before all other tasks have their step

_MAX_TIME = 0.005  # seconds of calling them after which others have it as well

_logger = logging.getLogger("trio_ws.alarms")


class Alarm(Protocol):
    """What can be called when it is due."""

    def due(self) -> None:
        """Do what is to be done now. A failure is logged, and costs other alarms nothing."""


class Entry:
    """An alarm that was set; `Alarms.cancel` takes it back."""

    __slots__ = ("alarm",)

    def __init__(self, alarm: Alarm) -> None:
        self.alarm: Alarm | None = alarm


class Alarms:
    """The alarms of one `trio.run`. Got by `current_alarms`.

    Their task runs as long as an alarm is set.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._order = count()
        self._set = 0
        self._running = False
        self._sleep = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    def at(self, time: float, alarm: Alarm) -> Entry:
        """Call an alarm at a time of `trio.current_time`; never, if that is infinite."""
        entry = Entry(alarm)
        if time == inf:
            entry.alarm = None
            return entry
        heapq.heappush(self._heap, (time, next(self._order), entry))
        self._set += 1
        if not self._running:
            self._running = True
            trio.lowlevel.spawn_system_task(self._run)
        elif self._heap[0][2] is entry:
            self._sleep.cancel()
        return entry

    @trio.lowlevel.enable_ki_protection
    def cancel(self, entry: Entry) -> None:
        """Take an alarm back; one that was called already does not mind."""
        if entry.alarm is None:
            return
        # It stays in the heap until its time, or until most of the heap is like it; what it would
        # have called does not.
        entry.alarm = None
        self._set -= 1
        if not self._set:
            self._heap.clear()
            self._sleep.cancel()
        elif len(self._heap) > 2 * self._set + _SPARE:
            # In place: whoever cancels may have been called out of a loop over it.
            self._heap[:] = [item for item in self._heap if item[2].alarm is not None]
            heapq.heapify(self._heap)

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        while self._heap:
            with trio.CancelScope() as self._sleep:
                await trio.sleep_until(self._heap[0][0])
            now, newest = trio.current_time(), next(self._order)
            for _ in range(_MAX_ROUND):
                # One that is set while others are called has its turn after all other tasks.
                if not self._heap or self._heap[0][0] > now or self._heap[0][1] > newest:
                    break
                self._call(heapq.heappop(self._heap)[2])
                if trio.current_time() - now >= _MAX_TIME:
                    break
            if self._heap and self._heap[0][0] <= trio.current_time():
                # Tasks have their steps in any order, so not each has had one when this one's turn
                # comes again; when it comes a second time, each has.
                await trio.lowlevel.checkpoint()
        self._running = False

    def _call(self, entry: Entry) -> None:
        alarm = entry.alarm
        if alarm is not None:
            entry.alarm = None
            self._set -= 1
            if not self._set:
                # What was taken back is not worth waiting for.
                self._heap.clear()
            try:
                alarm.due()
            except Exception:
                # All connections of the run are served by this one task.
                _logger.exception("an alarm failed")


_current: trio.lowlevel.RunVar[Alarms] = trio.lowlevel.RunVar("trio_ws.alarms")


def current_alarms() -> Alarms:
    """Return the alarms of this run, made on the first call."""
    try:
        return _current.get()
    except LookupError:
        alarms = Alarms()
        _current.set(alarms)
        return alarms
