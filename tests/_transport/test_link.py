"""`Link` answers control frames, fills the inbox and ends a connection in every way there is."""

from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

from tests._transport.fakes import (
    NO_KEEPALIVE,
    EngineType,
    Failing,
    RawPeer,
    Steps,
    cancel_when_blocked,
)
from tests._transport.links import drain, open_link, settle
from tests.fakes import raw_frame
from trio_ws._config import Keepalive, Limits
from trio_ws._errors import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from trio_ws._protocol.engine import Engine
from trio_ws._transport.link import READ_AHEAD, Link
from trio_ws._transport.poller import current_poller
from trio_ws._transport.socket_wire import SocketWire
from trio_ws._types import Sendable
from trio_ws.testing import stream_pair

FINE = raw_frame(1, b"fine", masked=True)
FAULT = raw_frame(3, masked=True)


def said(events: list[Event]) -> list[object]:
    """Return what events carry: messages, the payloads of pongs, and the code of a Close."""
    return [
        int(event.code)
        if isinstance(event, CloseConnection)
        else getattr(event, "payload", getattr(event, "data", None))
        for event in events
    ]


@pytest.mark.parametrize("client", [True, False])
async def test_messages_arrive_in_the_inbox(
    client: bool, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, client=client)

    await peer.send(TextMessage("olá"), BytesMessage(b"bytes"))

    assert await link.inbox.receive() == "olá"
    assert await link.inbox.receive() == b"bytes"
    assert (link.received, link.bytes_received) == (2, 13 if client else 21)
    await settle(link, nursery)


