"""`Relay`: stands between a client and a server, over real sockets, and breaks off at will."""

import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import trio

Side: TypeAlias = Literal["client", "server"]

_PIECE = 4096  # bytes passed on at a time

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Relay:
    """Passes on what two sides say, and keeps it. Created by `open_relay`."""

    def __init__(self) -> None:
        self.port = 0
        """Where the client is to connect."""
        self.told: dict[Side, bytearray] = {"client": bytearray(), "server": bytearray()}
        """What each side was sent, or was about to be."""
        self._lines: dict[Side, trio.SocketStream] = {}
        self._stalled: trio.Event | None = None

    def stall(self) -> None:
        """Pass on nothing more, until `resume` is called."""
        if self._stalled is None:
            self._stalled = trio.Event()

    def resume(self) -> None:
        """Go on after `stall`."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def cut(self) -> None:
        """End both lines, and have nothing more of what is on its way arrive."""
        for line in self._lines.values():
            line.socket.close()
        await trio.lowlevel.checkpoint()

    def reset(self, side: Side) -> None:
        """Reset the line to one side; that to the other one just ends."""
        line = self._lines[side]
        if line.socket.fileno() != -1:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.socket.close()

    async def run(
        self, server_port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Wait for a client, and pass on what it and the server say."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            self.port = listener.socket.getsockname()[1]
            task_status.started()
            self._lines["client"] = await listener.accept()
        self._lines["server"] = await trio.open_tcp_stream("127.0.0.1", server_port)
        async with (
            self._lines["client"],
            self._lines["server"],
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._pass_on, "client", "server")
            nursery.start_soon(self._pass_on, "server", "client")

    async def _pass_on(self, source: Side, to: Side) -> None:
        incoming, outgoing = self._lines[source], self._lines[to]
        try:
            while data := await incoming.receive_some(_PIECE):
                while self._stalled is not None:
                    await self._stalled.wait()
                self.told[to] += data
                await outgoing.send_all(data)
            await outgoing.send_eof()
        except _BROKEN:
            # One of the lines is lost, and with it the other.
            await outgoing.aclose()
            await incoming.aclose()


@asynccontextmanager
async def open_relay(server_port: int) -> AsyncGenerator[Relay, None]:
    """Run a relay to a server on this machine, for one client."""
    relay = Relay()
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run, server_port)
        yield relay
        nursery.cancel_scope.cancel()
