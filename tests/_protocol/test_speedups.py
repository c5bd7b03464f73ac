"""The compiled half: the same as Python wherever it is asked, and safe with whatever it is given.

What both do is tested beside the Python twins; here they are held against each other. Run under a
sanitizer (`make sanitize`), this shows that nothing is read or written out of place.
"""

import ctypes
import gc
import itertools
import os
import random
import re
import sys
import tracemalloc
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._protocol.implementations import compiled, needs_speedups
from tests.fakes import raw_frame
from trio_ws._protocol.frames import BINARY, CLOSE, PING, TEXT, python_serialise, python_split
from trio_ws._protocol.masking import python_mask, python_mask_in_place
from trio_ws._protocol.messages import LARGE, python_forget_frame, python_small_frame
from trio_ws._types import Message

pytestmark = needs_speedups

Taken = tuple[list[Message], int, int]

EDGES = [*range(301), 4095, 4096, 4097, 65533, 65534, 65535, 65536, 65537, 65538]
KEY = b"\x01\x80\xfe\x37"

INVALID_TEXTS = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3",
    b"\xc3(",
    b"\xe0\x80\x80",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x9f\xa6",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xff",
]


def exactly(data: bytes) -> Any:  # noqa: ANN401 - it stands for bytes and is none
    """Copy into memory that ends with the data; bytes have one more, and would hide an overrun."""
    # Short arrays of ctypes are no allocations of their own.
    front = bytes(64)
    memory = (ctypes.c_ubyte * (len(front) + len(data))).from_buffer_copy(front + data)
    return memoryview(memory)[len(front) :]


def both(
    data: bytes,
    start: int = 0,
    *,
    masked: bool = True,
    max_message: float = inf,
    max_count: float = inf,
    max_bytes: float = inf,
) -> tuple[Taken, Taken]:
    """Split with the compiled function and with its twin."""
    limits = {"max_message": max_message, "max_count": max_count, "max_bytes": max_bytes}
    ours = compiled(python_split)(exactly(data), start, masked=masked, **limits)
    return ours, python_split(data, start, masked=masked, **limits)


def assert_same(data: bytes, start: int = 0, *, masked: bool = True, **limits: float) -> None:
    ours, twins = both(data, start, masked=masked, **limits)
    assert ours == twins
    assert list(map(type, ours[0])) == list(map(type, twins[0]))


def payload(size: int) -> bytes:
    return bytes(index * 7 % 127 for index in range(size))


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("alignment", range(8))
def test_mask_agrees_at_every_length_alignment_and_offset(alignment: int, offset: int) -> None:
    mask = compiled(python_mask)
    data = bytes(alignment) + payload(max(EDGES))
    views = [memoryview(data)[alignment : alignment + size] for size in EDGES]

    wrong = [len(v) for v in views if mask(v, KEY, offset) != python_mask(v, KEY, offset)]

    assert wrong == []


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.integers())
def test_mask_agrees_with_any_key_and_offset(data: bytes, key: bytes, offset: int) -> None:
    assert compiled(python_mask)(data, key, offset) == python_mask(data, key, offset)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
def test_serialise_agrees_at_every_length(
    opcode: int, fin: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: KEY)
    sizes = [size for size in EDGES if opcode < CLOSE or size <= 125]

    wrong = [
        size
        for size in sizes
        if compiled(python_serialise)(opcode, payload(size), masked=masked, fin=fin)
        != python_serialise(opcode, payload(size), masked=masked, fin=fin)
    ]

    assert wrong == []


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", ["text", "wide text", "bytes"])
def test_small_frame_agrees_at_every_length(
    kind: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: KEY)
    small_frame = compiled(python_small_frame)
    wrong: list[int] = []
    for size in [*range(301), LARGE // 2 - 1, LARGE // 2, LARGE - 1, LARGE, LARGE + 1, 65536]:
        content = payload(size).decode()
        message = {
            "text": content,
            "wide text": content.replace("7", "\xe9"),
            "bytes": content.encode(),
        }[kind]
        if small_frame(message, masked) != python_small_frame(message, masked):
            wrong.append(size)

    assert wrong == []


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_split_agrees_at_every_length_and_alignment(opcode: int, masked: bool) -> None:
    for size, alignment in itertools.product(EDGES, range(8)):
        frame = raw_frame(opcode, payload(size), masked=masked)
        assert_same(bytes(alignment) + frame, alignment, masked=masked)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 125, 126, 127, 300, 65535, 65536])
def test_split_agrees_however_a_stream_is_cut(size: int, masked: bool) -> None:
    frames = [raw_frame(op, payload(size), masked=masked) for op in (TEXT, BINARY)]
    data = b"".join(frames)
    cuts = range(len(data) + 1) if size < 1000 else [*range(20), *range(size, size + 40)]

    for cut in cuts:
        assert_same(data[:cut], masked=masked)


