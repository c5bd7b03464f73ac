"""A wire with all that belongs to it, for the tests of wires of all kinds."""

from collections.abc import Callable
from math import inf

import trio

from tests._transport.fakes import Failing
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.stream_wire import StreamWire
from trio_ws._transport.wire import WireOwner
from trio_ws.testing import MemoryStream, stream_pair


class Owner(WireOwner):
    """A connection that writes down what its wire tells it.

    Args:
        at_the_end: Called when the line has ended.
    """

    def __init__(self, at_the_end: Callable[[], object] = bool) -> None:
        self.data = b""
        self.reads_on = True
        self.ends: list[BaseException | None] = []
        self.stuck = False
        self.at_the_end = at_the_end

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        self.data += data
        return self.reads_on

    def line_ended(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.at_the_end()

    def line_stuck(self) -> None:
        self.stuck = True


class Bench:
    """A wire with all that belongs to it.

    Args:
        stream: What the wire gets.
        client: Whether it is a client's wire.
        owner: Its owner.
        write_timeout: Seconds without progress.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client: bool = False,
        owner: Owner | None = None,
        write_timeout: float = 20,
    ) -> None:
        self.owner = owner or Owner()
        self.outgoing = Outgoing(inf)
        self.wire = StreamWire(
            stream,
            self.outgoing,
            self.owner,
            client=client,
            write_timeout=write_timeout,
            close_timeout=5,
        )

    def write(self, data: bytes) -> None:
        self.outgoing.push(data)
        self.wire.write_soon()


def open_bench(
    nursery: trio.Nursery, *, client: bool = False, rest: bytes = b"", capacity: int = 65536
) -> tuple[Bench, MemoryStream]:
    """Start a wire over memory; return it and the peer's end of the stream."""
    stream, peer = stream_pair(capacity)
    bench = Bench(stream, client=client)
    bench.wire.start(nursery, rest)
    return bench, peer


def open_failing(nursery: trio.Nursery) -> tuple[Bench, Failing, MemoryStream]:
    """Start a wire over a stream that can be told to fail."""
    inner, peer = stream_pair()
    stream = Failing(inner)
    bench = Bench(stream)
    bench.wire.start(nursery, b"")
    return bench, stream, peer


async def stopped_after(bench: Bench) -> float:
    """Wait for the wire to stop, and return the seconds that took."""
    began = trio.current_time()
    await bench.wire.wait_stopped()
    return trio.current_time() - began
