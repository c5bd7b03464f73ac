"""What can be done with permessage-deflate: bombs, nonsense, and offers of it."""

import zlib
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from tests.invariants.peers import BINARY, CONTINUATION, HANDSHAKE, PING, TEXT, Peer, close, frame
from tests.torture.hostile import (
    CUT,
    LEFT,
    Fault,
    Hostile,
    UnexpectedError,
    expect,
    handshake,
    how_it_ends,
    while_sending,
)
from tests.torture.settings import MAX_MESSAGE

DECLINED = "declined"
"""How a line ended whose server does not compress."""

_OFFER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_COMPRESSED = 4  # RSV1, which says that a message is compressed
_LONGEST = 0.5  # seconds that a flood lasts


def _deflate(data: bytes) -> bytes:
    """Compress what begins and ends at a byte, so that it can be put beside its like."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


_MEBIBYTE = _deflate(bytes(1024 * 1024))
_NOTHING = b"\x00\x00\x00\xff\xff"  # a block that costs time, and yields nothing
_WHOLE = _deflate(bytes(MAX_MESSAGE))[:-4]
_SMALL = frame(TEXT, _deflate(b"hello, hello, hello")[:-4], reserved=_COMPRESSED)


def _in_fragments(data: bytes, size: int) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(
        frame(
            CONTINUATION if index else BINARY,
            piece,
            fin=index == len(pieces) - 1,
            reserved=0 if index else _COMPRESSED,
        )
        for index, piece in enumerate(pieces)
    )


_BOMBS = (
    # Two mebibytes and a gibibyte, and the same in fragments, each of which is harmless.
    frame(BINARY, _MEBIBYTE * 2, reserved=_COMPRESSED),
    frame(BINARY, _MEBIBYTE * 1000, reserved=_COMPRESSED),
    _in_fragments(_MEBIBYTE * 2, 10),
    _in_fragments(_MEBIBYTE * 1000, 2000),
)

# Each is all that a message may be, or almost nothing, and takes the server some time.
_FLOODS = (
    frame(BINARY, _WHOLE, reserved=_COMPRESSED),
    frame(TEXT, _WHOLE, reserved=_COMPRESSED),
    frame(BINARY, _NOTHING * 10_000, reserved=_COMPRESSED),
    frame(BINARY, b"", reserved=_COMPRESSED) * 1000,
    frame(BINARY, b"\x03\x00" * 10_000, reserved=_COMPRESSED),
    (frame(BINARY, _WHOLE[:500], fin=False, reserved=_COMPRESSED) + frame(PING, b"x") * 20)
    + frame(CONTINUATION, _WHOLE[500:]),
)

_WRONG = (
    (frame(BINARY, b"\xff" * 100, reserved=_COMPRESSED), "1007"),
    (frame(BINARY, b"\x07" * 100, reserved=_COMPRESSED), "1007"),
    (frame(TEXT, _deflate(b"\xff")[:-4], reserved=_COMPRESSED), "1007"),
    (frame(PING, b"x", reserved=_COMPRESSED), "1002"),
    (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", reserved=_COMPRESSED), "1002"),
)

_OFFERS = (
    b"permessage-deflate; client_max_window_bits=99",
    b"permessage-deflate; server_max_window_bits=8",
    b"permessage-deflate; server_no_context_takeover=1; nonsense",
    b"permessage-deflate; client_max_window_bits; client_max_window_bits",
    b", ".join([b"permessage-deflate; server_max_window_bits=7"] * 200),
    b"x; y=" + b"z" * 8000,
    b'permessage-deflate; server_max_window_bits="',
    b";=,;=,;=",
    b"permessage-bzip2, permessage-deflate; a=b, permessage-deflate",
)


async def _enter(hostile: Hostile, path: str = "/echo") -> Peer | None:
    """Open a WebSocket that compresses; None if the server does not."""
    peer = await hostile.dial()
    await peer.send_bytes(_offering(handshake(path), _OFFER))
    head = await peer.read_head()
    if not head.startswith(b"HTTP/1.1 101 "):
        raise UnexpectedError(f"the server answered {head[:40]!a} to an offer of compression")
    return peer if b"permessage-deflate" in head.lower() else None


def _offering(request: bytes, offer: bytes) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: " + offer + b"\r\n\r\n")


def _compressing(
    act: Callable[[Hostile, Peer], Awaitable[str]], *paths: str
) -> Callable[[Hostile], Awaitable[str]]:
    """Do something to a server that compresses."""

    async def enter_and_act(hostile: Hostile) -> str:
        peer = await _enter(hostile, hostile.random.choice(paths or ("/echo",)))
        return DECLINED if peer is None else await act(hostile, peer)

    return enter_and_act


async def _bomb(hostile: Hostile, peer: Peer) -> str:
    send = partial(peer.send_bytes, _BOMBS[hostile.step])
    return expect(await while_sending(send, partial(how_it_ends, peer, answers=False)), "1009")


async def _flood(hostile: Hostile, peer: Peer) -> str:
    data = _FLOODS[hostile.step]

    async def send() -> None:
        while True:
            await peer.send_bytes(data)

    ended = LEFT
    with trio.move_on_after(hostile.random.uniform(0, _LONGEST)):
        ended = await while_sending(send, partial(_read_to_end, peer))
    await peer.reset()
    return expect(ended, LEFT)


async def _read_to_end(peer: Peer) -> str:
    # What is echoed is compressed, and no frame to whoever has not agreed on that.
    await peer.read_to_end()
    return CUT


async def _wrong(hostile: Hostile, peer: Peer) -> str:
    data, code = _WRONG[hostile.step]
    await peer.send_bytes(data)
    return expect(await how_it_ends(peer), code)


async def _reset(hostile: Hostile, peer: Peer) -> str:
    await peer.send_bytes(_SMALL[: hostile.step])
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _odd_offer(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(_offering(HANDSHAKE, _OFFERS[hostile.step]) + close())
    return expect(await how_it_ends(peer, opened=False), "1000", "400")


FAULTS = (
    Fault(name="compression: bomb", act=_compressing(_bomb), steps=len(_BOMBS)),
    Fault(
        name="compression: flood",
        act=_compressing(_flood, "/echo", "/hold"),
        steps=len(_FLOODS),
    ),
    Fault(name="compression: against the protocol", act=_compressing(_wrong), steps=len(_WRONG)),
    Fault(name="compression: reset at a byte", act=_compressing(_reset), steps=len(_SMALL) + 1),
    Fault(name="compression: odd offer", act=_odd_offer, steps=len(_OFFERS)),
)
