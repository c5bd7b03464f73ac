"""What `connect` promises when it is cancelled, at every moment there is."""

import pytest
import trio

import trio_ws
from tests._transport.fakes import Tls
from tests.invariants.cancelling import Canceller, Line, at_every_moment, covers, listening
from tests.invariants.peers import CLOSE, TEXT, Peer
from trio_ws.testing import stream_pair

pytestmark = pytest.mark.network

_LIMITS = trio_ws.Limits()
_MEMORY = Line("memory")


class _Story:
    """What a client has done, as far as it came."""

    entered = False
    left = False
    """Whether its block was left in the normal way."""

    async def live(self, connection: trio_ws.Connection) -> None:
        self.entered = True
        await connection.send("this")
        await connection.receive()
        self.left = True

    @property
    def codes(self) -> list[int]:
        """The codes of the goodbyes that a peer should hear."""
        if not self.entered:
            return []
        return [1000 if self.left else 1001]


async def _converse(peer: Peer, codes: list[int], *, deaf: bool = False) -> None:
    """Be a server for one client, and note its goodbye."""
    try:
        await peer.answer_handshake()
        await peer.send(TEXT, b"that")
        opcode = TEXT
        while opcode != CLOSE:
            opcode, payload = await peer.receive()
        codes.append(int.from_bytes(payload, "big"))
        if not deaf:
            await peer.send(CLOSE, payload)
            await peer.stream.aclose()
        await peer.read_to_end()
    except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        with trio.CancelScope(shield=True):
            await peer.stream.aclose()


@covers("trio_ws.connect")
def test_cancelled_connect_has_said_goodbye_and_leaves_nothing(line: Line) -> None:
    async def scenario(cancel: Canceller) -> None:
        story = _Story()
        codes: list[int] = []
        began = trio.current_time()

        async with listening(line) as place, trio.open_nursery() as nursery:

            async def serve() -> None:
                await _converse(await place.accept(), codes)

            async def use() -> None:
                async with place.connect(_LIMITS) as connection:
                    await story.live(connection)

            nursery.start_soon(serve)
            await cancel(use)
            await place.visit()
        assert codes == story.codes
        assert trio.current_time() < began + _LIMITS.close_timeout

    at_every_moment(scenario, line, least=5)


@covers("trio_ws.connect")
def test_cancelled_connect_waits_for_an_answer_to_its_goodbye_no_longer_than_it_may() -> None:
    async def scenario(cancel: Canceller) -> None:
        story = _Story()
        codes: list[int] = []

        async with listening(_MEMORY) as place, trio.open_nursery() as nursery:

            async def serve() -> None:
                await _converse(await place.accept(), codes, deaf=True)

            async def use() -> None:
                async with place.connect(_LIMITS) as connection:
                    await story.live(connection)

            nursery.start_soon(serve)
            await cancel(use)
        assert codes == story.codes
        assert trio.current_time() == (_LIMITS.close_timeout if story.entered else 0)

    at_every_moment(scenario, _MEMORY, least=5)


@covers("trio_ws.connect")
def test_connect_cancelled_over_tls_leaves_nothing(tls: Tls) -> None:
    async def scenario(cancel: Canceller) -> None:
        story = _Story()
        codes: list[int] = []
        mine, theirs = stream_pair()
        secure = trio.SSLStream(theirs, tls.server, server_side=True, https_compatible=True)

        async def use() -> None:
            async with trio_ws.connect(
                "wss://localhost/", stream=mine, ssl_context=tls.client
            ) as connection:
                await story.live(connection)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_converse, Peer(secure, masked=False), codes)
            await cancel(use)
            if cancel.beforehand:
                nursery.cancel_scope.cancel()
        assert codes == story.codes
        with pytest.raises(trio.ClosedResourceError):
            await mine.receive_some()

    at_every_moment(scenario, _MEMORY, least=8)
