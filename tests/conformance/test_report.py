"""The report of a run says what came out."""

from pathlib import Path

from tests.conformance.judge import Verdict, judge
from tests.conformance.report import render
from tests.conformance.reports import write_reports

CASES = ("1.1.1", "1.1.2", "7.1.6", "12.1.1")
INFORMATIONAL = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}


def test_a_good_run_is_counted_by_group(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES, {"7.1.6": INFORMATIONAL})

    report = render({"server": judge(tmp_path, CASES)})

    assert report.splitlines() == [
        "## server",
        "",
        "| group | cases | OK | informational | not as they must be |",
        "|------:|------:|---:|--------------:|--------------------:|",
        "|   1.* |     2 |  2 |             0 |                   0 |",
        "|   7.* |     1 |  0 |             1 |                   0 |",
        "|  12.* |     1 |  1 |             0 |                   0 |",
        "|   all |     4 |  3 |             1 |                   0 |",
        "",
        "all 4 cases are good",
    ]


def test_each_case_that_is_not_as_it_must_be_is_told_with_its_wire_log(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES, {"1.1.2": {"behavior": "FAILED"}})

    report = render({"server": judge(tmp_path, CASES), "client": []})

    assert "|   1.* |     2 |  1 |             0 |                   1 |" in report
    assert "## server 1.1.2: FAILED\nbehavior is FAILED, not OK\n" in report
    assert "\n  suite -> 4 bytes: 81024869\n" in report
    assert f"(more in {tmp_path / 'trio_ws_case_1_1_2.json'})" in report
    assert report.endswith("\n1 of 4 cases are not as they must be")


def test_cases_that_are_missing_for_one_reason_are_told_together() -> None:
    lost = [Verdict(case, "MISSING", ("not reported",)) for case in CASES[:2]]
    other = Verdict("7.3.1", "OK", ("there is no report",))

    report = render({"client": [*lost, other]})

    assert "## client 1.1.1 1.1.2: MISSING\nnot reported\n\n" in report
    assert "## client 7.3.1: OK\nthere is no report\n\n" in report
    assert report.endswith("\n3 of 3 cases are not as they must be")
