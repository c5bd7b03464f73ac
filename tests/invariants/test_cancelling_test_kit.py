"""What `trio_ws.testing` promises when it is cancelled, at every moment there is."""

from collections.abc import Callable, Coroutine
from typing import TypeAlias

import pytest
import trio

import trio_ws
import trio_ws.testing
from tests.invariants.cancelling import SILENT, Canceller, Line, at_every_moment, covers
from trio_ws.testing import FaultyStream, MemoryChannel, MemoryStream, channel_pair, stream_pair

_MEMORY = Line("memory")

_Stream: TypeAlias = MemoryStream | FaultyStream
_Ends: TypeAlias = tuple[_Stream, _Stream]


@covers("trio_ws.testing.connect")
def test_cancelled_connect_has_said_goodbye_on_both_sides_and_leaves_nothing() -> None:
    async def scenario(cancel: Canceller) -> None:
        ends: list[trio_ws.Connection] = []
        entered = False

        async def echo(request: trio_ws.Request) -> None:
            async with request.accept() as connection:
                ends.append(connection)
                async for message in connection:
                    await connection.send(message)

        async def use() -> None:
            nonlocal entered
            async with trio_ws.testing.connect(echo, keepalive=SILENT) as connection:
                entered = True
                ends.append(connection)
                await connection.send("this")
                await connection.receive()

        cut = await cancel(use)
        codes = {end.close_code for end in ends}
        # Before the client has its connection, it has nobody to say goodbye to.
        assert codes <= ({1000, 1001} if entered else {1001, 1006})
        assert cut or codes == {1000}
        assert trio.current_time() == 0

    at_every_moment(scenario, _MEMORY, least=5)


@covers("trio_ws.testing.connection_pair")
def test_cancelled_connection_pair_has_said_goodbye_on_both_sides_and_leaves_nothing() -> None:
    async def scenario(cancel: Canceller) -> None:
        ends: list[trio_ws.Connection] = []
        left = False

        async def use() -> None:
            nonlocal left
            async with trio_ws.testing.connection_pair(keepalive=SILENT) as pair:
                ends.extend(pair)
                await trio.sleep(1)
                left = True

        await cancel(use)
        # Whichever side the cancellation reaches first says it.
        codes = {end.close_code for end in ends}
        assert codes <= ({1000, 1001} if left else {1001})
        assert trio.current_time() <= 1

    at_every_moment(scenario, _MEMORY, least=5)


@covers("trio_ws.testing.request")
def test_cancelled_request_has_cancelled_its_handler() -> None:
    async def scenario(cancel: Canceller) -> None:
        running = finished = 0

        async def answer(request: trio_ws.Request) -> trio_ws.Response:
            nonlocal running, finished
            running += 1
            try:
                await trio.sleep(1)
            finally:
                running -= 1
            finished += 1
            return trio_ws.Response(200, "this")

        cut = await cancel(lambda: trio_ws.testing.request(answer))
        assert running == 0
        assert cut or finished == 1
        assert trio.current_time() <= 1

    at_every_moment(scenario, _MEMORY, least=4)


async def _next_message(channel: MemoryChannel) -> str | bytes:
    return await anext(channel)


@covers(
    "trio_ws.testing.MemoryChannel.send",
    "trio_ws.testing.MemoryChannel.receive",
    "trio_ws.testing.MemoryChannel.__anext__",
)
@pytest.mark.parametrize("receive", [MemoryChannel.receive, _next_message])
@pytest.mark.parametrize("cancelled", ["sender", "receiver"])
def test_cancelled_call_of_a_memory_channel_has_moved_no_message(
    receive: Callable[[MemoryChannel], Coroutine[object, object, str | bytes]], cancelled: str
) -> None:
    async def scenario(cancel: Canceller) -> None:
        left, right = channel_pair(1)
        sent: list[str] = []
        received: list[str | bytes] = []

        async def send_all() -> None:
            while len(sent) < 5:
                await left.send(str(len(sent)))
                sent.append(str(len(sent)))

        async def receive_all() -> None:
            while len(received) < 5:
                received.append(await receive(right))

        async with trio.open_nursery() as nursery, left, right:
            if cancelled == "sender":
                nursery.start_soon(receive_all)
                await cancel(send_all)
                await send_all()
            else:
                nursery.start_soon(send_all)
                await cancel(receive_all)
                await receive_all()
            await trio.testing.wait_all_tasks_blocked()
        assert received == ["0", "1", "2", "3", "4"]

    at_every_moment(scenario, _MEMORY, least=5)


async def _leave(resource: trio.abc.AsyncResource) -> None:
    async with resource:
        pass


@covers(
    "trio_ws.testing.MemoryChannel.aclose",
    "trio_ws.testing.MemoryChannel.__aenter__",
    "trio_ws.testing.MemoryChannel.__aexit__",
)
@pytest.mark.parametrize("close", [MemoryChannel.aclose, _leave])
def test_cancelled_aclose_of_a_memory_channel_has_closed_it(
    close: Callable[[MemoryChannel], Coroutine[object, object, None]],
) -> None:
    async def scenario(cancel: Canceller) -> None:
        left, right = channel_pair()
        await left.send("this")
        await cancel(lambda: close(left))
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()
        assert await right.receive() == "this"
        with pytest.raises(trio.EndOfChannel):
            await right.receive()
        await right.aclose()

    at_every_moment(scenario, _MEMORY, least=1)


