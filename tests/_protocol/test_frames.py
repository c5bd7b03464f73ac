"""Frame headers, read and written."""

import array
import os
from math import inf

import pytest

from tests._protocol.implementations import BUILT, Serialise, Split
from tests.fakes import raw_frame
from trio_ws._protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_CONTROL_PAYLOAD,
    PING,
    PONG,
    TEXT,
    FrameError,
    implementation,
    read_header,
)
from trio_ws._types import Message

OPCODES = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
EDGES = [0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 70000]


def is_sound(first: int) -> bool:
    control, fin = bool(first & 0x08), bool(first & 0x80)
    return not first & 0x70 and first & 0x0F in OPCODES and (fin or not control)


@pytest.mark.parametrize(
    ("frame", "masked", "header"),
    [
        # RFC 6455 §5.7.
        ("8105", False, (True, TEXT, 5, 2)),
        ("818537fa213d", True, (True, TEXT, 5, 6)),
        ("0103", False, (False, TEXT, 3, 2)),
        ("8002", False, (True, CONTINUATION, 2, 2)),
        ("8905", False, (True, PING, 5, 2)),
        ("827e0100", False, (True, BINARY, 256, 4)),
        ("827f0000000000010000", False, (True, BINARY, 65536, 10)),
    ],
)
def test_read_header_reads_the_examples_of_the_rfc(
    frame: str,
    masked: bool,
    header: tuple[bool, int, int, int],
) -> None:
    assert read_header(bytes.fromhex(frame), 0, masked=masked) == header


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", EDGES)
def test_read_header_waits_for_every_byte_of_the_header(size: int, masked: bool) -> None:
    frame = raw_frame(BINARY, bytes(size), masked=masked)
    payload = len(frame) - size

    read = [read_header(frame[:end], 0, masked=masked) for end in range(payload + 1)]

    assert read == [None] * payload + [(True, BINARY, size, payload)]


def test_read_header_begins_where_it_is_told() -> None:
    data = bytearray(b"\xff\xff\xff" + raw_frame(PING, b"abc", masked=True))

    assert read_header(data, 3, masked=True) == (True, PING, 3, 9)


def test_read_header_waits_behind_the_end_of_the_data() -> None:
    assert read_header(b"\x81", 7, masked=True) is None


@pytest.mark.parametrize("first", [byte for byte in range(256) if is_sound(byte)])
def test_sound_first_byte_is_not_refused(first: int) -> None:
    assert read_header(bytes([first]), 0, masked=True) is None


@pytest.mark.parametrize("first", [byte for byte in range(256) if not is_sound(byte)])
def test_bad_first_byte_is_refused_as_soon_as_it_is_here(first: int) -> None:
    with pytest.raises(FrameError) as caught:
        read_header(bytes([first]), 0, masked=True)

    assert caught.value.code == 1002


@pytest.mark.parametrize(
    ("first", "text"),
    [(0xC1, "reserved bit"), (0x83, "opcode 0x3"), (0x8F, "opcode 0xf"), (0x09, "fragmented")],
)
def test_fault_of_a_first_byte_says_what_is_wrong(first: int, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        read_header(bytes([first]), 0, masked=True)


def test_server_refuses_a_frame_without_a_mask() -> None:
    with pytest.raises(FrameError, match="is not masked") as caught:
        read_header(b"\x81\x05", 0, masked=True)

    assert caught.value.code == 1002


def test_client_refuses_a_masked_frame() -> None:
    with pytest.raises(FrameError, match="is masked") as caught:
        read_header(b"\x81\x85", 0, masked=False)

    assert caught.value.code == 1002


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 127])
def test_long_control_frame_is_refused_at_its_second_byte(opcode: int, length: int) -> None:
    with pytest.raises(FrameError, match="longer than 125") as caught:
        read_header(bytes([0x80 | opcode, length]), 0, masked=False)

    assert caught.value.code == 1002


@pytest.mark.parametrize(
    "header", ["827e0000", "827e007d", "827f0000000000000000", "827f000000000000ffff"]
)
def test_length_that_is_not_in_its_shortest_form_is_refused(header: str) -> None:
    with pytest.raises(FrameError, match="shortest") as caught:
        read_header(bytes.fromhex(header), 0, masked=False)

    assert caught.value.code == 1002


