"""`mask`: the XOR mask of client frames (RFC 6455 §5.3)."""

from trio_ws._protocol.compiled import speedups

_XOR = [bytes(byte ^ key for byte in range(256)) for key in range(256)]

# Up to here one XOR of two long integers is faster; beyond it four translations of every fourth
# byte are, because the integers' conversions cost more per byte. Measured on CPython 3.11.
_WIDE = 512


def python_mask(data: bytes | bytearray | memoryview, key: bytes, offset: int = 0) -> bytes:
    """Mask or unmask a payload, or a piece of one; both are the same.

    Args:
        data: The bytes to mask.
        key: The four bytes of the masking key.
        offset: How many bytes of the payload lie before this piece.

    Returns:
        As many masked bytes.

    Raises:
        ValueError: The key has another length.
    """
    if len(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    if isinstance(data, memoryview):
        # Its length counts items, which may be larger than a byte, and it may have gaps.
        data = data.tobytes()
    turn = offset & 3
    if turn:
        key = key[turn:] + key[:turn]
    size = len(data)
    if size <= _WIDE:
        keys = (key * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
        return masked.to_bytes(size, "little")
    result = bytearray(data)
    for index in range(4):
        result[index::4] = result[index::4].translate(_XOR[key[index]])
    return bytes(result)


def python_mask_in_place(data: bytearray | memoryview, key: bytes, offset: int = 0) -> None:
    """Mask or unmask a payload, or a piece of one, where it stands.

    Args:
        data: The bytes to mask; they are changed.
        key: The four bytes of the masking key.
        offset: How many bytes of the payload lie before this piece.

    Raises:
        ValueError: The key has another length.
        TypeError: The bytes cannot be changed; BufferError, if it is compiled.
    """
    data[:] = python_mask(data, key, offset)


mask = python_mask if speedups is None else speedups.mask
mask_in_place = python_mask_in_place if speedups is None else speedups.mask_in_place
