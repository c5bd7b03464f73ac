"""What is left behind is named, and what grows is told from what settles."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.torture.judge import ENOUGH, LEAK, Sample, growth, is_leak, sockets_left, tasks_left
from tests.torture.server import Figures

IDLE = Figures(
    tasks=Counter({"main": 1, "accept": 2}),
    descriptors={0: "pipe", 3: "socket"},
    counts={"open": 0},
    memory=1,
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


@pytest.mark.parametrize("share", [0.0, LEAK, LEAK + 0.01, 1.0])
def test_growth_is_counted_for_each_fault_from_the_first_round_on(share: float) -> None:
    samples = [Sample(100, 5000, None), Sample(500, 9000, None)]
    samples.append(Sample(1100, 5000 + int(1000 * share), None))

    assert growth(samples) == pytest.approx(share)
    assert is_leak(growth(samples)) is (share > LEAK)


@pytest.mark.parametrize(("faults", "judged"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_few_faults_are_no_ground_to_judge(faults: int, judged: bool) -> None:
    samples = [Sample(10, 0, None), Sample(10 + faults, 100_000, None)]

    assert is_leak(growth(samples)) is judged
