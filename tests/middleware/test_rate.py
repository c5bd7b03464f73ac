"""A limited rate, through the test kit."""

import pytest
from trio.testing import MockClock

import trio_ws.testing
from trio_ws import ConnectionClosedError, Request, Response
from trio_ws.middleware import Rate, limit_rate


async def echo(request: Request) -> Response | None:
    if not request.upgrade:
        return Response(200, "a page")
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)
    return None


async def test_client_that_is_too_fast_is_slowed_down(autojump_clock: MockClock) -> None:
    began = autojump_clock.current_time()
    handler = limit_rate(echo, Rate(messages=10, burst=1))

    async with trio_ws.testing.connect(handler) as connection:
        for number in range(30):
            await connection.send(str(number))
        assert [await connection.receive() for _ in range(30)] == [str(n) for n in range(30)]
        assert autojump_clock.current_time() - began == pytest.approx(2)


async def test_client_that_is_too_fast_is_closed_with_1008(autojump_clock: MockClock) -> None:
    handler = limit_rate(echo, Rate(messages=10, burst=1, excess="close"))

    async with trio_ws.testing.connect(handler) as connection:
        for number in range(11):
            await connection.send(str(number))
        await connection.wait_closed()
        with pytest.raises(ConnectionClosedError) as caught:
            [await connection.receive() for _ in range(11)]

    assert caught.value.code == 1008
    assert caught.value.reason == "the rate limit was exceeded"


async def test_each_connection_has_a_rate_of_its_own() -> None:
    handler = limit_rate(echo, Rate(messages=1, burst=5, excess="close"))

    for _ in range(3):
        async with trio_ws.testing.connect(handler) as connection:
            for _ in range(5):
                await connection.send("x")
            assert [await connection.receive() for _ in range(5)] == ["x"] * 5


async def test_plain_requests_are_passed_on() -> None:
    response = await trio_ws.testing.request(limit_rate(echo, Rate(messages=1)))

    assert response.text == "a page"