@pytest.mark.parametrize("masked", [True, False])
def test_split_agrees_on_every_header_of_two_bytes(masked: bool) -> None:
    rest = b"\x00\x7e" + bytes(200)

    for first, second in itertools.product(range(256), repeat=2):
        assert_same(bytes([first, second]) + rest, masked=masked)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "length",
    [
        0,
        125,
        126,
        127,
        *(2**bits + more for bits in (16, 31, 32, 62, 63, 64) for more in (-15, -1)),
    ],
)
def test_split_agrees_on_every_length_that_can_be_claimed(length: int, masked: bool) -> None:
    bit = 0x80 if masked else 0
    long = bytes([0x82, bit | 127]) + length.to_bytes(8, "big")
    short = bytes([0x82, bit | 126]) + (length % 2**16).to_bytes(2, "big")

    for header, size in itertools.product([long, short], [0, 3, 4, 5, 125, 200, 70000]):
        assert_same(header + bytes(size), masked=masked)
        assert_same(header + bytes(size), masked=masked, max_message=length)


@pytest.mark.parametrize("text", INVALID_TEXTS)
@pytest.mark.parametrize("size", [0, 1, 7, 4090, 4096, 5000])
def test_split_agrees_on_text_that_is_not_utf8(text: bytes, size: int) -> None:
    for front, back, masked in itertools.product([0, size], [0, size], [True, False]):
        broken = raw_frame(TEXT, bytes(front) + text + bytes(back), masked=masked)
        assert both(broken, masked=masked) == (([], 0, 0), ([], 0, 0))


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 20000])
@pytest.mark.parametrize("letter", ["a", "é", "€", "🦜"])
def test_split_agrees_on_text_of_every_width(letter: str, size: int) -> None:
    for masked in (True, False):
        frame = raw_frame(TEXT, (letter * size).encode(), masked=masked)
        taken = ([letter * size], len(frame), size * len(letter.encode()))
        assert both(frame, masked=masked) == (taken, taken)


LIMITS = st.integers(-1, 20) | st.floats(-1, 20, allow_nan=False) | st.sampled_from([inf, 2**70])
PIECES = st.one_of(
    st.builds(
        raw_frame,
        st.sampled_from([0, TEXT, BINARY, BINARY, CLOSE, PING, 3]),
        st.binary(max_size=5) | st.text(max_size=5).map(str.encode) | st.binary(max_size=200),
        masked=st.integers(0, 19).map(lambda draw: draw > 0),
        fin=st.integers(0, 9).map(lambda draw: draw > 0),
        reserved=st.integers(0, 99).map(lambda draw: draw % 8 if draw > 95 else 0),
        key=st.binary(min_size=4, max_size=4),
    ),
    st.binary(max_size=4),
)


@settings(deadline=None, max_examples=500)
@given(
    pieces=st.lists(PIECES, max_size=8),
    start=st.integers(0, 30),
    masked=st.integers(0, 9).map(lambda draw: draw > 0),
    limits=st.fixed_dictionaries(
        {},
        optional={
            "max_message": LIMITS | st.integers(0, 300),
            "max_count": LIMITS,
            "max_bytes": LIMITS,
        },
    ),
)
def test_split_agrees_on_anything(
    pieces: list[bytes], start: int, masked: bool, limits: dict[str, float]
) -> None:
    assert_same(b"".join(pieces), start if start > 20 else 0, masked=masked, **limits)


def test_split_agrees_on_sound_streams_with_a_few_bytes_changed() -> None:
    chance = random.Random(20261124)  # noqa: S311 - the same every time
    frames = [
        raw_frame(
            chance.choice([TEXT, BINARY]), payload(chance.choice([0, 3, 60, 130])), masked=True
        )
        for _ in range(12)
    ]

    for _ in range(3000):
        data = bytearray(b"".join(chance.sample(frames, 6)))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        assert_same(bytes(data[: chance.randrange(len(data) + 1)]))


SOUND = raw_frame(BINARY, b"abc", masked=True)
OPTIONS: dict[str, Any] = {"masked": True, "max_message": 9, "max_count": 9, "max_bytes": 9}
LONG = raw_frame(TEXT, bytes(5000), masked=True)
BROKEN = raw_frame(TEXT, bytes(5000) + b"\xff", masked=True)


class Hostile:
    """Raises whatever it is asked."""

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError


