"""A link gives way to others while it works off what one read has brought, and loses nothing."""

import logging
from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto.events import CloseConnection

from tests._transport import links
from tests._transport.fakes import RawPeer
from tests._transport.links import drain, settle
from tests.fakes import raw_frame
from trio_ws._config import Limits
from trio_ws._protocol.engine import FRAMES
from trio_ws._transport.link import READ_AHEAD, Link
from trio_ws._transport.outgoing import Outgoing

CONT, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Make a frame as a client sends it."""
    return raw_frame(opcode, payload, masked=True, fin=fin)


PEERS_CLOSE = frame(CLOSE, (4000).to_bytes(2, "big") + b"bye")

FLOODS = {
    "pings": frame(PING) * (10 * FRAMES),
    "pongs": frame(PONG) * (10 * FRAMES),
    "fragments": frame(TEXT, fin=False) + frame(CONT, b"a", fin=False) * (10 * FRAMES),
    "messages behind a full inbox": frame(TEXT, b"a") * (10 * FRAMES),
}


@pytest.fixture(params=FLOODS)
def flood(request: pytest.FixtureRequest) -> bytes:
    """Give frames that take more than ten steps, without an end."""
    return FLOODS[request.param]


def open_link(nursery: trio.Nursery, *, inbox_messages: float = 1) -> tuple[Link, RawPeer]:
    """Start a server's link with room for all that a test sends; return it and the peer."""
    limits = Limits(inbox_messages=inbox_messages, max_fragments=inf)
    return links.open_link(nursery, limits=limits, capacity=2**20)