def _plain() -> _Ends:
    return stream_pair(10)


def _faulty() -> _Ends:
    near, far = stream_pair(10)
    return FaultyStream(near, seed=7, delay=0.1, split=7), far


_STREAMS = pytest.mark.parametrize("open_ends", [_plain, _faulty])


def _of_both(*methods: str) -> list[str]:
    kinds = ("MemoryStream", "FaultyStream")
    return [f"trio_ws.testing.{kind}.{method}" for kind in kinds for method in methods]


async def _receive_some(stream: trio.abc.ReceiveStream) -> bytes:
    return bytes(await stream.receive_some())


async def _next_chunk(stream: trio.abc.ReceiveStream) -> bytes:
    async for chunk in stream:
        return bytes(chunk)
    return b""


@covers(*_of_both("receive_some", "__anext__"))
@_STREAMS
@pytest.mark.parametrize("receive", [_receive_some, _next_chunk])
def test_cancelled_receive_some_has_taken_no_byte(
    receive: Callable[[_Stream], Coroutine[object, object, bytes]],
    open_ends: Callable[[], _Ends],
) -> None:
    async def scenario(cancel: Canceller) -> None:
        near, far = open_ends()
        received = b""

        async def receive_all() -> None:
            nonlocal received
            while chunk := await receive(near):
                received += chunk

        async def send() -> None:
            await far.send_all(bytes(range(50)))
            await far.send_eof()

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await cancel(receive_all)
            await receive_all()
        assert received == bytes(range(50))

    at_every_moment(scenario, _MEMORY, least=5)


@covers(*_of_both("send_all"))
@_STREAMS
def test_cancelled_send_all_has_sent_a_part_and_nothing_else(
    open_ends: Callable[[], _Ends],
) -> None:
    async def scenario(cancel: Canceller) -> None:
        near, far = open_ends()
        received = b""

        async def receive() -> None:
            nonlocal received
            async for chunk in far:
                received += chunk

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            cut = await cancel(lambda: near.send_all(bytes(range(50))))
            await near.send_all(b"last")
            await near.send_eof()
        sent = received.removesuffix(b"last")
        assert sent == bytes(range(50))[: len(sent)]
        assert cut or len(sent) == 50

    at_every_moment(scenario, _MEMORY, least=3)


@covers(*_of_both("send_eof"))
@_STREAMS
def test_cancelled_send_eof_has_ended_nothing(open_ends: Callable[[], _Ends]) -> None:
    async def scenario(cancel: Canceller) -> None:
        near, far = open_ends()
        async with near, far:
            if await cancel(near.send_eof):
                await near.send_all(b"last")
                assert await far.receive_some() + await _rest(near, far) == b"last"
            else:
                assert await far.receive_some() == b""

    at_every_moment(scenario, _MEMORY, least=1)


async def _rest(near: _Stream, far: _Stream) -> bytes:
    await near.send_eof()
    return b"".join([chunk async for chunk in far])


@covers(*_of_both("wait_send_all_might_not_block"))
@_STREAMS
def test_cancelled_wait_for_room_changes_nothing(open_ends: Callable[[], _Ends]) -> None:
    async def scenario(cancel: Canceller) -> None:
        near, far = open_ends()
        async with near, far, trio.open_nursery() as nursery:
            await near.send_all(b"0123456789")

            async def read() -> None:
                await trio.sleep(1)
                await far.receive_some(4)

            nursery.start_soon(read)
            await cancel(near.wait_send_all_might_not_block)
            await near.wait_send_all_might_not_block()
            await near.send_all(b"last")
            assert await _rest(near, far) == b"456789last"

    at_every_moment(scenario, _MEMORY, least=2)


@covers(*_of_both("aclose", "__aenter__", "__aexit__"), "trio_ws.testing.FaultyStream.cut")
@pytest.mark.parametrize(
    ("open_ends", "close", "error"),
    [
        (_plain, MemoryStream.aclose, trio.ClosedResourceError),
        (_plain, _leave, trio.ClosedResourceError),
        (_faulty, FaultyStream.aclose, trio.ClosedResourceError),
        (_faulty, _leave, trio.ClosedResourceError),
        (_faulty, FaultyStream.cut, trio.BrokenResourceError),
    ],
)
def test_cancelled_end_of_a_stream_has_ended_it(
    open_ends: Callable[[], _Ends],
    close: Callable[[_Stream], Coroutine[object, object, None]],
    error: type[Exception],
) -> None:
    async def scenario(cancel: Canceller) -> None:
        near, far = open_ends()
        await cancel(lambda: close(near))
        with pytest.raises(error):
            await near.receive_some()
        assert await far.receive_some() == b""
        await near.aclose()
        await far.aclose()

    at_every_moment(scenario, _MEMORY, least=1)