@pytest.mark.parametrize("length", [2**63, 2**64 - 1])
def test_length_with_its_top_bit_set_is_refused(length: int) -> None:
    with pytest.raises(FrameError, match="out of range") as caught:
        read_header(b"\x82\x7f" + length.to_bytes(8, "big"), 0, masked=False)

    assert caught.value.code == 1002


def test_longest_length_is_read() -> None:
    header = read_header(b"\x82\x7f" + (2**63 - 1).to_bytes(8, "big"), 0, masked=False)

    assert header == (True, BINARY, 2**63 - 1, 10)


def test_frame_error_has_a_code_and_a_message() -> None:
    fault = FrameError(1009, "too large")

    assert (fault.code, str(fault)) == (1009, "too large")


@pytest.mark.parametrize("size", [*range(301), *EDGES])
def test_serialise_makes_plain_frames_of_every_length(size: int, serialise: Serialise) -> None:
    payload = bytes(size)

    assert serialise(BINARY, payload, masked=False) == raw_frame(BINARY, payload, masked=False)


@pytest.mark.parametrize("size", EDGES)
def test_serialise_makes_masked_frames_of_every_length(
    size: int, serialise: Serialise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: b"kEy!"[:count])
    payload = os.urandom(1) * size

    frame = serialise(TEXT, payload, masked=True)

    assert frame == raw_frame(TEXT, payload, masked=True, key=b"kEy!")


def test_every_frame_has_a_fresh_key_from_the_operating_system(
    serialise: Serialise, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [b"4444", b"3333", b"2222"]
    monkeypatch.setattr(os, "urandom", lambda _: keys.pop())

    frames = [serialise(TEXT, b"", masked=True) for _ in range(3)]

    assert frames == [b"\x81\x802222", b"\x81\x803333", b"\x81\x804444"]


def test_serialise_makes_a_fragment(serialise: Serialise) -> None:
    assert serialise(CONTINUATION, b"lo", masked=False, fin=False) == b"\x00\x02lo"


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_serialise_refuses_a_control_frame_that_is_too_long(
    opcode: int, serialise: Serialise
) -> None:
    fits = serialise(opcode, bytes(MAX_CONTROL_PAYLOAD), masked=False)

    assert len(fits) == 127
    with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
        serialise(opcode, bytes(126), masked=False)


def test_serialise_takes_a_bytearray_and_keeps_none_of_it(serialise: Serialise) -> None:
    payload = bytearray(b"abc")

    frame = serialise(BINARY, payload, masked=False)
    payload[:] = b"xyz"

    assert frame == b"\x82\x03abc"


@pytest.mark.parametrize("masked", [True, False])
def test_serialise_counts_the_bytes_of_a_memoryview_not_its_items(
    masked: bool, serialise: Serialise
) -> None:
    payload = memoryview(array.array("Q", [1, 2]))

    frame = serialise(BINARY, payload, masked=masked)

    assert read_header(frame, 0, masked=masked) == (True, BINARY, 16, len(frame) - 16)


def test_serialise_takes_a_memoryview_with_gaps(serialise: Serialise) -> None:
    assert serialise(BINARY, memoryview(b"a-b-c")[::2], masked=False) == b"\x82\x03abc"


def split_all(
    split: Split,
    data: bytes | bytearray,
    start: int = 0,
    *,
    masked: bool = True,
    max_message: float = inf,
    max_count: float = inf,
    max_bytes: float = inf,
) -> tuple[list[Message], int, int]:
    """Split as a server without limits does, but for what is said."""
    return split(
        data,
        start,
        masked=masked,
        max_message=max_message,
        max_count=max_count,
        max_bytes=max_bytes,
    )


def binary(*payloads: bytes) -> bytes:
    return b"".join(raw_frame(BINARY, payload, masked=True) for payload in payloads)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", EDGES)
def test_split_takes_messages_of_every_length(size: int, masked: bool, split: Split) -> None:
    payload = bytes(index % 127 for index in range(size))
    frames = [raw_frame(opcode, payload, masked=masked) for opcode in (TEXT, BINARY)]
    data = b"".join(frames)

    taken = split_all(split, data, masked=masked)

    assert taken == ([payload.decode(), payload], len(data), 2 * size)


def test_split_begins_where_it_is_told(split: Split) -> None:
    data = bytearray(b"\xff\xff\xff" + binary(b"abc"))

    assert split_all(split, data, 3) == ([b"abc"], len(data), 3)


@pytest.mark.parametrize("start", [9, 10, 2**40])
def test_split_takes_nothing_behind_the_end(start: int, split: Split) -> None:
    assert split_all(split, binary(b"abc"), start) == ([], start, 0)


def test_split_refuses_an_index_from_the_back(split: Split) -> None:
    with pytest.raises(ValueError, match="from the front"):
        split_all(split, binary(b"abc"), -1)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        raw_frame(PING, masked=True),
        raw_frame(CLOSE, masked=True),
        raw_frame(TEXT, b"frag", masked=True, fin=False),
        raw_frame(CONTINUATION, b"ment", masked=True),
        raw_frame(BINARY, b"", masked=True, reserved=4),
        raw_frame(BINARY, b"not masked", masked=False),
        raw_frame(3, b"reserved", masked=True),
        raw_frame(TEXT, b"\xff", masked=True),
        raw_frame(TEXT, "🦜".encode()[:3], masked=True),
        raw_frame(TEXT, b"\xed\xa0\x80", masked=True),
        b"\x82\xfe\x00\x01abcdx",
        b"\x82\xff" + (2**64 - 1).to_bytes(8, "big") + b"abcd",
        b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + b"abcd",
        binary(b"cut short")[:-1],
        binary(bytes(70000))[:9],
    ],
)
def test_split_stops_without_an_error_before_anything_else(rest: bytes, split: Split) -> None:
    front = binary(b"one", b"two")

    taken = split_all(split, front + rest)

    assert taken == ([b"one", b"two"], len(front), 6)