WRONG_CALLS: list[
    tuple[Callable[..., object], tuple[Any, ...], dict[str, Any], type[Exception]]
] = [
    (python_mask, (), {}, TypeError),
    (python_mask, (b"",), {}, TypeError),
    (python_mask, (b"", KEY, 0, 0), {}, TypeError),
    (python_mask, ("text", KEY), {}, TypeError),
    (python_mask, (b"", "text"), {}, TypeError),
    (python_mask, (b"", KEY, 1.5), {}, TypeError),
    (python_mask, (b"", KEY, Hostile()), {}, ZeroDivisionError),
    (python_mask, (b"", KEY), {"offset": 0, "other": 0}, TypeError),
    (python_mask, (b"", KEY), {"key": KEY}, TypeError),
    (python_mask_in_place, (), {}, TypeError),
    (python_mask_in_place, (bytearray(), KEY, 0, 0), {}, TypeError),
    (python_mask_in_place, (b"abc", KEY), {}, BufferError),
    (python_mask_in_place, (memoryview(bytearray(8))[::2], KEY), {}, BufferError),
    (python_mask_in_place, ("text", KEY), {}, TypeError),
    (python_mask_in_place, (bytearray(), b"abc"), {}, ValueError),
    (python_mask_in_place, (bytearray(), KEY, 1.5), {}, TypeError),
    (python_serialise, (BINARY, b""), {}, TypeError),
    (python_serialise, (BINARY,), {"masked": True}, TypeError),
    (python_serialise, (BINARY, b"", True), {}, TypeError),
    (python_serialise, ("2", b""), {"masked": True}, TypeError),
    (python_serialise, (BINARY, "text"), {"masked": False}, TypeError),
    (python_serialise, (BINARY, 5), {"masked": False}, TypeError),
    (python_serialise, (BINARY, b""), {"masked": Hostile()}, ZeroDivisionError),
    (python_serialise, (BINARY, b""), {"masked": True, "fin": Hostile()}, ZeroDivisionError),
    (python_serialise, (16, b""), {"masked": True}, ValueError),
    (python_serialise, (-1, b""), {"masked": True}, ValueError),
    (python_serialise, (2**70, b""), {"masked": True}, OverflowError),
    (python_serialise, (PING, bytes(126)), {"masked": True}, ValueError),
    (python_forget_frame, (1,), {}, TypeError),
    (python_small_frame, (), {}, TypeError),
    (python_small_frame, (b"",), {}, TypeError),
    (python_small_frame, (b"", True, True), {}, TypeError),
    (python_small_frame, (b"",), {"masked": True}, TypeError),
    (python_small_frame, (b"", Hostile()), {}, ZeroDivisionError),
    (python_small_frame, ("\ud800", True), {}, UnicodeEncodeError),
    (python_split, (SOUND,), OPTIONS, TypeError),
    (python_split, (SOUND, 0, True), OPTIONS, TypeError),
    (python_split, (SOUND, 0), {"masked": True}, TypeError),
    (python_split, ("text", 0), OPTIONS, TypeError),
    (python_split, (None, 0), OPTIONS, TypeError),
    (python_split, (memoryview(SOUND)[::2], 0), OPTIONS, BufferError),
    (python_split, (SOUND, "0"), OPTIONS, TypeError),
    (python_split, (SOUND, 0.0), OPTIONS, TypeError),
    (python_split, (SOUND, 2**70), OPTIONS, OverflowError),
    (python_split, (SOUND, -1), OPTIONS, ValueError),
    (python_split, (SOUND, 0), OPTIONS | {"masked": Hostile()}, ZeroDivisionError),
    (python_split, (SOUND, 0), OPTIONS | {"max_message": nan}, ValueError),
    (python_split, (SOUND, 0), OPTIONS | {"max_count": "9"}, TypeError),
    (python_split, (SOUND, 0), OPTIONS | {"max_bytes": Hostile()}, ZeroDivisionError),
    (python_split, (SOUND, 0), OPTIONS | {"other": 1}, TypeError),
]


