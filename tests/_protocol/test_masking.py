"""The masking of client frames."""

import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._protocol.implementations import Mask, MaskInPlace

KEY = b"\x01\x80\xfe\x37"
SIZES = [*range(301), 511, 512, 513, 514, 515, 516, 1000, 65535, 65536]


def slowly_masked(data: bytes, key: bytes, offset: int) -> bytes:
    return bytes(byte ^ key[(offset + index) % 4] for index, byte in enumerate(data))


def payload(size: int) -> bytes:
    return bytes(index * 7 % 256 for index in range(size))


def test_mask_makes_the_frame_of_the_rfc(mask: Mask) -> None:
    # RFC 6455 §5.7.
    masked = mask(b"Hello", bytes.fromhex("37fa213d"))

    assert masked.hex() == "7f9f4d5158"


@pytest.mark.parametrize("offset", range(8))
def test_mask_is_the_definition_of_the_rfc_at_every_length(offset: int, mask: Mask) -> None:
    wrong = [
        size
        for size in SIZES
        if mask(payload(size), KEY, offset) != slowly_masked(payload(size), KEY, offset)
    ]

    assert wrong == []


@pytest.mark.parametrize("offset", range(8))
def test_mask_undoes_itself_at_every_length(offset: int, mask: Mask) -> None:
    wrong = [
        size
        for size in SIZES
        if mask(mask(payload(size), KEY, offset), KEY, offset) != payload(size)
    ]

    assert wrong == []


@settings(deadline=None)
@given(data=st.binary(max_size=2000), key=st.binary(min_size=4, max_size=4), draw=st.data())
def test_mask_of_pieces_is_the_mask_of_the_whole(
    mask: Mask, data: bytes, key: bytes, draw: st.DataObject
) -> None:
    cut = draw.draw(st.integers(0, len(data)))

    pieces = mask(data[:cut], key) + mask(data[cut:], key, cut)

    assert pieces == mask(data, key)


@pytest.mark.parametrize("size", [5, 600])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_mask_takes_any_bytes_and_leaves_them_alone(
    size: int, kind: type[bytearray] | type[memoryview], mask: Mask
) -> None:
    data = kind(payload(size))

    masked = mask(data, KEY)

    assert masked == slowly_masked(payload(size), KEY, 0)
    assert bytes(data) == payload(size)


def test_mask_with_a_zero_key_changes_nothing(mask: Mask) -> None:
    assert mask(payload(999), bytes(4)) == payload(999)


@pytest.mark.parametrize("size", [3, 600])
def test_mask_counts_the_bytes_of_a_memoryview_not_its_items(size: int, mask: Mask) -> None:
    data = array.array("Q", range(size))

    assert mask(memoryview(data), KEY) == slowly_masked(data.tobytes(), KEY, 0)


def test_mask_takes_a_memoryview_with_gaps(mask: Mask) -> None:
    assert mask(memoryview(b"a-b-c")[::2], KEY) == slowly_masked(b"abc", KEY, 0)


@pytest.mark.parametrize("offset", [-1, -6, 2**32 + 1, 2**64 + 3, -(2**70)])
def test_mask_takes_an_offset_of_any_size(offset: int, mask: Mask) -> None:
    assert mask(b"abcdef", KEY, offset) == slowly_masked(b"abcdef", KEY, offset)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_mask_refuses_a_key_of_another_length(key: bytes, mask: Mask) -> None:
    with pytest.raises(ValueError, match=f"has 4 bytes, not {len(key)}"):
        mask(b"", key)


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("start", range(9))
def test_mask_in_place_changes_what_it_is_given_and_nothing_beside(
    start: int, offset: int, mask_in_place: MaskInPlace
) -> None:
    wrong = []
    for size in SIZES:
        data = bytearray(payload(start + size + 9))
        with memoryview(data) as view:
            mask_in_place(view[start : start + size], KEY, offset)
        expected = bytearray(payload(start + size + 9))
        expected[start : start + size] = slowly_masked(payload(start + size)[start:], KEY, offset)
        wrong += [size] if data != expected else []

    assert wrong == []


@pytest.mark.parametrize("data", [b"abc", memoryview(b"abc"), "text", None])
def test_mask_in_place_refuses_what_cannot_be_changed(
    data: object, mask_in_place: MaskInPlace
) -> None:
    with pytest.raises((TypeError, BufferError)):
        mask_in_place(data, KEY)  # type: ignore[arg-type]  # on purpose


def test_mask_in_place_refuses_a_key_of_another_length(mask_in_place: MaskInPlace) -> None:
    with pytest.raises(ValueError, match="4 bytes, not 3"):
        mask_in_place(bytearray(b"abc"), b"abc")
