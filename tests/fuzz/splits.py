"""`splits`: the ways in which a target is given its input."""

import random
import zlib
from collections.abc import Iterator

_BYTE_BY_BYTE = 2048  # bytes of an input up to which it is also given one by one


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data in one piece, byte by byte, and in pieces that depend on the data alone."""
    yield [data]
    if len(data) <= _BYTE_BY_BYTE:
        yield [data[index : index + 1] for index in range(len(data))]
    # S311: repeatable, not secret.
    numbers = random.Random(zlib.crc32(data))  # noqa: S311
    pieces: list[bytes] = []
    rest = data
    while rest:
        size = numbers.choice((1, 2, 3, 7, 20, 125, 1000))
        pieces.append(rest[:size])
        rest = rest[size:]
    yield pieces
