"""Floods, readers that do not read, and writers that do not stop."""

import itertools
from contextlib import suppress
from functools import partial

import trio

from tests.invariants.peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Peer, frame
from tests.torture.hostile import (
    CUT,
    LEFT,
    TORN,
    Fault,
    Hostile,
    expect,
    how_it_ends,
    while_sending,
)

_FLOODS = {
    "pings": frame(PING, b"x" * 125) * 100,
    "pongs": frame(PONG, b"x" * 125) * 100,
    "empty messages": frame(TEXT) * 1000,
    "tiny messages": frame(BINARY, b"x") * 1000,
    "closes": frame(CLOSE) * 1000,
    "large messages": frame(BINARY, bytes(200_000)),
}
_FRAGMENTS = {
    "empty": frame(CONTINUATION, fin=False) * 1000,
    "of one byte": frame(CONTINUATION, b"x", fin=False) * 1000,
    "among pings": (frame(CONTINUATION, fin=False) + frame(PING)) * 500,
    "large": frame(CONTINUATION, bytes(65536), fin=False),
}
_PATHS = ("/echo", "/hold", "/push", "/stubborn")
_KINDS = tuple(itertools.product(_FLOODS.values(), _PATHS, (True, False)))
_LONGEST = 0.5  # seconds that a flood lasts, so that many have their turn
_LARGE = frame(BINARY, bytes(60_000))
_SMALL = 4096  # bytes of a buffer that is soon full


async def _flood(hostile: Hostile) -> str:
    """Send as fast as it goes, reading what comes or not; then go."""
    data, path, reads = _KINDS[hostile.step]
    peer = await hostile.enter(path)
    seconds = hostile.random.uniform(0, _LONGEST)
    ended = LEFT
    with trio.move_on_after(seconds):
        ended = await while_sending(
            partial(_send_for_ever, peer, data),
            partial(how_it_ends, peer, answers=False) if reads else _do_not_read,
        )
    await peer.reset()
    # Whatever is in its way: to Closes the server has the last word.
    return expect(ended, LEFT, CUT, TORN, "1005")


async def _send_for_ever(peer: Peer, data: bytes) -> None:
    while True:
        await peer.send_bytes(data)


async def _do_not_read() -> str:
    await trio.sleep_forever()
    raise AssertionError


async def _fragments(hostile: Hostile) -> str:
    more = tuple(_FRAGMENTS.values())[hostile.step]
    peer = await hostile.enter(hostile.random.choice(("/echo", "/hold")))

    async def send() -> None:
        await peer.send(TEXT, fin=False)
        await _send_for_ever(peer, more)

    return expect(await while_sending(send, partial(how_it_ends, peer, answers=False)), "1009")


async def _never_read(hostile: Hostile) -> str:
    """Be sent to without end, read nothing, and see that the server has given up."""
    peer = await hostile.enter("/push", receive_buffer=_SMALL)
    await trio.sleep(hostile.times.write * 1.5)
    return expect(await how_it_ends(peer), TORN, CUT)


async def _send_and_never_read(hostile: Hostile) -> str:
    """Have messages echoed, and read nothing; the server gives up."""
    peer = await hostile.enter("/echo", receive_buffer=_SMALL)
    with suppress(trio.BrokenResourceError):
        await _send_for_ever(peer, _LARGE)
    return CUT


async def _send_to_nobody(hostile: Hostile) -> str:
    """Send to a handler that receives nothing, stay as long as the server is patient, and go."""
    peer = await hostile.enter(hostile.random.choice(("/hold", "/never")))
    ended = LEFT
    with trio.move_on_after(hostile.times.write * hostile.random.uniform(0.5, 2)):
        ended = await while_sending(
            partial(_send_for_ever, peer, _LARGE),
            partial(how_it_ends, peer, answers=False),
        )
    await peer.reset()
    # It is the server that is behind, and the client is not to be blamed for it.
    return expect(ended, LEFT)


async def _read_single_bytes(hostile: Hostile) -> str:
    """Read what is sent without end byte by byte, for a while."""
    peer = await hostile.enter("/push", receive_buffer=_SMALL)
    for _ in range(100):
        if not await peer.stream.receive_some(1):
            return CUT
        await trio.sleep(0.01)
    await peer.reset()
    return LEFT


FAULTS = (
    Fault(name="flood: of frames", act=_flood, steps=len(_KINDS)),
    Fault(name="flood: of fragments", act=_fragments, steps=len(_FRAGMENTS)),
    Fault(name="reader: never reads", act=_never_read, steps=10, slow=True),
    Fault(name="reader: sends, never reads", act=_send_and_never_read, steps=10, slow=True),
    Fault(name="reader: byte by byte", act=_read_single_bytes, steps=4, slow=True),
    Fault(name="writer: to nobody", act=_send_to_nobody, steps=10, slow=True),
)
