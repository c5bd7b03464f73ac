"""Invariant 4, in time: what one peer sends is worked off in steps, between those of others."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws
from tests.fakes import raw_frame
from tests.invariants.cancelling import Line
from tests.invariants.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NET,
    PING,
    PONG,
    TEXT,
    Peer,
    held,
    serving,
    serving_tcp,
    until,
)
from trio_ws._protocol.engine import FRAMES
from trio_ws._protocol.frames import read_header
from trio_ws.testing import stream_pair

_COUNT = 20 * FRAMES

_NEVER = trio_ws.Keepalive(interval=float("inf"))
_LITTLE_ROOM = trio_ws.Limits(inbox_messages=1, max_fragments=float("inf"))


class Steps(trio.abc.Instrument):
    """Counts the frames that each step of any task takes apart.

    Args:
        monkeypatch: Puts the counting into the engine.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self.most = 0
        monkeypatch.setattr("trio_ws._protocol.engine.read_header", self._counting(read_header))

    def _counting(self, function: Callable[..., object]) -> Callable[..., object]:
        def count(*args: object, **options: object) -> object:
            self._count += 1
            return function(*args, **options)

        return count

    def after_task_step(self, _: trio.lowlevel.Task) -> None:
        self.most = max(self.most, self._count)
        self._count = 0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Give a count of the frames of each step."""
    return Steps(monkeypatch)


def pings(make: Callable[..., bytes]) -> bytes:
    return make(PING) * _COUNT


def pongs(make: Callable[..., bytes]) -> bytes:
    return make(PONG) * _COUNT


def fragments(make: Callable[..., bytes]) -> bytes:
    return make(BINARY, fin=False) + make(CONTINUATION, b"a", fin=False) * _COUNT


def empty_fragments(make: Callable[..., bytes]) -> bytes:
    return make(TEXT, fin=False) + make(CONTINUATION, fin=False) * _COUNT


def messages(make: Callable[..., bytes]) -> bytes:
    """Give messages, which fill the inbox, so that control frames are looked for behind them."""
    return make(TEXT) * _COUNT


FLOODS = [pings, pongs, fragments, empty_fragments, messages]


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_gives_way_and_hides_no_close_from_a_server(
    flood: Callable[[Callable[..., bytes]], bytes], line: Line, steps: Steps
) -> None:
    handler, connections = held()
    serve = serving if line.in_memory else serving_tcp
    async with serve(handler, limits=_LITTLE_ROOM, keepalive=_NEVER) as served:
        peer = await served.peer()
        await until(lambda: connections)
        trio.lowlevel.add_instrument(steps)

        await send(peer, flood, masked=True)
        await connections[0].wait_closed()

        trio.lowlevel.remove_instrument(steps)
        assert connections[0].close_code == 4000
        # Each looks once more than it takes, and so does the search for control frames.
        assert FRAMES <= steps.most <= FRAMES + 2


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_gives_way_and_hides_no_close_from_a_client(
    flood: Callable[[Callable[..., bytes]], bytes], line: Line, steps: Steps
) -> None:
    near, far = stream_pair() if line.in_memory else await tcp_pair()
    peer = Peer(far, masked=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.answer_handshake)
        with trio.fail_after(NET):
            async with trio_ws.connect(
                "ws://localhost/", stream=near, limits=_LITTLE_ROOM, keepalive=_NEVER
            ) as connection:
                await wait_all_tasks_blocked()
                trio.lowlevel.add_instrument(steps)

                nursery.start_soon(send, peer, flood)
                await connection.wait_closed()

                trio.lowlevel.remove_instrument(steps)
                assert connection.close_code == 4000
                assert FRAMES <= steps.most <= FRAMES + 2
            await peer.read_to_end()
            await peer.stream.aclose()


async def send(
    peer: Peer, flood: Callable[[Callable[..., bytes]], bytes], masked: bool = False
) -> None:
    """Send a flood with a Close behind it, and end this direction at once."""

    def make(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
        return raw_frame(opcode, payload, masked=masked, fin=fin)

    await peer.send_bytes(flood(make) + make(CLOSE, (4000).to_bytes(2, "big")))
    await peer.end()


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Connect two sockets on the loopback interface."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        host, port = listener.socket.getsockname()[:2]
        near = await trio.open_tcp_stream(host, port)
        return near, await listener.accept()
