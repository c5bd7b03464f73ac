"""The runner runs each group on its own, and loses no more than that."""

import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.conformance.cases import ALL
from tests.conformance.judge import Verdict
from tests.conformance.runner import ROOT, Group, groups, run
from tests.conformance.settings import SIDES, Side

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform == "win32", reason="needs programs that are scripts"),
]

LIMIT = 1000.0
"""Far from what a group takes here; a test that reaches it does so on a clock of its own."""


@pytest.fixture
def wstest(tmp_path: Path) -> Path:
    """Make a program that plays the suite."""
    path = tmp_path / "wstest"
    path.write_text(
        f"#!{sys.executable}\n"
        f"import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.conformance.fake_suite import main\n"
        f"main()\n",
        "utf-8",
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def broken_wstest(wstest: Path) -> Path:
    """Make a program that ends at once."""
    wstest.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    return wstest


def said(log: Path) -> str:
    """Return what a program has said so far."""
    return log.read_text("utf-8") if log.is_file() else ""


async def run_two(
    wstest: Path, side: Side, told: list[str], *, jobs: int = 2
) -> tuple[list[Verdict], list[Verdict]]:
    """Run one group that is to go wrong, and a good one; return the verdicts on each."""
    bad = Group(side, "1", ("1.1.1", "1.1.2"), LIMIT + 1)
    good = Group(side, "2", ("2.1",), LIMIT)
    results = wstest.parent / "results"
    found = await run(wstest, (bad, good), jobs=jobs, results=results, progress=told.append)
    return found[side][:-1], found[side][-1:]


@pytest.mark.parametrize("side", SIDES)
async def test_every_case_is_run_and_judged(wstest: Path, side: Side) -> None:
    told: list[str] = []

    found = await run_two(wstest, side, told)

    assert [(v.case, v.rating, v.faults) for v in (*found[0], *found[1])] == [
        ("1.1.1", "OK", ()),
        ("1.1.2", "OK", ()),
        ("2.1", "OK", ()),
    ]
    assert sorted(line.rpartition(",")[0] for line in told) == [
        f"{side} 1: 2 cases, as they must be",
        f"{side} 2: 1 cases, as they must be",
    ]


@pytest.mark.parametrize("side", SIDES)
async def test_a_suite_that_hangs_loses_its_group_and_not_the_run(
    wstest: Path, side: Side, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("FAKE_SUITE", "hang 1.1.2")
    mock_clock.rate = 1
    log = wstest.parent / "results" / side / "1" / "suite.log"

    async def jump() -> None:
        # Another process says so, in a file; there is no event to wait for.
        while "hanging" not in said(log):  # noqa: ASYNC110
            await trio.sleep(0.01)
        mock_clock.jump(LIMIT + 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        lost, good = await run_two(wstest, side, [], jobs=1)
        nursery.cancel_scope.cancel()

    assert [verdict.rating for verdict in lost] == ["MISSING"] * 2
    assert "not reported: not done after 1001 seconds (see " in lost[0].faults[0]
    assert [verdict.faults for verdict in good] == [()]


async def test_a_suite_that_dies_loses_its_group_and_not_the_run(
    wstest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SUITE", "crash 1.1.1")

    lost, good = await run_two(wstest, "server", [])

    assert "not reported: the suite ended with status 3 (see " in lost[0].faults[0]
    assert [verdict.faults for verdict in good] == [()]


async def test_a_suite_with_other_cases_than_ours_is_no_basis(
    wstest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SUITE", "other-cases")

    lost, good = await run_two(wstest, "client", [])

    for verdict in (*lost, *good):
        assert "others than those of cases.py: {'1.1.1'}" in verdict.faults[0]


async def test_a_suite_that_does_not_start_is_told(broken_wstest: Path) -> None:
    lost, _ = await run_two(broken_wstest, "client", [])

    assert "not reported: the suite does not start (see " in lost[0].faults[0]


def test_every_case_is_in_one_group_of_each_side() -> None:
    chosen = groups(SIDES, ALL)

    for side in SIDES:
        cases = [case for group in chosen if group.side == side for case in group.cases]
        assert cases == list(ALL)


def test_groups_of_compression_are_small_and_have_time() -> None:
    (plain, compressed) = groups(["server"], ["1.1.1", "1.2.1", "12.1.1"])

    assert (plain.name, plain.cases) == ("1", ("1.1.1", "1.2.1"))
    assert (compressed.name, compressed.cases) == ("12.1", ("12.1.1",))
    assert compressed.limit > plain.limit
