"""The cases of the suite: which there are, and with which code a connection has to close."""

import fnmatch
from collections.abc import Iterable

_COUNTS = {
    "1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
    "6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4,
    "6.10": 3, "6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5,
    "6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7,
    "7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2,
    "9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6, "10.1": 1,
    "12.1": 18, "12.2": 18, "12.3": 18, "12.4": 18, "12.5": 18,
    "13.1": 18, "13.2": 18, "13.3": 18, "13.4": 18, "13.5": 18, "13.6": 18, "13.7": 18,
}  # fmt: skip

ALL = tuple(f"{group}.{number + 1}" for group, count in _COUNTS.items() for number in range(count))
"""Every case of the suite, in its order."""


def group_of(case: str) -> str:
    """Return the group that a report counts a case in: its first number."""
    return case.partition(".")[0]


INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})
"""Cases that the suite rates for nobody, because the RFC leaves open what is right."""

NO_CODE = "7.3.1"
"""The one case that closes without a code: an empty Close is answered by an empty one."""

# RFC 6455 §7.4.1: 1002 is a breach of the protocol, 1007 is text that is no UTF-8.
_FAULTS = {
    1002: (
        "2.5", "3.*", "4.*", "5.1", "5.2", "5.9", "5.1[0-8]", "7.3.2", "7.3.6", "7.9.*", "7.13.*",
    ),
    1007: (
        "6.3.*", "6.4.*", "6.6.[13468]", "6.6.10", "6.8.*", "6.10.*", "6.11.5", "6.12.*", "6.13.*",
        "6.14.*", "6.15.*", "6.16.*", "6.17.*", "6.18.*", "6.19.*", "6.20.*", "6.21.*", "7.5.1",
    ),
}  # fmt: skip

# The codes that 7.7.* sends, one a case; the answer echoes them (RFC 6455 §5.5.1).
_ECHOED = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)


def close_code(case: str) -> int | None:
    """Return the code of the Close frame that is due at the end of a case; None for no code."""
    if case == NO_CODE:
        return None
    group, _, number = case.rpartition(".")
    if group == "7.7":
        return _ECHOED[int(number) - 1]
    for code, patterns in _FAULTS.items():
        if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns):
            return code
    return 1000


def select(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the cases that match, in the suite's order.

    Args:
        patterns: Such as ``6.*`` or ``12.1.*``; none selects all.

    Raises:
        ValueError: A pattern matches no case.
    """
    patterns = tuple(patterns)
    if not patterns:
        return ALL
    for pattern in patterns:
        if not fnmatch.filter(ALL, pattern):
            raise ValueError(
                f"no case is called {pattern!r}; cases are called 6.*, 12.1.* or 7.3.1"
            )
    return tuple(
        case for case in ALL if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)
    )
