"""What can be done below TLS: to its handshake, and to its records."""

import ssl
from contextlib import suppress

import trio
import trio.abc

from tests.invariants.peers import HANDSHAKE, TEXT, Peer, frame
from tests.torture.hostile import CUT, LEFT, Fault, Hostile, end_input, expect, how_it_ends
from tests.torture.settings import HOST


def _make_hello() -> bytes:
    """Make the first bytes of a client that speaks TLS."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


_HELLO = _make_hello()

_GARBAGE = (
    HANDSHAKE,
    b"\0",
    b"\r\n" * 100,
    b"\xff" * 5000,
    b"\x16\x03\x01\xff\xff" + b"\xff" * 5000,
    b"\x16\x03\x01\x00\x00" * 200,
    b"\x15\x03\x01\x00\x02\x02\x00",
    b"\x17\x03\x03\x00\x10" + bytes(16),
    b"\x80\x2e\x01\x03\x01" + bytes(50),
    _HELLO + b"\xff" * 100,
    _HELLO * 2,
    _HELLO[:1] + b"\xff" + _HELLO[2:],
)

_RECORD = len(HANDSHAKE) + 22  # bytes of a TLS 1.3 record with the handshake
_STRIDE = 32  # bytes from one stall in a hello to the next


class _Tap(trio.abc.Stream):
    """A line whose outgoing bytes can be held back."""

    def __init__(self, line: trio.abc.Stream) -> None:
        self._line = line
        self.held: bytearray | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.held is None:
            await self._line.send_all(data)
        else:
            await trio.lowlevel.checkpoint()
            self.held += data

    async def wait_send_all_might_not_block(self) -> None:
        await self._line.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._line.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._line.aclose()


async def _reset_in_the_hello(hostile: Hostile) -> str:
    peer = await hostile.wire()
    await peer.send_bytes(_HELLO[: hostile.step])
    await hostile.pause()
    await peer.reset()
    return LEFT


async def _half_close_in_the_hello(hostile: Hostile) -> str:
    peer = await hostile.wire()
    await peer.send_bytes(_HELLO[: hostile.step])
    await end_input(peer)
    await peer.read_to_end()
    return CUT


async def _stall_in_the_hello(hostile: Hostile) -> str:
    peer = await hostile.wire()
    await peer.send_bytes(_HELLO[: hostile.step * _STRIDE])
    await peer.read_to_end()
    return CUT


async def _garbage(hostile: Hostile) -> str:
    peer = await hostile.wire()
    await peer.send_bytes(_GARBAGE[hostile.step])
    await peer.read_to_end()
    return CUT


async def _noise(hostile: Hostile) -> str:
    peer = await hostile.wire()
    await peer.send_bytes(hostile.random.randbytes(hostile.random.randrange(1, 20_000)))
    await end_input(peer)
    await peer.read_to_end()
    return CUT


async def _reset_in_a_record(hostile: Hostile) -> str:
    wire = await hostile.wire()
    tap = _Tap(wire.stream)
    peer = await hostile.over(tap)
    tap.held = bytearray()
    await peer.send_bytes(HANDSHAKE)
    await wire.send_bytes(bytes(tap.held[: hostile.step]))
    await hostile.pause()
    await wire.reset()
    return LEFT


async def _damaged_record(hostile: Hostile) -> str:
    """Change one byte of a record, and have it followed by another one."""
    wire = await hostile.wire()
    tap = _Tap(wire.stream)
    peer = await hostile.over(tap)
    tap.held = bytearray()
    await peer.send_bytes(HANDSHAKE)
    await peer.send_bytes(frame(TEXT, b"hello"))
    tap.held[hostile.step] ^= 1 << hostile.random.randrange(8)
    await wire.send_bytes(bytes(tap.held))
    # A length that was changed may have the server wait for more.
    await end_input(wire)
    return expect(await how_it_ends(Peer(peer.stream), opened=False), CUT)


async def _noise_under_tls(hostile: Hostile) -> str:
    """Open a WebSocket, and go on without TLS."""
    wire = await hostile.wire()
    peer = await hostile.over(wire.stream)
    await peer.send_bytes(HANDSHAKE)
    await peer.read_head()
    await wire.send_bytes(frame(TEXT, b"hello") * 1000)
    return expect(await how_it_ends(peer), CUT)


async def _goodbye_of_tls_alone(hostile: Hostile) -> str:
    """End TLS in order in the midst of a WebSocket, and keep the line."""
    wire = await hostile.wire()
    peer = await hostile.over(wire.stream)
    await peer.send_bytes(HANDSHAKE)
    await peer.read_head()
    assert isinstance(peer.stream, trio.SSLStream)
    with suppress(trio.BrokenResourceError):
        await peer.stream.unwrap()
    await wire.read_to_end()
    return CUT


FAULTS = tuple(
    Fault(name=f"TLS: {name}", act=act, steps=steps, slow=slow, plain=False)
    for name, act, steps, slow in (
        ("reset at a byte of the hello", _reset_in_the_hello, len(_HELLO) + 1, False),
        ("half-closed in the hello", _half_close_in_the_hello, len(_HELLO) + 1, False),
        ("stalled in the hello", _stall_in_the_hello, len(_HELLO) // _STRIDE, True),
        ("garbage", _garbage, len(_GARBAGE), True),
        ("noise", _noise, 10, False),
        ("reset at a byte of a record", _reset_in_a_record, _RECORD + 1, False),
        ("damaged byte of a record", _damaged_record, _RECORD, False),
        ("noise under TLS", _noise_under_tls, 4, False),
        ("goodbye of TLS alone", _goodbye_of_tls_alone, 4, False),
    )
)
