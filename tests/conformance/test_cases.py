"""The list of cases is complete, and tells each one's close code."""

import fnmatch

import pytest

from tests.conformance.cases import (
    _FAULTS,
    ALL,
    INFORMATIONAL,
    NO_CODE,
    close_code,
    select,
)


def test_the_list_has_every_case_of_the_suite_once() -> None:
    assert len(ALL) == len(set(ALL)) == 517
    assert (ALL[0], ALL[-1]) == ("1.1.1", "13.7.18")


def test_special_cases_are_cases() -> None:
    assert {*INFORMATIONAL, NO_CODE} <= set(ALL)


@pytest.mark.parametrize("patterns", _FAULTS.values())
def test_every_pattern_of_a_fault_stands_for_cases(patterns: tuple[str, ...]) -> None:
    assert [pattern for pattern in patterns if not fnmatch.filter(ALL, pattern)] == []


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("1.1.1", 1000),
        ("2.5", 1002),
        ("5.1", 1002),
        ("5.8", 1000),
        ("5.19", 1000),
        ("6.6.2", 1000),
        ("6.6.10", 1007),
        ("7.3.1", None),
        ("7.3.2", 1002),
        ("7.7.3", 1002),
        ("7.7.13", 4999),
        ("13.7.18", 1000),
    ],
)
def test_each_case_has_its_close_code(case: str, code: int | None) -> None:
    assert close_code(case) == code


def test_without_patterns_all_cases_are_selected() -> None:
    assert select([]) == ALL


def test_patterns_select_cases_in_the_order_of_the_suite() -> None:
    assert select(["7.3.1", "10.*", "6.1.*"]) == ("6.1.1", "6.1.2", "6.1.3", "7.3.1", "10.1.1")


def test_a_pattern_without_a_case_is_refused_with_examples() -> None:
    with pytest.raises(ValueError, match=r"'8\.\*'; cases are called 6\.\*"):
        select(["6.*", "8.*"])
