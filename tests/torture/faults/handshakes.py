"""What can be done before there is a connection: to the opening handshake, and to plain HTTP."""

import itertools
from functools import partial

import trio

from tests.invariants.peers import (
    BINARY,
    HANDSHAKE,
    MALFORMED_HEADS,
    PING,
    TEXT,
    Peer,
    close,
    frame,
    header,
)
from tests.torture.hostile import (
    CUT,
    LEFT,
    Fault,
    Hostile,
    UnexpectedError,
    end_input,
    expect,
    handshake,
    how_it_ends,
    while_sending,
)
from tests.torture.settings import MAX_MESSAGE

_GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

_EARLY = (
    (frame(TEXT, b"early") + close(), "1000"),
    (frame(PING, b"early") * 20 + close(), "1000"),
    (frame(BINARY, bytes(100_000)) + close(), "1000"),
    (frame(TEXT, b"ear", fin=False) + frame(PING) + frame(0, b"ly") + close(), "1000"),
    (close(), "1000"),
    (header(BINARY, MAX_MESSAGE + 1), "1009"),
    (b"\xff" * 20, "1002"),
    (HANDSHAKE, "1002"),
)

_ENDLESS = (
    (b"GET /", b"a" * 5000),
    (b"GET / HTTP/1.1\r\nX: ", b"a" * 5000),
    (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 1000),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"Cookie: " + b"a" * 4000 + b"\r\n"),
)

_STRIDE = 8  # bytes from one reset in an answer to the next

_BODIES = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000000000\r\n\r\n"),
)


async def _reset(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE[: hostile.step])
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _reset_in_the_answer(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE + frame(TEXT, b"hello") * 10)
    left = hostile.step * _STRIDE
    while left:
        data = await peer.stream.receive_some(left)
        if not data:
            raise UnexpectedError("the server ended the line in its answer")
        left -= len(data)
    await peer.reset()
    return LEFT


async def _half_close(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE[: hostile.step])
    await hostile.pause()
    await end_input(peer)
    return expect(await how_it_ends(peer, opened=False), CUT, "400")


async def _stall(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE[: hostile.step])
    return expect(await how_it_ends(peer, opened=False), "408", CUT)


async def _trickle(hostile: Hostile) -> str:
    peer = await hostile.dial()

    async def send() -> None:
        for byte in itertools.chain(HANDSHAKE[:-2], itertools.cycle(b"X: slow\r\n")):
            await peer.send_bytes(bytes([byte]))
            await trio.sleep(hostile.times.open / 50)

    return expect(
        await while_sending(send, partial(how_it_ends, peer, opened=False, answers=False)),
        "408",
        CUT,
    )


async def _small_pieces(hostile: Hostile) -> str:
    peer = await hostile.dial()

    async def send() -> None:
        # Few enough that hundreds of clients in one program have sent them before it is too late.
        for start in range(0, len(HANDSHAKE), 8):
            await peer.send_bytes(HANDSHAKE[start : start + 8])
        for byte in frame(PING, b"abc") + frame(TEXT, b"hello") * 20 + close():
            await peer.send_bytes(bytes([byte]))
            if not hostile.random.randrange(10):
                await hostile.pause()

    receive = partial(how_it_ends, peer, opened=False, answers=False)
    return expect(await while_sending(send, receive), "1000")


async def _endless_head(hostile: Hostile) -> str:
    peer = await hostile.dial()
    begin, more = _ENDLESS[hostile.step]

    async def send() -> None:
        await peer.send_bytes(begin)
        while True:
            await peer.send_bytes(more)

    return expect(
        await while_sending(send, partial(how_it_ends, peer, opened=False, answers=False)),
        "414",
        "431",
    )


async def _malformed(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(MALFORMED_HEADS[hostile.step])
    await end_input(peer)
    return expect(await how_it_ends(peer, opened=False), "4??", "5??", CUT)


async def _requests(hostile: Hostile) -> str:
    for _ in range(hostile.random.randrange(5, 20)):
        peer = await hostile.dial()
        await peer.send_bytes(_GET)
        answer = expect(await how_it_ends(peer, opened=False), "200", "4??")
        await peer.stream.aclose()
    return answer


async def _request_and_reset(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(_GET)
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _pipelined_requests(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(_GET * 100)
    return expect(await how_it_ends(peer, opened=False), "200", "4??")


async def _endless_body(hostile: Hostile) -> str:
    peer = await hostile.dial()

    async def send() -> None:
        await peer.send_bytes(_BODIES[hostile.step])
        while True:
            await peer.send_bytes(bytes(16 * 1024))

    ended = await while_sending(send, partial(how_it_ends, peer, opened=False, answers=False))
    # Behind a handshake nothing is a body; zeros are a frame without a mask.
    return expect(ended, "200", "4??", "5??", "1002")


async def _unknown_path(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(handshake("/nowhere"))
    return expect(await how_it_ends(peer, opened=False), "404", "1000")


async def _early(hostile: Hostile) -> str:
    data, code = _EARLY[hostile.step]
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE + data)
    return expect(await how_it_ends(peer, opened=False), code)


async def _early_and_reset(hostile: Hostile) -> str:
    data, _ = _EARLY[hostile.step]
    peer = await hostile.dial()
    await peer.send_bytes(HANDSHAKE + data)
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _knock(hostile: Hostile) -> str:
    """Come, and leave at once, in each way there is."""
    for _ in range(20):
        peer = await hostile.wire()
        how = hostile.random.randrange(3)
        if how == 0:
            await peer.reset()
        elif how == 1:
            await end_input(peer)
            await _read_on(peer)
        else:
            await peer.stream.aclose()
    return LEFT


async def _read_on(peer: Peer) -> None:
    await peer.read_to_end()
    await peer.stream.aclose()


FAULTS = (
    Fault(name="handshake: reset at a byte", act=_reset, steps=len(HANDSHAKE) + 1),
    Fault(name="handshake: reset in the answer", act=_reset_in_the_answer, steps=20),
    Fault(name="handshake: half-closed at a byte", act=_half_close, steps=len(HANDSHAKE) + 1),
    Fault(name="handshake: stalled at a byte", act=_stall, steps=len(HANDSHAKE), slow=True),
    Fault(name="handshake: slow loris", act=_trickle, steps=4, slow=True),
    Fault(name="handshake and frames: in pieces", act=_small_pieces, steps=4),
    Fault(name="handshake: data before the 101", act=_early, steps=len(_EARLY)),
    Fault(name="handshake: data, then a reset", act=_early_and_reset, steps=len(_EARLY)),
    Fault(name="handshake: for an unknown path", act=_unknown_path),
    Fault(name="head: malformed", act=_malformed, steps=len(MALFORMED_HEADS)),
    Fault(name="head: without end", act=_endless_head, steps=len(_ENDLESS)),
    Fault(name="request: no upgrade, many", act=_requests, steps=4),
    Fault(name="request: no upgrade, then a reset", act=_request_and_reset, steps=10),
    Fault(name="request: a hundred at once", act=_pipelined_requests),
    Fault(name="request: body without end", act=_endless_body, steps=len(_BODIES), slow=True),
    Fault(name="connected, and left at once", act=_knock, steps=4),
)
