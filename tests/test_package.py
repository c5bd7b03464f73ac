"""The package as a whole: its layers, what it imports, and what it needs of trio-websocket."""

import ast
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import trio_websocket

import trio_ws
from tests.programs import ROOT
from trio_ws._transport.connection import PRIVATE_NAMES

PACKAGE = Path(trio_ws.__file__).parent

# Not on Windows or not on macOS: an import of one needs a fallback.
NOT_EVERYWHERE = {
    *("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty", "pty", "posix", "spwd"),
    *("msvcrt", "winreg", "_winapi", "nt"),
}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_imports_keep_to_the_layers() -> None:
    command = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("import-linter is not installed")

    result = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken." in result.stdout


def test_package_says_that_it_is_typed() -> None:
    assert (files(trio_ws) / "py.typed").is_file()


def test_import_brings_nothing_that_only_tests_need() -> None:
    printed = run_python("import sys, trio_ws; print(*sys.modules)")

    unwanted = {"pytest", "_pytest", "asyncio", "trio.testing", "trio_ws.testing", "hypothesis"}
    assert unwanted.isdisjoint(printed.split())


def test_import_of_the_test_kit_brings_no_pytest() -> None:
    printed = run_python("import sys, trio_ws.testing; print(*sys.modules)")

    assert {"pytest", "_pytest"}.isdisjoint(printed.split())


def imported(statement: ast.stmt) -> set[str]:
    """Name the top-level modules that a statement imports when its module is imported."""
    if isinstance(statement, ast.Import):
        return {alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ImportFrom):
        return {str(statement.module).partition(".")[0]}
    return set()


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_module_imports_nothing_that_is_missing_on_some_system(module: Path) -> None:
    body = ast.parse(module.read_text(encoding="utf-8")).body

    # What stands in `try` or `if` has its fallback there.
    assert NOT_EVERYWHERE.isdisjoint(set().union(*map(imported, body)))


def installed_trio_websocket() -> tuple[int, ...]:
    """Give the installed version as numbers."""
    version = importlib.metadata.version("trio-websocket")
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_installed_trio_websocket_is_of_the_series_that_is_built_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = [pin for pin in project["project"]["dependencies"] if "trio-websocket" in pin]

    assert pins == ["trio-websocket>=0.12.2,<0.13"]
    assert (0, 12, 2) <= installed_trio_websocket() < (0, 13)


def attributes_of_self(subject: type | Callable[..., object]) -> set[str]:
    """Name the attributes of `self` that a function, or a class, reads or assigns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(subject)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_private_name_is_still_one_of_trio_websocket(name: str) -> None:
    assert name in attributes_of_self(trio_websocket.WebSocketConnection.__init__)


@pytest.mark.parametrize(
    ("public", "private"),
    [
        ("closed", "_close_reason"),
        ("is_client", "_wsproto"),
        ("is_server", "_wsproto"),
        ("path", "_path"),
        ("subprotocol", "_subprotocol"),
        ("handshake_headers", "_handshake_headers"),
    ],
)
def test_property_of_trio_websocket_reads_the_private_name_alone(public: str, private: str) -> None:
    getter = getattr(trio_websocket.WebSocketConnection, public).fget

    assert attributes_of_self(getter) == {private}
    assert private in PRIVATE_NAMES


def test_private_names_are_all_of_those_that_the_connection_uses() -> None:
    theirs = attributes_of_self(trio_websocket.WebSocketConnection) - {"_closed_here"}
    source = (PACKAGE / "_transport/connection.py").read_text(encoding="utf-8")
    ours = set(re.findall(r"\bself\.(_\w+)|\bdef (_\w+)", source))
    used = {name for pair in ours for name in pair if name and not name.startswith("__")}

    assert used & theirs == set(PRIVATE_NAMES)


def test_every_public_member_of_trio_websocket_works_without_its_initialiser() -> None:
    theirs = {name for name in vars(trio_websocket.WebSocketConnection) if name[0] != "_"}
    ours = {name for name in vars(trio_ws.Connection) if name[0] != "_"}

    # What is not replaced is a property that reads the private names above, or a plain constant.
    kept = {"CONNECTION_ID", "closed", "is_client", "is_server"}
    kept |= {"path", "subprotocol", "handshake_headers"}
    assert theirs - ours == kept
