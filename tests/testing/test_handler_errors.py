"""No error of a handler or a block is lost to a cancellation, or to its own consequence."""

import pytest
import trio
from trio.testing import MockClock

import trio_ws.testing
from trio_ws._errors import ConnectionClosed, HandshakeError
from trio_ws._transport.handshake import Request

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class HandlerError(Exception):
    """What a handler of these tests raises."""


class BlockError(Exception):
    """What a block of these tests raises."""


async def hold(request: Request) -> None:
    async with request.accept() as connection:
        await connection.wait_closed()


@pytest.mark.parametrize("error", [HandlerError, KeyboardInterrupt, SystemExit])
async def test_an_error_of_a_cancelled_handler_leaves_as_itself(
    error: type[BaseException],
) -> None:
    scope = trio.CancelScope()

    async def fail_when_cancelled(request: Request) -> None:
        async with request.accept():
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise error from None

    with pytest.raises(error), scope:
        async with trio_ws.testing.connect(fail_when_cancelled) as connection:
            await connection.receive()


@pytest.mark.parametrize("error", [BlockError, KeyboardInterrupt])
async def test_an_error_of_a_cancelled_block_leaves_as_itself(error: type[BaseException]) -> None:
    scope = trio.CancelScope()

    def fail() -> None:
        scope.cancel()
        raise error

    with pytest.raises(error), scope:
        async with trio_ws.testing.connect(hold):
            fail()


async def test_a_cancellation_during_the_grace_leaves_alone(autojump_clock: MockClock) -> None:
    async def linger(request: Request) -> None:
        await hold(request)
        await trio.sleep_forever()

    with trio.move_on_after(3) as scope:
        async with trio_ws.testing.connect(linger, grace=7):
            pass

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(3)


async def test_an_error_of_a_handler_that_takes_its_time_to_raise_it_leaves_as_itself(
    autojump_clock: MockClock,
) -> None:
    async def fail_slowly(request: Request) -> None:
        try:
            async with request.accept():
                raise HandlerError
        finally:
            await trio.sleep(1)

    with pytest.raises(HandlerError):
        async with trio_ws.testing.connect(fail_slowly) as connection:
            await connection.receive()


async def test_a_block_that_fails_by_itself_does_not_wait_for_the_handler(
    autojump_clock: MockClock,
) -> None:
    async def linger(request: Request) -> None:
        await hold(request)
        await trio.sleep_forever()

    with pytest.raises(BlockError):
        async with trio_ws.testing.connect(linger, grace=7):
            raise BlockError

    assert trio.current_time() == 0


async def test_request_says_that_the_handler_accepted_a_websocket() -> None:
    with pytest.raises(HandshakeError, match="connect"):
        await trio_ws.testing.request(hold, headers=HANDSHAKE)


async def test_what_a_handler_says_of_another_connection_is_an_error() -> None:
    async with trio_ws.testing.connection_pair() as (other, far):
        await far.aclose()

        async def use_another(request: Request) -> None:
            async with request.accept():
                await other.receive()

        with pytest.raises(ConnectionClosed):
            async with trio_ws.testing.connect(use_another):
                await trio.sleep_forever()
