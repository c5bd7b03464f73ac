"""Invariant 3: every buffer has a bound in messages and in bytes, and a policy when it is full."""

import contextlib
import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.invariants.peers import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    MemoryListener,
    Peer,
    flood,
    frame,
    header,
    held,
    hold,
    serving,
    serving_tcp,
    until,
)
from trio_ws._transport import poller, stream_wire
from trio_ws._transport.link import READ_AHEAD
from trio_ws.testing import stream_pair


# W
async def test_hazard_one_read_of_many_messages_does_not_pass_the_limit_of_the_inbox(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, limits=trio_ws.Limits(inbox_messages=16)) as served:
        peer = await served.peer()

        await peer.send_bytes(frame(TEXT) * 10_922)
        await wait_all_tasks_blocked()

        assert connections[0].statistics().inbox_messages == 16


@pytest.mark.parametrize("data", [frame(TEXT, b"x" * 1000), frame(BINARY), frame(TEXT, b"x" * 99)])
async def test_what_is_read_ahead_of_the_application_is_bounded(
    data: bytes, autojump_clock: MockClock
) -> None:
    handler, connections = held()
    limits = trio_ws.Limits(inbox_messages=100, inbox_bytes=10_000)
    async with serving(handler, limits=limits) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        # More than the inbox, what is read ahead, and the line can hold together.
        nursery.start_soon(peer.send_bytes, data * (500_000 // len(data)))
        await wait_all_tasks_blocked()

        statistics = connections[0].statistics()
        assert statistics.reading_paused
        assert statistics.inbox_messages <= 100
        assert statistics.inbox_bytes <= 10_000 + 1000
        assert connections[0]._link.engine.buffered <= READ_AHEAD + stream_wire.READ_SIZE  # noqa: SLF001
        nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_sender_feels_back_pressure_when_the_application_does_not_read() -> None:
    handler, connections = held()
    async with serving_tcp(handler) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(flood, peer, frame(BINARY, b"x" * 10_000) * 10)
        await until(lambda: connections[0].statistics().reading_paused)

        statistics = connections[0].statistics()
        assert statistics.inbox_bytes <= 1024 * 1024 + 10_000
        # What is no message yet: all that may lie there before a last read, and that read.
        read_ahead = READ_AHEAD + max(poller.READ_SIZE, stream_wire.READ_SIZE)
        assert statistics.bytes_received <= 1024 * 1024 + 10_000 + read_ahead
        await peer.reset()


async def _close_code(data: bytes, limits: trio_ws.Limits = trio_ws.Limits()) -> int:  # noqa: B008
    """Send a server some bytes; return the code it closes with."""
    async with serving(hold, limits=limits) as served, trio.open_nursery() as nursery:
        peer = await served.peer()
        nursery.start_soon(_send, peer, data)
        return await peer.receive_close()


async def _send(peer: Peer, data: bytes) -> None:
    try:
        await peer.send_bytes(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


# T, A
async def test_hazard_empty_continuation_frames_without_end_are_refused(
    autojump_clock: MockClock,
) -> None:
    flood = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 2000

    assert await _close_code(flood) == 1009


# T, A
async def test_hazard_fragments_of_two_bytes_without_end_are_refused(
    autojump_clock: MockClock,
) -> None:
    flood = frame(TEXT, b"ab", fin=False) + frame(CONTINUATION, b"cd", fin=False) * 2000

    assert await _close_code(flood) == 1009


# T
async def test_hazard_limit_of_a_text_counts_its_bytes_and_not_its_characters(
    autojump_clock: MockClock,
) -> None:
    limits = trio_ws.Limits(max_message=1000)

    assert await _close_code(frame(TEXT, "🐍".encode() * 251), limits) == 1009


async def test_limit_of_a_message_counts_all_its_fragments(autojump_clock: MockClock) -> None:
    limits = trio_ws.Limits(max_message=1000)
    data = frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 401)

    assert await _close_code(data, limits) == 1009


# A
@pytest.mark.parametrize("length", [2**20 + 1, 2**32, 2**62, 2**63 - 1])
async def test_hazard_huge_declared_length_is_refused_before_any_payload(
    length: int, autojump_clock: MockClock
) -> None:
    assert await _close_code(header(BINARY, length)) == 1009


# A
@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 0xFFFF, 5])
async def test_hazard_length_with_the_top_bit_or_not_in_its_shortest_form_is_refused(
    length: int, autojump_clock: MockClock
) -> None:
    assert await _close_code(header(BINARY, length)) == 1002


# A
async def test_hazard_compressed_frame_without_negotiation_is_refused(
    autojump_clock: MockClock,
) -> None:
    assert await _close_code(frame(TEXT, b"x", reserved=0b100)) == 1002


