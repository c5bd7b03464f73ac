"""`limit_rate`: how fast a client may send."""

from trio_ws._config import Rate
from trio_ws._transport.handshake import Handler, Request
from trio_ws._types import Response


def limit_rate(handler: Handler, rate: Rate) -> Handler:
    """Limit how fast the clients of a handler may send messages, each of them by itself.

    Example::

        app = limit_rate(chat, Rate(messages=20, bytes=64 * 1024))

    Args:
        handler: The handler.
        rate: How fast, and what happens beyond.

    Returns:
        A handler that passes its requests on to the other.
    """

    async def limited(request: Request) -> Response | None:
        request._arrival.rate = rate  # noqa: SLF001 - what a handler cannot say itself
        return await handler(request)

    return limited
