"""The rounds of a soak are repeatable, and leave no step out."""

import itertools
from collections import Counter

import pytest

from tests.torture.faults import FAULTS
from tests.torture.hostile import LEFT, Fault, Hostile
from tests.torture.outcome import Outcome
from tests.torture.plan import ROUNDS_IN_A_LAP, Attack, rounds
from tests.torture.report import render


async def nothing(_: Hostile) -> str:
    return LEFT


THREE = (
    Fault(name="a", act=nothing, steps=5),
    Fault(name="b", act=nothing, steps=3, plain=False),
    Fault(name="c", act=nothing, secure=False),
)


def deal(seed: str, laps: int) -> list[Attack]:
    return [*itertools.chain(*itertools.islice(rounds(THREE, seed), laps * ROUNDS_IN_A_LAP))]


@pytest.mark.parametrize("lap", [0, 1])
def test_a_lap_has_each_step_of_each_fault_over_each_kind_of_line_once(lap: int) -> None:
    size = 5 + 5 + 3 + 1
    attacks = deal("7", 2)[lap * size : (lap + 1) * size]

    done = Counter((attack.fault.name, attack.step, attack.secure) for attack in attacks)

    assert done.total() == len(done) == size
    assert all(secure for name, _, secure in done if name == "b")
    assert not any(secure for name, _, secure in done if name == "c")


def test_the_same_seed_deals_the_same_rounds_and_another_one_others() -> None:
    assert deal("7", 2) == deal("7", 2)
    assert deal("7", 2) != deal("8", 2)


def test_each_client_has_a_number_of_its_own() -> None:
    assert [attack.index for attack in deal("7", 3)] == [*range(3 * 14)]


def test_fewer_steps_are_drawn_from_all() -> None:
    few = [next(rounds(THREE[:1], str(seed), steps=1)) for seed in range(30)]

    assert {attack.step for dealt in few for attack in dealt} == {0, 1, 2, 3, 4}
    assert all(len(dealt) == 1 for dealt in few)


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_report_adds_up_faults_and_names_how_they_ended() -> None:
    first, second = Outcome("one"), Outcome("two")
    first.faults = {"reset": Counter({"left": 2}), "stall": Counter({"408": 1})}
    second.faults = {"reset": Counter({"left": 1, "cut": 1})}

    lines = [line.split("|") for line in render((first, second)).splitlines() if line]

    told = {line[1].strip(): [cell.strip() for cell in line[2:-1]] for line in lines}
    assert told["reset"] == ["4", "left 3, cut 1"]
    assert told["stall"] == ["1", "408 1"]
    assert told["one"][4] == "3"
