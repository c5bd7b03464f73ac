"""Invariant 1: once its first byte is on the way, all of a frame follows, whoever is cancelled."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.invariants.peers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    MemoryListener,
    Peer,
    cancelled_at,
    cancelled_everywhere,
    held,
    serving,
    serving_tcp,
    until,
)
from trio_ws.testing import stream_pair

_BIG = "x" * 300_000


async def _cancelled_sends(connection: trio_ws.Connection, count: int) -> None:
    """Send large messages, each of them cancelled where it waits."""
    for number in range(count):
        with trio.move_on_after(0.001):
            await connection.send(f"{number}{_BIG}")


def _numbers(frames: list[tuple[int, bytes]]) -> list[int]:
    return [int(payload.partition(b"x")[0]) for opcode, payload in frames if opcode == TEXT]


# T, W
async def test_hazard_send_cancelled_half_way_leaves_no_part_of_a_frame_on_the_line(
    autojump_clock: MockClock,
) -> None:
    async def handler(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            await _cancelled_sends(connection, 3)
            connection._link.outgoing._high_water = 1e9  # noqa: SLF001 - so that the next is queued
            await connection.send("9x")

    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await trio.sleep(1)
        frames = await peer.receive_frames()

    assert _numbers(frames) == [0, 9]
    assert frames[-1] == (CLOSE, b"\x03\xe8")


# T, W
async def test_hazard_client_send_cancelled_half_way_leaves_no_part_of_a_frame_on_the_line(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    mine, theirs = stream_pair(1000)
    server = Peer(theirs, masked=False)
    nursery.start_soon(server.answer_handshake)
    frames: list[tuple[int, bytes]] = []

    async def read_late() -> None:
        await trio.sleep(1)
        frames.extend(await server.receive_frames())

    async with trio_ws.connect("ws://localhost/", stream=mine) as connection:
        nursery.start_soon(read_late)
        await _cancelled_sends(connection, 3)
    await wait_all_tasks_blocked()

    assert _numbers(frames) == [0]
    assert frames[-1] == (CLOSE, b"\x03\xe8")


async def test_send_cancelled_at_any_wait_has_queued_all_of_its_message_or_nothing(
    autojump_clock: MockClock,
) -> None:
    async def scenario(step: int) -> bool:
        handler, connections = held()
        async with serving(handler, listener=MemoryListener(1000)) as served:
            peer = await served.peer()
            await connections[0].send(f"0{_BIG}")

            async with trio.open_nursery() as nursery:
                frames: list[tuple[int, bytes]] = []

                async def read() -> None:
                    frames.extend(await peer.receive_frames())

                nursery.start_soon(read)
                cancelled = await cancelled_at(step, lambda: connections[0].send(f"1{_BIG}"))
                sent = connections[0].statistics().messages_sent
                served.stop()
        assert _numbers(frames) == list(range(sent))
        return cancelled

    assert await cancelled_everywhere(scenario) >= 1


async def test_send_that_raised_cancelled_has_queued_nothing(autojump_clock: MockClock) -> None:
    async def scenario(step: int) -> bool:
        returned = 0

        async def send() -> None:
            nonlocal returned
            for _ in range(70):
                await connections[0].send("hello")
                returned += 1

        handler, connections = held()
        async with serving(handler) as served:
            await served.peer()
            cancelled = await cancelled_at(step, send)
            assert connections[0].statistics().messages_sent == returned
        return cancelled

    assert await cancelled_everywhere(scenario) >= 2


async def test_cancelled_server_finishes_the_frame_under_way_before_its_goodbye(
    autojump_clock: MockClock,
) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await connections[0].send(_BIG)
        await wait_all_tasks_blocked()

        served.stop()
        frames = await peer.receive_frames()

    assert frames == [(TEXT, _BIG.encode()), (CLOSE, b"\x03\xe9")]


@pytest.mark.network
async def test_cancelled_server_finishes_the_frame_that_fills_the_socket_buffer() -> None:
    handler, connections = held()
    message = b"x" * 8_000_000
    async with serving_tcp(handler) as served:
        peer = await served.peer()
        await connections[0].send(message)
        await until(lambda: connections[0].statistics().outgoing_bytes < len(message))

        served.stop()
        frames = await peer.receive_frames()

    assert [len(payload) for _, payload in frames] == [len(message), 2]
    assert frames[-1] == (CLOSE, b"\x03\xe9")


async def test_pong_waits_for_the_end_of_the_frame_under_way(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served:
        peer = await served.peer()
        await connections[0].send(_BIG)
        await wait_all_tasks_blocked()

        await peer.send(PING, b"between")

        assert await peer.receive() == (TEXT, _BIG.encode())
        assert await peer.receive() == (PONG, b"between")


async def test_messages_of_many_senders_stay_whole(autojump_clock: MockClock) -> None:
    handler, connections = held()
    async with serving(handler, listener=MemoryListener(1000)) as served, trio.open_nursery() as n:
        peer = await served.peer()
        for number in range(20):
            n.start_soon(connections[0].send, f"{number}{'x' * 20_000}")

        frames = [await peer.receive() for _ in range(20)]

    assert sorted(_numbers(frames)) == list(range(20))
