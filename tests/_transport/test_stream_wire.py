"""`StreamWire` reads and writes with tasks, whatever the stream and the peer do."""

import logging
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import Plain
from tests._transport.wires import Bench, Owner, open_bench, open_failing, stopped_after
from trio_ws._protocol.messages import message_frame
from trio_ws.testing import stream_pair


class Confused(Owner):
    """A connection with a fault."""

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> bool:
        raise KeyError(data)


async def test_reading_hands_over_the_rest_of_the_head_first(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery, rest=b"rest ")

    await peer.send_all(b"more")
    await wait_all_tasks_blocked()

    assert bench.owner.data == b"rest more"
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


async def test_abort_ends_a_paused_line(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)
    bench.owner.reads_on = False
    await peer.send_all(b"x")
    await wait_all_tasks_blocked()

    bench.wire.abort()
    await bench.wire.wait_stopped()

    assert not bench.wire.paused


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


@pytest.mark.network
async def test_a_socket_that_is_cut_has_stopped_when_its_tasks_have_ended(
    nursery: trio.Nursery,
) -> None:
    here, there = trio.socket.socketpair()
    bench = Bench(trio.SocketStream(here))
    stopped: list[bool] = []
    bench.owner.at_the_end = lambda: stopped.append(bench.wire.stopped)
    bench.wire.start(nursery, b"")
    bench.write(bytes(8 * 1024 * 1024))
    await wait_all_tasks_blocked()

    bench.wire.abort()
    await bench.wire.wait_stopped()
    there.close()

    assert stopped == [False]


async def test_what_waited_for_a_write_is_forgotten_by_the_next(nursery: trio.Nursery) -> None:
    bench, far = open_bench(nursery, capacity=16)
    message = bytes(1000)
    bench.write(bytes(100))
    await wait_all_tasks_blocked()
    bench.outgoing.push(frame := message_frame(message, masked=False))

    read = b""
    while len(read) < 100 + len(frame):
        read += await far.receive_some()
    await wait_all_tasks_blocked()

    assert message_frame(message, masked=False) is not frame
    bench.wire.abort()


async def test_a_write_forgets_the_message_that_was_sent_to_many(nursery: trio.Nursery) -> None:
    message = bytes(1000)
    bench, _, _ = open_failing(nursery)
    frame = message_frame(message, masked=False)

    assert isinstance(frame, bytes)
    bench.write(frame)
    known = message_frame(message, masked=False)
    await wait_all_tasks_blocked()

    assert known is frame
    assert message_frame(message, masked=False) is not frame
    bench.wire.abort()


async def test_one_task_does_all_writes_of_a_busy_line(nursery: trio.Nursery) -> None:
    bench, peer = open_bench(nursery)
    data: list[bytes | bytearray] = []
    tasks: list[frozenset[trio.lowlevel.Task]] = []

    for each in (b"one", b"two", b"three"):
        bench.write(each)
        data.append(await peer.receive_some())
        tasks.append(frozenset(nursery.child_tasks))

    assert data == [b"one", b"two", b"three"]
    assert len(tasks[0]) == 2
    assert tasks[0] == tasks[1] == tasks[2]
    nursery.cancel_scope.cancel()


async def test_a_writer_ends_when_it_had_nothing_to_do_for_ten_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    counts: list[int] = []
    bench.write(b"one")
    await trio.sleep(7)
    bench.write(b"two")

    for seconds in (9.9, 0.2, 0):
        await trio.sleep(seconds)
        counts.append(len(nursery.child_tasks))
    bench.write(b" three")
    await trio.sleep(1)

    assert counts == [2, 1, 1]
    assert await peer.receive_some() == b"onetwo three"
    nursery.cancel_scope.cancel()


async def test_what_is_written_as_a_writer_ends_is_written_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, peer = open_bench(nursery)
    bench.write(b"one ")
    await trio.sleep(9.9)
    autojump_clock.jump(0.1)

    bench.wire.due()
    bench.write(b"two ")
    bench.wire.write_soon()
    await wait_all_tasks_blocked()
    bench.write(b"three")
    await wait_all_tasks_blocked()

    assert await peer.receive_some() == b"one two three"
    assert len(nursery.child_tasks) == 2
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("write_timeout", "after"), [(3, 3), (10, 10), (25, 25)])
async def test_a_peer_is_stuck_after_any_write_timeout(
    write_timeout: float, after: float, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream, _ = stream_pair(1)
    bench = Bench(stream, write_timeout=write_timeout)
    bench.wire.start(nursery, b"")
    bench.write(b"two")

    await trio.sleep(after - 0.1)
    before = bench.owner.stuck
    await trio.sleep(0.2)

    assert (before, bench.owner.stuck) == (False, True)
    bench.wire.abort()


async def test_a_peer_may_take_its_time_without_a_write_timeout(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream, peer = stream_pair(1)
    bench = Bench(stream, write_timeout=inf)
    bench.wire.start(nursery, b"")
    bench.write(b"two")

    await trio.sleep(10_000)

    assert not bench.owner.stuck
    assert await peer.receive_some() == b"t"
    bench.wire.abort()


async def test_nothing_is_left_of_a_line_that_is_cut_while_its_writer_is_idle(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, _ = open_bench(nursery)
    bench.write(b"one")
    await wait_all_tasks_blocked()
    before = len(nursery.child_tasks)

    bench.wire.abort()
    await bench.wire.wait_stopped()
    await wait_all_tasks_blocked()

    assert before == 2
    assert not nursery.child_tasks
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


async def test_nothing_is_left_of_a_line_that_is_cut_before_its_writer_began(
    nursery: trio.Nursery,
) -> None:
    bench, _ = open_bench(nursery)
    bench.write(b"one")

    bench.wire.abort()
    await bench.wire.wait_stopped()
    await wait_all_tasks_blocked()

    assert not nursery.child_tasks
    assert bench.outgoing.size == 0


class Last(Plain):
    """A stream whose closing makes somebody write to it.

    Args:
        stream: What it passes everything on to.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.bench = Bench(self)

    async def aclose(self) -> None:
        self.bench.write(b"too late")
        await super().aclose()


async def test_a_write_while_an_idle_writer_is_cancelled_harms_nobody(
    nursery: trio.Nursery,
) -> None:
    inner, peer = stream_pair()
    stream = Last(inner)
    stream.bench.wire.start(nursery, b"")
    stream.bench.write(b"one")
    await wait_all_tasks_blocked()

    stream.bench.wire.abort()
    await stream.bench.wire.wait_stopped()

    assert await peer.receive_some() == b"one"
    assert await peer.receive_some() == b""


async def test_nobody_looks_at_the_writing_any_more_when_it_has_broken(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench, stream, _ = open_failing(nursery)
    stream.errors["send_all"] = trio.BrokenResourceError("reset")
    bench.write(b"lost")

    await trio.sleep(11)

    assert not bench.owner.stuck
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf
    bench.wire.abort()
