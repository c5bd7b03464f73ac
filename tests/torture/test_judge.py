"""What is left behind is named, and what grows is told from what settles."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.torture.judge import (
    ENOUGH,
    HEAP,
    HEAP_ONCE,
    LEAK,
    MANY,
    ONCE,
    SLOW_LEAK,
    Sample,
    growth,
    leak,
    sockets_left,
    tasks_left,
)
from tests.torture.server import Figures
from tests.torture.violations import Violations

IDLE = Figures(
    tasks=Counter({"main": 1, "accept": 2}),
    descriptors={0: "pipe", 3: "socket"},
    counts={"open": 0},
    memory=1,
    heap=1,
    blocks=1,
    complaints=(),
    shortages=0,
)


def test_a_server_that_is_as_before_has_left_nothing() -> None:
    assert [*sockets_left(IDLE, IDLE), *tasks_left(IDLE, IDLE)] == []


def test_a_descriptor_that_has_another_number_is_not_left() -> None:
    assert [*sockets_left(IDLE, replace(IDLE, descriptors={0: "pipe", 9: "socket"}))] == []


def test_descriptors_that_are_left_are_named() -> None:
    now = replace(IDLE, descriptors={0: "pipe", 3: "socket", 4: "socket", 5: "anon_inode"})

    assert [*sockets_left(IDLE, now)] == ["1 descriptors (anon_inode)", "1 descriptors (socket)"]


def test_descriptors_that_nobody_tells_are_not_judged() -> None:
    assert [*sockets_left(IDLE, replace(IDLE, descriptors=None))] == []


def test_tasks_that_are_left_are_named_and_so_are_those_that_are_gone() -> None:
    now = replace(IDLE, tasks=Counter({"main": 1, "accept": 1, "serve": 3}))

    assert [*tasks_left(IDLE, now)] == ["3 tasks serve", "-1 tasks accept"]


def test_connections_that_are_left_are_counted() -> None:
    assert [*tasks_left(IDLE, replace(IDLE, counts={"open": 2}))] == ["2 open"]


def samples_of(rounds: int, blocks: float, heap: float = 0, faults: int = 1000) -> list[Sample]:
    """Make the samples of rounds of which each fault leaves so much behind."""
    return [
        Sample(faults * each, 5000 + int(blocks * faults * each), int(heap * faults * each))
        for each in range(rounds)
    ]


@pytest.mark.parametrize(
    ("faults", "blocks", "found"),
    [
        (1000, LEAK + ONCE / 1000, False),
        (1000, LEAK + ONCE / 1000 + 0.01, True),
        (2000, 1.0, True),
        (MANY - 10, LEAK, False),
        (MANY, SLOW_LEAK + ONCE / MANY, False),
        (MANY, SLOW_LEAK + ONCE / MANY + 0.01, True),
    ],
)
def test_blocks_that_each_fault_leaves_are_a_leak(faults: int, blocks: float, found: bool) -> None:
    samples = samples_of(2, blocks, 0, faults)

    assert growth(samples) == pytest.approx(blocks)
    assert (leak(samples) is not None) is found


def test_what_grew_in_the_first_half_alone_is_no_leak() -> None:
    samples = [*samples_of(5, 0.9), *(Sample(4000 + 1000 * each, 8600, 0) for each in range(1, 6))]

    assert leak(samples) is None


@pytest.mark.parametrize(("share", "found"), [(1.0, False), (1.01, True)])
def test_bytes_of_the_heap_that_each_fault_leaves_are_a_leak(share: float, found: bool) -> None:
    faults = 10_000
    heap = share * (HEAP + HEAP_ONCE / faults)

    assert (leak(samples_of(2, 0, heap, faults)) is not None) is found


def test_a_heap_that_nobody_tells_is_not_judged() -> None:
    assert leak([Sample(0, 0, None), Sample(1000, 0, None)]) is None


@pytest.mark.parametrize(("faults", "judged"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_few_faults_are_no_ground_to_judge(faults: int, judged: bool) -> None:
    assert (leak(samples_of(2, 10, 0, faults)) is not None) is judged


def test_violations_are_told_twice_of_each_kind_and_then_counted() -> None:
    violations = Violations()
    for number in range(5):
        violations.note("log", f"line {number}")
    violations.note("end", "no goodbye")

    assert [*violations] == ["line 0", "line 1", "log: 3 more like that", "no goodbye"]
    assert violations.total == 6


def test_no_violations_are_none() -> None:
    assert not Violations()
