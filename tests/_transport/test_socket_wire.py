"""`SocketWire` reads, writes and ends a socket without a task of its own, as `TlsWire` does."""

import logging
import os
import socket
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import Tls
from tests._transport.socket_benches import (
    Benches,
    Owner,
    SpyWatcher,
    needs_watcher,
    read_to_end,
)
from trio_ws._protocol.messages import message_frame
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.poller import Poller
from trio_ws._transport.socket_wire import SocketWire, rest_of
from trio_ws._transport.tls_wire import TlsWire
from trio_ws._transport.watchers import READ, WRITE

pytestmark = [pytest.mark.network, needs_watcher]


@pytest.fixture(params=["plain", "tls"])
def benches(request: pytest.FixtureRequest, tls: Tls) -> Benches:
    """Give wires of both kinds: TLS changes nothing of what is tested here."""
    return Benches(tls if request.param == "tls" else None)


async def test_reading_hands_over_the_rest_of_the_head_first(benches: Benches) -> None:
    async with benches.open(rest=b"rest ") as bench:
        await bench.peer.send_all(b"more")
        await wait_all_tasks_blocked()

        assert bench.owner.data == b"rest more"


async def test_heard_is_the_time_of_the_last_byte(benches: Benches, mock_clock: MockClock) -> None:
    async with benches.open() as bench:
        mock_clock.jump(7)
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()
        mock_clock.jump(5)

        assert bench.wire.heard == 7


