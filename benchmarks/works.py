"""`Work`: what the peers are made to do, and the lists of it: quick, full, curves."""

import itertools
from dataclasses import dataclass, replace
from enum import Enum

from benchmarks.generator import Load
from benchmarks.machine import most_connections

_MOST_IN_FLIGHT = 256 * 1024 * 1024  # bytes; the larger combinations measure memory, not servers

_KIB = 1024


class Unit(Enum):
    """What is compared in a work."""

    CPU = "CPU µs a message"
    MEMORY = "KiB a connection"
    TAIL = "p99 ms of the quiet ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One thing to do, by every peer that can."""

    name: str
    """What the tables call it; unique."""
    load: Load
    """What the generator does."""
    unit: Unit = Unit.CPU
    """What is compared."""
    client: bool = False
    """Whether it is the peer's client that is measured."""
    broadcast: bool = False
    """Whether the server passes each message on to all."""
    fresh: bool = False
    """Whether it needs a server that has done nothing yet."""
    once: bool = False
    """Whether one round is enough, since noise does not touch it."""
    picture: str = ""
    """The picture that it has a panel in, if that is not the one of the run."""
    curve: str = ""
    """The curve it is a point of, if any."""
    at: int = 0
    """Where on the curve."""


def _size(size: int) -> str:
    if size >= _KIB * _KIB:
        return f"{size // (_KIB * _KIB)} MiB"
    if size % 1000 == 0:
        return f"{size // 1000} kB"
    return f"{size} B" if size < _KIB else f"{size // _KIB} KiB"


def echo(
    size: int,
    connections: int,
    in_flight: int = 1,
    *,
    text: bool = False,
    tls: bool = False,
    client: bool = False,
) -> Work:
    """Make an echo work, named after what it is."""
    load = Load(connections=connections, in_flight=in_flight, size=size, text=text, tls=tls)
    parts = (
        "client echo" if client else "echo",
        _size(size) + (" text" if text else ""),
        f"{connections} connection{'s' if connections > 1 else ''}",
        f"{in_flight} in flight",
        *(["TLS"] if tls else []),
    )
    return Work(name=", ".join(parts), load=load, client=client)


def _special() -> list[Work]:
    """What both the quick and the full run have beside echoes."""
    idle = most_connections(5000)
    return [
        echo(64, 100, tls=True),
        echo(64, 100, client=True),
        echo(64, 100, 16, client=True),
        echo(64 * _KIB, 10, client=True),
        Work(
            name="broadcast, 200 B text to 1000 connections",
            load=Load(work="broadcast", connections=most_connections(1000), size=200, text=True),
            broadcast=True,
        ),
        Work(
            name="handshakes, each followed by a reset",
            load=Load(work="handshakes", connections=16),
            fresh=True,
        ),
        Work(
            name=f"idle memory, {idle} connections",
            load=Load(work="idle", connections=idle, warmup=1, seconds=0.1),
            unit=Unit.MEMORY,
            fresh=True,
            once=True,
        ),
    ]


def _echoes() -> list[Work]:
    return [
        echo(64, 1),
        echo(64, 100),
        echo(64, 1000),
        echo(64, 100, 16),
        echo(64, 100, 16, text=True),
        echo(64 * _KIB, 10),
        echo(900_000, 2),
    ]


def quick() -> list[Work]:
    """Return the works of `make bench`."""
    return [*_echoes(), *_special()]


def full() -> list[Work]:
    """Return the works of `make bench FULL=1`."""
    sizes = (64, _KIB, 64 * _KIB, 900_000)
    matrix = itertools.product(sizes, (1, 100, 1000), (1, 16), (False, True))
    echoes = [
        *_echoes(),
        *(
            echo(size, connections, in_flight, text=text)
            for size, connections, in_flight, text in matrix
            if size * connections * in_flight <= _MOST_IN_FLIGHT
        ),
    ]
    distinct = {work.name: replace(work, picture=_size(work.load.size)) for work in echoes}
    return [
        *sorted(distinct.values(), key=lambda work: (work.load.size, work.load.connections)),
        echo(64 * _KIB, 10, tls=True),
        *_special(),
    ]


def curves() -> list[Work]:
    """Return the works whose results are drawn over something."""
    return [*_over_connections(), *_over_size(), *_over_queue(), *_fairness()]


def _over_connections() -> list[Work]:
    counts = sorted({most_connections(count) for count in (10, 100, 1000, 5000)})
    return [
        Work(
            name=f"curve: echo 64 B, {count} connections",
            load=Load(connections=count, warmup=0.5),
            curve="connections",
            at=count,
        )
        for count in counts
    ]


def _over_size() -> list[Work]:
    return [
        Work(
            name=f"curve: echo {_size(size)}, 1 connection",
            load=Load(size=size, warmup=0.5),
            curve="size",
            at=size,
        )
        for size in (_KIB * 4**power for power in range(8))
    ]


def _over_queue() -> list[Work]:
    return [
        Work(
            name=f"curve: {count} frames of 1 B at once",
            load=Load(work="burst", in_flight=count, size=1),
            curve="queue",
            at=count,
        )
        for count in (1, 10, 100, 1000, 10_000)
    ]


def _fairness() -> list[Work]:
    return [
        Work(
            name=f"fairness: 100 quiet connections beside one with {flood} messages in flight",
            load=Load(work="quiet", connections=101, flood=flood),
            unit=Unit.TAIL,
            curve="flood",
            at=flood,
        )
        for flood in (0, 16, 256, 4096)
    ]
