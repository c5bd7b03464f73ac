"""The example of a tested application: its tests pass, and its program runs."""

import os
import re
import signal
import subprocess
import sys

import pytest

import trio_ws
from tests.programs import EXAMPLES, running_example

FOLDER = EXAMPLES / "testing_your_app"


@pytest.mark.network
def test_the_tests_of_the_example_pass() -> None:
    # Options of this run in the environment are not for that one, which leaves no cache behind.
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=FOLDER,
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
        check=False,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed in ", result.stdout, re.MULTILINE)
    assert passed is not None, result.stdout
    assert int(passed[1]) > 0


@pytest.mark.network
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
async def test_the_application_is_played_until_it_is_stopped() -> None:
    async with running_example("testing_your_app/app.py", "--port", "0") as program:
        address = re.search(r"ws://\S+", await program.hear())
        assert address is not None
        async with trio_ws.connect(address[0]) as player:
            assert await player.receive() == "Guess my number, from 1 to 100"
            program.send_signal(signal.SIGTERM)
            await player.wait_closed()
            assert player.close_code == trio_ws.CloseCode.GOING_AWAY
        assert await program.hear_all() == []
        assert (program.status, program.errors) == (0, "")


@pytest.mark.network
async def test_the_application_says_in_one_line_that_the_port_is_taken() -> None:
    async with running_example("testing_your_app/app.py", "--port", "0") as program:
        port = (await program.hear()).removesuffix("/play").rpartition(":")[2]

        async with running_example("testing_your_app/app.py", "--port", port) as other:
            assert await other.hear_all() == []

            assert other.status == 1
            assert re.fullmatch(rf"cannot listen on port {port}: [^\n]*\n", other.errors)


def test_readme_links_to_every_file_of_the_example() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    linked = set(re.findall(r"\((\w+\.\w+)\)", readme))

    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert linked == files - {"README.md"}
