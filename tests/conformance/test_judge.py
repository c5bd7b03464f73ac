"""Whatever is not as it must be in the suite's reports is found."""

import json
from pathlib import Path

import pytest

from tests.conformance.cases import ALL
from tests.conformance.judge import judge, wire_log
from tests.conformance.reports import REPORT, good, write_reports

CASES = ("1.1.1", "3.1", "6.4.1", "7.1.6", "7.3.1")


def faults(folder: Path) -> dict[str, tuple[str, ...]]:
    """Judge, and return what is not as it must be."""
    return {each.case: each.faults for each in judge(folder, CASES) if each.faults}


def test_a_good_run_of_all_cases_has_no_fault(tmp_path: Path) -> None:
    write_reports(tmp_path, ALL)

    verdicts = judge(tmp_path, ALL)

    assert [verdict.case for verdict in verdicts] == list(ALL)
    assert {(verdict.rating, verdict.faults) for verdict in verdicts} == {("OK", ())}


@pytest.mark.parametrize(
    "rating", ["NON-STRICT", "FAILED", "UNIMPLEMENTED", "INFORMATIONAL", "NEW WORD", None]
)
def test_a_behavior_that_is_not_ok_is_a_fault(tmp_path: Path, rating: str | None) -> None:
    write_reports(tmp_path, CASES, {"3.1": {"behavior": rating}})

    assert faults(tmp_path) == {"3.1": (f"behavior is {rating}, not OK",)}


@pytest.mark.parametrize(
    "rating", ["UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "FAILED", "INFORMATIONAL", None]
)
def test_a_close_that_is_not_ok_is_a_fault(tmp_path: Path, rating: str | None) -> None:
    write_reports(tmp_path, CASES, {"1.1.1": {"behaviorClose": rating}})

    assert faults(tmp_path) == {"1.1.1": (f"behaviorClose is {rating}, not OK",)}


def test_informational_is_good_where_the_suite_rates_nobody(tmp_path: Path) -> None:
    rating = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}
    write_reports(tmp_path, CASES, {"7.1.6": rating})

    assert faults(tmp_path) == {}


def test_non_strict_is_a_fault_where_informational_is_allowed(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES, {"7.1.6": {"behavior": "NON-STRICT"}})

    assert faults(tmp_path) == {"7.1.6": ("behavior is NON-STRICT, not INFORMATIONAL or OK",)}


def test_a_bare_end_of_the_line_is_a_fault(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES, {"3.1": {"remoteCloseCode": None}})

    assert faults(tmp_path) == {"3.1": ("no Close frame with a code; 1002 was due",)}


@pytest.mark.parametrize(("case", "due"), [("3.1", "1002"), ("6.4.1", "1007"), ("7.3.1", "none")])
def test_a_wrong_close_code_is_a_fault(tmp_path: Path, case: str, due: str) -> None:
    write_reports(tmp_path, CASES, {case: {"remoteCloseCode": 1008}})

    assert faults(tmp_path) == {case: (f"the Close frame has code 1008; {due} was due",)}


def test_all_faults_of_a_case_are_told(tmp_path: Path) -> None:
    rating = {"behavior": "FAILED", "behaviorClose": "UNCLEAN", "remoteCloseCode": None}
    write_reports(tmp_path, CASES, {"6.4.1": rating})

    assert len(faults(tmp_path)["6.4.1"]) == 3


def test_a_case_without_a_report_is_a_fault(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES)
    (tmp_path / str(good("3.1")["reportfile"])).unlink()

    assert faults(tmp_path) == {"3.1": ("there is no report trio_ws_case_3_1.json",)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"wasClean": false, "wasNotCleanReason": "dropped"}', "dropped"),
        ("{}", "None"),
        ("{", "the report cannot be read: "),
    ],
)
def test_a_closing_handshake_that_was_not_clean_is_a_fault(
    tmp_path: Path, text: str, why: str
) -> None:
    write_reports(tmp_path, CASES)
    (tmp_path / str(good("3.1")["reportfile"])).write_text(text, "utf-8")

    ((fault,),) = faults(tmp_path).values()

    assert fault.startswith(f"the closing handshake was not clean: {why}")


def test_a_case_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES[:-1])

    (*rest, last) = judge(tmp_path, CASES, "not done after 5 seconds")

    assert not any(verdict.faults for verdict in rest)
    assert (last.case, last.rating) == ("7.3.1", "MISSING")
    assert last.faults == ("not reported: not done after 5 seconds",)


def test_a_case_that_nobody_asked_for_is_a_fault(tmp_path: Path) -> None:
    write_reports(tmp_path, [*CASES, "14.1"])

    assert faults(tmp_path) == {"14.1": ("it was not to be run",)}


def test_reports_about_somebody_else_are_no_reports(tmp_path: Path) -> None:
    write_reports(tmp_path, CASES, agent="somebody")

    assert set(faults(tmp_path)) == set(CASES)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "{"])
def test_without_a_usable_index_every_case_is_missing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text, "utf-8")

    verdicts = judge(tmp_path, CASES)

    assert [verdict.rating for verdict in verdicts] == ["MISSING"] * len(CASES)


def test_a_wire_log_is_made_readable_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT), "utf-8")

    lines = wire_log(path)

    assert lines[0] == "Send a <b>text</b> message."
    assert lines[1] == 'expected: {"OK": [["message", "Hi", false]]}'
    assert lines[5:] == [
        "  suite -> 4 bytes: 81024869",
        "  suite -> frame opcode=1 fin=True rsv=0, 2 bytes: 'Hi'",
        "  suite will fail the connection 1",
        "  suite fails the connection",
        "  suite <- 4 bytes: 880203e8",
        r"  suite <- frame opcode=8 fin=True rsv=0, 2 bytes: '\x1b[2J'",
    ]


def test_a_long_wire_log_is_shortened_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    log = [["TO", [1, f"{number:02x}"], False] for number in range(200)]
    path.write_text(json.dumps({**REPORT, "wirelog": log}), "utf-8")

    lines = wire_log(path)

    assert len(lines) == 81
    assert "  ... 125 lines ..." in lines
    assert lines[-1].endswith(": c7")


def test_a_report_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("{", "utf-8")

    (line,) = wire_log(path)

    assert line.startswith(f"{path} cannot be read: ")