@pytest.mark.parametrize(("twin", "args", "options", "error"), WRONG_CALLS)
def test_wrong_arguments_are_refused(
    twin: Callable[..., object],
    args: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        compiled(twin)(*args, **options)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde", "text", None])
def test_serialise_refuses_entropy_that_is_no_key(
    key: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: key)

    with pytest.raises((TypeError, ValueError)):
        compiled(python_serialise)(BINARY, b"abc", masked=True)


def test_serialise_passes_on_what_entropy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        compiled(python_serialise)(BINARY, b"abc", masked=True)


def test_names_and_order_of_arguments_are_those_of_the_twins() -> None:
    assert compiled(python_mask)(offset=1, key=KEY, data=b"ab") == python_mask(b"ab", KEY, 1)
    assert compiled(python_serialise)(
        fin=False, payload=b"ab", masked=False, opcode=BINARY
    ) == python_serialise(BINARY, b"ab", masked=False, fin=False)
    shuffled = dict(reversed((OPTIONS | {"data": SOUND, "start": 0}).items()))
    assert compiled(python_split)(**shuffled) == ([b"abc"], len(SOUND), 3)


def test_a_buffer_is_let_go_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(SOUND + LONG + BROKEN)
    mask, split = compiled(python_mask), compiled(python_split)
    split(data, 0, **OPTIONS)
    split(data, 0, **OPTIONS | {"max_message": inf, "max_bytes": inf})
    split(data, 99999, **OPTIONS)
    mask(data, KEY)
    compiled(python_mask_in_place)(data, KEY, 3)
    serialise = compiled(python_serialise)
    serialise(BINARY, data, masked=True)
    with pytest.raises(ValueError, match="control"):
        serialise(PING, data, masked=True)
    monkeypatch.setattr(os, "urandom", lambda _: b"")
    with pytest.raises(ValueError, match="key"):
        serialise(BINARY, data, masked=True)
    with pytest.raises(ValueError, match="key"):
        compiled(python_small_frame)(b"abc", True)

    key = bytearray(b"abc")
    with pytest.raises(ValueError, match="key"):
        # Of bytes nobody could tell.
        mask(b"", key)  # type: ignore[arg-type]

    # It would raise BufferError if any of them still held one of these.
    data.clear()
    key.clear()


def churn() -> None:
    """Call everything, in the ways that succeed and in those that fail."""
    split, serialise = compiled(python_split), compiled(python_serialise)
    wide = OPTIONS | {"max_message": inf, "max_bytes": inf, "max_count": 2}
    for data in (SOUND * 3, LONG + SOUND, SOUND + BROKEN, BROKEN, LONG[:-1], b""):
        split(data, 0, **wide)
        split(bytearray(data), 0, **OPTIONS)
        compiled(python_mask)(data, KEY, 3)
        compiled(python_mask_in_place)(bytearray(data), KEY, 3)
        serialise(BINARY, data, masked=True)
        serialise(TEXT, data, masked=False, fin=False)
    for message in ("text", "\xe9", "x" * LARGE, "\xe9" * (LARGE // 2), SOUND, bytes(LARGE), 3):
        compiled(python_small_frame)(message, True)
        compiled(python_small_frame)(message, False)
        compiled(python_small_frame)(message, False)
    compiled(python_forget_frame)()
    compiled(python_mask)(memoryview(LONG)[::2], KEY)
    for twin, args, options, error in WRONG_CALLS:
        with pytest.raises(error):
            compiled(twin)(*args, **options)


def growth(rounds: int) -> int:
    """Return how many bytes more are held after some rounds."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(rounds):
        churn()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return after - before


def test_no_memory_is_lost() -> None:
    tracemalloc.start()
    try:
        # Caches elsewhere grow at first, and now and then. What is lost is lost in every round,
        # and no object is smaller than this.
        assert any(growth(rounds=20) < 20 * 16 for _ in range(10))
    finally:
        tracemalloc.stop()


def test_no_reference_is_lost_or_made_up() -> None:
    rounds = 500
    things = [SOUND, LONG, BROKEN, KEY, OPTIONS["masked"], OPTIONS["max_message"], os, None]
    churn()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in things]

    for _ in range(rounds):
        churn()

    # Whatever else this process has going holds None and `os` some hundred times more or less.
    gc.collect()
    changes = [sys.getrefcount(thing) - count for thing, count in zip(things, before, strict=True)]
    assert max(map(abs, changes)) < rounds / 2


@pytest.mark.parametrize("emptied", [False, True])
def test_a_module_that_goes_lets_go_of_the_latest_message(emptied: bool) -> None:
    path = sys.modules["trio_ws._protocol.speedups"].__file__
    assert path is not None
    # Another instance of it, as each interpreter has its own.
    spec = spec_from_file_location("trio_ws._protocol.speedups", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    message = bytes(100)
    before = sys.getrefcount(message)

    module.small_frame(message, False)
    kept = sys.getrefcount(message)
    if emptied:
        # No cycle is left then, and it goes without the collector.
        vars(module).clear()
    del module
    gc.collect()

    assert (kept, sys.getrefcount(message)) == (before + 1, before)


def test_no_macro_is_used_that_counts_only_where_it_was_built() -> None:
    # A binary built by 3.12 or later runs on 3.11 as well, where None would be lost with each call.
    source = (Path(python_mask.__code__.co_filename).parent / "speedups.c").read_text("utf-8")

    assert not re.search(r"^(?!\s*/\*).*Py_RETURN_", source, re.MULTILINE)
