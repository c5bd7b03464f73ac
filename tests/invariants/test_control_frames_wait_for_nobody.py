"""Invariant 2: pings are answered and a close is seen, whatever the application and data do."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.invariants.peers import (
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    MemoryListener,
    Peer,
    close,
    frame,
    header,
    held,
    hold,
    serving,
    serving_tcp,
    until,
)

_LITTLE_ROOM = trio_ws.Limits(inbox_messages=4)
_MUCH_ROOM = trio_ws.Limits(outgoing_bytes=4_000_000)
_NEVER = trio_ws.Keepalive(interval=float("inf"))


async def test_ping_is_answered_while_the_handler_does_not_receive(
    autojump_clock: MockClock,
) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = await served.peer()

        await peer.send(PING, b"there?")

        assert await peer.receive() == (PONG, b"there?")


# T, W
async def test_hazard_peers_keepalive_does_not_end_a_connection_whose_application_does_not_read(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with trio_ws.testing.connect(
        handler,
        keepalive=trio_ws.Keepalive(interval=1, timeout=1),
        server_keepalive=_NEVER,
        server_limits=_LITTLE_ROOM,
        grace=0,
    ) as client:
        for _ in range(17):
            await client.send("unread")
        await trio.sleep(1000)

        assert client.close_code is None
        assert connections[0].statistics().inbox_messages == 4


async def test_ping_behind_messages_that_fill_the_inbox_is_answered(
    autojump_clock: MockClock,
) -> None:
    handler, _ = held()
    async with serving(handler, limits=_LITTLE_ROOM) as served:
        peer = await served.peer()

        await peer.send_bytes(frame(TEXT, b"unread") * 100 + frame(PING, b"behind"))

        assert await peer.receive() == (PONG, b"behind")


async def test_ping_inside_of_a_fragmented_message_is_answered(autojump_clock: MockClock) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = await served.peer()

        await peer.send(TEXT, b"not all", fin=False)
        await peer.send(PING, b"inside")

        assert await peer.receive() == (PONG, b"inside")


async def test_close_behind_messages_that_fill_the_inbox_is_seen(
    autojump_clock: MockClock,
) -> None:
    async with serving(hold, limits=_LITTLE_ROOM) as served:
        peer = await served.peer()

        await peer.send_bytes(frame(TEXT, b"unread") * 100 + close(4000))

        assert await peer.receive_close() == 4000
        await wait_all_tasks_blocked()
        assert served.server.statistics().streams == 0


async def test_messages_before_a_close_that_was_seen_early_can_still_be_received(
    autojump_clock: MockClock,
) -> None:
    received: list[trio_ws.CloseCode | str | bytes] = []

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await connection.wait_closed()
            received.extend([message async for message in connection])

    async with serving(handler, limits=_LITTLE_ROOM) as served:
        peer = await served.peer()
        await peer.send_bytes(frame(TEXT, b"unread") * 100 + close())
        await peer.receive_close()
        await wait_all_tasks_blocked()

    assert received == ["unread"] * 100


async def test_close_is_seen_while_the_handler_is_busy(autojump_clock: MockClock) -> None:
    cancelled = trio.Event()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection, connection.open_nursery() as nursery:
            nursery.start_soon(work)

    async with serving(handler) as served:
        peer = await served.peer()
        await peer.close()
        await peer.receive_close()
        await wait_all_tasks_blocked()

        assert cancelled.is_set()


async def _fill(connection: trio_ws.Connection, message: str) -> int:
    """Send until there is no room; return how many messages it took."""
    for number in range(1000):
        try:
            connection.send_nowait(message)
        except trio.WouldBlock:
            return number
        await wait_all_tasks_blocked()
    raise AssertionError("there is always room")


async def test_pong_overtakes_messages_that_wait_to_be_written(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        assert await _fill(connections[0], "x" * 40_000) == 2

        await peer.send(PING, b"ahead")
        await wait_all_tasks_blocked()

        assert [(await peer.receive())[0] for _ in range(3)] == [TEXT, PONG, TEXT]


async def test_own_ping_overtakes_messages_that_wait_to_be_written(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await _fill(connections[0], "x" * 40_000)

        nursery.start_soon(connections[0].ping, b"ahead")
        await wait_all_tasks_blocked()

        frames = [await peer.receive() for _ in range(3)]
        await peer.send(PONG, b"ahead")
        await wait_all_tasks_blocked()
    assert [opcode for opcode, _ in frames] == [TEXT, PING, TEXT]


async def test_close_is_seen_while_send_waits_for_a_peer_that_does_not_read(
    autojump_clock: MockClock,
) -> None:
    failed = trio.Event()

    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            try:
                while True:
                    await connection.send("x" * 40_000)
            except trio_ws.ConnectionClosedOK:
                failed.set()

    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await wait_all_tasks_blocked()
        await peer.close()
        await wait_all_tasks_blocked()

        assert failed.is_set()


@pytest.mark.network
async def test_close_is_seen_although_a_peer_that_never_reads_has_filled_the_socket() -> None:
    handler, connections = held()
    async with serving_tcp(handler, limits=_MUCH_ROOM) as served:
        peer = await served.peer()
        await _fill_socket(connections[0])

        await peer.close(4001)

        await connections[0].wait_closed()
        assert connections[0].close_code == 4001
        await peer.reset()


@pytest.mark.network
async def test_pong_comes_at_the_next_frame_boundary_of_a_full_socket() -> None:
    handler, connections = held()
    async with serving_tcp(handler, limits=_MUCH_ROOM) as served:
        peer = await served.peer()
        await _fill_socket(connections[0])
        heard = connections[0].statistics().bytes_received

        await peer.send(PING, b"full")
        await until(lambda: connections[0].statistics().bytes_received > heard)

        opcodes = [await peer.receive()]
        while opcodes[-1] != (PONG, b"full"):
            opcodes.append(await peer.receive())
        assert (await peer.receive())[0] == TEXT
        await peer.reset()


async def _fill_socket(connection: trio_ws.Connection) -> None:
    """Send to a peer that does not read until the kernel takes no more, and messages wait."""
    while await _fill(connection, "x" * 1_000_000):
        await wait_all_tasks_blocked(0.02)


# T
async def test_hazard_ping_after_the_close_of_a_handler_that_has_returned_harms_nothing(
    autojump_clock: MockClock,
) -> None:
    async def leave(request: trio_ws.Request) -> None:
        async with request.accept():
            pass

    async with serving(leave) as served:
        peer = await served.peer()
        await peer.send(PING, b"late")

        assert await peer.receive_close() == 1000
        assert await (await served.peer()).receive_close() == 1000


async def test_peer_on_a_line_of_one_byte_is_served(autojump_clock: MockClock) -> None:
    async with serving(hold, listener=MemoryListener(1)) as served:
        peer = Peer(trio_ws.testing.FaultyStream(await served.open(), split=1))
        await peer.handshake()

        await peer.send(PING, b"slow")

        assert await peer.receive() == (PONG, b"slow")


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (frame(PING, b"early"), (PONG, b"early")),
        (header(TEXT, 2**40), (CLOSE, b"\x03\xf1message is larger than 1048576 bytes")),
        (frame(3), (CLOSE, b"\x03\xeaopcode 0x3 is reserved")),
        (close(4000), (CLOSE, b"\x0f\xa0")),
    ],
)
async def test_control_frame_never_overtakes_the_head_of_the_answer(
    data: bytes, answer: tuple[int, bytes], autojump_clock: MockClock
) -> None:
    handler, _ = held()
    async with serving(handler) as served:
        peer = Peer(await served.open())

        await peer.send_bytes(HANDSHAKE + data)

        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
        assert await peer.receive() == answer
