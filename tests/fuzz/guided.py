"""Fuzzes one target, guided by coverage: a program for `__main__`, which runs it for each target.

It is a process of its own because the fuzzer never returns.
"""

import contextlib
import io
import sys

import atheris

# Else it names every module.
with (
    contextlib.redirect_stderr(io.StringIO()),
    atheris.instrument_imports(include=["h11", "idna", "trio_ws"]),
):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.haste import hurry


def main() -> None:
    """Fuzz the target that the command line names; what follows it is libFuzzer's."""
    _, target, *arguments = sys.argv
    # For a merge the fuzzer runs itself, and it passes this on to the shell as it is.
    program = f"{sys.executable} -m {__spec__.name} {target}"
    hurry()
    atheris.Setup([program, *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
