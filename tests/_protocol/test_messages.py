"""Whole messages as frames, and the memory of the latest one."""

import array
import os
import sys
from typing import Protocol

import pytest

from tests._protocol.implementations import EITHER, SmallFrame, either
from trio_ws._protocol.frames import BINARY, TEXT, python_serialise
from trio_ws._protocol.messages import (
    LARGE,
    Frame,
    forget_message,
    message_frame,
    python_forget_frame,
    python_small_frame,
)
from trio_ws._types import Message, Sendable

FOR_MANY = ["olá" * 9, b"abc" * 9, "", b"", "漢" * (LARGE - 1), "x" * LARGE, bytes(LARGE)]


class Text(str):
    """Text that is encoded in its own way."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.upper().encode(encoding, errors)


class Bytes(bytes):
    """Bytes that say that they are none."""

    __slots__ = ()

    def __len__(self) -> int:
        return 0


def whole(frame: Frame) -> bytes:
    return b"".join(frame) if isinstance(frame, tuple) else frame


def _as_payload(message: Message) -> tuple[int, bytes]:
    return (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)


class MessageFrame(Protocol):
    def __call__(self, message: Sendable, *, masked: bool) -> Frame: ...


@pytest.fixture(params=EITHER)
def frame_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MessageFrame:
    """Make frames of messages, by either implementation; none is remembered yet."""
    for twin in (python_small_frame, python_forget_frame):
        name = twin.__name__.removeprefix("python_")
        monkeypatch.setattr(f"trio_ws._protocol.messages.{name}", either(request, twin))
    forget_message()
    return message_frame


def test_text_may_be_encoded_in_its_own_way() -> None:
    assert message_frame(Text("abc"), masked=False) == b"\x81\x03ABC"


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "message", ["", "olá" * 9, "x" * (LARGE - 1), "🦜" * (LARGE - 1), b"", bytes(LARGE - 1)]
)
def test_a_small_message_is_made_a_frame(
    message: Message, masked: bool, small_frame: SmallFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: b"\1\x80\xfe\x37")

    made = small_frame(message, masked)

    assert made == python_serialise(*_as_payload(message), masked=masked)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        "x" * LARGE,
        "á" * LARGE,
        bytes(LARGE),
        bytearray(3),
        memoryview(b"abc"),
        Text("abc"),
        Bytes(b"abc"),
        3,
        None,
    ],
)
def test_a_small_frame_is_of_nothing_large_or_else(
    message: object, masked: bool, small_frame: SmallFrame
) -> None:
    assert small_frame(message, masked) is None


def test_text_with_surrogates_is_no_message(small_frame: SmallFrame) -> None:
    with pytest.raises(UnicodeEncodeError):
        small_frame("\ud800", False)


@pytest.mark.parametrize("message", FOR_MANY)
def test_a_message_for_many_is_serialised_once(message: Message, frame_of: MessageFrame) -> None:
    frames = [frame_of(message, masked=False) for _ in range(3)]

    assert frames[0] is frames[1] is frames[2]
    assert whole(frames[0]) == python_serialise(*_as_payload(message), masked=False)


@pytest.mark.parametrize("message", FOR_MANY)
def test_a_forgotten_message_is_serialised_anew(message: Message, frame_of: MessageFrame) -> None:
    frame = frame_of(message, masked=False)
    forget_message()

    assert frame_of(message, masked=False) is not frame


@pytest.mark.parametrize("message", FOR_MANY)
def test_another_message_in_between_changes_nothing(
    message: Message, frame_of: MessageFrame
) -> None:
    frame = frame_of(message, masked=False)
    others = [frame_of(other, masked=False) for other in ("other", b"other", "o" * LARGE)]

    assert whole(frame_of(message, masked=False)) == whole(frame)
    assert [whole(other)[-5:] for other in others] == [b"other", b"other", b"ooooo"]


def test_text_that_is_equal_may_be_encoded_in_its_own_way(frame_of: MessageFrame) -> None:
    frames = [frame_of(text, masked=False) for text in ("abc", Text("abc"), "abc")]

    assert frames == [b"\x81\x03abc", b"\x81\x03ABC", b"\x81\x03abc"]


@pytest.mark.parametrize("message", [bytearray(3), memoryview(b"abc"), Text("abc"), Bytes(b"abc")])
def test_nothing_is_remembered_of_what_may_have_a_will_of_its_own(
    message: Sendable, frame_of: MessageFrame
) -> None:
    before = sys.getrefcount(message)
    frame_of(message, masked=False)

    assert sys.getrefcount(message) == before


@pytest.mark.parametrize("size", [3, LARGE])
def test_a_message_that_can_change_is_serialised_each_time(
    size: int, frame_of: MessageFrame
) -> None:
    message = bytearray(size)
    first = frame_of(message, masked=False)
    message[:] = b"2" * size
    second = frame_of(message, masked=False)

    assert (whole(first)[-size:], whole(second)[-size:]) == (bytes(size), b"2" * size)


def test_every_masked_frame_has_a_key_of_its_own(frame_of: MessageFrame) -> None:
    frames = {frame_of(b"abcdefgh", masked=True) for _ in range(3)}

    assert len(frames) == 3


@pytest.mark.parametrize("message", FOR_MANY)
def test_frames_with_and_without_mask_are_not_mixed_up(
    message: Message, frame_of: MessageFrame
) -> None:
    kinds = [
        bool(whole(frame_of(message, masked=masked))[1] & 0x80) for masked in (False, True) * 2
    ]

    assert kinds == [False, True, False, True]


@pytest.mark.parametrize("size", [100, LARGE])
def test_the_latest_message_is_not_kept_alive_once_forgotten(
    size: int, frame_of: MessageFrame
) -> None:
    message = bytes(size)
    before = sys.getrefcount(message)

    frame = frame_of(message, masked=False)
    references = sys.getrefcount(frame)
    kept = sys.getrefcount(message)
    forget_message()

    assert sys.getrefcount(frame) == references - 1
    del frame
    assert (kept > before, sys.getrefcount(message)) == (True, before)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 65535, 65536])
def test_a_large_payload_is_not_copied(size: int) -> None:
    payload = bytes(size)

    made = message_frame(payload, masked=False)

    whole = python_serialise(BINARY, payload, masked=False)
    if size < LARGE:
        assert made == whole
    else:
        assert isinstance(made, tuple)
        assert b"".join(made) == whole
        assert made[1] is payload


def test_a_large_payload_that_can_change_is_copied() -> None:
    # A view whose items are wider than a byte.
    message = memoryview(array.array("Q", [7] * LARGE))

    made = message_frame(message, masked=False)

    assert isinstance(made, tuple)
    assert b"".join(made) == python_serialise(BINARY, message.tobytes(), masked=False)


@pytest.mark.parametrize("masked", [True, False])
def test_what_is_no_message_is_refused(masked: bool) -> None:
    with pytest.raises(TypeError, match="not int"):
        message_frame(42, masked=masked)  # type: ignore[arg-type]  # on purpose
