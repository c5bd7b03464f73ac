"""`judge`: what the suite has reported, held against what has to be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.cases import INFORMATIONAL, close_code
from tests.conformance.settings import AGENT

_MAX_LINES = 80  # of a wire log in a report for people; some go on for thousands


@dataclass(frozen=True, slots=True)
class Verdict:
    """One case on one side."""

    case: str
    rating: str
    """The suite's word for the behavior, or MISSING."""
    faults: tuple[str, ...] = ()
    """What is not as it must be; empty if all is."""
    report: Path | None = None
    """The suite's own report on the case, with its wire log."""


def judge(folder: Path, expected: Sequence[str], why_missing: str | None = None) -> list[Verdict]:
    """Read the reports in a folder, and judge every case that was to be run.

    A case is as it must be when the suite rates both its behavior and its close as OK (or as
    informational, where it rates nobody), the Close frame that was due has come, with the code that
    was due, and the closing handshake was clean. The suite itself lets a bare end of the line pass.

    Args:
        folder: Where the suite has written its ``index.json``.
        expected: The cases that were to be run.
        why_missing: Why cases may be missing, if that is known.

    Returns:
        A verdict for each expected case, and one for each that the suite ran unasked.
    """
    reason = f"not reported: {why_missing}" if why_missing else "not reported"
    try:
        index = _read_index(folder)
    except (OSError, ValueError) as error:
        why = f"{reason}; no usable index.json: {error}"
        return [Verdict(case, "MISSING", (why,)) for case in expected]
    verdicts = [
        _judge_case(folder, case, index[case])
        if case in index
        else Verdict(case, "MISSING", (reason,))
        for case in expected
    ]
    unasked = sorted(index.keys() - set(expected))
    return verdicts + [Verdict(case, "UNASKED", ("it was not to be run",)) for case in unasked]


def _read_index(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read what the suite says about all cases."""
    agents = json.loads((folder / "index.json").read_text("utf-8"))
    if not isinstance(agents, dict) or list(agents) != [AGENT]:
        raise ValueError(f"it is not about {AGENT} alone")
    return dict(agents[AGENT])


def _judge_case(folder: Path, case: str, entry: Mapping[str, Any]) -> Verdict:
    allowed = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
    faults: list[str] = []
    for key in ("behavior", "behaviorClose"):
        rating = entry.get(key)
        if rating not in allowed:
            faults.append(f"{key} is {rating}, not {' or '.join(sorted(allowed))}")
    code, due = entry.get("remoteCloseCode"), close_code(case)
    if code is None and due is not None:
        faults.append(f"no Close frame with a code; {due} was due")
    elif code != due:
        faults.append(f"the Close frame has code {code}; {due or 'none'} was due")
    report = folder / str(entry.get("reportfile"))
    if not report.is_file():
        faults.append(f"there is no report {report.name}")
        return Verdict(case, str(entry.get("behavior")), tuple(faults))
    if why := _why_unclean(report):
        faults.append(f"the closing handshake was not clean: {why}")
    return Verdict(case, str(entry.get("behavior")), tuple(faults), report)


def _why_unclean(report: Path) -> str | None:
    """Say what the suite found wrong with the closing handshake, where its rating lets it pass."""
    try:
        case = json.loads(report.read_text("utf-8"))
    except ValueError as error:
        return f"the report cannot be read: {error}"
    return None if case.get("wasClean") is True else str(case.get("wasNotCleanReason"))


def wire_log(report: Path) -> list[str]:
    """Return a case's report as lines for people: what was expected, and what was on the wire."""
    try:
        case = json.loads(report.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return [f"{report} cannot be read: {error}"]
    lines = [
        f"{_flat(case.get('description', ''))}",
        f"expected: {json.dumps(case.get('expected'))}",
        f"expected close: {json.dumps(case.get('expectedClose'))}",
        f"received: {json.dumps(case.get('received'))}",
        f"{case.get('result')} {case.get('resultClose')} {case.get('wasNotCleanReason') or ''}",
    ]
    lines += map(_wire_line, case.get("wirelog") or ())
    if (more := len(lines) - _MAX_LINES) > 0:
        lines[_MAX_LINES // 2 : -_MAX_LINES // 2] = [f"  ... {more} lines ..."]
    return [line.rstrip() for line in lines]


def _flat(text: str) -> str:
    return " ".join(text.split())


# The kinds of entries of the suite's wire log.
_OCTETS = {"RO": "suite <- ", "TO": "suite -> "}
_FRAMES = {"RF": "suite <- ", "TF": "suite -> "}
_TIMERS = {
    "CT": "suite waits",
    "CTE": "suite goes on",
    "KL": "suite will fail the connection",
    "KLE": "suite fails the connection",
    "TI": "suite will close",
    "TIE": "suite closes",
    "WLM": "wire log switched",
}


def _wire_line(entry: Sequence[Any]) -> str:
    """Make one line of an entry of the wire log, whose first item is its kind."""
    kind, *rest = entry
    if kind in _OCTETS:
        size, data = rest[0]
        return f"  {_OCTETS[kind]}{size} bytes: {data}"
    if kind in _FRAMES:
        size, data = rest[0]
        opcode, fin, reserved = rest[1:4]
        head = f"frame opcode={opcode} fin={fin} rsv={reserved}, {size} bytes"
        return f"  {_FRAMES[kind]}{head}: {data!r}"
    return f"  {_TIMERS.get(kind, kind)} {' '.join(map(str, rest))}"
