"""A rate of messages: slowed down or closed, and never blamed for our own slowness."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    TextMessage,
)

from tests._transport.fakes import RawPeer, link_of, open_near
from trio_ws._config import Keepalive, Limits, Rate
from trio_ws._errors import ConnectionClosed, ConnectionClosedError
from trio_ws._transport.connection import Connection
from trio_ws._transport.inbox import Inbox
from trio_ws._transport.metered import MeteredInbox

TWO_A_SECOND = Rate(messages=2, burst=2)


def texts(*numbers: int) -> list[TextMessage]:
    return [TextMessage(str(number)) for number in numbers]


class Owner:
    """Stands for the link of an inbox."""

    def __init__(self, rate: Rate, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self.rooms: list[float] = []
        self.excesses: list[str] = []
        self.is_open = True
        self.inbox = MeteredInbox(
            rate,
            limits,
            "client x",
            on_room=self._room,
            on_tokens=self._room,
            on_excess=self._excess,
        )

    def _room(self) -> None:
        self.rooms.append(trio.current_time())

    def _excess(self, why: str) -> bool:
        self.excesses.append(why)
        return self.is_open

    def full(self) -> bool:
        return self.inbox.full

    def put(self, *messages: str) -> None:
        self.inbox.extend(messages, sum(map(len, messages)))


class Received:
    """Receives in a task of its own, and notes when."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.times: list[tuple[object, float]] = []
        self.error: ConnectionClosed | None = None

    async def run(self) -> None:
        began = trio.current_time()
        try:
            while True:
                message = await self._connection.receive()
                self.times.append((message, trio.current_time() - began))
        except ConnectionClosed as error:
            self.error = error

    @property
    def messages(self) -> list[object]:
        return [message for message, _ in self.times]


