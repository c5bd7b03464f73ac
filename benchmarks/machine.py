"""The machine: its cores, its clock of other processes, its limits, and how it is described."""

import os
import platform
import time
from functools import cache
from pathlib import Path

_SPARE_FILES = 200  # descriptors that a server needs beside its connections


def most_connections(wanted: int) -> int:
    """Return how many connections there may be, at most as many as are wanted."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return min(wanted, 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, 10_000)
    return max(1, min(wanted, most - _SPARE_FILES))


def raise_limits() -> None:
    """Let this process and those it starts open as many files as the system allows."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@cache
def cores() -> tuple[int, int] | None:
    """Return one core for the server and one for all else; None if they cannot be had.

    Asked once, since this process pins itself as well.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    # The first core is where most systems handle their interrupts.
    return (allowed[-1], allowed[0]) if len(allowed) > 1 else None


def pin(pid: int, core: int) -> None:
    """Keep a process on a core; pid 0 is this one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has had, user and system."""
    if platform.system() == "Linux":
        # What clock_getcpuclockid(3) returns, which Python has for threads only.
        return time.clock_gettime((~pid << 3) | 2)
    import psutil  # noqa: PLC0415 - not needed on Linux

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    if rollup.exists():
        lines = rollup.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))
    import psutil  # noqa: PLC0415 - not needed on Linux

    return int(psutil.Process(pid).memory_info().rss)


def describe() -> dict[str, str]:
    """Return what a reader of the figures wants to know of the machine."""
    pinned = cores()
    return {
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "pinning": f"server on core {pinned[0]}, all else on {pinned[1]}" if pinned else "none",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "load average at the start": _load_average(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _load_average() -> str:
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return " ".join(f"{value:.2f}" for value in os.getloadavg())
