"""`Hostile`: a client that means ill; `Fault`: what one can do, step by step."""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

import trio
import trio.abc

from tests.invariants.peers import CLOSE, HANDSHAKE, PING, PONG, Peer
from tests.torture.settings import HOST, Times
from trio_ws._transport.endpoint import beneath_tls

LEFT = "left"
"""How a line ended that the client has broken itself."""
CUT = "cut"
"""How a line ended without a Close frame or an answer."""
LATE = "late"
"""What became of a client that was slower than the server is patient, as on a starved machine."""
TORN = "torn"
"""How a line ended inside of a frame, which is right for nobody but who did not read."""

_LONGEST_PAUSE = 0.03  # seconds, in which the server may see what has come so far


class UnexpectedError(Exception):
    """The server did what it should not; the text says what."""


class LateError(Exception):
    """This client was slower than the server is patient."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test."""

    ports: tuple[int, int]
    """Where it listens: without TLS, and with it."""
    context: ssl.SSLContext
    """Trusts it."""
    times: Times
    """How patient it is."""

    async def connect(self, *, secure: bool) -> trio.SocketStream:
        """Open a line, and speak no TLS over it yet."""
        sock = trio.socket.socket()
        try:
            await sock.connect((HOST, self.ports[secure]))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def open(self, *, secure: bool) -> trio.abc.Stream:
        """Open a line, with TLS if that is wanted."""
        line = await self.connect(secure=secure)
        return await self.secure(line) if secure else line

    async def secure(self, line: trio.abc.Stream) -> "trio.SSLStream[trio.abc.Stream]":
        """Speak TLS over a line; it is closed if that fails."""
        stream = trio.SSLStream(line, self.context, server_hostname=HOST, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(line)
            raise
        return stream


class Hostile:
    """A hostile client; it may open several lines, which are all cut at the end.

    Args:
        target: The server under test.
        step: How far it goes before it does what it does; the fault knows what that means.
        secure: Whether it speaks TLS.
        random: Draws whatever it decides.
    """

    def __init__(self, target: Target, *, step: int, secure: bool, random: Random) -> None:
        self._target = target
        self._lines: list[trio.abc.Stream] = []
        self.step = step
        self.secure = secure
        self.random = random
        self.times = target.times

    @property
    def opened(self) -> int:
        """How many lines it has opened."""
        return len(self._lines)

    async def wire(self, *, receive_buffer: int | None = None) -> Peer:
        """Open a line, and speak no TLS over it, whatever the server expects."""
        line = await self._target.connect(secure=self.secure)
        self._lines.append(line)
        if receive_buffer is not None:
            line.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        return Peer(line)

    async def dial(self, *, receive_buffer: int | None = None) -> Peer:
        """Open a line."""
        peer = await self.wire(receive_buffer=receive_buffer)
        if self.secure:
            peer = Peer(await self._target.secure(peer.stream))
        return peer

    async def over(self, line: trio.abc.Stream) -> Peer:
        """Speak TLS over a stream of the client's own."""
        return Peer(await self._target.secure(line))

    async def enter(self, path: str = "/echo", *, receive_buffer: int | None = None) -> Peer:
        """Open a WebSocket."""
        head = b"nothing"
        begun = trio.current_time()
        with suppress(EOFError, trio.BrokenResourceError):
            peer = await self.dial(receive_buffer=receive_buffer)
            await peer.send_bytes(handshake(path))
            head = await peer.read_head()
        if head.startswith(b"HTTP/1.1 101 "):
            return peer
        if trio.current_time() - begun >= self.times.open:
            raise LateError
        raise UnexpectedError(f"the server answered {head[:40]!a} to a handshake for {path}")

    async def pause(self) -> None:
        """Give the server time to see what has come so far, or none, or some."""
        how = self.random.randrange(3)
        if how == 1:
            await trio.lowlevel.checkpoint()
        elif how == 2:
            await trio.sleep(self.random.uniform(0, _LONGEST_PAUSE))

    async def aclose(self) -> None:
        """Cut all lines."""
        with trio.CancelScope(shield=True):
            # It waits for nobody, so the shield needs no deadline.
            for line in self._lines:
                await trio.aclose_forcefully(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a hostile client can do."""

    name: str
    act: Callable[[Hostile], Awaitable[str]]
    """Does it, and returns how it ended; raises `UnexpectedError`."""
    steps: int = 1
    """In how many ways it can be done; each is done once in a lap."""
    slow: bool = False
    """Whether it waits for the server's patience to end; such clients begin together."""
    plain: bool = True
    """Whether it is done without TLS."""
    secure: bool = True
    """Whether it is done with TLS."""


def handshake(path: str) -> bytes:
    """Return an opening handshake for a path."""
    return HANDSHAKE.replace(b"/echo", path.encode())


async def end_input(peer: Peer) -> None:
    """Half-close the line, below TLS if there is TLS."""
    line = beneath_tls(peer.stream)
    assert isinstance(line, trio.abc.HalfCloseableStream)
    with suppress(trio.BrokenResourceError):
        await line.send_eof()


async def how_it_ends(peer: Peer, *, opened: bool = True, answers: bool = True) -> str:
    """Read to the end of the line, and tell how it ended.

    Args:
        peer: The line.
        opened: Whether the server's 101 was read.
        answers: Whether to answer pings and the Close.

    Returns:
        The status of an answer, the code of a Close, or one of the words above.

    Raises:
        UnexpectedError: The server went on after the last it had to say.
    """
    try:
        if not opened:
            status = (await peer.read_head())[9:12]
            if status != b"101":
                await peer.read_to_end()
                return status.decode()
        return await _read_close(peer, answers=answers)
    except (EOFError, trio.BrokenResourceError):
        return CUT
    except ValueError as error:
        if error.__cause__ is None:
            # The line goes on, and what is next is no frame.
            raise UnexpectedError(str(error)) from None
        return TORN


async def _read_close(peer: Peer, *, answers: bool) -> str:
    while True:
        opcode, payload = await peer.receive()
        if opcode == CLOSE:
            if answers:
                await _try_to_send(peer, CLOSE, payload[:2])
            if await peer.read_to_end():
                raise UnexpectedError("the server sent more behind its Close frame")
            return str(int.from_bytes(payload[:2], "big") or 1005)
        if opcode == PING and answers:
            await _try_to_send(peer, PONG, payload)


async def _try_to_send(peer: Peer, opcode: int, payload: bytes) -> None:
    # Closed is a line of which this side was ended already.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await peer.send(opcode, payload)


async def while_sending(
    send: Callable[[], Awaitable[None]], receive: Callable[[], Awaitable[str]]
) -> str:
    """Send until it is known how the line ended; what receives must not send."""

    async def try_to_send() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await send()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_to_send)
        ended = await receive()
        nursery.cancel_scope.cancel()
    return ended


def expect(ended: str, *patterns: str) -> str:
    """Return how a line ended, if that is one of the ways that are right.

    Raises:
        UnexpectedError: It is not.
    """
    if not any(fnmatchcase(ended, pattern) for pattern in patterns):
        raise UnexpectedError(f"it ended as {ended}, not as {' or '.join(patterns)}")
    return ended
