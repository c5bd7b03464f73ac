"""Every input that is kept is tried again, and so are inputs made of them by a few changes.

``CI=1`` makes the changes the same each time; else they are new ones.
"""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import CORPUS, inputs
from tests.fuzz.seeds import SEEDS, WORDS
from tests.fuzz.targets import TARGETS

# Bytes; what is kept was made as small as it can be.
MAX_CORPUS = 1_000_000
MAX_LENGTH = 2048


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_that_is_kept_is_withstood(target: str) -> None:
    for name, data in inputs(target).items():
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"the input is {target}/{name}: {data[:200]!r}")
            raise


Change = Callable[[bytes], bytes]

PLACES = st.integers(0, MAX_LENGTH)


def flipped(place: int, bits: int) -> Change:
    def change(data: bytes) -> bytes:
        at = place % (len(data) or 1)
        return data[:at] + bytes(byte ^ bits for byte in data[at : at + 1]) + data[at + 1 :]

    return change


def replaced(start: int, size: int, middle: bytes) -> Change:
    def change(data: bytes) -> bytes:
        at = start % (len(data) + 1)
        return data[:at] + middle + data[at + size :]

    return change


def repeated(start: int, size: int, times: int) -> Change:
    def change(data: bytes) -> bytes:
        at = start % (len(data) + 1)
        return data[:at] + data[at : at + size] * times + data[at + size :]

    return change


def joined(other: bytes, place: int, at: int) -> Change:
    return lambda data: data[: at % (len(data) + 1)] + other[place % (len(other) + 1) :]


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """Make an input of one that is kept."""
    kept = st.sampled_from(list(inputs(target).values()))
    words = st.sampled_from(WORDS[target])
    changes = draw(
        st.lists(
            st.builds(flipped, PLACES, st.integers(1, 255))
            | st.builds(replaced, PLACES, st.integers(0, 9), st.binary(max_size=9) | words)
            | st.builds(repeated, PLACES, st.integers(1, 40), st.integers(0, 20))
            | st.builds(joined, kept, PLACES, PLACES),
            min_size=1,
            max_size=4,
        )
    )
    data = draw(kept)
    for change in changes:
        data = change(data)[:MAX_LENGTH]
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_that_is_made_of_those_is_withstood(target: str) -> None:
    @settings(
        deadline=None,
        max_examples=100,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(changed(target))
    def withstood(data: bytes) -> None:
        TARGETS[target](data)

    withstood()


def test_every_target_has_seeds_and_words() -> None:
    assert set(SEEDS) == set(WORDS) == set(TARGETS)
    assert all(SEEDS[target] and WORDS[target] for target in TARGETS)


def test_what_is_kept_is_small_and_belongs_to_a_target() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]

    assert {path.parent.relative_to(CORPUS).as_posix() for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < MAX_CORPUS
