"""`Pings` measures round trips, and keeps nothing of pings that are over."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_ws._transport.pings import Pings


class Pinger:
    """What the owner of `Pings` does, written down."""

    def __init__(self) -> None:
        self.pings = Pings()
        self.sent: list[bytes] = []
        self.withdrawn: list[bytes] = []
        self.round_trips: dict[bytes | None, float | None] = {}

    async def ping(self, payload: bytes | None = None) -> None:
        self.round_trips[payload] = await self.pings.round_trip(
            payload, self.sent.append, self.withdrawn.append
        )


async def test_round_trip_is_the_seconds_until_the_pong(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pinger = Pinger()
    nursery.start_soon(pinger.ping, b"hello")

    await trio.sleep(1.5)
    pinger.pings.pong(b"hello")
    await wait_all_tasks_blocked()

    assert pinger.sent == [b"hello"]
    assert pinger.round_trips == {b"hello": 1.5}


async def test_a_ping_without_a_payload_carries_four_random_bytes(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    for _ in range(2):
        nursery.start_soon(pinger.ping)
    await wait_all_tasks_blocked()

    assert [len(payload) for payload in pinger.sent] == [4, 4]
    assert pinger.sent[0] != pinger.sent[1]
    pinger.pings.end()


@pytest.mark.parametrize("payload", [None, b"", bytes(125)])
async def test_payloads_of_up_to_125_bytes_are_fine(payload: bytes | None) -> None:
    Pings().check(payload)


async def test_a_payload_of_126_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
        await Pinger().ping(bytes(126))


async def test_a_payload_that_is_on_its_way_is_refused(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    nursery.start_soon(pinger.ping, b"twice")
    await wait_all_tasks_blocked()

    with pytest.raises(ValueError, match="already on its way"):
        await pinger.ping(b"twice")
    assert len(pinger.pings) == 1
    pinger.pings.end()


async def test_a_pong_answers_earlier_pings_and_no_later_ones(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    for payload in (b"1", b"2", b"3"):
        nursery.start_soon(pinger.ping, payload)
        await wait_all_tasks_blocked()

    pinger.pings.pong(b"2")
    await wait_all_tasks_blocked()

    assert set(pinger.round_trips) == {b"1", b"2"}
    assert len(pinger.pings) == 1
    pinger.pings.end()


async def test_a_pong_that_nobody_waits_for_is_ignored(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    nursery.start_soon(pinger.ping, b"mine")
    await wait_all_tasks_blocked()

    pinger.pings.pong(b"unsolicited")
    await wait_all_tasks_blocked()

    assert len(pinger.pings) == 1
    pinger.pings.end()


async def test_the_seventeenth_ping_waits_for_a_place(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    for number in range(17):
        nursery.start_soon(pinger.ping, bytes([number]))
        await wait_all_tasks_blocked()
    before = len(pinger.sent)

    pinger.pings.pong(bytes([0]))
    await wait_all_tasks_blocked()

    assert (before, len(pinger.sent)) == (16, 17)
    pinger.pings.end()


async def test_a_cancelled_ping_is_withdrawn_and_leaves_nothing() -> None:
    pinger = Pinger()

    for _ in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pinger.ping)
                await wait_all_tasks_blocked()
                scope.cancel()

    assert len(pinger.pings) == 0
    assert len(pinger.sent) == 20
    assert pinger.withdrawn == pinger.sent


async def test_a_ping_cancelled_before_it_has_a_place_sends_nothing() -> None:
    pinger = Pinger()

    with trio.CancelScope() as scope:
        scope.cancel()
        await pinger.ping()

    assert scope.cancelled_caught
    assert pinger.sent == []


async def test_a_ping_cancelled_after_its_pong_has_its_round_trip(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    async with trio.open_nursery() as inner:
        inner.start_soon(pinger.ping, b"hello")
        await wait_all_tasks_blocked()
        pinger.pings.pong(b"hello")
        inner.cancel_scope.cancel()

    assert b"hello" in pinger.round_trips
    assert pinger.withdrawn == []


async def test_a_ping_that_cannot_be_sent_leaves_nothing() -> None:
    pings = Pings()

    def fail(payload: bytes) -> None:
        raise trio.ClosedResourceError

    for _ in range(20):
        with pytest.raises(trio.ClosedResourceError):
            await pings.round_trip(None, fail, fail)
    assert len(pings) == 0


async def test_the_end_wakes_every_ping_without_a_round_trip(nursery: trio.Nursery) -> None:
    pinger = Pinger()
    nursery.start_soon(pinger.ping, b"1")
    nursery.start_soon(pinger.ping, b"2")
    await wait_all_tasks_blocked()

    pinger.pings.end()
    await wait_all_tasks_blocked()

    assert pinger.round_trips == {b"1": None, b"2": None}
    assert pinger.withdrawn == []
    assert len(pinger.pings) == 0
