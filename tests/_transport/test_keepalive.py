"""`Watch` probes a silent peer, gives up a dead one, and blames no healthy one."""

from math import inf

import pytest
import trio
from trio.testing import MockClock

from trio_ws._config import Keepalive
from trio_ws._transport.keepalive import Probed, Watch


class Peer(Probed):
    """A peer that says when it was heard, probed and given up.

    Args:
        answers_after: Seconds after which it answers a probe.
    """

    def __init__(self, answers_after: float = inf) -> None:
        self._answers_after = answers_after
        self._heard = trio.current_time()
        self._paused = False
        self.probes: list[float] = []
        self.silence: float | None = None

    @property
    def heard(self) -> float:
        answer = self.probes[-1] + self._answers_after if self.probes else 0
        return max(self._heard, answer if answer <= trio.current_time() else 0)

    @property
    def paused(self) -> bool:
        return self._paused

    def probe(self) -> None:
        self.probes.append(trio.current_time())

    def give_up(self, silence: float) -> None:
        assert self.silence is None
        self.silence = silence

    def speak(self) -> None:
        self._heard = trio.current_time()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.speak()


def start(peer: Peer, *, interval: float = 20, patience: float = 5) -> Watch:
    """Begin to watch a peer."""
    watch = Watch(peer, Keepalive(interval=interval, timeout=patience))
    watch.start()
    return watch


async def test_a_silent_peer_is_probed_after_the_interval(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)

    await trio.sleep(24)

    assert peer.probes == [20]
    assert peer.silence is None


async def test_a_silent_peer_is_given_up_after_interval_and_timeout(
    autojump_clock: MockClock,
) -> None:
    peer = Peer()
    start(peer)

    await trio.sleep(24.9)
    before = peer.silence
    await trio.sleep(0.2)

    assert before is None
    assert peer.silence == 25


async def test_a_peer_that_was_given_up_is_left_alone(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)

    await trio.sleep(1000)

    assert peer.probes == [20]
    assert peer.silence == 25


async def test_a_peer_that_answers_is_probed_again_and_never_given_up(
    autojump_clock: MockClock,
) -> None:
    peer = Peer(answers_after=4.5)
    start(peer)

    await trio.sleep(24 * 3600)

    assert peer.silence is None
    assert peer.probes[:3] == [20, 44.5, 69]


async def test_a_peer_that_speaks_is_not_probed(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)

    for _ in range(10):
        await trio.sleep(10)
        peer.speak()

    assert peer.probes == []


async def test_the_interval_counts_from_the_last_byte(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)

    await trio.sleep(11)
    peer.speak()
    await trio.sleep(21)

    assert peer.probes == [31]


async def test_any_byte_answers_a_probe(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)

    await trio.sleep(24)
    peer.speak()
    await trio.sleep(21)

    assert peer.probes == [20, 44]
    assert peer.silence is None


async def test_a_peer_is_probed_and_never_given_up_while_reading_is_paused(
    autojump_clock: MockClock,
) -> None:
    peer = Peer()
    start(peer)
    peer.pause()

    await trio.sleep(90)

    assert peer.probes == [20, 40, 60, 80]
    assert peer.silence is None


async def test_the_interval_begins_anew_when_reading_goes_on(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)
    peer.pause()

    await trio.sleep(90)
    peer.resume()
    await trio.sleep(21)

    assert peer.probes == [20, 40, 60, 80, 110]


async def test_a_short_pause_puts_the_probe_off(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer)
    await trio.sleep(5)

    peer.pause()
    await trio.sleep(5)
    peer.resume()
    await trio.sleep(21)

    assert peer.probes == [30]


async def test_a_peer_is_not_given_up_for_a_pause_after_the_probe(
    autojump_clock: MockClock,
) -> None:
    peer = Peer()
    start(peer)
    await trio.sleep(21)

    peer.pause()
    await trio.sleep(79)
    peer.resume()
    await trio.sleep(24)

    assert peer.probes == [20, 25, 45, 65, 85, 120]
    assert peer.silence is None


async def test_a_peer_that_falls_silent_after_a_pause_is_given_up(
    autojump_clock: MockClock,
) -> None:
    peer = Peer()
    start(peer)
    peer.pause()

    await trio.sleep(100)
    peer.resume()
    await trio.sleep(26)

    assert peer.silence == 25


async def test_a_peer_is_never_given_up_without_a_timeout(autojump_clock: MockClock) -> None:
    peer = Peer()
    start(peer, patience=inf)

    await trio.sleep(101)

    assert peer.probes == [20, 40, 60, 80, 100]
    assert peer.silence is None


@pytest.mark.parametrize("patience", [20, 1000])
async def test_the_timeout_may_be_as_long_as_the_interval_or_longer(
    patience: float, autojump_clock: MockClock
) -> None:
    peer = Peer()
    start(peer, patience=patience)

    await trio.sleep(2000)

    assert peer.probes == [20]
    assert peer.silence == 20 + patience


@pytest.mark.parametrize("moment", [10, 22])
async def test_a_watch_that_was_ended_lets_go(moment: float, autojump_clock: MockClock) -> None:
    peer = Peer()
    watch = start(peer)
    await trio.sleep(moment)
    before = len(peer.probes)

    watch.end()
    await trio.sleep(1000)

    assert len(peer.probes) == before
    assert peer.silence is None


async def test_a_watch_can_be_ended_in_a_pause_and_twice(autojump_clock: MockClock) -> None:
    peer = Peer()
    watch = start(peer)
    peer.pause()
    await trio.sleep(25)

    watch.end()
    watch.end()
    await trio.sleep(100)

    assert peer.probes == [20]
