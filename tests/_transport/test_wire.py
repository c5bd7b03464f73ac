"""A `Wire` ends its line in order, and within its deadline, whatever the stream and the peer do."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import Plain, cancel_when_blocked
from tests._transport.wires import Bench, open_bench, open_failing, stopped_after
from trio_ws.testing import stream_pair


async def test_what_was_queued_before_the_start_is_written(nursery: trio.Nursery) -> None:
    stream, peer = stream_pair()
    bench = Bench(stream)
    bench.write(b"early")

    bench.wire.start(nursery, b"")

    assert await peer.receive_some() == b"early"
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
    await lonely.wire.wait_stopped()

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


async def test_abort_cuts_short_a_close(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    bench, _ = open_bench(nursery)
    bench.wire.begin_close(answered=False)
    await trio.sleep(1)

    bench.wire.abort()

    assert await stopped_after(bench) == 0


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
