"""The floor: a bare Trio stream that sends bytes back, without any protocol."""

import contextlib
from functools import partial

import trio

from benchmarks.servers.options import HOST, Options, announce

_streams: set[trio.abc.Stream] = set()


async def echo(stream: trio.abc.Stream) -> None:
    """Send everything back."""
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            await stream.send_all(data)


async def broadcast(stream: trio.abc.Stream) -> None:
    """Send everything to all connections, one system call each."""
    _streams.add(stream)
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(65536):
            for other in tuple(_streams):
                await other.send_all(data)
    _streams.discard(stream)


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    handler = broadcast if options.broadcast else echo
    context = options.ssl_context()
    async with trio.open_nursery() as nursery:
        if context is None:
            serve = partial(trio.serve_tcp, handler, 0, host=HOST)
            listeners = await nursery.start(serve)
            announce(listeners[0].socket.getsockname()[1])
        else:
            # TLS comes with echoes alone.
            serve_tls = partial(trio.serve_ssl_over_tcp, echo, 0, context, host=HOST)
            listeners = await nursery.start(partial(serve_tls, https_compatible=True))
            announce(listeners[0].transport_listener.socket.getsockname()[1])


if __name__ == "__main__":
    trio.run(main)