async def test_send_nowait_refuses_what_would_pass_the_high_water_mark(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    limits = trio_ws.Limits(outgoing_bytes=5000)
    async with serving(handler, listener=MemoryListener(100), limits=limits) as served:
        await served.peer()

        with contextlib.suppress(trio.WouldBlock):
            while True:
                connections[0].send_nowait(b"x" * 1000)

        assert connections[0].statistics().outgoing_bytes <= 5000 + 1004


async def test_senders_that_wait_pass_the_high_water_mark_one_at_a_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler, connections = held()
    most = 0
    limits = trio_ws.Limits(outgoing_bytes=5000)
    async with serving(handler, listener=MemoryListener(100), limits=limits) as served:
        peer = await served.peer()
        for _ in range(50):
            nursery.start_soon(connections[0].send, b"x" * 1000)
        for _ in range(50):
            await peer.receive()
            most = max(most, connections[0].statistics().outgoing_bytes)

    assert most <= 5000 + 1004


async def test_pongs_for_a_peer_that_does_not_read_are_bounded(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(100)) as served:
        peer = await served.peer()

        for _ in range(1000):
            await peer.send(PING, b"x" * 100)

        assert connections[0].statistics().outgoing_bytes <= 2 * 16 * 102


async def test_newest_pong_is_kept_when_there_are_too_many(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler, listener=MemoryListener(4000)) as served:
        peer = await served.peer()
        await peer.send_bytes(b"".join(frame(PING, b"%d" % n) for n in range(300)))
        await wait_all_tasks_blocked()

        pongs = [await peer.receive()]
        while pongs[-1] != (PONG, b"299"):
            pongs.append(await peer.receive())
        assert len(pongs) < 300


async def test_pings_on_their_way_are_bounded(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        await served.peer()
        for _ in range(1000):
            nursery.start_soon(connections[0].ping)
        await wait_all_tasks_blocked()

        assert connections[0].statistics().pings_pending == 16
        nursery.cancel_scope.cancel()


async def test_unwanted_pongs_are_not_kept(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler) as served:
        peer = await served.peer()

        await peer.send_bytes(frame(PONG, b"unasked") * 1000)
        await wait_all_tasks_blocked()

        assert connections[0].statistics().pings_pending == 0
        assert connections[0].close_code is None


def _long_target() -> bytes:
    return b"GET /" + b"x" * 20_000


def _long_field() -> bytes:
    return b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000


def _many_fields() -> bytes:
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000 + b"\r\n"


# A
@pytest.mark.parametrize(
    ("make", "status"), [(_long_target, b"414"), (_long_field, b"431"), (_many_fields, b"431")]
)
async def test_hazard_head_without_end_is_refused_at_its_limit(
    make: Callable[[], bytes], status: bytes, autojump_clock: MockClock
) -> None:
    async with serving(hold) as served:
        peer = Peer(await served.open())

        await peer.send_bytes(make())

        assert (await peer.read_head()).startswith(b"HTTP/1.1 " + status)


async def _answer_without_end(stream: trio.abc.Stream, begin: bytes, more: bytes) -> None:
    peer = Peer(stream, masked=False)
    await peer.read_head()
    await peer.send_bytes(begin)
    await flood(peer, more)


# T
async def test_hazard_body_of_a_rejection_without_end_does_not_fill_the_clients_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair()
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999999\r\n\r\n"
    nursery.start_soon(_answer_without_end, theirs, head, b"x" * 6000)

    with pytest.raises(trio_ws.HandshakeRejected) as caught:
        async with trio_ws.connect("ws://localhost/", stream=mine):
            pass

    assert len(caught.value.response.body) == 64 * 1024


@pytest.mark.parametrize(
    "more", [b"X: y\r\n", b"x" * 1000, b"\r\nHTTP/1.1 103 Early Hints\r\n"], ids=len
)
async def test_head_of_an_answer_without_end_is_refused_by_the_client(
    more: bytes, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair()
    begin = b"HTTP/1.1 103 Early Hints\r\n"
    nursery.start_soon(_answer_without_end, theirs, begin, more)

    with pytest.raises(trio_ws.HandshakeError):
        async with trio_ws.connect("ws://localhost/", stream=mine):
            pass

    assert trio.current_time() < trio_ws.Limits().open_timeout


async def test_connection_that_is_one_too_many_is_answered_503(autojump_clock: MockClock) -> None:
    async with serving(hold, limits=trio_ws.Limits(max_connections=2)) as served:
        for _ in range(2):
            await served.peer()

        head = await Peer(await served.open()).read_head()

        assert head.startswith(b"HTTP/1.1 503 ")
        assert served.server.statistics().streams == 2


async def test_answers_of_503_under_way_are_bounded(autojump_clock: MockClock) -> None:
    async with serving(hold, limits=trio_ws.Limits(max_connections=1)) as served:
        await served.peer()
        before = trio.lowlevel.current_statistics().tasks_living

        for _ in range(500):
            await served.open()
        await wait_all_tasks_blocked()

        assert trio.lowlevel.current_statistics().tasks_living <= before + 64


async def test_infinite_limits_are_no_limits(autojump_clock: MockClock) -> None:
    limits = trio_ws.Limits(inbox_messages=math.inf, inbox_bytes=math.inf)
    handler, connections = held()
    async with serving(handler, limits=limits) as served:
        peer = await served.peer()

        await peer.send_bytes(frame(TEXT) * 20_000)
        await wait_all_tasks_blocked()

        assert connections[0].statistics().inbox_messages == 20_000
