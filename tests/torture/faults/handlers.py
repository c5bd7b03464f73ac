"""What can be done to handlers: to those that fail, that never return, that will not stop."""

from functools import partial

import trio

from tests.invariants.peers import PING, TEXT, close, frame
from tests.torture.hostile import (
    CUT,
    LEFT,
    TORN,
    Fault,
    Hostile,
    end_input,
    expect,
    handshake,
    how_it_ends,
    while_sending,
)

_PATHS = ("/echo", "/push", "/leave", "/fail", "/close", "/hold", "/stubborn", "/never")

# What a handler's end, or the client's own Close, is told with.
_GOODBYES = ("1000", "1011", "4000")


def _goodbyes(path: str) -> tuple[str, ...]:
    # Who is sent to without end may have so much to read before the Close that its time runs out.
    return (*_GOODBYES, CUT, TORN) if path == "/push" else _GOODBYES


async def _reset(hostile: Hostile) -> str:
    path = _PATHS[hostile.step % len(_PATHS)]
    peer = await hostile.enter(path)
    if hostile.random.randrange(2):
        await peer.send_bytes(frame(TEXT, b"hello") + frame(PING) + close()[:3])
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _reset_before_the_answer(hostile: Hostile) -> str:
    peer = await hostile.dial()
    await peer.send_bytes(handshake(_PATHS[hostile.step % len(_PATHS)]))
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _close(hostile: Hostile) -> str:
    path = _PATHS[hostile.step]
    peer = await hostile.enter(path)
    await peer.close()
    return expect(await how_it_ends(peer), *_goodbyes(path))


async def _half_close(hostile: Hostile) -> str:
    path = _PATHS[hostile.step]
    peer = await hostile.enter(path)
    await hostile.pause()
    await end_input(peer)
    # To end the line below TLS is against TLS, which then will not write the rest of a frame.
    ways = (TORN,) if hostile.secure else ()
    return expect(await how_it_ends(peer), CUT, *_goodbyes(path), *ways)


async def _stall(hostile: Hostile) -> str:
    path = _PATHS[hostile.step]
    peer = await hostile.enter(path)
    return expect(await how_it_ends(peer, answers=False), *_goodbyes(path))


async def _talk(hostile: Hostile) -> str:
    """Send when the handler may be over already, and close."""
    peer = await hostile.dial()
    path = _PATHS[hostile.step]
    data = frame(PING, b"late") * 10 + frame(TEXT, b"late") * 10
    await peer.send_bytes(handshake(path) + data + data + close())
    return expect(await how_it_ends(peer, opened=False), *_goodbyes(path))


async def _talk_on(hostile: Hostile) -> str:
    """Answer nothing, and go on sending, whatever the server says."""
    peer = await hostile.enter(("/leave", "/fail", "/close")[hostile.step])

    async def send() -> None:
        while True:
            await peer.send_bytes(frame(PING, b"x") + frame(TEXT, b"more") * 10)
            await trio.sleep(0.01)

    ended = await while_sending(send, partial(how_it_ends, peer, answers=False))
    return expect(ended, *_GOODBYES)


FAULTS = (
    Fault(name="handler: client resets", act=_reset, steps=3 * len(_PATHS)),
    Fault(name="handler: client resets early", act=_reset_before_the_answer, steps=3 * len(_PATHS)),
    Fault(name="handler: client closes", act=_close, steps=len(_PATHS)),
    Fault(name="handler: client half-closes", act=_half_close, steps=len(_PATHS)),
    Fault(name="handler: client stalls", act=_stall, steps=len(_PATHS), slow=True),
    Fault(name="handler: client talks", act=_talk, steps=len(_PATHS)),
    Fault(name="handler: client talks on", act=_talk_on, steps=3, slow=True),
)
