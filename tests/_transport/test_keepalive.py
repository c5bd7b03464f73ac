"""`keep_alive` probes a silent peer, gives up a dead one, and blames no healthy one."""

from math import inf

import pytest
import trio
from trio.testing import MockClock

from trio_ws._config import Keepalive
from trio_ws._transport.keepalive import Probed, keep_alive


class Peer(Probed):
    """A peer that says when it was heard, probed and given up.

    Args:
        answers_after: Seconds after which it answers a probe.
    """

    def __init__(self, answers_after: float = inf) -> None:
        self._answers_after = answers_after
        self._heard = trio.current_time()
        self._resumed: trio.Event | None = None
        self.probes: list[float] = []
        self.silence: float | None = None

    @property
    def heard(self) -> float:
        answer = self.probes[-1] + self._answers_after if self.probes else 0
        return max(self._heard, answer if answer <= trio.current_time() else 0)

    @property
    def paused(self) -> bool:
        return self._resumed is not None

    async def wait_resumed(self) -> None:
        assert self._resumed is not None
        await self._resumed.wait()

    def probe(self) -> None:
        self.probes.append(trio.current_time())

    def give_up(self, silence: float) -> None:
        self.silence = silence

    def speak(self) -> None:
        self._heard = trio.current_time()

    def pause(self) -> None:
        self._resumed = trio.Event()

    def resume(self) -> None:
        assert self._resumed is not None
        self._resumed.set()
        self._resumed = None
        self.speak()


async def watch(peer: Peer, seconds: float, *, interval: float = 20, patience: float = 5) -> None:
    """Watch a peer for so long."""
    with trio.move_on_after(seconds):
        await keep_alive(peer, Keepalive(interval=interval, timeout=patience))


async def test_a_silent_peer_is_probed_after_the_interval(autojump_clock: MockClock) -> None:
    peer = Peer()

    await watch(peer, 24)

    assert peer.probes == [20]
    assert peer.silence is None


async def test_a_silent_peer_is_given_up_after_interval_and_timeout(
    autojump_clock: MockClock,
) -> None:
    peer = Peer()

    await keep_alive(peer, Keepalive(interval=20, timeout=5))

    assert trio.current_time() == 25
    assert peer.silence == 25


async def test_a_peer_that_answers_is_probed_again_and_never_given_up(
    autojump_clock: MockClock,
) -> None:
    peer = Peer(answers_after=4.5)

    await watch(peer, 24 * 3600)

    assert peer.silence is None
    assert peer.probes[:3] == [20, 44.5, 69]


async def test_a_peer_that_speaks_is_not_probed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    peer = Peer()
    nursery.start_soon(watch, peer, 100)

    for _ in range(10):
        await trio.sleep(10)
        peer.speak()

    assert peer.probes == []


async def test_the_interval_counts_from_the_last_byte(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    peer = Peer()
    nursery.start_soon(watch, peer, 32)

    await trio.sleep(11)
    peer.speak()
    await trio.sleep(21)

    assert peer.probes == [31]


async def test_a_peer_is_not_probed_while_reading_is_paused(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    peer = Peer()
    peer.pause()
    nursery.start_soon(watch, peer, 121)

    await trio.sleep(100)
    peer.resume()
    await trio.sleep(21)

    assert peer.probes == [120]


async def test_a_peer_is_not_given_up_for_a_pause_after_the_probe(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    peer = Peer()
    nursery.start_soon(watch, peer, 124)
    await trio.sleep(21)

    peer.pause()
    await trio.sleep(79)
    peer.resume()
    await trio.sleep(24)

    assert peer.probes == [20, 120]
    assert peer.silence is None


async def test_a_peer_that_falls_silent_after_a_pause_is_given_up(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    peer = Peer()
    peer.pause()
    nursery.start_soon(watch, peer, inf)

    await trio.sleep(100)
    peer.resume()
    await trio.sleep(26)

    assert peer.silence == 25


async def test_a_peer_is_never_given_up_without_a_timeout(autojump_clock: MockClock) -> None:
    peer = Peer()

    await watch(peer, 101, patience=inf)

    assert peer.probes == [20, 40, 60, 80, 100]
    assert peer.silence is None


@pytest.mark.parametrize("patience", [20, 1000])
async def test_the_timeout_may_be_as_long_as_the_interval_or_longer(
    patience: float, autojump_clock: MockClock
) -> None:
    peer = Peer()

    await watch(peer, inf, patience=patience)

    assert peer.probes == [20]
    assert peer.silence == 20 + patience
