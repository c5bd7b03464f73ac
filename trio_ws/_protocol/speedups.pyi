# What speedups.c defines; the contracts stand at the Python twins in `masking` and `frames`.

def mask(data: bytes | bytearray | memoryview, key: bytes, offset: int = 0) -> bytes: ...
def mask_in_place(data: bytearray | memoryview, key: bytes, offset: int = 0) -> None: ...
def serialise(
    opcode: int, payload: bytes | bytearray | memoryview, *, masked: bool, fin: bool = True
) -> bytes: ...
def small_frame(message: object, masked: bool, /) -> bytes | None: ...
def split(
    data: bytes | bytearray | memoryview,
    start: int,
    *,
    masked: bool,
    max_message: float,
    max_count: float,
    max_bytes: float,
) -> tuple[list[str | bytes], int, int]: ...
