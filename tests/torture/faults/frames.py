"""What can be done with the frames of an open connection."""

import itertools
from functools import partial

import trio

from tests.invariants.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    header,
)
from tests.torture.hostile import (
    CUT,
    LEFT,
    Fault,
    Hostile,
    end_input,
    expect,
    how_it_ends,
    while_sending,
)
from tests.torture.settings import MAX_MESSAGE

# One of each kind of header: a length of one byte, of three, and of nine.
_FRAMES = (
    frame(TEXT, "olá".encode()[:3], fin=False)
    + frame(PING, b"x")
    + frame(CONTINUATION, "olá".encode()[3:])
    + frame(BINARY, bytes(126))
    + frame(BINARY, bytes(65536))[:16]
)

_WRONG = (
    (frame(TEXT, b"\xff"), "1007"),
    (frame(TEXT, b"\xed\xa0\x80"), "1007"),
    (frame(TEXT, b"\xce", fin=False) + frame(CONTINUATION), "1007"),
    (frame(TEXT, b"", reserved=4), "1002"),
    (frame(TEXT, b"", reserved=1), "1002"),
    (frame(3), "1002"),
    (frame(15), "1002"),
    (frame(CONTINUATION, b"of nothing"), "1002"),
    (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), "1002"),
    (frame(PING, b"a", fin=False), "1002"),
    (frame(PING, bytes(126)), "1002"),
    (frame(CLOSE, bytes(126)), "1002"),
    (frame(CLOSE, b"x"), "1002"),
    (close(1006), "1002"),
    (close(65535), "1002"),
    (frame(CLOSE, b"\x03\xe8\xff"), "1007"),
    (b"\x81\x05hello", "1002"),
    (b"\x81\xfe\x00\x05\1\2\3\4", "1002"),
    (header(TEXT, 5), "1002"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "1002"),
)

_HUGE = tuple(
    itertools.product(
        (TEXT, BINARY, CONTINUATION),
        (MAX_MESSAGE + 1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    )
)

_AFTER_CLOSE = (
    frame(TEXT, b"late") * 100,
    frame(PING, b"late") * 100,
    close() * 100,
    b"\xff" * 1000,
    header(BINARY, 2**62),
)


async def _reset(hostile: Hostile) -> str:
    peer = await hostile.enter()
    await peer.send_bytes(_FRAMES[: hostile.step])
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _half_close(hostile: Hostile) -> str:
    peer = await hostile.enter()
    await peer.send_bytes(_FRAMES[: hostile.step])
    await hostile.pause()
    await end_input(peer)
    return expect(await how_it_ends(peer), CUT, "1???")


async def _stall(hostile: Hostile) -> str:
    peer = await hostile.enter()
    await peer.send_bytes(_FRAMES[: hostile.step])
    return expect(await how_it_ends(peer, answers=False), "1011", CUT)


async def _wrong(hostile: Hostile) -> str:
    data, code = _WRONG[hostile.step]
    peer = await hostile.enter()
    await peer.send_bytes(data)
    return expect(await how_it_ends(peer), code)


async def _huge(hostile: Hostile) -> str:
    opcode, length = _HUGE[hostile.step]
    peer = await hostile.enter()
    begin = frame(TEXT, b"begin", fin=False) if opcode == CONTINUATION else b""

    async def send() -> None:
        await peer.send_bytes(begin + header(opcode, length))
        while True:
            await peer.send_bytes(bytes(16 * 1024))

    # RFC 6455 §5.2: the most significant bit of a length is 0.
    code = "1002" if length >= 2**63 else "1009"
    return expect(await while_sending(send, partial(how_it_ends, peer, answers=False)), code)


async def _trickle(hostile: Hostile) -> str:
    """Send a frame so slowly that it is never there, and go."""
    peer = await hostile.enter()
    begun = trio.current_time()
    for byte in itertools.chain(header(BINARY, MAX_MESSAGE), itertools.cycle(b"x")):
        await peer.send_bytes(bytes([byte]))
        await trio.sleep(hostile.times.ping_interval / 20)
        if trio.current_time() > begun + 2 * hostile.times.ping_interval:
            break
    await peer.reset()
    return LEFT


async def _after_close(hostile: Hostile) -> str:
    peer = await hostile.enter()
    await peer.send_bytes(close() + _AFTER_CLOSE[hostile.step])
    return expect(await how_it_ends(peer), "1000")


async def _without_end(hostile: Hostile) -> str:
    """Close in order, and then keep the line, and go on sending."""
    peer = await hostile.enter()

    async def send() -> None:
        await peer.send_bytes(close())
        while True:
            await peer.send_bytes(frame(PONG, b"x") * 100)
            await trio.sleep(0.01)

    return expect(await while_sending(send, partial(how_it_ends, peer, answers=False)), "1000")


async def _urgent(hostile: Hostile) -> str:
    """Send bytes out of band, which are not part of the stream."""
    peer = await hostile.enter()
    assert isinstance(peer.stream, trio.SocketStream)
    for _ in range(5):
        await peer.stream.socket.send(b"!", trio.socket.MSG_OOB)
        await peer.send(TEXT, b"hello")
        await hostile.pause()
    await peer.close()
    # Of two that follow each other closely, the first becomes part of the stream, and is no frame.
    return expect(await how_it_ends(peer), "1000", "1002")


FAULTS = (
    Fault(name="frame: reset at a byte", act=_reset, steps=len(_FRAMES) + 1),
    Fault(name="frame: half-closed at a byte", act=_half_close, steps=len(_FRAMES) + 1),
    Fault(name="frame: stalled at a byte", act=_stall, steps=len(_FRAMES) + 1, slow=True),
    Fault(name="frame: slow loris", act=_trickle, steps=4, slow=True),
    Fault(name="frame: against the protocol", act=_wrong, steps=len(_WRONG)),
    Fault(name="frame: huge declared length", act=_huge, steps=len(_HUGE)),
    Fault(name="frame: behind a Close", act=_after_close, steps=len(_AFTER_CLOSE)),
    Fault(name="close: the line is kept", act=_without_end, steps=4),
    Fault(name="urgent data", act=_urgent, steps=4, secure=False),
)
