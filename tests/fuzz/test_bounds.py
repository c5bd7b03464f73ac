"""What the fuzz targets measure with: lines, bytes that are held, and pieces."""

import contextlib
import sys
from io import BytesIO

import pytest

from tests.fuzz.bounds import TooMuchWorkError, counted, held
from tests.fuzz.splits import splits


def loop(turns: int) -> None:
    for _ in range(turns):
        pass


def test_lines_of_what_the_block_calls_are_counted() -> None:
    with counted() as few:
        loop(10)
    with counted() as many:
        loop(1010)

    assert many.lines - few.lines == 2000


def test_too_much_work_is_interrupted() -> None:
    with pytest.raises(TooMuchWorkError), counted(limit=100):
        loop(sys.maxsize)


def test_too_much_work_is_reported_although_the_interruption_was_swallowed() -> None:
    def swallow() -> None:
        with contextlib.suppress(AssertionError):
            loop(1000)

    with pytest.raises(TooMuchWorkError), counted(limit=100):
        swallow()


def test_whoever_traced_before_traces_afterwards() -> None:
    before = sys.gettrace()

    with counted():
        loop(1)

    assert sys.gettrace() is before


class Slotted:
    __slots__ = ("buffer", "unset")

    def __init__(self, buffer: object) -> None:
        self.buffer = buffer


class Plain:
    def __init__(self, buffer: object) -> None:
        self.buffer = buffer


@pytest.mark.parametrize("kind", [Slotted, Plain, lambda data: [data], lambda data: {1: data}])
@pytest.mark.parametrize(
    "data", [bytes(5000), bytearray(5000), "a" * 5000, BytesIO(bytearray(5000))]
)
def test_what_is_held_is_counted_wherever_it_is(kind: type[Plain], data: object) -> None:
    assert 5000 < held(kind(data)) < 6000


def test_what_is_held_twice_is_counted_once() -> None:
    data = bytes(5000)

    assert held([data, data], data) < 6000


def test_what_is_lent_is_not_held() -> None:
    assert held(memoryview(bytes(5000))) < 1000


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_pieces_make_up_the_whole_and_are_the_same_each_time(size: int) -> None:
    data = bytes(index % 251 for index in range(size))

    ways = list(splits(data))

    assert all(b"".join(pieces) == data for pieces in ways)
    assert ways == list(splits(data))
    assert ways[0] == [data]
    assert ([data[i : i + 1] for i in range(size)] in ways) is (size <= 2048)
