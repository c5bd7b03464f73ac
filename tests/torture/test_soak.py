"""The suite finds nothing wrong with trio_ws, and finds what is wrong with a broken server."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.torture.__main__ import make_certificate
from tests.torture.faults import FAULTS
from tests.torture.faults.handshakes import FAULTS as HANDSHAKES
from tests.torture.hostile import Fault, Hostile, Target, how_it_ends
from tests.torture.outcome import Outcome
from tests.torture.plan import Options
from tests.torture.server import serving
from tests.torture.servers import figures
from tests.torture.settings import Times
from tests.torture.soak import Soak

pytestmark = pytest.mark.network

REQUEST = next(fault for fault in HANDSHAKES if fault.name.endswith("many"))
QUICK = Options(seed="test", seconds=0, crowd=50, chats=4, visitors=0, drain=False)
NEEDS_DESCRIPTORS = pytest.mark.skipif(
    sys.platform == "win32" or figures.descriptors() is None,
    reason="the system does not tell or limit descriptors",
)


@dataclass(frozen=True)
class Files:
    own: Path
    target: Target


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with tempfile.TemporaryDirectory() as folder:
        own, context = make_certificate(Path(folder))
        yield Files(own, Target((0, 0), context, Times(0.5)))


async def soaked(
    files: Files, faults: tuple[Fault, ...], options: Options, *server: str
) -> Outcome:
    async with serving(server, files.own, files.target.times.scale, {}) as running:
        target = replace(files.target, ports=running.ports)
        return await Soak(running, target, faults, options, lambda _: None).run()


@pytest.mark.parametrize("drain", [False, True])
async def test_nothing_is_wrong_after_every_fault_there_is(drain: bool, files: Files) -> None:
    options = replace(QUICK, steps=1, chats=8, visitors=60, drain=drain)

    outcome = await soaked(files, FAULTS, options, "trio_ws")

    assert [*outcome.violations] == []
    assert outcome.faults.keys() == {fault.name for fault in FAULTS}
    assert outcome.tally.messages >= 2 * 8 * 20


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("lose", "messages were lost: 2"),
        ("reorder", "message 2 came back out of order"),
        ("repeat", "came back that were not sent"),
        ("alter", "came back that were not sent"),
        ("hang-up", "it was closed with 1000"),
        ("complain", "in the log of the server: somebody: this should not be"),
        ("die", "the server has ended"),
        ("fail", "it ended as 500"),
        ("no-goodbye", "a client at /hold when the server stopped"),
        ("task-at-the-end", "left behind when the server had stopped"),
    ],
)
async def test_what_is_broken_is_found(how: str, found: str, files: Files) -> None:
    outcome = await soaked(files, (REQUEST,), QUICK, "broken", how)

    assert any(found in violation for violation in outcome.violations), [*outcome.violations]


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("withhold", "took longer than 1 seconds to come back"),
        ("keep-tasks", "tasks trio.sleep_forever"),
        pytest.param("keep-sockets", "descriptors (socket)", marks=NEEDS_DESCRIPTORS),
        ("never-answer", "the server was not done with it after 1 seconds"),
    ],
)
async def test_what_does_not_come_to_an_end_is_found(how: str, found: str, files: Files) -> None:
    options = replace(QUICK, bound=1, patience=1)

    outcome = await soaked(files, (REQUEST,), options, "broken", how)

    assert any(found in violation for violation in outcome.violations), [*outcome.violations]


@NEEDS_DESCRIPTORS
@pytest.mark.parametrize(("how", "words"), [("no-word", 0), ("two-words", 2)])
async def test_a_shortage_that_is_not_told_once_is_found(
    how: str, words: int, files: Files
) -> None:
    outcome = await soaked(files, (REQUEST,), replace(QUICK, visitors=60), "broken", how)

    assert any(f"said so {words} times" in violation for violation in outcome.violations)


async def test_an_object_kept_for_each_fault_is_found(files: Files) -> None:
    ask = Fault(name="request", act=request, steps=1200, secure=False)

    outcome = await soaked(files, (ask,), replace(QUICK, laps=2), "broken", "keep-objects")

    assert any("blocks behind" in violation for violation in outcome.violations)


async def request(hostile: Hostile) -> str:
    """Ask for what is no WebSocket."""
    peer = await hostile.dial()
    await peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return await how_it_ends(peer, opened=False)