async def test_what_is_expected_is_read_at_once_and_not_a_byte_behind_it(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benches.open() as bench:
        asked: list[int] = []

        def read(fd: int, expected: int) -> memoryview:
            asked.append(expected)
            return memoryview(os.read(fd, 1000))

        monkeypatch.setattr(bench.poller, "read", read)
        bench.wire.expected = 200_000
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()
        bench.wire.expected = 0
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()

        # What TLS does not decrypt in one step it has to hold.
        most = 0 if isinstance(bench.wire, TlsWire) else 200_000
        assert asked == [most, 0]


async def test_the_end_of_the_stream_is_told_without_an_error(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.peer.send_all(b"last")
        await bench.raw.send_eof()
        await wait_all_tasks_blocked()

        assert bench.owner.data == b"last"
        assert bench.owner.ends == [None]
        assert bench.interest == 0
        assert not bench.wire.stopped


async def test_a_reset_is_told_with_its_error(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.write(b"unread")
        await wait_all_tasks_blocked()
        bench.reset()
        await wait_all_tasks_blocked()

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        assert isinstance(error.__cause__, ConnectionResetError)


async def test_reading_pauses_off_the_watch_and_goes_on_when_resumed(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False
        await bench.peer.send_all(b"one ")
        await wait_all_tasks_blocked()
        await bench.peer.send_all(b"two")
        await wait_all_tasks_blocked()
        before = (bench.owner.data, bench.wire.paused, bench.interest)

        bench.wire.resume()
        await wait_all_tasks_blocked()

        assert before == (b"one ", True, 0)
        assert bench.owner.data == b"one two"


async def test_the_rest_of_the_head_can_pause_reading(benches: Benches) -> None:
    async with benches.open(start=False) as bench:
        bench.owner.reads_on = False
        bench.wire.start(bench.nursery, b"rest")
        await bench.peer.send_all(b"more")
        await wait_all_tasks_blocked()

        assert bench.owner.data == b"rest"
        assert bench.interest == 0
        bench.wire.abort()


async def test_an_event_for_nothing_changes_nothing(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.wire.ready(READ | WRITE, 0)
        bench.wire.flush()

        assert bench.owner.data == b""
        assert bench.owner.ends == []
        assert bench.interest == READ


async def test_what_is_queued_in_one_tick_leaves_in_one_write(benches: Benches) -> None:
    async with benches.open() as bench:
        for data in (b"one ", b"two ", b"three"):
            bench.write(data)

        assert await bench.peer.receive_some() == b"one two three"
        assert bench.outgoing.size == 0


async def test_what_was_queued_before_the_start_is_written(benches: Benches) -> None:
    async with benches.open(start=False) as bench:
        bench.write(b"early")
        bench.wire.start(bench.nursery, b"")

        assert await bench.peer.receive_some() == b"early"
        bench.wire.abort()


async def test_what_was_withdrawn_before_the_write_is_not_written(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.outgoing.push_ping(b"ping")
        bench.wire.write_soon()
        bench.outgoing.withdraw_ping(b"ping")
        await wait_all_tasks_blocked()
        bench.write(b"next")

        assert await bench.peer.receive_some() == b"next"


async def test_writing_goes_on_when_a_full_socket_has_room(benches: Benches) -> None:
    async with benches.open() as bench:
        size = await bench.fill()
        bench.write(b"last")

        await bench.drain(size + 4)
        await wait_all_tasks_blocked()

        assert bench.interest == READ
        assert bench.outgoing.size == 0
        assert bench.owner.stuck == 0


async def test_writing_waits_for_a_socket_that_was_full_from_the_start() -> None:
    async with Benches(None).open() as bench:
        # More than fits; the system takes a part.
        size = os.write(bench.fd, bytes(8 * 1024 * 1024))
        bench.write(b"last")
        await wait_all_tasks_blocked()
        before = bench.interest

        await bench.drain(size + 4)
        await wait_all_tasks_blocked()

        assert before == READ | WRITE
        assert bench.outgoing.size == 0


async def test_many_small_writes_are_made_in_rounds(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        for _ in range(10):
            bench.write(bytes(10 * 1024) + bytes(54 * 1024))
        sizes: set[int] = set()
        bench.nursery.start_soon(bench.drain, 10 * 64 * 1024)
        while bench.outgoing.size:
            sizes.add(bench.outgoing.size)
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()

        assert len(sizes) > 1


async def test_a_peer_that_takes_nothing_is_stuck_after_the_write_timeout(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open() as bench:
        await bench.fill()

        mock_clock.jump(19.9)
        await wait_all_tasks_blocked()
        before = bench.owner.stuck
        mock_clock.jump(0.2)
        await wait_all_tasks_blocked()

        assert (before, bench.owner.stuck) == (0, 1)


async def test_a_peer_that_takes_some_bytes_in_time_is_not_stuck(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open() as bench:
        await bench.fill()

        for _ in range(10):
            mock_clock.jump(19)
            size = bench.outgoing.size
            while bench.outgoing.size == size:
                await bench.peer.receive_some(64 * 1024)
                await wait_all_tasks_blocked()

        assert bench.outgoing.size > 0
        assert bench.owner.stuck == 0


async def test_a_write_that_leaves_whole_is_progress_although_the_next_does_not(
    benches: Benches, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [True, False]

    def write(_: int, data: bytes) -> int:
        if not room.pop(0):
            raise BlockingIOError
        return len(data)

    async with benches.open() as bench:
        await bench.fill()
        bench.write(b"next")

        mock_clock.jump(19.9)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            patch.setattr(os, "writev", lambda fd, buffers: write(fd, b"".join(buffers)))
            bench.wire.flush()
        mock_clock.jump(0.2)
        await wait_all_tasks_blocked()
        bench.wire.abort()

    assert room == []
    assert bench.owner.stuck == 0


async def test_a_peer_may_take_its_time_without_a_write_timeout(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open(write_timeout=inf) as bench:
        await bench.fill()

        mock_clock.jump(100000)
        await wait_all_tasks_blocked()

        assert bench.owner.stuck == 0


async def test_a_line_that_breaks_in_a_write_is_read_to_its_end(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.peer.send_all(b"goodbye")
        bench.reset()

        bench.wire.write_soon()
        bench.outgoing.push(b"lost")
        bench.wire.write_soon()
        await wait_all_tasks_blocked()

        assert bench.owner.data == b"goodbye"
        assert len(bench.owner.ends) == 1
        assert bench.outgoing.empty


async def test_a_paused_line_ends_when_a_write_breaks(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()
        bench.reset()

        bench.write(b"lost")
        await wait_all_tasks_blocked()

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        assert isinstance(error.__cause__, BrokenPipeError)
        assert not bench.wire.paused


@pytest.mark.parametrize("rest", [b"", b"x"])
async def test_a_fault_of_the_owner_costs_this_connection_only(
    benches: Benches, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open(start=False) as bench:
        bench.owner.fault = KeyError("odd")
        bench.wire.start(bench.nursery, rest)
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()

        assert bench.owner.ends == [bench.owner.fault]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert caplog.records[0].exc_info
        assert bench.interest == 0
        bench.wire.abort()


async def test_a_fault_of_writing_costs_this_connection_only(
    benches: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open() as bench:
        bench.outgoing.fault = KeyError("odd")

        bench.write(b"lost")
        await wait_all_tasks_blocked()

        assert bench.owner.ends == [bench.outgoing.fault]
        assert "writing failed" in caplog.text
        assert "KeyError: 'odd'" in caplog.text


async def test_nothing_is_read_after_a_write_that_ends_reading() -> None:
    async with Benches(None).open() as bench:
        await bench.fill()
        # What is left of that write is gone, so that the queue is asked, which fails.
        bench.wire._unwritten = ()  # noqa: SLF001 - else the system would decide how much it takes
        bench.outgoing.fault = KeyError("odd")
        os.write(bench.raw.socket.fileno(), b"too late")

        bench.wire.ready(READ | WRITE, 0)

        assert bench.owner.ends == [bench.outgoing.fault]
        assert bench.owner.data == b""


async def test_a_server_writes_all_then_half_closes_and_waits_for_the_end(benches: Benches) -> None:
    async with benches.open() as bench:
        size = await bench.fill()

        bench.wire.begin_close(answered=True)
        data = await read_to_end(bench.peer)
        await wait_all_tasks_blocked()
        before = bench.wire.stopped
        await bench.peer.aclose()
        await bench.wire.wait_stopped()

        assert len(data) == size
        assert not before
        assert bench.owner.ends == [None]


async def test_a_client_waits_for_the_server_to_end_the_line(benches: Benches) -> None:
    async with benches.open(client=True) as bench:
        bench.wire.begin_close(answered=True)
        await wait_all_tasks_blocked()
        before = bench.wire.stopped

        await bench.raw.send_eof()
        await bench.wire.wait_stopped()

        assert not before
        assert await bench.peer.receive_some() == b""


async def test_a_close_is_over_after_the_close_timeout(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open() as bench:
        await bench.fill()
        bench.wire.begin_close(answered=False)
        await wait_all_tasks_blocked()
        before = bench.wire.stopped

        mock_clock.jump(5)
        await bench.wire.wait_stopped()

        assert not before
        assert bench.outgoing.size == 0


async def test_abort_cuts_the_line_before_it_returns(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.fill()

        bench.wire.abort()
        bench.wire.abort()

        assert bench.wire.stopped
        assert bench.here.fileno() == -1
        assert bench.outgoing.size == 0


async def test_a_close_that_has_nothing_to_wait_for_is_over_before_it_returns(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        bench.reset()
        await wait_all_tasks_blocked()

        bench.wire.begin_close(answered=False)

        assert bench.wire.stopped
        assert bench.here.fileno() == -1


async def test_a_server_whose_client_has_answered_cuts_the_line_once_all_is_written(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        bench.write(b"goodbye")

        bench.wire.begin_close(answered=True, linger=False)
        before = bench.wire.stopped
        data = await read_to_end(bench.peer)

        assert (before, bench.wire.stopped) == (False, True)
        assert data == b"goodbye"


async def test_a_server_half_closes_when_the_answer_arrives(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.wire.answer_arrived()
        bench.wire.begin_close(answered=False)
        bench.write(b"goodbye")
        await wait_all_tasks_blocked()

        bench.wire.answer_arrived(linger=True)

        assert not bench.wire.stopped
        assert await read_to_end(bench.peer) == b"goodbye"


async def test_a_line_is_half_closed_once(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    async with benches.open() as bench:
        monkeypatch.setattr(bench.here, "shutdown", calls.append)
        bench.wire.begin_close(answered=True)

        bench.wire.answer_arrived()

        assert calls == [trio.socket.SHUT_WR]
        assert not bench.wire.stopped


async def test_no_alarm_is_left_of_a_line(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.fill()
        bench.wire.begin_close(answered=False)
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().seconds_to_next_deadline

        bench.wire.abort()
        await wait_all_tasks_blocked()

        assert before < 6
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


async def test_a_socket_that_cannot_be_half_closed_is_cut(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(how: int) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    async with benches.open() as bench:
        monkeypatch.setattr(bench.here, "shutdown", fail)

        bench.wire.begin_close(answered=True)

        assert bench.wire.stopped


async def test_what_fails_when_a_line_is_cut_does_not_keep_the_socket(
    benches: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open() as bench:
        bench.owner.end_fault = KeyError("odd")

        bench.wire.abort()

        assert bench.wire.stopped
        assert bench.here.fileno() == -1
        assert "cutting a line failed" in caplog.text


@pytest.mark.parametrize("reads_on", [True, False])
async def test_what_was_read_may_have_the_line_cut(benches: Benches, reads_on: bool) -> None:
    async with benches.open() as bench:
        bench.owner.then = bench.wire.abort
        bench.owner.reads_on = reads_on

        await bench.peer.send_all(b"enough")
        await wait_all_tasks_blocked()

        assert bench.owner.data == b"enough"
        assert bench.owner.ends == [None]
        assert bench.wire.stopped
        assert bench.interest == 0


async def test_abort_cuts_a_stuck_and_paused_line_at_once(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.fill()
        bench.owner.reads_on = False
        await bench.peer.send_all(b"x")
        await wait_all_tasks_blocked()

        bench.wire.abort()
        await bench.wire.wait_stopped()

        assert bench.owner.ends == [None]
        assert not bench.wire.paused


async def test_a_socket_that_was_closed_before_the_start_ends_at_once(benches: Benches) -> None:
    async with trio.open_nursery() as nursery:
        bench = await benches.make(nursery)
        await bench.stream.aclose()
        late = bench.make_wire()
        late.start(nursery, b"rest")
        late.abort()
        await late.wait_stopped()
        await bench.peer.aclose()

    assert bench.owner.data == b""
    assert isinstance(bench.owner.ends[0], trio.ClosedResourceError)


async def test_a_socket_closed_by_somebody_else_is_noticed_in_a_write(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.here.close()

        bench.write(b"lost")
        await wait_all_tasks_blocked()

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        assert bench.outgoing.size == 0


async def test_a_socket_closed_by_somebody_else_is_noticed_in_a_read(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.here.close()

        bench.wire.ready(READ, 0)

        (error,) = bench.owner.ends
        assert isinstance(error, trio.ClosedResourceError)


async def test_another_socket_with_the_descriptor_never_gets_this_ones_bytes(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        other, others_peer = bench.hand_over_descriptor()
        with other, others_peer:
            others_peer.setblocking(False)
            others_peer.send(b"not ours")

            bench.write(b"lost")
            bench.wire.ready(READ, 0)
            await wait_all_tasks_blocked()

            with pytest.raises(BlockingIOError):
                others_peer.recv(10)
            assert other.recv(10) == b"not ours"
        assert bench.owner.data == b""


async def test_a_socket_whose_descriptor_another_wire_has_is_ended(benches: Benches) -> None:
    async with benches.open() as bench:
        other, others_peer = bench.hand_over_descriptor()
        bench.watcher.interests[bench.fd] = 0
        owner = Owner()
        wire = SocketWire(
            trio.SocketStream(trio.socket.from_stdlib_socket(other)),
            Outgoing(inf),
            owner,
            poller=bench.poller,
            client=False,
            write_timeout=20,
            close_timeout=5,
        )

        with others_peer:
            wire.start(bench.nursery, b"")
            others_peer.send(b"theirs")
            await wait_all_tasks_blocked()
        wire.abort()
        await wire.wait_stopped()

        assert isinstance(bench.owner.ends[0], trio.ClosedResourceError)
        assert (bench.owner.data, owner.data) == (b"", b"theirs")


async def test_an_event_without_data_changes_nothing(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.wire.ready(READ, 0)

        assert bench.owner.ends == []
        assert bench.interest == READ


async def test_a_wire_gets_another_poller_when_its_own_has_ended(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)
    async with benches.open(start=False) as bench:
        other = await benches.make(bench.nursery)
        bench.poller.add(1001, other.wire)
        bench.poller.remove(1001, other.wire)
        bench.wire.start(bench.nursery, b"")

        bench.write(b"written")
        data = await bench.peer.receive_some()
        bench.wire.abort()
        await bench.wire.wait_stopped()
        await other.stream.aclose()
        await other.peer.aclose()

    assert data == b"written"


async def test_a_wire_for_which_no_other_poller_can_be_had_ends(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "1")
    async with benches.open(start=False) as bench:
        other = await benches.make(bench.nursery)
        bench.poller.add(1001, other.wire)
        bench.poller.remove(1001, other.wire)

        bench.wire.start(bench.nursery, b"")

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        bench.wire.abort()
        await bench.wire.wait_stopped()
        await other.stream.aclose()
        await other.peer.aclose()


def refuse(_fd: int, interest: int, _before: int) -> None:
    if interest:
        raise OSError(28, "No space left on device")


async def test_a_socket_that_the_system_does_not_watch_ends_with_the_cause(
    benches: Benches, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open(start=False) as bench:
        monkeypatch.setattr(bench.poller, "watch", refuse)

        bench.wire.start(bench.nursery, b"")

        (error,) = bench.owner.ends
        assert isinstance(error, OSError)
        assert error.errno == 28
        assert len(caplog.records) == 1
        bench.wire.abort()
        await bench.wire.wait_stopped()


async def test_a_socket_that_cannot_be_watched_again_ends_and_blames_no_receiver(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False
        await bench.peer.send_all(b"data")
        await wait_all_tasks_blocked()
        monkeypatch.setattr(bench.poller, "watch", refuse)

        bench.wire.resume()

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        bench.wire.abort()
        await bench.wire.wait_stopped()


async def test_a_wire_serves_a_tcp_connection_on_the_loopback_interface(
    nursery: trio.Nursery,
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    peer = await trio.open_tcp_stream(*listener.socket.getsockname())
    owner, outgoing, poller = Owner(), Outgoing(inf), Poller(SpyWatcher())
    stream = await listener.accept()
    wire = SocketWire(
        stream, outgoing, owner, poller=poller, client=False, write_timeout=20, close_timeout=5
    )
    outgoing.push(b"hello")
    wire.start(nursery, b"")

    await peer.send_all(b"goodbye")
    await peer.send_eof()
    wire.begin_close(answered=False)
    data = await read_to_end(peer)
    await wire.wait_stopped()
    await peer.aclose()
    await listener.aclose()

    assert data == b"hello"
    assert (owner.data, owner.ends) == (b"goodbye", [None])


async def test_a_wire_tells_what_it_is(benches: Benches) -> None:
    async with benches.open() as bench:
        assert bench.wire.kind == "poller"
        bench.wire.abort()


async def test_large_payloads_arrive_whole_whatever_the_system_takes_at_a_time(
    benches: Benches,
) -> None:
    header, payload = b"h" * 10, os.urandom(3_000_000)
    async with benches.open() as bench:
        for _ in range(3):
            bench.outgoing.push((header, payload))
        bench.write(b"end")

        received = bytearray()
        while not received.endswith(b"end"):
            received += await bench.peer.receive_some()
        await wait_all_tasks_blocked()

        assert received == 3 * (header + payload) + b"end"
        assert bench.outgoing.size == 0
        assert bench.interest == READ
        bench.wire.abort()


@pytest.mark.parametrize(
    ("count", "left"), [(0, b"abcdef"), (2, b"cdef"), (3, b"def"), (4, b"ef"), (6, b"")]
)
def test_the_rest_of_a_write_begins_where_it_ended(count: int, left: bytes) -> None:
    rest = rest_of((b"abc", b"def"), count)

    assert b"".join(rest) == left
    assert all(rest)


async def test_a_write_forgets_the_message_that_was_sent_to_many(benches: Benches) -> None:
    message = bytes(1000)
    async with benches.open() as bench:
        frame = message_frame(message, masked=False)
        bench.outgoing.push(frame)
        bench.wire.write_soon()

        known = message_frame(message, masked=False)
        await wait_all_tasks_blocked()

        assert known is frame
        assert message_frame(message, masked=False) is not frame