async def test_the_head_is_written_first_and_the_rest_read_first(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    rest = raw_frame(1, b"early", masked=True)
    link, peer = open_link(nursery, engine_type, head=b"head ", rest=rest)

    assert await peer.stream.receive_some() == b"head "
    assert await link.inbox.receive() == "early"
    await settle(link, nursery)


@pytest.mark.parametrize(
    ("rest", "event"),
    [
        (raw_frame(9, b"early", masked=True), Pong(b"early")),
        (raw_frame(3, masked=True), CloseConnection(1002, "opcode 0x3 is reserved")),
        (raw_frame(8, masked=True), CloseConnection(1005, "")),
    ],
)
async def test_nothing_comes_before_the_head(
    rest: bytes, event: Event, nursery: trio.Nursery
) -> None:
    # Whether reading or writing begins is chance.
    for _ in range(10):
        link, peer = open_link(nursery, head=b"head", rest=rest)

        assert await peer.stream.receive_some(4) == b"head"
        assert await peer.read() == [event]
        await settle(link, nursery)


async def test_a_ping_is_answered_with_its_payload(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)

    await peer.send(Ping(b"hello"))

    assert await peer.read() == [Pong(b"hello")]
    await settle(link, nursery)


async def test_a_ping_overtakes_the_messages_that_wait(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, capacity=1024)
    link.push_message(bytes(4096))
    await wait_all_tasks_blocked()
    link.push_message("waits")
    await peer.send(Ping(b"now"))
    await wait_all_tasks_blocked()

    events: list[Event] = []
    while len(events) < 3:
        events += await peer.read()

    assert [type(event) for event in events] == [BytesMessage, Pong, TextMessage]
    await settle(link, nursery)


async def test_a_ping_after_this_sides_close_is_not_answered(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    link.close(1000, None, "test")

    await peer.send(Ping(b"late"), TextMessage("still received"))

    assert await link.inbox.receive() == "still received"
    assert await peer.read() == [CloseConnection(1000, "")]
    await settle(link, nursery)


async def test_a_ping_measures_the_round_trip(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    nursery.start_soon(_answer_ping_after, peer, 0.5)

    assert await link.ping(b"hello") == 0.5
    await settle(link, nursery)


async def _answer_ping_after(peer: RawPeer, seconds: float) -> None:
    (ping,) = await peer.read()
    assert isinstance(ping, Ping)
    await trio.sleep(seconds)
    await peer.send(Pong(bytes(ping.payload)))


async def test_a_pong_that_nobody_asked_for_is_ignored(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)

    await peer.send(Pong(b"unsolicited"), TextMessage("next"))

    assert await link.inbox.receive() == "next"
    await settle(link, nursery)


async def test_a_ping_raises_when_the_connection_ends(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    nursery.start_soon(_close_after_reading, peer)

    with pytest.raises(ConnectionClosedOK):
        await link.ping(None)
    assert link.pings is not None
    assert len(link.pings) == 0
    await settle(link, nursery)


async def _close_after_reading(peer: RawPeer) -> None:
    await peer.read()
    await peer.send(CloseConnection(1000))


async def test_a_ping_that_waited_for_a_place_raises_when_the_connection_ends(
    nursery: trio.Nursery,
) -> None:
    link, _ = open_link(nursery)
    errors: list[ConnectionClosed] = []

    async def ping() -> None:
        try:
            await link.ping(None)
        except ConnectionClosed as error:
            errors.append(error)

    for _ in range(17):
        nursery.start_soon(ping)
    await wait_all_tasks_blocked()
    await settle_after_loss(link, nursery)

    assert len(errors) == 17


async def settle_after_loss(link: Link, nursery: trio.Nursery) -> None:
    link.line_ended(trio.BrokenResourceError("lost"))
    await settle(link, nursery)


async def test_a_cancelled_ping_that_was_not_written_is_never_written(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, capacity=1024)
    link.push_message(bytes(2048))
    await wait_all_tasks_blocked()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await link.ping(b"taken back")

    events: list[Event] = []
    link.close(1000, None, "test")
    while not any(isinstance(event, CloseConnection) for event in events):
        events += await peer.read()
    assert not any(isinstance(event, Ping) for event in events)
    await settle(link, nursery)


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (4999, "olá"), (1005, "")])
async def test_the_peers_close_is_answered_with_its_code(
    code: int, reason: str, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)

    await peer.send(CloseConnection(code, reason or None))

    assert await peer.read() == [CloseConnection(code, "")]
    assert link.closure is not None
    assert (link.closure.by, int(link.closure.reason.code)) == ("remote", code)
    assert str(link.closure.reason) == reason
    # trio-websocket's word for no reason is None.
    assert link.closure.reason.reason == (reason or None)
    assert link.over
    await settle(link, nursery)


async def test_what_was_sent_before_the_peers_close_is_written_before_the_answer(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, capacity=1024)
    link.push_message("x" * 4096)
    link.push_message("last")
    await wait_all_tasks_blocked()

    await peer.send(CloseConnection(1000))
    await wait_all_tasks_blocked()

    texts = [event for event in await peer.read_all() if isinstance(event, TextMessage)]
    assert texts[-1].data == "last"
    await settle(link, nursery)


async def test_messages_before_the_peers_close_can_be_received_after_it(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.send(TextMessage("1"), TextMessage("2"), CloseConnection(1000))
    await link.wait_over()

    assert await drain(link) == ["1", "2"]
    await settle(link, nursery)


async def test_this_sides_close_is_over_when_the_peer_answers(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    link.close(4000, "enough", "this side closed")

    (close,) = await peer.read()
    before = link.over
    await peer.send(CloseConnection(4000))
    await link.wait_over()

    assert close == CloseConnection(4000, "enough")
    assert not before
    assert link.closure is not None
    assert (link.closure.by, str(link.closure.reason)) == ("local", "enough")
    await settle(link, nursery)


async def test_a_second_close_says_nothing(engine_type: EngineType, nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery, engine_type)
    link.close(1000, None, "first")

    link.close(1011, "second", "second")

    assert await peer.read() == [CloseConnection(1000, "")]
    assert link.closure is not None
    assert link.closure.detail == "first"
    await settle(link, nursery)


async def test_messages_after_this_sides_close_are_received_until_the_answer(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    link.close(1001, None, "going away")

    await peer.send(TextMessage("still"), CloseConnection(1001))
    await link.wait_over()

    assert await drain(link) == ["still"]
    await settle(link, nursery)


async def test_a_close_by_the_application_throws_away_what_waits(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.send(TextMessage("unread"))
    await wait_all_tasks_blocked()

    link.close(1000, None, "test", own=True)
    await peer.send(TextMessage("later"))
    await wait_all_tasks_blocked()

    with pytest.raises(trio.ClosedResourceError, match="this side has closed"):
        await link.inbox.receive()
    await settle(link, nursery)


async def test_a_fault_is_answered_behind_the_messages_that_wait(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, capacity=1024)
    link.push_message(bytes(4096))
    await wait_all_tasks_blocked()
    link.push_message("not dropped")

    await peer.send_frame(3)
    await wait_all_tasks_blocked()

    assert said(await peer.read_all()) == [bytes(4096), "not dropped", 1002]
    await settle(link, nursery)


async def test_a_fault_is_this_sides_close_and_the_peers_mistake(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.send_frame(3)
    await link.wait_over()
    # Nothing came before it that it could wait for.
    assert trio.current_time() == 0

    with pytest.raises(ConnectionClosedError, match="peer broke the protocol") as caught:
        await link.inbox.receive()
    assert caught.value.code == 1002
    assert link.closure is not None
    assert link.closure.by == "local"
    await settle(link, nursery)


async def test_messages_before_a_fault_can_be_received_and_answered(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()

    assert await link.inbox.receive() == "fine"
    link.push_message("answer")

    assert await drain(link) == []
    assert said(await peer.read_all()) == ["answer", 1002]
    assert link.closure is not None
    assert link.closure.by == "local"
    await settle(link, nursery)
    # No alarm is left.
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


async def test_a_fault_waits_for_the_answer_to_the_message_just_received(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE)
    assert await link.inbox.receive() == "fine"

    await peer.stream.send_all(FAULT)
    await wait_all_tasks_blocked()
    link.push_message("answer")

    assert await drain(link) == []
    assert said(await peer.read_all()) == ["answer", 1002]
    await settle(link, nursery)


async def test_a_fault_takes_effect_at_once_while_the_next_message_is_waited_for(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE)
    nursery.start_soon(drain, link)
    await wait_all_tasks_blocked()

    await peer.stream.send_all(FAULT)
    await link.wait_over()

    assert trio.current_time() == 0
    assert said(await peer.read_all()) == [1002]
    await settle(link, nursery)


async def test_a_fault_does_not_wait_for_an_application_that_was_cancelled(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()

    with trio.CancelScope() as scope:
        scope.cancel()
        await link.inbox.receive()
    still_open = link.closure is None
    await link.wait_over()

    assert still_open
    assert trio.current_time() == 5
    assert said(await peer.read_all()) == [1002]
    await settle(link, nursery)


async def test_a_fault_waits_no_longer_than_the_close_timeout(
    engine_type: EngineType, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, limits=Limits(close_timeout=3))
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()

    mock_clock.jump(2.9)
    await wait_all_tasks_blocked()
    still_open = link.closure is None
    mock_clock.jump(0.1)
    await wait_all_tasks_blocked()

    assert still_open
    assert said(await peer.read_all()) == [1002]
    assert await drain(link) == ["fine"]
    await settle(link, nursery)


async def test_a_fault_that_waits_comes_before_a_close_of_the_application(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()

    link.push_message("last")
    link.close(1000, None, "test", own=True)

    assert said(await peer.read_all()) == ["last", 1002]
    assert await drain(link) == []
    assert isinstance(link.error(), ConnectionClosedError)
    await settle(link, nursery)


async def test_a_fault_that_waits_is_not_forgotten_when_the_line_ends(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()

    await peer.stream.send_eof()
    await link.wait_over()

    assert said(await peer.read_all()) == [1002]
    assert await drain(link) == ["fine"]
    assert link.closure is not None
    assert int(link.closure.reason.code) == 1002
    await settle(link, nursery)


async def test_a_fault_that_waits_is_dropped_when_the_peer_is(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limits = Limits(write_timeout=2, close_timeout=3)
    link, peer = open_link(nursery, engine_type, limits=limits, capacity=len(FINE + FAULT))
    await peer.stream.send_all(FINE + FAULT)
    await wait_all_tasks_blocked()
    link.push_message(bytes(4096))

    await link.wait_over()
    await trio.sleep(2)

    assert await drain(link) == ["fine"]
    assert link.closure is not None
    assert int(link.closure.reason.code) == 1006
    await settle(link, nursery)


async def test_what_follows_a_fault_that_waits_is_ignored(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    ping = raw_frame(9, b"1", masked=True)
    await peer.stream.send_all(FINE + ping + FAULT + FINE + raw_frame(9, b"2", masked=True))
    await wait_all_tasks_blocked()
    await peer.send(TextMessage("more"), CloseConnection(1000))

    assert await drain(link) == ["fine"]
    assert said(await peer.read_all()) == [b"1", 1002]
    assert link.received == 1
    await settle(link, nursery)


async def test_what_follows_a_fault_is_counted_and_ignored(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    await peer.send_frame(3)
    await link.wait_over()
    before = link.bytes_received

    await peer.send_frame(1, b"more")
    await wait_all_tasks_blocked()

    assert link.bytes_received == before + 10
    assert link.received == 0
    await settle(link, nursery)


async def test_a_fault_after_this_sides_close_ends_the_wait_for_the_answer(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)
    link.close(1000, None, "test")

    await peer.send_frame(3)
    await link.wait_over()
    events = await peer.read_all()

    assert events == [CloseConnection(1000, "")]
    assert link.closure is not None
    assert link.closure.detail == "test"
    await settle(link, nursery)


@pytest.mark.parametrize(("size", "code"), [(10, 1000), (11, 1009)])
async def test_a_message_above_the_limit_is_a_fault(
    size: int, code: int, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, limits=Limits(max_message=10))

    await peer.send(BytesMessage(bytes(size)), CloseConnection(1000))
    await link.wait_over()

    assert link.closure is not None
    assert int(link.closure.reason.code) == code
    await settle(link, nursery)


@pytest.mark.parametrize(("frames", "code"), [(3, 1000), (4, 1009)])
async def test_a_message_in_more_fragments_than_the_limit_is_a_fault(
    frames: int, code: int, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, limits=Limits(max_fragments=3))
    parts = [raw_frame(2 if n == 0 else 0, masked=True, fin=n == frames - 1) for n in range(frames)]

    await peer.stream.send_all(b"".join(parts))
    await peer.send(CloseConnection(1000))
    await link.wait_over()

    assert link.closure is not None
    assert int(link.closure.reason.code) == code
    await settle(link, nursery)


async def test_an_end_without_a_close_is_1006(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)

    await peer.stream.aclose()

    with pytest.raises(ConnectionClosedError, match="without a Close frame") as caught:
        await link.inbox.receive()
    assert caught.value.code == 1006
    assert link.closure is not None
    assert link.closure.by is None
    await settle(link, nursery)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (caused(trio.BrokenResourceError(), OSError("reset")), "lost the connection: reset"),
        (trio.BrokenResourceError("cut"), "lost the connection: cut"),
        (trio.BrokenResourceError(), "lost the connection"),
        (KeyError("odd"), "lost the connection: 'odd'"),
    ],
)
async def test_a_lost_line_says_how_it_was_lost(
    error: Exception, detail: str, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    inner, far = stream_pair()
    stream = Failing(inner)
    link = Link(stream, Engine(client=False), Limits(), "peer")
    link.start(nursery, NO_KEEPALIVE, head=b"", rest=b"")
    stream.errors["receive_some"] = error

    await far.send_all(b"x")
    await link.wait_over()

    assert link.closure is not None
    assert link.closure.detail == f"peer {detail}"
    await settle(link, nursery)


async def test_a_peer_that_takes_nothing_is_dropped(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery, engine_type, capacity=1)
    link.push_message("stuck")

    with pytest.raises(ConnectionClosedError, match="took nothing of what was sent") as caught:
        await link.inbox.receive()
    await link.wire.wait_stopped()

    assert trio.current_time() == 20
    assert caught.value.code == 1006
    assert link.closure is not None
    assert link.closure.by == "local"


async def test_what_a_read_leaves_over_is_kept_when_its_buffer_is_used_again(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery, engine_type)
    buffer = bytearray(FINE + raw_frame(1, b"halved", masked=True))
    # Within the header: what has come of a payload is copied anyway.
    half = len(FINE) + 3
    rest = bytes(buffer[half:])

    link.receive_bytes(memoryview(buffer)[:half])
    buffer[:] = bytes(len(buffer))
    link.receive_bytes(rest)

    assert [await link.inbox.receive() for _ in range(2)] == ["fine", "halved"]
    await settle(link, nursery)


async def test_a_fault_in_handing_over_leaves_no_view_of_the_buffer(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery)

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("trio_ws._transport.inbox.Inbox.extend", fail)
    buffer = bytearray(FINE + FINE[:-1])
    with pytest.raises(MemoryError):
        link.receive_bytes(memoryview(buffer))
    # It could not be made shorter if there were a view of it.
    buffer.clear()

    await settle(link, nursery)


async def test_what_a_dropped_peer_still_sends_is_no_message(nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)

    link.line_stuck()
    link.receive_bytes(FINE)

    assert link.received == 0
    assert await drain(link) == []
    await settle(link, nursery)


async def test_a_silent_peer_is_probed_and_dropped_with_1011(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, keepalive=Keepalive(interval=20, timeout=5))

    with pytest.raises(ConnectionClosedError, match="dropped by the keepalive") as caught:
        await link.inbox.receive()
    ping, close = await peer.read_all()

    assert trio.current_time() == 25
    assert isinstance(ping, Ping)
    assert close == CloseConnection(1011, "keepalive: nothing was heard for 25 seconds")
    assert caught.value.code == 1011
    await settle(link, nursery)


async def test_a_peer_that_reads_nothing_is_dropped_though_the_queue_is_full(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limits = Limits(write_timeout=inf)
    keepalive = Keepalive(interval=1, timeout=1)
    link, _ = open_link(nursery, limits=limits, keepalive=keepalive, capacity=1)
    link.push_message(bytes(200 * 1024))

    await link.wire.wait_stopped()

    assert trio.current_time() == 7
    assert link.closure is not None
    assert int(link.closure.reason.code) == 1011


async def test_an_answering_peer_is_kept_for_hours(
    engine_type: EngineType, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, keepalive=Keepalive())

    with trio.move_on_after(3 * 3600):
        while True:
            await _answer_ping_after(peer, 1)

    assert link.closure is None
    assert link.outgoing.size == 0
    await settle(link, nursery)


async def test_a_probe_that_was_not_written_is_replaced_by_the_next(
    nursery: trio.Nursery,
) -> None:
    link, _ = open_link(nursery, capacity=1)
    link.push_message("stuck")
    await wait_all_tasks_blocked()
    link.probe()
    size = link.outgoing.size

    for _ in range(100):
        link.probe()

    assert link.outgoing.size == size
    await settle(link, nursery)


@pytest.mark.parametrize("moment", [20, 25])
async def test_a_close_at_the_moment_of_the_keepalive_is_in_order(
    moment: float, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    # Whether the keepalive or this task runs first is chance.
    for _ in range(20):
        link, _ = open_link(nursery, keepalive=Keepalive(interval=20, timeout=5))
        await trio.sleep(moment)

        link.close(1000, None, "test")

        await settle(link, nursery)
        assert link.closure is not None


async def test_what_arrives_in_one_read_keeps_its_order(
    engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery, engine_type)
    frames = [
        (1, b"1"),
        (2, b"2"),
        (9, b"p"),
        (1, b"3"),
        (2, b"4"),
        (10, b""),
        (1, b"5"),
        (1, b"6"),
    ]
    fragmented = raw_frame(1, b"7", masked=True, fin=False) + raw_frame(0, b"8", masked=True)
    data = b"".join(raw_frame(op, part, masked=True) for op, part in frames)

    link.receive_bytes(data + fragmented + raw_frame(1, b"9", masked=True))

    expected = ["1", b"2", "3", b"4", "5", "6", "78", "9"]
    assert link.received == len(link.inbox) == len(expected)
    assert [await link.inbox.receive() for _ in expected] == expected
    await settle(link, nursery)


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        (Limits(inbox_messages=16), 16),
        (Limits(inbox_bytes=1000), 10),
        (Limits(inbox_bytes=1001), 11),
        (Limits(inbox_messages=9, inbox_bytes=900), 9),
    ],
)
async def test_one_read_full_of_messages_does_not_exceed_the_bounds_of_the_inbox(
    limits: Limits, taken: int, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, _ = open_link(nursery, engine_type, limits=limits)

    link.receive_bytes(raw_frame(2, bytes(100), masked=True) * 600)

    assert (len(link.inbox), link.inbox.size) == (taken, 100 * taken)
    assert len([await link.inbox.receive() for _ in range(600)]) == 600
    await settle(link, nursery)


async def test_one_read_wakes_the_receiver_once(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery)
    await wait_all_tasks_blocked()
    nursery.start_soon(peer.stream.send_all, raw_frame(1, b"", masked=True) * 31)

    with Steps() as steps:
        await link.inbox.receive()
        woken = steps.count
        for _ in range(30):
            await link.inbox.receive()

    assert steps.count == woken
    await settle(link, nursery)


async def test_the_keepalive_does_nothing_to_a_connection_that_is_closing(
    nursery: trio.Nursery,
) -> None:
    link, _ = open_link(nursery)
    link.close(1000, None, "test")
    waiting = link.outgoing.size

    link.probe()
    link.give_up(40)

    assert link.closure is not None
    assert (link.outgoing.size, link.closure.reason.code) == (waiting, 1000)
    await settle(link, nursery)


async def test_reading_pauses_when_the_inbox_is_full_and_goes_on_when_it_has_room(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=2))
    frame = raw_frame(2, bytes(1000), masked=True)
    count = READ_AHEAD // len(frame) + 3
    await peer.stream.send_all(frame * count)
    await wait_all_tasks_blocked()
    paused = link.paused

    sizes = [len(await link.inbox.receive()) for _ in range(count)]

    assert paused
    assert sizes == [1000] * count
    assert not link.paused
    await settle(link, nursery)


async def test_reading_stays_paused_while_the_read_ahead_is_too_large(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1), capacity=4 * READ_AHEAD)
    await peer.stream.send_all(raw_frame(2, bytes(1000), masked=True) * 60)
    await wait_all_tasks_blocked()
    await peer.stream.send_all(raw_frame(2, bytes(1000), masked=True) * 10)
    await wait_all_tasks_blocked()

    await link.inbox.receive()

    assert link.paused
    assert link.engine.buffered >= READ_AHEAD
    await settle(link, nursery)


@pytest.mark.parametrize(("extra", "paused"), [(-1, False), (0, True)])
async def test_reading_goes_on_until_the_read_ahead_is_used_up(
    extra: int, paused: bool, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1), capacity=2 * READ_AHEAD)
    await peer.send(TextMessage("fills the inbox"))
    await wait_all_tasks_blocked()

    await peer.stream.send_all(raw_frame(2, bytes(READ_AHEAD - 8 + extra), masked=True))
    await wait_all_tasks_blocked()

    assert link.paused is paused
    assert len(link.inbox) == 1
    await settle(link, nursery)


async def test_the_wire_learns_how_much_of_a_large_message_is_missing(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery)
    large = raw_frame(2, bytes(900_000), masked=True)
    missing: list[int] = []
    for start in range(0, len(large), 300_000):
        await peer.stream.send_all(large[start : start + 300_000])
        await wait_all_tasks_blocked()
        missing.append(link.wire.expected)

    assert missing == [len(large) - 300_000, len(large) - 600_000, len(large) - 900_000, 0]
    assert await link.inbox.receive() == bytes(900_000)
    await settle(link, nursery)


async def test_the_wire_is_to_read_little_while_the_inbox_is_full(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))
    large = raw_frame(2, bytes(900_000), masked=True)

    await peer.stream.send_all(large[:1000])
    await wait_all_tasks_blocked()
    before = link.wire.expected
    link.inbox.put("full")
    await peer.stream.send_all(large[1000:2000])
    await wait_all_tasks_blocked()

    assert (before, link.wire.expected) == (len(large) - 1000, 0)
    await settle(link, nursery)


async def test_a_ping_is_answered_while_the_inbox_is_full(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))

    await peer.send(TextMessage("1"), TextMessage("2"), Ping(b"hello"))

    assert await peer.read() == [Pong(b"hello")]
    assert len(link.inbox) == 1
    await settle(link, nursery)


async def test_a_close_is_seen_while_the_inbox_is_full_and_every_message_received(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))
    await peer.send(TextMessage("1"), TextMessage("2"), TextMessage("3"), CloseConnection(1000))

    events = await peer.read_all()
    waiting = len(link.inbox)

    assert events == [CloseConnection(1000, "")]
    assert waiting == 1
    assert await drain(link) == ["1", "2", "3"]
    await settle(link, nursery)


@pytest.mark.parametrize("closes", [True, False])
async def test_what_waits_behind_an_inbox_that_was_full_outlives_the_end_of_the_line(
    closes: bool, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type, limits=Limits(inbox_messages=4))
    await peer.send(*(TextMessage(str(number)) for number in range(6)))
    if closes:
        await peer.send(CloseConnection(1000))
    await wait_all_tasks_blocked()

    # It is not full any more, and not empty enough yet to be filled again.
    first = await link.inbox.receive()
    await peer.stream.aclose()
    await wait_all_tasks_blocked()

    assert [first, *await drain(link)] == ["0", "1", "2", "3", "4", "5"]
    assert link.over
    await settle(link, nursery)


async def test_a_close_that_ends_the_read_ahead_is_not_held_up_by_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1), capacity=4 * READ_AHEAD)
    await peer.send(TextMessage("fills the inbox"))
    await wait_all_tasks_blocked()
    await peer.stream.send_all(raw_frame(2, bytes(READ_AHEAD - 20), masked=True))
    await wait_all_tasks_blocked()

    await peer.send(BytesMessage(bytes(20)), CloseConnection(1000))
    await peer.stream.send_eof()
    await link.wire.wait_stopped()

    assert trio.current_time() == 0
    assert len(await drain(link)) == 3


async def test_messages_are_received_after_a_loss_while_the_inbox_was_full(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))
    await peer.send(TextMessage("1"), TextMessage("2"), TextMessage("3"))
    await peer.stream.aclose()
    await link.wait_over()

    assert await drain(link) == ["1", "2", "3"]
    await settle(link, nursery)


async def test_a_fault_behind_a_full_inbox_is_found_in_its_turn(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))
    await peer.send(TextMessage("1"), TextMessage("2"))
    await peer.send_frame(3)
    await wait_all_tasks_blocked()
    before = link.closure

    assert await drain(link) == ["1", "2"]

    assert before is None
    assert link.closure is not None
    assert int(link.closure.reason.code) == 1002
    await settle(link, nursery)


async def test_reading_goes_on_for_an_application_that_closes_while_it_is_paused(
    nursery: trio.Nursery,
) -> None:
    link, peer = open_link(nursery, limits=Limits(inbox_messages=1))
    nursery.start_soon(peer.stream.send_all, raw_frame(2, bytes(60000), masked=True) * 10)
    await wait_all_tasks_blocked()
    paused = link.paused

    link.close(1000, None, "test", own=True)
    await wait_all_tasks_blocked()
    await peer.send(CloseConnection(1000))
    await link.wait_over()

    assert paused
    await settle(link, nursery)


async def test_the_keepalive_stands_still_while_reading_is_paused(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limits = Limits(inbox_messages=1)
    link, peer = open_link(nursery, limits=limits, keepalive=Keepalive(interval=20, timeout=5))
    nursery.start_soon(peer.stream.send_all, raw_frame(2, bytes(60000), masked=True) * 3)

    await trio.sleep(1000)
    before = link.closure
    await drain(link)

    assert before is None
    assert trio.current_time() == 1025
    await settle(link, nursery)


@pytest.mark.parametrize(
    ("value", "event"),
    [
        ("olá", TextMessage("olá")),
        (b"x", BytesMessage(bytearray(b"x"))),
        (bytearray(b"x"), BytesMessage(bytearray(b"x"))),
        (memoryview(b"xyz")[::2], BytesMessage(bytearray(b"xz"))),
        ("", TextMessage("")),
    ],
)
async def test_push_message_sends_text_and_anything_like_bytes(
    value: Sendable, event: Event, engine_type: EngineType, nursery: trio.Nursery
) -> None:
    link, peer = open_link(nursery, engine_type)

    link.push_message(value)

    assert await peer.read() == [event]
    assert link.sent == 1
    await settle(link, nursery)


@pytest.mark.parametrize("value", [None, 1, ["a"], object()])
async def test_push_message_refuses_anything_else(value: object, nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)

    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        link.push_message(value)  # type: ignore[arg-type]  # on purpose
    assert link.sent == 0
    await settle(link, nursery)


async def test_push_pong_sends_a_pong(engine_type: EngineType, nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery, engine_type)

    link.push_pong(b"hello")

    assert await peer.read() == [Pong(b"hello")]
    await settle(link, nursery)


async def test_a_scope_is_cancelled_when_the_connection_ends(nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)
    kept, forgotten, late = (trio.CancelScope() for _ in range(3))
    link.add_scope(kept)
    link.add_scope(forgotten)
    link.discard_scope(forgotten)

    link.close(1000, None, "test")
    link.add_scope(late)

    cancelled = [scope.cancel_called for scope in (kept, forgotten, late)]
    assert cancelled == [True, False, True]
    await settle(link, nursery)


async def test_the_error_tells_which_connection_it_is_of(nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)
    link.close(1000, None, "test")

    error = link.error()

    assert isinstance(error, ConnectionClosed)
    assert error.source is link
    await settle(link, nursery)


async def test_a_link_without_scopes_has_none_to_forget(nursery: trio.Nursery) -> None:
    link, _ = open_link(nursery)

    link.discard_scope(trio.CancelScope())

    assert link.closure is None
    await settle(link, nursery)


async def test_several_tasks_can_wait_for_the_end(nursery: trio.Nursery) -> None:
    link, peer = open_link(nursery)
    async with trio.open_nursery() as waiting:
        waiting.start_soon(link.wait_over)
        waiting.start_soon(link.wait_over)
        await wait_all_tasks_blocked()
        await peer.send(CloseConnection(1000))

    assert link.over
    await settle(link, nursery)


@pytest.mark.network
@pytest.mark.parametrize("poller", [True, False])
async def test_a_socket_that_closes_behind_its_head_is_never_probed(
    poller: bool,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A wire of the poller hands over what was read behind the head before `start` returns.
    monkeypatch.setenv("TRIO_WS_NO_POLLER", "0" if poller else "1")
    here, there = trio.socket.socketpair()
    link = Link(trio.SocketStream(here), Engine(client=False), Limits(), "peer")

    polled = current_poller() is not None
    rest = raw_frame(8, masked=True)
    link.start(nursery, Keepalive(interval=1, timeout=1), head=b"head", rest=rest)
    async with trio.SocketStream(there) as stream:
        # Head and Close may come in two reads.
        data = await stream.receive_some()
        while len(data) < 6:
            data += await stream.receive_some()
        await trio.sleep(10)

    assert data == b"head\x88\x00"
    assert isinstance(link.wire, SocketWire) is polled
    await settle(link, nursery)
