"""Links over memory, for their tests."""

import trio
from trio.testing import wait_all_tasks_blocked

from tests._transport.fakes import NO_KEEPALIVE, EngineType, RawPeer
from trio_ws._config import Keepalive, Limits
from trio_ws._errors import ConnectionClosed
from trio_ws._protocol.engine import Engine
from trio_ws._transport.link import Link
from trio_ws._types import Message
from trio_ws.testing import stream_pair


def open_link(
    nursery: trio.Nursery,
    engine_type: EngineType = Engine,
    *,
    client: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    keepalive: Keepalive = NO_KEEPALIVE,
    head: bytes = b"",
    rest: bytes = b"",
    capacity: int = 64 * 1024,
) -> tuple[Link, RawPeer]:
    """Start a link over memory; return it and the peer."""
    stream, far = stream_pair(capacity)
    engine = engine_type(
        client=client, max_message=limits.max_message, max_fragments=limits.max_fragments
    )
    link = Link(stream, engine, limits, "peer")
    link.start(nursery, keepalive, head=head, rest=rest)
    return link, RawPeer(far, client=not client)


async def settle(link: Link, nursery: trio.Nursery) -> None:
    """Cut the line, and see that nothing is left of the link."""
    link.wire.abort()
    await link.wire.wait_stopped()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def drain(link: Link) -> list[Message]:
    """Receive everything up to the end."""
    messages: list[Message] = []
    try:
        while True:
            messages.append(await link.inbox.receive())
    except ConnectionClosed:
        return messages
