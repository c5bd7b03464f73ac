"""`hurry`: try each input in few ways instead of in all, because there are very many of them."""

import itertools
import zlib
from collections.abc import Iterable
from typing import TypeVar

Way = TypeVar("Way")

# Looking at each line makes everything several times slower.
_ONE_IN = 8

_in_a_hurry: list[bool] = []
_turns = itertools.count()


def hurry() -> None:
    """Try each input in few ways from now on."""
    _in_a_hurry.append(True)


def sample(data: bytes, ways: Iterable[Way]) -> list[Way]:
    """Return the ways to try an input: all; or the first, and one that the input decides on."""
    found = list(ways)
    if not _in_a_hurry:
        return found
    return [found[0], found[zlib.crc32(data) % len(found)]]


def is_time_to_count() -> bool:
    """Tell whether to count the lines this time: always; or now and then."""
    return not _in_a_hurry or next(_turns) % _ONE_IN == 0
