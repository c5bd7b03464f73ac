"""Where the suite cannot be had, it is said what is missing."""

import sys
from pathlib import Path

import pytest

from tests.conformance import suite
from tests.conformance.suite import SuiteError, find_suite

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs programs that are scripts")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have nothing installed, and no Python 2.7."""
    monkeypatch.setattr(suite, "FOLDER", tmp_path / "suite")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("PYTHON27", raising=False)
    monkeypatch.delenv("WSTEST", raising=False)


def script(path: Path, *lines: str) -> Path:
    """Make a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), "utf-8")
    path.chmod(0o755)
    return path


def test_without_python_27_it_is_said_how_to_get_the_suite() -> None:
    with pytest.raises(SuiteError) as caught:
        find_suite()

    text = str(caught.value)
    assert "(none is there)" in text
    assert "pyenv install 2.7.18" in text
    assert "make conformance PYTHON27=/path/to/python2.7" in text
    assert "make conformance WSTEST=/path/to/wstest" in text


def test_a_python_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON27", "/no/such/python")

    with pytest.raises(SuiteError, match=r"\n    /no/such/python: .*No such file"):
        find_suite()


def test_another_python_will_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON27", sys.executable)

    with pytest.raises(SuiteError, match=r": it is no Python 2\.7"):
        find_suite()


@needs_posix
def test_a_name_on_the_path_that_starts_nothing_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python2.7", "echo 'python2.7: not chosen' >&2", "exit 127")
    script(tmp_path / "pyenv" / "versions" / "2.7.1" / "bin" / "python2.7", "exit 1")
    good = script(tmp_path / "pyenv" / "versions" / "2.7.18" / "bin" / "python2.7", "exit 0")

    assert suite.find_python() == good


@needs_posix
def test_a_python_without_pip_is_told(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python2.7", "echo 'ImportError: No module named pip' >&2", "exit 1")

    with pytest.raises(SuiteError, match=r"python2\.7: it has no pip"):
        find_suite()


@needs_posix
def test_an_installation_that_fails_says_what_failed(tmp_path: Path) -> None:
    probe = 'test "$1" = -c && exit 0'
    script(tmp_path / "bin" / "python2.7", probe, "echo 'the network is down'", "exit 1")

    with pytest.raises(SuiteError, match=r"failed: .* virtualenv==20\.15\.1\nthe network is down"):
        find_suite()


@needs_posix
def test_the_suite_is_installed_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    # Plays pip, and virtualenv, which makes another Python that plays pip.
    own = 'cp "$0" "$last"/bin/python'
    script(
        tmp_path / "bin" / "python2.7",
        'test "$1" = -c && exit 0',
        f'echo "$2 $PYTHONPATH" >> {told}',
        'for last in "$@"; do :; done',
        f'if test "$2" = virtualenv; then /bin/mkdir -p "$last"/bin && /bin/{own}; fi',
    )

    first = find_suite()
    second = find_suite()

    assert first == second == tmp_path / "suite" / "v27" / "bin" / "wstest"
    boot = tmp_path / "suite" / "boot27"
    assert told.read_text("utf-8").splitlines() == ["pip ", f"virtualenv {boot}", "pip "]


@needs_posix
def test_a_program_may_be_named_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WSTEST", "my-wstest")
    program = script(tmp_path / "bin" / "my-wstest")

    assert find_suite() == program


def test_a_program_that_is_named_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSTEST", "no-such-wstest")

    with pytest.raises(SuiteError, match="WSTEST names no-such-wstest, which is no program"):
        find_suite()
