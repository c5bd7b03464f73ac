"""`find_suite`: the suite's program, installed beside this module where that can be done."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSION = "25.10.1"

FOLDER = Path(__file__).with_name(".suite")
"""What was installed; ``make clean`` removes it."""

# The last one that makes environments for Python 2.7.
_VIRTUALENV = "virtualenv==20.15.1"
_INSTALL_TIMEOUT = 600

_HELP = f"""\
The Autobahn test suite is a program for Python 2.7, which was not found here. It was looked for
under these names:
{{tried}}
Install Python 2.7 with pip, for instance by `pyenv install 2.7.18`, or name it:
    make conformance PYTHON27=/path/to/python2.7
or name a program that is the suite's `wstest` {VERSION} (one that runs it in a container, perhaps):
    make conformance WSTEST=/path/to/wstest"""


class SuiteError(Exception):
    """The suite is not here and cannot be installed; the text says what is missing."""


def find_suite() -> Path:
    """Return the path of ``wstest``, installing it first if it was not.

    Raises:
        SuiteError: It is not here and cannot be installed.
    """
    if (named := os.environ.get("WSTEST")) is not None:
        path = shutil.which(named)
        if path is None:
            raise SuiteError(f"WSTEST names {named}, which is no program that can be run")
        return Path(path).absolute()
    program, stamp = FOLDER / "v27" / "bin" / "wstest", FOLDER / f"installed-{VERSION}"
    if not stamp.is_file():
        _install(find_python())
        stamp.touch()
    return program


def find_python() -> Path:
    """Return a Python 2.7 that runs and has pip.

    Raises:
        SuiteError: There is none.
    """
    tried: list[str] = []
    for candidate in _candidates():
        why = _refusal(candidate)
        if why is None:
            return candidate
        tried.append(f"    {candidate}: {why}")
    raise SuiteError(_HELP.format(tried="\n".join(tried) or "    (none is there)"))


def _candidates() -> Iterator[Path]:
    """Yield what may be a Python 2.7, likely ones first."""
    if (named := os.environ.get("PYTHON27")) is not None:
        yield Path(named)
        return
    for name in ("python2.7", "python2"):
        if (path := shutil.which(name)) is not None:
            yield Path(path)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted((root / "versions").glob("2.7*/bin/python2.7"), reverse=True)


def _refusal(python: Path) -> str | None:
    """Say why a Python will not do; a name on the PATH proves nothing."""
    probe = "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        done = subprocess.run(
            [python, "-c", probe], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    if "No module named pip" in done.stderr:
        return "it has no pip"
    lines = done.stderr.strip().splitlines()
    return lines[0] if lines else "it is no Python 2.7"


def _install(python: Path) -> None:
    """Install the suite with its own pinned dependencies, in an environment of its own."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    boot, environment = FOLDER / "boot27", FOLDER / "v27"
    quiet = ("--quiet", "--disable-pip-version-check")
    _run(python, "-m", "pip", "install", *quiet, "--target", boot, _VIRTUALENV)
    _run(python, "-m", "virtualenv", "--quiet", "--no-periodic-update", environment, path=boot)
    own = environment / "bin" / "python"
    _run(own, "-m", "pip", "install", *quiet, f"autobahntestsuite=={VERSION}")


def _run(*command: str | Path, path: Path | None = None) -> None:
    # What is set for this Python is not for that one.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env = {**kept, "PYTHONWARNINGS": "ignore"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"installing the suite took too long: {_shown(command)}") from None
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise SuiteError(f"installing the suite failed: {_shown(command)}\n{last}")


def _shown(command: tuple[str | Path, ...]) -> str:
    return " ".join(map(str, command))
