"""The benchmark's harness works. What it measures is no matter of tests."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from matplotlib import image

import trio_ws
from benchmarks.__main__ import main
from benchmarks.generator import Generator, Load, Sample
from benchmarks.options import Options
from benchmarks.peers import PEERS, REFERENCE, ROOT, Peer
from benchmarks.pictures import draw
from benchmarks.processes import BenchError
from benchmarks.report import Report, summary, table
from benchmarks.runner import Result, check_count, count, refusal, run
from benchmarks.works import Unit, Work, curves, full, quick

BUILT = importlib.util.find_spec("trio_ws._protocol.speedups") is not None

pytestmark = pytest.mark.network

# Long enough for a message to come back on a machine that is busy with something else.
SECONDS = 0.5
LOAD = Load(connections=2, warmup=0.02, seconds=SECONDS)
ECHO = Work(name="echo", load=LOAD)
WORKS = (
    ECHO,
    Work(name="text", load=replace(LOAD, text=True, in_flight=3)),
    Work(name="at once", load=replace(LOAD, work="burst", in_flight=5)),
    Work(name="broadcast", load=replace(LOAD, work="broadcast"), broadcast=True),
    Work(name="handshakes", load=replace(LOAD, work="handshakes"), fresh=True),
    Work(name="idle", load=replace(LOAD, work="idle"), unit=Unit.MEMORY, fresh=True),
)
# These need the generator in C.
MORE_WORKS = (
    Work(name="TLS", load=replace(LOAD, tls=True)),
    Work(name="client", load=LOAD, client=True),
    Work(name="quiet", load=replace(LOAD, work="quiet", flood=4), unit=Unit.TAIL),
)
OURS = next(peer for peer in PEERS if peer.name == REFERENCE)
FLOOR = next(peer for peer in PEERS if peer.raw)
LEAST = next(peer for peer in PEERS if peer.only_echoes)
SAMPLE = Sample(messages=1000, seconds=1, cpu=0.5, own_cpu=0.2, p50=0.1, p99=0.2, memory=4096)
BROKEN = Peer(name="broken", program="no_such_program")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Generator]:
    with tempfile.TemporaryDirectory() as folder:
        generator = Generator.compiled(Path(folder))
        if generator is None:
            pytest.skip("needs Linux and a C compiler")
        yield generator


async def test_a_tiny_round_measures_every_kind_of_work(compiled: Generator) -> None:
    works, peers = (*WORKS, *MORE_WORKS), (OURS, FLOOR, LEAST)
    told: list[str] = []

    results = await run(works, peers, compiled, rounds=1, seconds=SECONDS, progress=told.append)

    assert len(told) == count(works, peers, 1) == 3 * len(works) - 5
    for work in works:
        for peer in peers:
            result = results[work.name][peer.name]
            assert result.failures == []
            assert result.refusal == refusal(work, peer)
            assert len(result.samples) == (result.refusal is None)


async def test_a_tiny_round_works_without_a_compiler() -> None:
    works = (*WORKS, *MORE_WORKS)

    results = await run(works, (OURS,), Generator.fallback(), rounds=1, seconds=SECONDS)

    for work in WORKS:
        assert results[work.name][OURS.name].failures == []
        assert len(results[work.name][OURS.name].samples) == 1
    for work in MORE_WORKS:
        assert results[work.name][OURS.name].failures == ["this needs the generator in C"]


@pytest.mark.usefixtures("compiled")
def test_the_compiler_may_have_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{os.environ.get('CC') or 'cc'} -O1")

    assert Generator.compiled(tmp_path) is not None


async def test_a_peer_that_does_not_start_is_named_with_the_reason(compiled: Generator) -> None:
    results = await run((ECHO,), (BROKEN, FLOOR), compiled, rounds=1, seconds=SECONDS)

    assert "No module named" in results[ECHO.name]["broken"].failures[0]
    assert results[ECHO.name][FLOOR.name].samples


async def test_nobody_waits_for_a_client_that_has_ended(compiled: Generator) -> None:
    # With this Python itself does not start.
    dead = replace(OURS, environment={"PYTHONHASHSEED": "nonsense"})
    work = Work(name="client", load=LOAD, client=True)

    with trio.fail_after(20):  # The generator itself gives up after a minute.
        results = await run((work,), (dead,), compiled, rounds=1, seconds=SECONDS)

    assert "the client ended: " in results[work.name][dead.name].failures[0]


@pytest.mark.parametrize(
    ("messages", "connections", "enough"),
    [(0, 1, False), (1, 1, True), (1, 10, True), (1, 11, False), (9, 91, False)],
)
def test_a_few_messages_of_many_connections_are_no_measurement(
    messages: int, connections: int, enough: bool
) -> None:
    sample = replace(SAMPLE, messages=messages)
    load = Load(connections=connections, seconds=0.5)

    if enough:
        check_count(sample, load)
    else:
        with pytest.raises(BenchError, match=f"within 1 seconds for an average: {messages}$"):
            check_count(sample, load)


@pytest.mark.parametrize("in_c", [True, False], ids=["C", "Python"])
async def test_a_slow_server_is_measured_for_longer(compiled: Generator, *, in_c: bool) -> None:
    async def echo(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            async for message in connection:
                await trio.sleep(0.03)
                await connection.send(message)

    generator = compiled if in_c else Generator.fallback()
    load = Load(warmup=0.01, seconds=0.06)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve, echo, 0)
        sample = await generator.drive(load, server.port, os.getpid())
        nursery.cancel_scope.cancel()

    # Ten messages are enough, eight times as long is too long.
    assert sample.messages >= 10 or sample.seconds >= 8 * load.seconds


@pytest.mark.parametrize("in_c", [True, False], ids=["C", "Python"])
async def test_a_wrong_echo_is_no_measurement(compiled: Generator, *, in_c: bool) -> None:
    # A server that sends back bytes, where a WebSocket is expected.
    masquerade = replace(FLOOR, raw=False)
    generator = compiled if in_c else Generator.fallback()

    results = await run((ECHO,), (masquerade,), generator, rounds=1, seconds=SECONDS)

    assert "the answer to the handshake is" in results[ECHO.name][FLOOR.name].failures[0]


async def test_a_report_has_a_table_for_each_work_and_names_the_absent(tmp_path: Path) -> None:
    results = await run((ECHO,), (OURS, FLOOR), Generator.fallback(), rounds=2, seconds=SECONDS)
    results[ECHO.name]["broken"] = Result(failures=["it said nothing"] * 2)
    report = Report(
        machine={"cores": "2"},
        settings={"rounds": "2"},
        works=[ECHO],
        peers=[OURS, FLOOR],
        absent={"elsewhere": "not installed"},
        results=results,
    )

    written = report.write(tmp_path, "tiny")

    assert {path.name for path in written} >= {"tiny.md", "tiny.json"}
    text = (tmp_path / "tiny.md").read_text(encoding="utf-8")
    assert "### echo" in text
    assert f"| {REFERENCE} " in text
    assert "absent: elsewhere: not installed" in text
    assert "broken, 2 times without result: it said nothing" in text
    data = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert len(data["works"][0]["peers"][REFERENCE]["samples"]) == 2


def test_a_table_tells_how_far_the_rounds_are_apart() -> None:
    samples = [replace(SAMPLE, cpu=cpu) for cpu in (0.2, 0.3, 0.1)]
    results = {REFERENCE: Result(samples=samples), "once": Result(samples=[SAMPLE])}

    lines = table(ECHO, results)

    assert [cell.strip() for cell in lines[2].split("|")][1:4] == [REFERENCE, "200", "100 to 300"]
    assert [cell.strip() for cell in lines[3].split("|")][1:4] == ["once", "500", "-"]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.2, 0.25), "The load generator had at most 25% of its core"),
        (
            (0.2, 0.95),
            "The load generator had at most 20% of its core, and over 90% in: echo (95% with b)",
        ),
        ((0.95,), "The load generator had over 90% in: echo (95% with a)"),
        ((), ""),
    ],
)
def test_a_summary_tells_where_the_generator_was_busy(shares: tuple[float, ...], said: str) -> None:
    peers = [replace(BROKEN, name=name) for name in "ab"[: len(shares)]]
    samples = [replace(SAMPLE, own_cpu=share) for share in shares]
    results = {p.name: Result(samples=[s]) for p, s in zip(peers, samples, strict=True)}

    assert summary([ECHO], peers, {ECHO.name: results})[-1] == said


def test_pictures_of_a_full_run_can_be_looked_at_one_by_one(tmp_path: Path) -> None:
    works = [work for work in full() if work.picture in {"", "64 B"}]
    none, some = Result(failures=["it said nothing"]), Result(samples=[SAMPLE])
    results = {work.name: {peer.name: none for peer in PEERS} for work in works}
    # Of the others, one work of one peer is enough to be drawn.
    results[works[-1].name][REFERENCE] = some
    for work in works:
        if work.picture:
            results[work.name] = {peer.name: some for peer in PEERS}
    report = Report(
        machine={"cores": "2"}, settings={}, works=works, peers=PEERS, absent={}, results=results
    )

    drawn = draw(report, tmp_path, "full")

    assert {path.name for path in drawn} == {"full.png", "full-64-B.png"}
    assert all(image.imread(path).shape[0] <= 2500 for path in drawn)


async def test_a_generator_that_is_misused_says_so(compiled: Generator) -> None:
    with pytest.raises(BenchError, match="out of range"):
        await compiled.drive(Load(connections=0), 1, 0)


@pytest.mark.parametrize("works", [quick(), full(), curves()], ids=["quick", "full", "curves"])
def test_works_have_names_of_their_own(works: list[Work]) -> None:
    assert len({work.name for work in works}) == len(works)


def test_a_full_run_has_every_work_of_a_quick_one() -> None:
    assert {work.name for work in quick()} < {work.name for work in full()}


def test_a_peer_that_is_not_installed_is_absent() -> None:
    peer = replace(OURS, needs=("no-such-distribution",))

    assert peer.absence() == "not installed: no-such-distribution"
    assert OURS.absence() is None


def test_the_versions_of_trio_ws_say_what_is_at_work() -> None:
    versions = {peer.name: peer.versions() for peer in PEERS if peer.program == REFERENCE}

    assert versions[REFERENCE]["frames"] == ("compiled" if BUILT else "python")
    assert versions["trio_ws, no speedups"]["frames"] == "python"
    assert versions["trio_ws, no poller"]["wires"] == "tasks"
    assert {"trio-ws", "trio", "frames", "wires"} == set(versions[REFERENCE])
    assert OURS.is_uncompiled() is not BUILT


def test_what_is_exported_changes_no_variant_of_trio_ws() -> None:
    switches = {"TRIO_WS_NO_SPEEDUPS", "TRIO_WS_NO_POLLER"}

    assert all(set(peer.environment) == switches for peer in PEERS if "trio-ws" in peer.needs)


def test_the_second_floor_is_not_asked_for_what_it_does_not_do() -> None:
    asked = {work.name for work in (*WORKS, *MORE_WORKS) if refusal(work, LEAST) is None}

    assert asked == {"echo", "text", "at once", "handshakes", "idle", "quiet"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("trio_ws", {"trio_ws"}),
        ("trio_ws,", {"trio_ws, no speedups", "trio_ws, no poller"}),
        ("websockets, Trio; Node ;", {"websockets, Trio", "Node ws"}),
    ],
)
def test_names_and_parts_of_names_select_peers(text: str, names: set[str]) -> None:
    options = Options.parse(["--peers", text])

    assert {peer.name for peer in options.peers} == names
    assert options.selection.keys() == {"peers"}


def test_a_quick_run_has_no_variants_of_trio_ws_unless_they_are_wanted() -> None:
    usual = [peer for peer in PEERS if not peer.is_variant]

    assert len(usual) == len(PEERS) - 2
    assert Options.parse(["--peers", " ; "]).peers == usual
    assert Options.parse(["--peers", " ; "]).selection == {}
    for option in ("--variants", "--full", "--curves"):
        assert Options.parse([option]).peers == list(PEERS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--peers", "trio_wss;picows"],
        ["--works", "idle;no such work"],
        *(["--rounds", text] for text in ("0", "-1", "1.5")),
        *(["--seconds", text] for text in ("0", "-1", "nan", "inf", "a")),
    ],
    ids=" ".join,
)
def test_a_command_line_without_sense_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Options.parse(arguments)

    complaint = capsys.readouterr().err
    assert f"error: argument {arguments[0]}: " in complaint
    if arguments[0] in {"--peers", "--works"}:
        assert {"  picows, uvloop", f"  {quick()[-1].name}"} & set(complaint.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="its signals end programs at once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_says_so_and_overwrites_no_whole_one(
    number: signal.Signals, tmp_path: Path
) -> None:
    selection = ["--peers", FLOOR.name, "--works", "1 connection", "--rounds", "1000"]
    command = [sys.executable, "-m", "benchmarks", *selection, "--output", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as program:
        assert program.stdout is not None
        begun = b""
        while FLOOR.name.encode() not in begun:
            begun += (part := program.stdout.read(1))
            assert part, begun

        program.send_signal(number)
        output, _ = program.communicate()

    assert program.returncode == 130
    assert b"interrupted" in output
    assert {path.stem for path in tmp_path.iterdir()} == {"quick-selected-interrupted"}
    text = (tmp_path / "quick-selected-interrupted.md").read_text(encoding="utf-8")
    assert f"- selected peers: {FLOOR.name}" in text
    assert "- interrupted" in text


def test_a_run_of_nobody_says_who_is_absent_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--peers", "Node"])
    monkeypatch.setenv("PATH", "")

    assert "absent: Node ws: Node.js is not installed" in str(main())
