"""Makes reports as the suite writes them, for the tests of what reads them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conformance.cases import close_code
from tests.conformance.settings import AGENT


def good(case: str) -> dict[str, object]:
    """Return what stands in the index about a case that is as it must be."""
    return {
        "behavior": "OK",
        "behaviorClose": "OK",
        "remoteCloseCode": close_code(case),
        "duration": 1,
        "reportfile": f"{AGENT}_case_{case.replace('.', '_')}.json",
    }


def write_reports(
    folder: Path,
    cases: Iterable[str],
    changes: Mapping[str, Mapping[str, object]] | None = None,
    *,
    agent: str = AGENT,
) -> None:
    """Write an index, and a report on each case.

    Args:
        folder: Where to.
        cases: What was run.
        changes: What is not good, by case.
        agent: Whom it is about.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = {case: {**good(case), **(changes or {}).get(case, {})} for case in cases}
    (folder / "index.json").write_text(json.dumps({agent: index}), "utf-8")
    for entry in index.values():
        (folder / str(entry["reportfile"])).write_text(json.dumps(REPORT), "utf-8")


REPORT = {
    "description": "Send a <b>text</b>\n   message.",
    "expected": {"OK": [["message", "Hi", False]]},
    "expectedClose": {"closeCode": [1000], "closedByMe": True, "requireClean": True},
    "received": [],
    "result": "Actual events differ from any expected.",
    "resultClose": "Connection was properly closed",
    "wasClean": True,
    "wasNotCleanReason": None,
    "wirelog": [
        ["TO", [4, "81024869"], False],
        ["TF", [2, "Hi"], 1, True, 0, None, None, None, False],
        ["KL", 1],
        ["KLE"],
        ["RO", [4, "880203e8"]],
        ["RF", [2, "\x1b[2J"], 8, True, 0, False, None],
    ],
}