def test_client_takes_no_masked_frames(split: Split) -> None:
    assert split_all(split, binary(b"abc"), masked=False) == ([], 0, 0)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    ("max_message", "taken"),
    [
        (3, 1),
        (4, 2),
        (3.5, 1),
        (inf, 2),
        (2.0**63, 2),
        (2**63, 2),
        (2**70, 2),
        (0, 0),
        (-1, 0),
        (-0.5, 0),
        (-inf, 0),
    ],
)
def test_split_leaves_a_message_above_the_limit(
    opcode: int, max_message: float, taken: int, split: Split
) -> None:
    data = raw_frame(opcode, b"abc", masked=True) + raw_frame(opcode, b"abcd", masked=True)

    messages, position, _ = split_all(split, data, max_message=max_message)

    assert len(messages) == taken
    assert position == [0, 9, 19][taken]


def test_split_takes_an_empty_message_where_none_may_have_a_byte(split: Split) -> None:
    assert split_all(split, binary(b"", b"a"), max_message=0) == ([b""], 6, 0)


@pytest.mark.parametrize(
    ("max_count", "taken"),
    [(0, 0), (1, 1), (2, 2), (3, 2), (1.5, 2), (inf, 2), (2**70, 2), (-1, 0), (-inf, 0), (-0.5, 0)],
)
def test_split_stops_at_the_last_message(max_count: float, taken: int, split: Split) -> None:
    messages, *_ = split_all(split, binary(b"", b""), max_count=max_count)

    assert len(messages) == taken


@pytest.mark.parametrize(
    ("max_bytes", "taken"),
    [(0, 0), (0.5, 1), (3, 1), (3.5, 2), (4, 2), (6, 2), (7, 3), (inf, 3), (-1, 0), (-2.5, 0)],
)
def test_split_takes_the_message_that_crosses_the_mark(
    max_bytes: float, taken: int, split: Split
) -> None:
    messages, *_ = split_all(split, binary(b"abc", b"abc", b"abc"), max_bytes=max_bytes)

    assert len(messages) == taken


def test_split_counts_the_bytes_of_text_not_its_characters(split: Split) -> None:
    data = raw_frame(TEXT, "🦜".encode(), masked=True) * 3

    messages, *_ = split_all(split, data, max_bytes=5)

    assert messages == ["🦜", "🦜"]


def test_implementation_says_which_one_runs() -> None:
    turned_off = os.environ.get("TRIO_WS_NO_SPEEDUPS") == "1"

    assert implementation() == ("compiled" if BUILT and not turned_off else "python")
