"""`StreamWire` reads, writes and ends a stream, whatever the stream and the peer do."""

import logging
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import Failing, Plain, Tls, cancel_when_blocked
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.wire import StreamWire, WireOwner, half_close, write_all
from trio_ws.testing import MemoryStream, stream_pair


class Owner(WireOwner):
    """A connection that writes down what its wire tells it."""

    def __init__(self) -> None:
        self.data = b""
        self.reads_on = True
        self.ends: list[BaseException | None] = []
        self.stuck = False

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        self.data += data
        return self.reads_on

    def line_ended(self, error: BaseException | None) -> None:
        self.ends.append(error)

    def line_stuck(self) -> None:
        self.stuck = True


class Confused(Owner):
    """A connection with a fault."""

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        raise KeyError(data)


class Bench:
    """A wire with all that belongs to it.

    Args:
        stream: What the wire gets.
        client: Whether it is a client's wire.
        owner: Its owner.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, client: bool = False, owner: Owner | None = None
    ) -> None:
        self.owner = owner or Owner()
        self.outgoing = Outgoing(inf)
        self.wire = StreamWire(
            stream, self.outgoing, self.owner, client=client, write_timeout=20, close_timeout=5
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


async def test_reading_hands_over_the_rest_of_the_head_first(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery, rest=b"rest ")

    await peer.send_all(b"more")
    await wait_all_tasks_blocked()

    assert bench.owner.data == b"rest more"
    nursery.cancel_scope.cancel()


async def test_heard_is_the_time_of_the_last_byte(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    await trio.sleep(7)

    await peer.send_all(b"x")
    await trio.sleep(5)

    assert bench.wire.heard == 7
    nursery.cancel_scope.cancel()


async def test_reading_pauses_when_the_owner_says_so(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)
    bench.owner.reads_on = False

    await peer.send_all(b"one ")
    await wait_all_tasks_blocked()
    await peer.send_all(b"two")
    await wait_all_tasks_blocked()

    assert bench.wire.paused
    assert bench.owner.data == b"one "
    nursery.cancel_scope.cancel()


async def test_reading_goes_on_when_it_is_resumed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    bench.owner.reads_on = False
    await peer.send_all(b"one ")
    await trio.sleep(3)

    bench.wire.resume()
    await peer.send_all(b"two")
    heard = bench.wire.heard
    await wait_all_tasks_blocked()

    assert heard == 3
    assert bench.owner.data == b"one two"
    nursery.cancel_scope.cancel()


async def test_resume_changes_nothing_when_reading_is_not_paused(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, _ = open_bench(nursery)
    await trio.sleep(3)

    bench.wire.resume()

    assert bench.wire.heard == 0
    nursery.cancel_scope.cancel()


async def test_the_end_of_the_stream_is_told_without_an_error(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)

    await peer.send_all(b"last")
    await peer.send_eof()
    await wait_all_tasks_blocked()

    assert bench.owner.data == b"last"
    assert bench.owner.ends == [None]
    assert not bench.wire.stopped
    bench.wire.abort()


async def test_a_broken_line_is_told_with_its_error(nursery: trio.Nursery) -> None:
    bench, stream, peer = open_failing(nursery)
    error = trio.BrokenResourceError("reset")
    await wait_all_tasks_blocked()

    stream.errors["receive_some"] = error
    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    assert bench.owner.ends == [error]
    bench.wire.abort()


async def test_an_odd_error_of_reading_costs_this_connection_only(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench, stream, peer = open_failing(nursery)
    error = KeyError("odd")
    await wait_all_tasks_blocked()

    stream.errors["receive_some"] = error
    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    assert bench.owner.ends == [error]
    assert "reading failed" in caplog.text
    bench.wire.abort()


async def test_a_fault_of_the_owner_costs_this_connection_only(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    stream, peer = stream_pair()
    bench = Bench(stream, owner=Confused())
    bench.wire.start(nursery, b"")

    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    assert isinstance(bench.owner.ends[0], KeyError)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    bench.wire.abort()


async def test_what_is_queued_in_one_tick_leaves_in_one_write(nursery: trio.Nursery) -> None:
    inner, _ = stream_pair()
    stream = Plain(inner)
    bench = Bench(stream)
    bench.wire.start(nursery, b"")

    for data in (b"one ", b"two ", b"three"):
        bench.write(data)
    await wait_all_tasks_blocked()

    assert stream.writes == [b"one two three"]
    assert bench.outgoing.size == 0
    nursery.cancel_scope.cancel()


async def test_what_was_queued_before_the_start_is_written(nursery: trio.Nursery) -> None:
    stream, peer = stream_pair()
    bench = Bench(stream)
    bench.write(b"early")

    bench.wire.start(nursery, b"")

    assert await peer.receive_some() == b"early"
    nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_is_stuck_after_the_write_timeout(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, _ = open_bench(nursery, capacity=1)
    bench.write(b"two")

    await trio.sleep(19.9)
    before = bench.owner.stuck
    await trio.sleep(0.2)

    assert (before, bench.owner.stuck) == (False, True)
    bench.wire.abort()


async def test_a_peer_that_takes_some_bytes_in_time_is_not_stuck(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery, capacity=16 * 1024)
    bench.write(bytes(160 * 1024))

    for _ in range(10):
        await trio.sleep(19)
        await peer.receive_some(16 * 1024)
    await wait_all_tasks_blocked()

    assert not bench.owner.stuck
    assert bench.outgoing.size == 0
    nursery.cancel_scope.cancel()


async def test_a_line_that_breaks_in_a_write_is_read_to_its_end(nursery: trio.Nursery) -> None:
    bench, stream, peer = open_failing(nursery)
    error = stream.errors["send_all"] = trio.BrokenResourceError("reset")

    bench.write(b"lost")
    await wait_all_tasks_blocked()
    await peer.send_all(b"goodbye")
    await peer.send_eof()
    await wait_all_tasks_blocked()

    assert bench.owner.data == b"goodbye"
    assert bench.owner.ends == [error]
    assert bench.outgoing.empty
    bench.wire.abort()


async def test_a_paused_line_ends_when_a_write_breaks(nursery: trio.Nursery) -> None:
    bench, stream, peer = open_failing(nursery)
    error = stream.errors["send_all"] = trio.BrokenResourceError("reset")
    bench.owner.reads_on = False
    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    bench.write(b"lost")
    await wait_all_tasks_blocked()

    assert bench.owner.ends == [error]
    assert not bench.wire.paused
    bench.wire.abort()


async def test_an_odd_error_of_writing_costs_this_connection_only(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench, stream, _ = open_failing(nursery)
    error = stream.errors["send_all"] = KeyError("odd")

    bench.write(b"lost")
    await wait_all_tasks_blocked()

    assert bench.owner.ends == [error]
    assert "writing failed" in caplog.text
    bench.wire.abort()


async def test_a_server_writes_all_then_half_closes_and_waits_for_the_end(
    nursery: trio.Nursery,
) -> None:
    bench, peer = open_bench(nursery)
    bench.write(b"goodbye")

    bench.wire.begin_close(answered=True)
    data = await peer.receive_some() + await peer.receive_some()
    await wait_all_tasks_blocked()
    before = bench.wire.stopped
    await peer.aclose()
    await bench.wire.wait_stopped()

    assert data == b"goodbye"
    assert not before
    assert bench.owner.ends == [None]


async def test_a_line_stops_whether_nobody_waits_for_it_or_several_do(
    nursery: trio.Nursery,
) -> None:
    lonely, _ = open_bench(nursery)
    awaited, _ = open_bench(nursery)

    lonely.wire.abort()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(awaited.wire.wait_stopped)
        waiting.start_soon(awaited.wire.wait_stopped)
        await wait_all_tasks_blocked()
        awaited.wire.abort()
    await wait_all_tasks_blocked()
    await awaited.wire.wait_stopped()

    assert lonely.wire.stopped
    assert awaited.wire.stopped


async def test_a_client_waits_for_the_server_to_end_the_line(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery, client=True)
    bench.wire.begin_close(answered=True)
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await peer.receive_some()

    await peer.send_eof()
    await bench.wire.wait_stopped()

    assert scope.cancelled_caught
    assert await peer.receive_some() == b""


async def test_a_client_half_closes_first_when_it_is_told_to(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery, client=True)

    bench.wire.begin_close(answered=True, half_close_first=True)

    assert await peer.receive_some() == b""
    await peer.aclose()
    await bench.wire.wait_stopped()


async def test_a_close_waits_for_the_answer(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)
    bench.wire.begin_close(answered=False)
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await peer.receive_some()

    bench.wire.answer_arrived()

    assert scope.cancelled_caught
    assert await peer.receive_some() == b""
    bench.wire.abort()


async def test_an_answer_before_the_close_changes_nothing(nursery: trio.Nursery) -> None:
    bench, _ = open_bench(nursery)

    bench.wire.answer_arrived()
    await wait_all_tasks_blocked()

    assert not bench.wire.stopped
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("answered", [True, False])
async def test_a_close_is_over_after_the_close_timeout(
    client: bool, answered: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery, client=client)

    bench.wire.begin_close(answered=answered)

    assert await stopped_after(bench) == 5
    with pytest.raises(trio.BrokenResourceError):
        await peer.send_all(b"x")


async def test_a_close_does_not_wait_longer_for_a_peer_that_takes_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, _ = open_bench(nursery, capacity=1)
    bench.write(b"stuck")
    await trio.sleep(1)

    bench.wire.begin_close(answered=True)

    assert await stopped_after(bench) == 5
    assert bench.outgoing.size == 0


async def test_a_second_close_does_not_prolong_the_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, _ = open_bench(nursery)
    bench.wire.begin_close(answered=False)
    await trio.sleep(3)

    bench.wire.begin_close(answered=False)

    assert await stopped_after(bench) == 2


async def test_a_close_after_the_peers_end_needs_no_answer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    await peer.send_eof()
    await wait_all_tasks_blocked()

    bench.wire.begin_close(answered=False)

    assert await stopped_after(bench) == 0


async def test_a_peer_that_ends_the_line_while_its_answer_is_awaited_has_answered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    bench.wire.begin_close(answered=False)
    await wait_all_tasks_blocked()

    await peer.send_eof()

    assert await stopped_after(bench) == 0


async def test_abort_cuts_a_stuck_line_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery, capacity=1)
    bench.write(b"stuck")
    await wait_all_tasks_blocked()

    bench.wire.abort()

    assert await stopped_after(bench) == 0
    assert await peer.receive_some() == b"s"
    assert await peer.receive_some() == b""


async def test_abort_cuts_short_a_close(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    bench, _ = open_bench(nursery)
    bench.wire.begin_close(answered=False)
    await trio.sleep(1)

    bench.wire.abort()

    assert await stopped_after(bench) == 0


async def test_abort_ends_a_paused_line(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)
    bench.owner.reads_on = False
    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    bench.wire.abort()
    await bench.wire.wait_stopped()

    assert not bench.wire.paused


async def test_a_wire_that_was_not_started_cannot_be_closed() -> None:
    stream, peer = stream_pair()
    bench = Bench(stream)

    bench.wire.begin_close(answered=True)
    bench.wire.abort()

    await peer.send_all(b"still open")
    assert not bench.wire.stopped


async def test_a_stream_that_cannot_half_close_is_cut(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    inner, peer = stream_pair()
    bench = Bench(Plain(inner))
    bench.wire.start(nursery, b"")
    bench.write(b"goodbye")

    bench.wire.begin_close(answered=True)

    assert await stopped_after(bench) == 0
    assert await peer.receive_some() == b"goodbye"


async def test_a_stream_that_fails_to_close_is_over_all_the_same(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench, stream, _ = open_failing(nursery)
    stream.errors["aclose"] = KeyError("odd")

    bench.wire.abort()
    await bench.wire.wait_stopped()

    assert "closing the stream failed" in caplog.text


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), OSError("not connected")])
async def test_half_close_tells_that_the_line_is_broken(error: Exception) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors["send_eof"] = error

    assert not await half_close(stream)


async def test_an_odd_error_of_half_closing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    stream.errors["send_eof"] = KeyError("odd")

    assert not await half_close(stream)
    assert "half-closing the stream failed" in caplog.text


async def test_half_close_ends_the_stream_beneath_tls(tls: Tls) -> None:
    inner, peer = stream_pair()
    stream = trio.SSLStream(inner, tls.client, server_hostname="localhost")

    assert await half_close(stream)
    assert await peer.receive_some() == b""


async def test_write_all_reports_what_has_left_in_slices() -> None:
    stream, _ = stream_pair()
    counts: list[int] = []

    await write_all(stream, bytes(40 * 1024), 1, counts.append)

    assert counts == [16 * 1024, 16 * 1024, 8 * 1024]


@pytest.mark.network
async def test_write_all_writes_to_a_socket_as_it_takes_bytes(nursery: trio.Nursery) -> None:
    here, there = trio.socket.socketpair()
    stream, peer = trio.SocketStream(here), trio.SocketStream(there)
    counts: list[int] = []
    data = bytes(range(256)) * 16 * 1024
    nursery.start_soon(write_all, stream, data, 60, counts.append)

    received = bytearray()
    while len(received) < len(data):
        received += await peer.receive_some()

    assert received == data
    assert sum(counts) == len(data)
    await stream.aclose()
    await peer.aclose()


@pytest.mark.network
async def test_write_all_finds_a_closed_socket_broken() -> None:
    here, there = trio.socket.socketpair()
    there.close()

    async with trio.SocketStream(here) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await write_all(stream, bytes(1024), 60)

    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.network
async def test_write_all_gives_up_a_socket_that_takes_nothing(autojump_clock: MockClock) -> None:
    here, there = trio.socket.socketpair()
    with there:
        async with trio.SocketStream(here) as stream:
            with pytest.raises(trio.TooSlowError):
                await write_all(stream, bytes(16 * 1024 * 1024), 20)

    assert trio.current_time() == 20


@pytest.mark.network
async def test_a_wire_closes_a_socket_in_order(nursery: trio.Nursery) -> None:
    here, there = trio.socket.socketpair()
    bench = Bench(trio.SocketStream(here))
    bench.wire.start(nursery, b"")
    bench.write(b"goodbye")

    bench.wire.begin_close(answered=True)
    async with trio.SocketStream(there) as peer:
        data = await peer.receive_some()
        end = await peer.receive_some()
    await bench.wire.wait_stopped()

    assert (data, end) == (b"goodbye", b"")