class Spending(trio.abc.Instrument):
    """Notes how many bytes each step of any task parses.

    Args:
        link: For which link.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._left = link.engine.buffered
        self.steps: list[int] = []
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, _: trio.lowlevel.Task) -> None:
        left = self._link.engine.buffered
        if left != self._left:
            self.steps.append(self._left - left)
        self._left = left


@pytest.mark.parametrize("kind", ["pings", "pongs", "fragments"])
async def test_others_have_their_turn_between_any_two_steps(
    kind: str, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)

    link.receive_bytes(FLOODS[kind])
    first = len(FLOODS[kind]) - link.engine.buffered
    spending = Spending(link)
    await wait_all_tasks_blocked()

    assert link.engine.buffered == 0
    assert max(first, *spending.steps) <= FRAMES * 7
    assert len(spending.steps) >= 9
    await settle(link, nursery)


async def test_pings_of_many_steps_are_answered_in_their_order(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery)
    payloads = [number.to_bytes(2, "big") for number in range(3 * FRAMES)]

    await peer.stream.send_all(b"".join(frame(PING, payload) for payload in payloads))
    await wait_all_tasks_blocked()
    await peer.stream.send_all(PEERS_CLOSE)

    answers = [bytes(getattr(event, "payload", b"")) for event in await peer.read_all()]
    # The latest ping of some that wait together is answered, and stands for the others.
    assert [payload for payload in payloads if payload in answers] == answers[:-1]
    assert answers[-2] == payloads[-1]
    await settle(link, nursery)


@pytest.mark.parametrize("error", [None, trio.BrokenResourceError("reset")])
async def test_close_behind_a_flood_is_seen_although_the_line_ends_before(
    error: Exception | None, flood: bytes, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(flood + PEERS_CLOSE)

    link.line_ended(error)
    before = link.closure
    await link.wait_over()

    assert before is None
    assert link.closure is not None
    assert (link.closure.reason.code, link.closure.reason.reason) == (4000, "bye")
    assert link.closure.by == "remote"
    await drain(link)
    await settle(link, nursery)


async def test_every_message_before_a_close_is_received_when_the_line_ends_during_a_flood(
    nursery: trio.Nursery,
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes((frame(TEXT, b"a") + frame(PING)) * (2 * FRAMES) + PEERS_CLOSE)

    link.line_ended(None)

    assert await drain(link) == ["a"] * (2 * FRAMES)
    await settle(link, nursery)


async def test_line_that_ends_during_a_flood_is_lost_as_ever(
    flood: bytes, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(flood)

    link.line_ended(trio.BrokenResourceError("reset"))
    await link.wait_over()
    await drain(link)

    assert link.closure is not None
    assert link.closure.reason.code == 1006
    assert link.closure.detail == "peer lost the connection: reset"
    assert link.engine.buffered == 0
    await settle(link, nursery)


@pytest.mark.parametrize("message", [b"", frame(TEXT, b"a")])
async def test_fault_behind_a_flood_is_found_although_the_line_ends_before(
    message: bytes, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(frame(PING) * (2 * FRAMES) + message + frame(3))

    link.line_ended(None)

    assert await drain(link) == ["a"] * bool(message)
    assert link.closure is not None
    assert link.closure.reason.code == 1002
    await settle(link, nursery)


async def test_line_that_ends_is_lost_at_once_where_every_control_frame_was_seen(
    nursery: trio.Nursery,
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(frame(TEXT, b"a") * FRAMES)

    link.line_ended(None)

    assert link.over
    assert await drain(link) == ["a"] * FRAMES
    await settle(link, nursery)


async def test_application_that_closes_after_the_line_has_ended_during_a_flood_does_not_wait(
    flood: bytes, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(flood)
    link.line_ended(None)

    link.close(1000, None, "test", own=True)
    await link.wait_over()
    await wait_all_tasks_blocked()

    assert link.closure is not None
    assert link.closure.own
    await settle(link, nursery)


async def test_pings_found_after_the_line_was_given_up_are_not_answered(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery)
    link.receive_bytes(FLOODS["pings"])
    late: list[bytes] = []
    monkeypatch.setattr(Outgoing, "push_pong", lambda _, pong: late.append(pong))

    link.line_stuck()
    await link.wire.wait_stopped()
    await wait_all_tasks_blocked()

    assert link.engine.buffered == 0
    assert late == []
    await peer.stream.aclose()
    await settle(link, nursery)


async def test_line_that_fails_with_the_turn_that_was_asked_for_is_lost_at_once(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    def fail() -> None:
        raise MemoryError("no room")

    link, _ = open_link(nursery)
    with monkeypatch.context() as patch:
        patch.setattr("trio_ws._transport.link.current_alarms", fail)
        with pytest.raises(MemoryError) as caught:
            link.receive_bytes(FLOODS["pings"])

    link.line_ended(caught.value)

    assert link.over
    assert link.closure is not None
    assert link.closure.detail == "peer lost the connection: no room"
    await settle(link, nursery)


async def test_fault_of_ours_behind_the_end_of_the_line_costs_this_connection_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)
    link.receive_bytes(FLOODS["pings"])
    link.line_ended(None)

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("trio_ws._protocol.engine.Engine._next_event", fail)
    with caplog.at_level(logging.ERROR):
        await link.wait_over()

    assert link.closure is not None
    assert link.closure.detail == "peer lost the connection: no room"
    assert await drain(link) == []
    await settle(link, nursery)


async def test_whoever_receives_in_a_loop_begins_no_step(nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)
    data = (frame(TEXT, b"a") + frame(PING) * (FRAMES // 4)) * 40
    link.receive_bytes(data)
    spending = Spending(link)

    received = [await link.inbox.receive() for _ in range(40)]

    assert received == ["a"] * 40
    assert max(spending.steps) <= FRAMES * 7
    await settle(link, nursery)


async def test_reading_pauses_while_a_flood_is_worked_off_and_then_goes_on(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, inbox_messages=inf)
    data = frame(PONG) * (2 * READ_AHEAD // 6)

    await peer.stream.send_all(data)
    while not link.engine.stalled:
        await trio.lowlevel.checkpoint()
    paused = link.paused
    await wait_all_tasks_blocked()
    await peer.stream.send_all(frame(TEXT, b"a"))

    assert paused
    assert await link.inbox.receive() == "a"
    assert link.bytes_received == len(data) + 7
    await settle(link, nursery)


async def test_answer_to_this_sides_close_is_found_behind_a_flood(
    flood: bytes, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery)
    link.receive_bytes(flood)
    link.close(1000, None, "test", own=True)

    await peer.send(CloseConnection(1000))
    await link.wait_over()

    assert link.closure is not None
    assert link.closure.own
    await settle(link, nursery)
