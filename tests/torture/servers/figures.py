"""What a server under test tells of itself: tasks, descriptors, memory, its log."""

import collections
import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import trio

_MOST_COMPLAINTS = 20  # lines of a log that are told; the rest are counted


class LivingTasks(trio.abc.Instrument):
    """Knows every task that lives, by its name, so that one that is left can be named."""

    def __init__(self) -> None:
        self._tasks: set[trio.lowlevel.Task] = set()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note a task; see `trio.abc.Instrument`."""
        self._tasks.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task; see `trio.abc.Instrument`."""
        self._tasks.discard(task)

    def count(self) -> dict[str, int]:
        """Return how many tasks live, by name."""
        return dict(collections.Counter(task.name for task in self._tasks))


class Complaints(logging.Handler):
    """Keeps what a server logs as a warning or worse.

    Args:
        is_expected: Whether a line belongs to what the hostile clients are for.
    """

    def __init__(self, is_expected: Callable[[logging.LogRecord], bool]) -> None:
        super().__init__(logging.WARNING)
        self._is_expected = is_expected
        self.lines: list[str] = []
        self.shortages = 0
        """Lines about a lack of file descriptors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line; see `logging.Handler`."""
        text = record.getMessage()
        if "file descriptor" in text or "EMFILE" in text:
            self.shortages += 1
        elif not self._is_expected(record) and len(self.lines) < _MOST_COMPLAINTS:
            error = record.exc_info[1] if record.exc_info else None
            line = f"{record.name}: {text}" + (f": {error!r}" if error else "")
            self.lines.append(ascii(line)[1:400])


def descriptors() -> dict[str, str] | None:
    """Return what the open descriptors are, or None where the system does not tell."""
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        try:
            entries = list(folder.iterdir())
        except OSError:
            # There is no such folder, or not even a descriptor to look into it with.
            continue
        return {entry.name: what for entry in entries if (what := _what_is(entry)) is not None}
    return None


def _what_is(entry: Path) -> str | None:
    try:
        # Of a socket its number is told as well, which says nothing to whoever compares.
        return str(entry.readlink()).partition(":")[0] if entry.is_symlink() else _kind(entry)
    except OSError:
        # The descriptor of the listing itself.
        return None


def _kind(entry: Path) -> str:
    return oct(os.fstat(int(entry.name)).st_mode)


def memory() -> int | None:
    """Return the bytes of memory that are in use, or None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Mallinfo2(ctypes.Structure):
    """What glibc tells of `malloc`; see mallinfo(3)."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def heap() -> int | None:
    """Return the bytes that `malloc` has given out, or None where the system does not tell.

    Large objects, buffers, and what compiled code and OpenSSL allocate, are there and nowhere else.
    """
    if sys.platform != "linux":
        return None
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        return None
    tell.restype = _Mallinfo2
    told = tell()
    return int(told.uordblks) + int(told.hblkhd)


def take(tasks: LivingTasks, complaints: Complaints, counts: Mapping[str, int]) -> dict[str, Any]:
    """Take all figures, after what is garbage was collected."""
    gc.collect()
    return {
        "tasks": tasks.count(),
        "descriptors": descriptors(),
        "memory": memory(),
        "heap": heap(),
        "blocks": sys.getallocatedblocks(),
        "complaints": complaints.lines,
        "shortages": complaints.shortages,
        "counts": dict(counts),
    }