@asynccontextmanager
async def receiving(
    rate: Rate,
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> AsyncGenerator[tuple[Connection, RawPeer, Received], None]:
    async with (
        open_near(client=False, rate=rate, limits=limits) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        received = Received(connection)
        nursery.start_soon(received.run)
        yield connection, peer, received
        nursery.cancel_scope.cancel()


async def test_burst_passes_at_once_and_the_rest_at_the_rate(autojump_clock: MockClock) -> None:
    async with receiving(TWO_A_SECOND) as (_, peer, received):
        await peer.send(*texts(*range(8)))
        await trio.sleep(10)

    assert received.messages == [str(number) for number in range(8)]
    assert [time for _, time in received.times] == pytest.approx([0, 0, 0, 0, 0.5, 1, 1.5, 2])


async def test_bytes_are_counted_in_utf8_and_owed_by_the_message_that_crosses(
    autojump_clock: MockClock,
) -> None:
    async with receiving(Rate(bytes=10, burst=1)) as (_, peer, received):
        await peer.send(TextMessage("é" * 15), BytesMessage(b"x"), BytesMessage(b"y"))
        await trio.sleep(10)

    # 30 bytes leave 20 owed; one byte is there after 2.1 seconds, and the next 0.1 later.
    assert [time for _, time in received.times] == pytest.approx([0, 2.1, 2.2])


async def test_silence_saves_up_no_more_than_the_burst(autojump_clock: MockClock) -> None:
    async with receiving(TWO_A_SECOND) as (_, peer, received):
        await trio.sleep(1000)
        await peer.send(*texts(*range(6)))
        await trio.sleep(0.1)

        assert len(received.times) == 4


async def test_fragmented_messages_count_as_one_each(autojump_clock: MockClock) -> None:
    parts = [TextMessage("a", message_finished=False), TextMessage("b")]
    async with receiving(Rate(messages=1, burst=2)) as (_, peer, received):
        await peer.send(*parts, *parts, *parts)
        await trio.sleep(0.5)
        assert received.messages == ["ab", "ab"]

        await trio.sleep(1)
        assert received.messages == ["ab", "ab", "ab"]


async def test_control_frames_are_answered_while_messages_are_held_up(
    autojump_clock: MockClock,
) -> None:
    async with receiving(Rate(messages=0.01, burst=100)) as (_, peer, received):
        await peer.send(*texts(*range(500)), Ping(b"there?"))

        assert await peer.read() == [Pong(b"there?")]
        assert received.messages == ["0"]


async def test_flood_is_held_up_by_back_pressure_and_never_kept(autojump_clock: MockClock) -> None:
    async with (
        open_near(client=False, rate=Rate(messages=1, burst=1), capacity=1024) as (near, peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(peer.send, BytesMessage(b"x" * 1000), *texts(*range(200_000)))
        await wait_all_tasks_blocked()
        statistics = near.statistics()
        nursery.cancel_scope.cancel()

    assert statistics.reading_paused
    assert statistics.inbox_messages == 1
    assert statistics.bytes_received < 200 * 1024


async def test_fault_of_ours_when_tokens_come_costs_this_connection_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(TWO_A_SECOND) as (connection, peer, received):
        await peer.send(*texts(*range(8)))
        await trio.sleep(0.1)

        def fail(*_: object) -> None:
            raise MemoryError("no room")

        monkeypatch.setattr("trio_ws._protocol.engine.Engine.messages", fail)
        with trio.fail_after(100):
            await connection.wait_closed()

        assert received.messages == list("0123")
        assert connection.close_code == 1006
        assert "parsing failed; the connection is dropped" in caplog.text
        await peer.stream.aclose()


async def test_peer_that_is_slowed_down_is_not_blamed_by_the_keepalive(
    autojump_clock: MockClock,
) -> None:
    keepalive = Keepalive(interval=1, timeout=1)
    rate = Rate(messages=0.01, burst=100)
    async with (
        open_near(client=False, rate=rate, keepalive=keepalive, capacity=1024) as (near, peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(peer.send, *texts(*range(100_000)))
        await trio.sleep(50)

        assert near.statistics().reading_paused
        assert near.close_code is None
        nursery.cancel_scope.cancel()


async def test_messages_from_before_the_peers_close_are_still_received_at_the_rate(
    autojump_clock: MockClock,
) -> None:
    async with receiving(TWO_A_SECOND) as (_, peer, received):
        await peer.send(*texts(*range(6)), CloseConnection(1000))
        await trio.sleep(0.1)
        assert len(received.times) == 4

        await trio.sleep(10)
        assert received.messages == [str(number) for number in range(6)]
        assert received.error is not None
        assert received.error.code == 1000


async def test_block_that_is_left_waits_for_nothing_that_was_held_up(
    autojump_clock: MockClock,
) -> None:
    began = trio.current_time()
    async with open_near(client=False, rate=Rate(messages=0.001, burst=1000)) as (near, peer):
        await peer.send(*texts(*range(100)), CloseConnection(1000))
        await wait_all_tasks_blocked()
        await near.aclose()

    assert trio.current_time() - began < 10


CLOSING = Rate(messages=2, burst=2, excess="close")


async def test_as_many_as_may_be_do_not_close(autojump_clock: MockClock) -> None:
    async with receiving(CLOSING) as (connection, peer, received):
        await peer.send(*texts(0, 1, 2, 3))
        await trio.sleep(0.5)
        await peer.send(*texts(4))
        await wait_all_tasks_blocked()

        assert connection.close_code is None
        assert len(received.times) == 5


async def test_one_message_more_closes_with_1008(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(CLOSING) as (connection, peer, received):
        await peer.send(*texts(*range(5)))
        (close,) = await peer.read()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert close == CloseConnection(1008, "the rate limit was exceeded")
        assert received.messages == ["0", "1", "2", "3"]
        assert isinstance(received.error, ConnectionClosedError)
        assert received.error.code == 1008
        assert (connection.close_code, connection.closed_by) == (1008, "local")
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.name == "trio_ws.rate"
    assert record.getMessage().startswith("client [::1]:8080 was closed with 1008")


async def test_byte_beyond_the_bytes_closes_with_1008(autojump_clock: MockClock) -> None:
    async with receiving(Rate(bytes=5, burst=1, excess="close")) as (connection, peer, _):
        await peer.send(BytesMessage(b"1234"), BytesMessage(b"5678"))
        await wait_all_tasks_blocked()
        assert connection.close_code is None

        await peer.send(BytesMessage(b""))
        await wait_all_tasks_blocked()
        assert connection.close_code == 1008


async def test_peer_is_not_closed_for_what_gathered_while_the_application_was_behind(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(inbox_messages=4)
    async with open_near(client=False, rate=CLOSING, limits=limits) as (near, peer):
        # Two a second, for half a minute, of which nothing is received.
        for number in range(60):
            await peer.send(*texts(number))
            await trio.sleep(0.5)
        got = [await near.receive() for _ in range(60)]

        assert got == [str(number) for number in range(60)]
        assert near.close_code is None


async def test_flood_after_our_own_close_is_dropped_without_a_word(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_near(client=False, rate=CLOSING) as (near, peer):
        link_of(near).close(1001, None, "going away")
        await peer.send(*texts(*range(100)))
        await wait_all_tasks_blocked()
        await peer.send(CloseConnection(1001))
        await near.wait_closed()

        assert near.close_code == 1001
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_inbox_is_full_until_there_is_a_token_and_says_so(autojump_clock: MockClock) -> None:
    owner = Owner(Rate(messages=4, burst=1))
    began = trio.current_time()
    assert list(owner.inbox.room) == [4, 1024 * 1024]

    owner.put("a", "b", "c", "d")
    assert owner.full()
    await trio.sleep(1)

    assert not owner.full()
    assert owner.rooms == pytest.approx([began + 0.25])
    assert list(owner.inbox.room) == [4, 1024 * 1024 - 4]


async def test_inbox_says_there_is_room_once_both_reasons_are_gone(
    autojump_clock: MockClock,
) -> None:
    owner = Owner(Rate(messages=4, burst=1), Limits(inbox_messages=4))
    owner.put("a", "b", "c", "d")
    await trio.sleep(1)
    assert owner.rooms == []

    await owner.inbox.receive()
    await owner.inbox.receive()
    assert len(owner.rooms) == 1

    owner.put("e", "f")
    await owner.inbox.receive()
    await owner.inbox.receive()
    assert len(owner.rooms) == 2


async def test_inbox_that_is_half_empty_still_waits_for_tokens(autojump_clock: MockClock) -> None:
    owner = Owner(Rate(messages=4, burst=1), Limits(inbox_messages=4))
    owner.put("a", "b", "c", "d")
    for _ in range(4):
        await owner.inbox.receive()
    assert owner.rooms == []

    await trio.sleep(1)
    assert len(owner.rooms) == 1


async def test_inbox_sets_one_alarm_however_much_comes_in(autojump_clock: MockClock) -> None:
    owner = Owner(Rate(messages=1, burst=1))
    for _ in range(3):
        owner.put("a")
    await trio.sleep(10)

    assert len(owner.rooms) == 1
    assert list(owner.inbox.room) == [1, 1024 * 1024 - 3]


async def test_inbox_that_has_ended_takes_nothing_and_rings_no_more(
    autojump_clock: MockClock,
) -> None:
    owner = Owner(Rate(messages=1, burst=1))
    owner.put("a")
    owner.inbox.end(lambda: ValueError("over"))
    owner.put("b")
    await trio.sleep(10)

    assert owner.rooms == []
    assert not owner.full()
    assert len(owner.inbox) == 1


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_excess_that_comes_in_one_piece_is_cut_off(count: int) -> None:
    owner = Owner(Rate(messages=2, burst=1, excess="close"))
    messages: Sequence[str] = [str(number) for number in range(count)]

    owner.put(*messages)
    owner.put("x", "y", "z")

    assert len(owner.inbox) == 2
    assert owner.excesses == ["the rate limit was exceeded"]
    assert list(owner.inbox.room) == [1022, 1024 * 1024 - 2]


async def test_rate_of_bytes_alone_does_not_count_messages() -> None:
    owner = Owner(Rate(bytes=100, burst=1))

    assert list(owner.inbox.room) == [1024, 100]
    owner.inbox.extend([""] * 1000, 0)
    assert not owner.full()


async def test_connection_without_a_rate_has_a_plain_inbox() -> None:
    async with open_near(client=False) as (near, _):
        assert type(link_of(near).inbox) is Inbox
