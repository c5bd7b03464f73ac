"""Fuzzes the targets, guided by coverage, and keeps what breaks one of them."""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpus import CORPUS
from tests.fuzz.seeds import SEEDS, WORDS
from tests.fuzz.targets import TARGETS

WORK = Path(__file__).parents[2] / "build" / "fuzz"
"""Where everything that was found lies from run to run: a folder for each target."""

UNABLE = 2
"""The exit status when nothing could be fuzzed; 1 is for targets that broke."""

MISSING = """\
Atheris is not installed here, so nothing was fuzzed. For Linux on x86-64 and CPython 3.11 to 3.14
there are wheels of it (pip install --group fuzz); elsewhere it has to be built, with Clang and its
libFuzzer. The inputs that are kept are tried by the ordinary tests, without it."""

# Bytes of an input. More makes for slow runs, and for rules that are found by none.
MAX_LENGTH = 2048

# Seconds after which an input hangs. The targets count their work, so this is for what they cannot
# count; it is long, because a machine may stand still for a while.
HANG = 300

# MiB of the whole process.
MAX_MEMORY = 1024


def main() -> int:
    """Fuzz what the command line names, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer's random numbers")
    parser.add_argument(
        "--merge", action="store_true", help="add to the kept inputs what reaches more than they do"
    )
    parser.add_argument(
        "--if-possible", action="store_true", help="where there is no Atheris, say so and succeed"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 0 if arguments.if_possible else UNABLE
    broken = [
        target
        for target in arguments.targets or TARGETS
        if not fuzz(target, arguments.seconds, arguments.seed)
    ]
    if arguments.merge and not broken:
        for target in arguments.targets or TARGETS:
            merge(target)
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are kept in {CORPUS}", file=sys.stderr)
    return int(bool(broken))


def fuzz(target: str, seconds: int, seed: int) -> bool:
    """Fuzz a target; return whether it withstood."""
    print(f"== {target}", flush=True)
    found, kept, broke = WORK / target, CORPUS / target, WORK / "broke" / target
    for folder in (found, kept, broke):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        seeds = Path(temporary)
        for index, data in enumerate(SEEDS[target].values()):
            (seeds / str(index)).write_bytes(data)
        words = seeds.with_suffix(".words")
        words.write_text("".join(f'"{escaped(word)}"\n' for word in WORDS[target]), "ascii")
        try:
            code = run(
                target,
                f"-max_total_time={seconds}",
                f"-max_len={MAX_LENGTH}",
                f"-seed={seed}",
                f"-dict={words}",
                f"-artifact_prefix={broke}/",
                found,
                kept,
                seeds,
            )
        finally:
            words.unlink()
    for path in broke.iterdir():
        path.rename(kept / path.name)
        print(f"-- {target}: see {kept / path.name}", flush=True)
    # No file for a target about which nothing is known beyond its seeds.
    if not any(kept.iterdir()):
        kept.rmdir()
    return not code


def merge(target: str) -> None:
    """Add to the kept inputs those found that reach what none of the others does."""
    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    run(target, "-set_cover_merge=1", f"-max_len={MAX_LENGTH}", kept, WORK / target)


def run(target: str, *arguments: object) -> int:
    """Run the fuzzer, and return its exit status."""
    command = [sys.executable, "-m", "tests.fuzz.guided", target, *map(str, arguments)]
    limits = [f"-timeout={HANG}", f"-rss_limit_mb={MAX_MEMORY}", "-print_final_stats=1"]
    return subprocess.run([*command, *limits], check=False).returncode


def escaped(word: bytes) -> str:
    """Write a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
