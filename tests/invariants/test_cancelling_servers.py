"""What a server and its handlers promise when they are cancelled, at every moment there is."""

import sys
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws
from tests._transport.fakes import Resolver
from tests.invariants.cancelling import SILENT, Canceller, Line, Started, at_every_moment, covers
from tests.invariants.peers import (
    HANDSHAKE,
    MemoryListener,
    Peer,
    serving,
    serving_tcp,
    until,
)
from trio_ws.middleware import Rate, basic_auth, bearer_auth, limit_rate

pytestmark = pytest.mark.network

# Only Linux answers on all of 127.0.0.0/8 by itself.
SECOND_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "::1"


def _routed(handler: trio_ws.Handler) -> trio_ws.Handler:
    router = trio_ws.Router()
    router.add("/echo", handler)
    return router


_AUTHORIZATION = {
    "basic": b"Authorization: Basic YW5hOmFuYQ==\r\n\r\n",
    "bearer": b"Authorization: Bearer ana\r\n\r\n",
}

_Wrap = Callable[[trio_ws.Handler], trio_ws.Handler]


@covers(
    "trio_ws.Request.accept",
    "trio_ws.Router.__call__",
    "trio_ws.middleware.basic_auth",
    "trio_ws.middleware.bearer_auth",
    "trio_ws.middleware.limit_rate",
)
@pytest.mark.parametrize(
    ("wrap", "end"),
    [
        pytest.param(lambda handler: handler, b"\r\n", id="bare"),
        pytest.param(_routed, b"\r\n", id="Router"),
        pytest.param(
            lambda handler: basic_auth(handler, {"ana": "ana"}),
            _AUTHORIZATION["basic"],
            id="basic_auth",
        ),
        pytest.param(
            lambda handler: bearer_auth(handler, {"ana": "ana"}),
            _AUTHORIZATION["bearer"],
            id="bearer_auth",
        ),
        pytest.param(
            lambda handler: limit_rate(handler, Rate(messages=5)), b"\r\n", id="limit_rate"
        ),
    ],
)
def test_cancelled_handler_has_said_goodbye_and_leaves_nothing(
    wrap: _Wrap, end: bytes, line: Line
) -> None:
    async def scenario(cancel: Canceller) -> None:
        entered = left = False

        async def greet(request: trio_ws.Request) -> None:
            nonlocal entered, left
            async with request.accept() as connection:
                entered = True
                await connection.send("hello")
                with trio.move_on_after(0.01):
                    await connection.receive()
                left = True

        async def handler(request: trio_ws.Request) -> None:
            await cancel(partial(_answered, wrap(greet), request))

        began = trio.current_time()
        async with (
            serving(handler, keepalive=SILENT)
            if line.in_memory
            else serving_tcp(handler, keepalive=SILENT)
        ) as served:
            peer = Peer(await served.open())
            await peer.send_bytes(HANDSHAKE.removesuffix(b"\r\n") + end)
            status = (await peer.read_head())[9:12]
            codes = [await peer.receive_close()] if status == b"101" else []
            await until(lambda: served.server.statistics().streams == 0)
            assert not served.server.connections
        assert status == (b"101" if entered else b"404")
        assert codes == ([1000 if left else 1001] if entered else [])
        assert trio.current_time() < began + trio_ws.Limits().close_timeout

    at_every_moment(scenario, line, least=2)


async def _answered(handler: trio_ws.Handler, request: trio_ws.Request) -> None:
    assert await handler(request) is None


async def _hold_or_stuff(request: trio_ws.Request) -> None:
    async with request.accept() as connection:
        if request.path == "/stuffed":
            for _ in range(100):
                await connection.send("x" * 100_000)
        await connection.wait_closed()


class _Crowd:
    """Clients of a server in different states.

    Args:
        line: What lies between.
        listener: Where they come in memory.
    """

    def __init__(self, line: Line, listener: MemoryListener) -> None:
        self._line = line
        self._listener = listener
        self.status = Started()
        self.connected = 0
        self.told: list[int] = []

    async def come(self) -> None:
        await self.status.heard.wait()
        async with trio.open_nursery() as nursery:
            for behave in (self._stay, self._stay, self._dawdle):
                nursery.start_soon(self._visit, behave)
            if self._line.in_memory:
                # Elsewhere it would take seconds to give this one up.
                nursery.start_soon(self._visit, self._read_nothing)

    async def end(self) -> None:
        """End the server in order, once there are as many as there can be."""
        await self.status.heard.wait()
        await until(lambda: self.connected == 2)
        assert self.status.server is not None
        await self.status.server.drain(0)

    async def dial(self) -> trio.abc.Stream:
        if self._line.in_memory:
            await trio.lowlevel.checkpoint()
            return self._listener.open()
        assert self.status.server is not None
        return await trio.open_tcp_stream("127.0.0.1", self.status.server.port)

    async def _visit(self, behave: Callable[[Peer], Awaitable[None]]) -> None:
        try:
            async with await self.dial() as stream:
                await behave(Peer(stream))
        except (OSError, EOFError, trio.BrokenResourceError):
            # The server was gone already.
            return

    async def _stay(self, peer: Peer) -> None:
        await peer.handshake()
        self.connected += 1
        self.told.append(await peer.receive_close())

    async def _dawdle(self, peer: Peer) -> None:
        await peer.send_bytes(HANDSHAKE[:20])
        await peer.read_to_end()

    async def _read_nothing(self, peer: Peer) -> None:
        await peer.handshake("/stuffed")
        await trio.sleep_forever()


@covers("trio_ws.serve")
def test_cancelled_serve_has_said_goodbye_to_everybody_and_listens_no_more(line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        # Two addresses, so that a search for a port that is free on both is cancelled as well.
        trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1", SECOND_ADDRESS))
        listener = MemoryListener()
        crowd = _Crowd(line, listener)
        serve = partial(
            trio_ws.serve,
            _hold_or_stuff,
            None if line.in_memory else 0,
            listeners=[listener] if line.in_memory else None,
            keepalive=SILENT,
            task_status=crowd.status,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.come)
            nursery.start_soon(crowd.end)
            await cancel(serve)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert crowd.told == [1001] * crowd.connected
        if line.in_memory:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()
        elif crowd.status.server is not None:
            with pytest.raises(OSError, match="failed"):
                await crowd.dial()

    at_every_moment(scenario, line, least=2)


@covers("trio_ws.Server.drain")
def test_cancelled_drain_goes_on_without_its_deadline(line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        finish = trio.Event()

        async def handler(request: trio_ws.Request) -> None:
            async with request.accept() as connection:
                await connection.wait_closed()
                await finish.wait()

        async with (
            serving(handler, keepalive=SILENT)
            if line.in_memory
            else serving_tcp(handler, keepalive=SILENT)
        ) as served:
            codes: list[int] = []

            async def listen(peer: Peer) -> None:
                codes.append(await peer.receive_close())

            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(listen, await served.peer())
                grace = 3 if line.in_memory else 0.01
                cut = await cancel(lambda: served.server.drain(grace))
            assert codes == [1001] * 2
            if cut and line.in_memory and trio.current_time() < grace:
                assert served.server.statistics().streams == 2
            finish.set()
            await served.ended.wait()

    at_every_moment(scenario, line, least=2)
