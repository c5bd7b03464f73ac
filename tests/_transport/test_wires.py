"""`make_wire` chooses the wire for a stream."""

from collections.abc import AsyncGenerator
from math import inf

import pytest
import trio

from tests._transport.fakes import Tls
from tests._transport.socket_benches import needs_watcher
from tests._transport.wires import Owner
from trio_ws._config import Limits
from trio_ws._transport import poller as poller_module
from trio_ws._transport.outgoing import Outgoing
from trio_ws._transport.socket_wire import SocketWire
from trio_ws._transport.stream_wire import StreamWire
from trio_ws._transport.tls import TlsSession
from trio_ws._transport.tls_stream import TlsStream
from trio_ws._transport.tls_wire import TlsWire
from trio_ws._transport.wire import Wire
from trio_ws._transport.wires import make_wire
from trio_ws.testing import stream_pair

pytestmark = [pytest.mark.network, needs_watcher]


def wire_of(stream: trio.abc.Stream) -> type[Wire]:
    return type(make_wire(stream, Outgoing(inf), Owner(), Limits(), client=False))


@pytest.fixture
async def streams(tls: Tls) -> AsyncGenerator[dict[str, trio.abc.Stream], None]:
    """Give a stream of each kind."""
    here, there = trio.socket.socketpair()
    socket = trio.SocketStream(here)
    async with socket, trio.SocketStream(there):
        yield {
            "socket": socket,
            "TLS of ours": TlsStream(socket, TlsSession(tls.server, server_hostname=None)),
            "TLS of Trio's": trio.SSLStream(socket, tls.server, server_side=True),
            "memory": stream_pair()[0],
        }


async def test_sockets_are_served_by_the_poller_with_tls_of_ours_or_without(
    streams: dict[str, trio.abc.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_WS_NO_POLLER", raising=False)

    assert {name: wire_of(stream) for name, stream in streams.items()} == {
        "socket": SocketWire,
        "TLS of ours": TlsWire,
        "TLS of Trio's": StreamWire,
        "memory": StreamWire,
    }


async def test_tasks_serve_every_stream_when_no_poller_can_be_had(
    streams: dict[str, trio.abc.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "_make_poller", lambda: None)

    assert {wire_of(stream) for stream in streams.values()} == {StreamWire}
