"""Fixtures for pytest, beside those of pytest-trio: servers, and pairs to talk over.

They are there as soon as trio_ws is installed; a test only has to name one as a parameter.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio

import trio_ws
import trio_ws.testing

_Pair: TypeAlias = tuple[trio_ws.Connection, trio_ws.Connection]


@pytest.fixture
def ws_server(nursery: trio.Nursery) -> Callable[..., Awaitable[trio_ws.Server]]:
    """Start real servers on free ports of 127.0.0.1, which end with the test.

    Example::

        async def test_greets(ws_server) -> None:
            server = await ws_server(greet)
            async with trio_ws.connect(f"ws://127.0.0.1:{server.port}") as connection:
                ...

    The function takes a handler, and keyword arguments of `trio_ws.serve`.
    """

    async def start(handler: trio_ws.Handler, **options: object) -> trio_ws.Server:
        # The options are those of serve(), which checks them.
        run = partial(trio_ws.serve, handler, 0, host="127.0.0.1", **options)  # type: ignore[arg-type]
        server: trio_ws.Server = await nursery.start(run)
        return server

    return start


@pytest.fixture
async def ws_connection_pair() -> AsyncGenerator[_Pair, None]:
    """Give the client's and the server's end of a connection in memory."""
    async with trio_ws.testing.connection_pair() as pair:
        yield pair


@pytest.fixture
async def ws_channel_pair() -> AsyncGenerator[
    tuple[trio_ws.testing.MemoryChannel, trio_ws.testing.MemoryChannel], None
]:
    """Give two connected channels without any protocol between them."""
    left, right = trio_ws.testing.channel_pair()
    async with left, right:
        yield left, right
