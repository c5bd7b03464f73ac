"""`FaultyStream` does each fault at its byte, and without faults is just a stream."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

import trio_ws.testing
from trio_ws._errors import ConnectionClosedError
from trio_ws._transport.nurseries import lone_errors
from trio_ws.testing import FaultyStream, MemoryStream, stream_pair

CAPACITY = 8


def faulty_pair(
    *,
    seed: int = 0,
    delay: float = 0,
    split: int | None = None,
    stall_after: float = inf,
    drop_after: float = inf,
    cut_after: float = inf,
) -> tuple[FaultyStream, MemoryStream]:
    """Make a pair with a bad network before its left end."""
    left, right = stream_pair()
    stream = FaultyStream(
        left,
        seed=seed,
        delay=delay,
        split=split,
        stall_after=stall_after,
        drop_after=drop_after,
        cut_after=cut_after,
    )
    return stream, right


async def make_pair() -> tuple[FaultyStream, FaultyStream]:
    left, right = stream_pair()
    return FaultyStream(left), FaultyStream(right)


async def make_clogged_pair() -> tuple[FaultyStream, FaultyStream]:
    """Make a pair in which neither direction has room for a byte."""
    left, right = stream_pair(CAPACITY)
    await left.send_all(bytes(CAPACITY))
    await right.send_all(bytes(CAPACITY))
    return FaultyStream(left), FaultyStream(right)


class Whole(trio.abc.Stream):
    """A stream that cannot half-close, and notes what is sent.

    Args:
        stream: Where everything goes.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.sent: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def receive_nowait(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive what is there, as soon as nothing else happens any more."""
    received = b""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                nonlocal received
                received = bytes(await stream.receive_some())

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            scope.cancel()
    if not received:
        raise trio.WouldBlock
    return received


async def read_pieces(stream: trio.abc.ReceiveStream) -> list[bytes]:
    """Read to the end, and keep the pieces apart."""
    return [bytes(piece) async for piece in stream]


async def sent_pieces(seed: int) -> list[bytes]:
    """Send 100 bytes in pieces as the seed says, and return the pieces."""
    left, _ = stream_pair()
    noted = Whole(left)
    await FaultyStream(noted, seed=seed, split=10).send_all(bytes(100))
    return noted.sent


async def received_pieces(seed: int) -> list[bytes]:
    """Receive 100 bytes in pieces as the seed says, and return the pieces."""
    stream, far = faulty_pair(seed=seed, split=10)
    await far.send_all(bytes(100))
    await far.aclose()
    return await read_pieces(stream)


@asynccontextmanager
async def blocked(
    verb: Callable[..., Awaitable[object]], *args: object
) -> AsyncGenerator[None, None]:
    """Run something that blocks; what it raises in the end leaves this block."""
    with lone_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(verb, *args)
            await wait_all_tasks_blocked()
            yield


async def test_a_stream_without_faults_is_a_half_closeable_stream() -> None:
    await check_half_closeable_stream(make_pair, make_clogged_pair)


@pytest.mark.parametrize("split", [0, -1])
def test_pieces_without_a_byte_are_refused(split: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        faulty_pair(split=split)


async def test_pieces_are_as_the_seed_says_and_no_larger_than_split() -> None:
    sent = await sent_pieces(7)

    assert sent == await sent_pieces(7)
    assert sent != await sent_pieces(8)
    assert b"".join(sent) == bytes(100)
    assert 1 < max(map(len, sent)) <= 10


async def test_received_pieces_are_as_the_seed_says_too() -> None:
    received = await received_pieces(7)

    assert received == await received_pieces(7)
    assert received != await received_pieces(8)
    assert b"".join(received) == bytes(100)
    assert 1 < max(map(len, received)) <= 10


async def test_receiving_does_not_change_what_the_seed_says_of_sending() -> None:
    stream, far = faulty_pair(seed=7, split=10)
    await far.send_all(bytes(20))
    received = [await stream.receive_some() for _ in range(3)]

    assert received == (await received_pieces(7))[:3]


async def test_each_piece_takes_up_to_the_delay(autojump_clock: MockClock) -> None:
    stream, far = faulty_pair(delay=2)
    await far.send_all(b"slow")
    began = trio.current_time()

    await stream.send_all(b"slow")
    sent = trio.current_time()
    await stream.receive_some()

    assert 0 < sent - began <= 2
    assert 0 < trio.current_time() - sent <= 2


async def test_a_receive_some_cancelled_in_its_delay_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    stream, far = faulty_pair(delay=100)
    await far.send_all(b"kept")

    with trio.move_on_after(0.001) as scope:
        await stream.receive_some()

    assert scope.cancelled_caught
    assert await stream.receive_some() == b"kept"


async def test_sending_stalls_at_its_byte_until_resume() -> None:
    stream, far = faulty_pair(stall_after=4)

    async with blocked(stream.send_all, b"then more"):
        assert await far.receive_some() == b"then"
        stream.resume()

    assert await far.receive_some() == b" more"


async def test_receiving_stalls_at_its_byte_until_resume() -> None:
    stream, far = faulty_pair(stall_after=4)
    await far.send_all(b"then more")
    assert await stream.receive_some() == b"then"

    async with blocked(stream.receive_some):
        assert stream._ahead == b" more"  # noqa: SLF001 - nothing was taken from it
        stream.resume()


async def test_thresholds_count_both_directions_together() -> None:
    stream, far = faulty_pair(stall_after=6)
    await far.send_all(b"1234")
    await stream.receive_some()

    async with blocked(stream.send_all, b"567"):
        assert await far.receive_some() == b"56"
        stream.resume()


async def test_stall_holds_everything_until_resume() -> None:
    stream, far = faulty_pair()
    stream.stall()

    async with blocked(stream.send_all, b"late"), blocked(stream.receive_some):
        await far.send_all(b"late as well")
        stream.resume()

    assert await far.receive_some() == b"late"


async def test_a_stalled_network_might_block() -> None:
    stream, _ = faulty_pair()
    stream.stall()

    async with blocked(stream.wait_send_all_might_not_block):
        stream.resume()


async def test_the_end_does_not_pass_a_stalled_network() -> None:
    stream, far = faulty_pair()

    async with blocked(stream.receive_some):
        stream.stall()
        await far.send_eof()
        await wait_all_tasks_blocked()
        stream.resume()

    assert await stream.receive_some() == b""


async def test_resume_of_a_network_that_moves_changes_nothing() -> None:
    stream, far = faulty_pair()

    stream.resume()
    await stream.send_all(b"moves")

    assert await far.receive_some() == b"moves"


async def test_aclose_wakes_who_waits_for_a_stalled_network() -> None:
    stream, _ = faulty_pair(stall_after=0)

    with pytest.raises(trio.ClosedResourceError):
        async with blocked(stream.send_all, b"never"):
            await stream.aclose()


async def test_what_is_sent_disappears_from_its_byte_on() -> None:
    stream, far = faulty_pair(drop_after=4)

    await stream.send_all(b"then no more")
    await stream.send_eof()

    assert await far.receive_some() == b"then"
    with pytest.raises(trio.WouldBlock):
        await receive_nowait(far)


async def test_nothing_comes_over_a_network_that_is_gone() -> None:
    stream, far = faulty_pair()
    await far.send_all(b"lost")
    stream.drop()

    with pytest.raises(trio.WouldBlock):
        await receive_nowait(stream)


async def test_a_network_that_is_gone_never_blocks_a_sender() -> None:
    left, _ = stream_pair(1)
    stream = FaultyStream(left)
    await stream.send_all(b"1")
    stream.drop()

    await stream.wait_send_all_might_not_block()
    await stream.send_all(bytes(100))


async def test_the_stream_breaks_at_its_byte_when_sending() -> None:
    stream, far = faulty_pair(cut_after=4)

    with pytest.raises(trio.BrokenResourceError, match="cut"):
        await stream.send_all(b"then no more")

    assert await read_pieces(far) == [b"then"]


async def test_the_stream_breaks_for_both_ends_with_the_last_byte() -> None:
    stream, far = faulty_pair(cut_after=4)

    await stream.send_all(b"then")

    assert await read_pieces(far) == [b"then"]
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"to nobody")


async def test_the_stream_breaks_at_its_byte_when_receiving() -> None:
    stream, far = faulty_pair(cut_after=4)
    await far.send_all(b"then")
    assert await stream.receive_some() == b"then"

    with pytest.raises(trio.BrokenResourceError, match="cut"):
        await stream.receive_some()
    assert await far.receive_some() == b""


async def test_a_fraction_of_a_byte_counts_as_a_whole_one() -> None:
    stream, far = faulty_pair(cut_after=3.5)

    await stream.send_all(b"then")

    assert await read_pieces(far) == [b"then"]


async def test_a_stall_comes_before_a_cut_at_the_same_byte() -> None:
    stream, _ = faulty_pair(stall_after=4, cut_after=4)

    with pytest.raises(trio.BrokenResourceError):
        async with blocked(stream.send_all, b"then more"):
            stream.resume()


async def test_what_comes_meanwhile_does_not_pass_in_place_of_what_is_being_sent() -> None:
    left, far = stream_pair(2)
    stream = FaultyStream(left, cut_after=4)
    await far.send_all(b"no")

    async with blocked(stream.send_all, b"then"):
        with pytest.raises(trio.WouldBlock):
            await receive_nowait(stream)
        assert await far.receive_some() == b"th"
        assert await far.receive_some() == b"en"


@pytest.mark.parametrize("verb", ["receive_some", "send_all"])
async def test_cut_breaks_what_is_waiting(verb: str) -> None:
    left, _ = stream_pair(1)
    stream = FaultyStream(left)
    args = (b"too much",) if verb == "send_all" else ()

    with pytest.raises(trio.BrokenResourceError, match="cut"):
        async with blocked(getattr(stream, verb), *args):
            await stream.cut()


async def test_every_verb_raises_broken_after_a_cut() -> None:
    stream, _ = faulty_pair()
    await stream.cut()

    for verb in (stream.receive_some, stream.send_eof, stream.wait_send_all_might_not_block):
        with pytest.raises(trio.BrokenResourceError):
            await verb()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"")


async def test_a_cancelled_cut_has_cut_all_the_same() -> None:
    stream, far = faulty_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.cut()

    assert await far.receive_some() == b""


async def test_a_stream_closed_beneath_is_closed() -> None:
    left, _ = stream_pair()
    stream = FaultyStream(left)
    await left.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_a_sender_after_send_eof_is_told_closed() -> None:
    stream, _ = faulty_pair()
    await stream.send_eof()

    with pytest.raises(trio.ClosedResourceError, match="ended"):
        await stream.send_all(b"late")


async def test_send_eof_does_nothing_to_a_stream_that_cannot_half_close() -> None:
    left, far = stream_pair()
    stream = FaultyStream(Whole(left))

    await stream.send_eof()
    await left.send_all(b"open")

    assert await far.receive_some() == b"open"


async def test_a_connection_says_that_its_network_was_cut() -> None:
    wrap = partial(FaultyStream, cut_after=1000)

    async with trio_ws.testing.connection_pair(wrap=wrap) as (client, server):
        await client.send(bytes(2000))
        with pytest.raises(ConnectionClosedError):
            await server.receive()

    assert server.close_code == 1006


async def test_a_message_survives_a_network_of_small_slow_pieces(
    autojump_clock: MockClock,
) -> None:
    wrap = partial(FaultyStream, seed=7, delay=0.01, split=5)

    async with trio_ws.testing.connection_pair(wrap=wrap) as (client, server):
        await client.send("Olá, servidor!")

        assert await server.receive() == "Olá, servidor!"
