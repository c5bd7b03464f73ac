"""`inputs`: everything a target is tried with again, from `SEEDS` and from the folder `corpus`."""

from collections.abc import Mapping
from pathlib import Path

from tests.fuzz.seeds import SEEDS

CORPUS = Path(__file__).with_name("corpus")
"""Where what fuzzing found is kept: a folder for each target, a file for each input."""


def inputs(target: str) -> Mapping[str, bytes]:
    """Return a target's inputs by name."""
    files = sorted(path for path in (CORPUS / target).glob("*") if path.is_file())
    return {**SEEDS[target], **{path.name: path.read_bytes() for path in files}}
