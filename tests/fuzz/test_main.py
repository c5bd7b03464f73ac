"""The program that fuzzes: what it says, and what it keeps."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as program
from tests.fuzz import corpus


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep everything in a folder of the test's."""
    monkeypatch.setattr(program, "WORK", tmp_path / "work")
    monkeypatch.setattr(program, "CORPUS", tmp_path / "corpus")
    monkeypatch.setattr(corpus, "CORPUS", tmp_path / "corpus")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str, atheris: bool = True) -> int:
    monkeypatch.setattr("sys.argv", ["fuzz", *arguments])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if atheris else None)
    return program.main()


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--if-possible"], 0)])
def test_without_the_fuzzer_it_is_said_what_is_missing(
    arguments: list[str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *arguments, atheris=False) == status

    assert "pip install --group fuzz" in capsys.readouterr().err


def test_unknown_target_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "frame")

    assert "there is no target frame" in capsys.readouterr().err


def test_input_that_breaks_a_target_is_kept_and_tried_again(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_target: str, *arguments: object) -> int:
        prefix = "-artifact_prefix="
        place = next(str(each) for each in arguments if str(each).startswith(prefix))
        Path(f"{place.removeprefix(prefix)}crash-1").write_bytes(b"\x81")
        return 77

    monkeypatch.setattr(program, "run", run)

    assert call(monkeypatch, "frames", "url", "--merge") == 1

    assert corpus.inputs("frames")["crash-1"] == b"\x81"
    output = capsys.readouterr()
    assert str(folders / "corpus" / "frames" / "crash-1") in output.out
    assert "broken: frames, url" in output.err


def test_target_that_withstands_leaves_nothing_but_what_is_merged(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def run(*arguments: object) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(program, "run", run)

    assert call(monkeypatch, "url", "--seconds", "7") == 0
    assert not list((folders / "corpus").iterdir())
    assert call(monkeypatch, "url", "--merge") == 0

    assert "-max_total_time=7" in calls[0]
    assert "-set_cover_merge=1" in calls[-1]


def test_word_is_written_as_the_fuzzer_reads_it() -> None:
    assert program.escaped(b'a"\0\xff') == r"\x61\x22\x00\xff"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no Atheris here")
def test_fuzzer_runs_a_target() -> None:
    command = [sys.executable, "-m", "tests.fuzz.guided", "close_payload", "-runs=50"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, "Done 50 runs" in done.stderr) == (0, True), done.stderr
