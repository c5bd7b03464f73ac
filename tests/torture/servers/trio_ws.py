"""trio_ws, to be tortured."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial

import trio

import trio_ws
from tests.torture.servers import program
from tests.torture.settings import HOST, MAX_MESSAGE
from trio_ws._protocol.frames import implementation
from trio_ws._transport.watchers import make_watcher


def handler_of(works: program.Works) -> trio_ws.Handler:
    """Make the handler that does what the path says."""

    async def handle(request: trio_ws.Request) -> trio_ws.Response | None:
        if not request.upgrade:
            return trio_ws.Response(200, "no WebSocket\n")
        work = works.get(request.path)
        if work is not None:
            async with request.accept() as connection:
                await work(connection)
        return None

    return handle


async def serve(
    nursery: trio.Nursery,
    task: program.Task,
    wrap: Callable[[trio_ws.Handler], trio_ws.Handler] = lambda handler: handler,
) -> program.Serving:
    """Serve without TLS and with it.

    Args:
        nursery: Where to serve.
        task: What to do.
        wrap: Puts something around the handler.
    """
    times = task.times
    servers: list[trio_ws.Server] = [
        await nursery.start(
            partial(
                trio_ws.serve,
                wrap(handler_of(task.works)),
                0,
                host=HOST,
                ssl_context=context,
                compression=trio_ws.Deflate(),
                limits=trio_ws.Limits(
                    max_message=MAX_MESSAGE,
                    open_timeout=times.open,
                    write_timeout=times.write,
                    close_timeout=times.close,
                ),
                keepalive=trio_ws.Keepalive(
                    interval=times.ping_interval, timeout=times.ping_timeout
                ),
            )
        )
        for context in (None, task.context)
    ]

    def counts() -> Mapping[str, int]:
        statistics = [server.statistics() for server in servers]
        return {
            "open": sum(each.connections_open for each in statistics),
            "streams": sum(each.streams for each in statistics),
        }

    async def drain(grace: float) -> None:
        async with trio.open_nursery() as draining:
            for server in servers:
                draining.start_soon(server.drain, grace)

    return program.Serving(
        ports=(servers[0].port, servers[1].port),
        what=f"trio_ws, {_variant()}",
        drain=drain,
        counts=counts,
    )


def _variant() -> str:
    watcher = make_watcher()
    if watcher is not None:
        watcher.close()
    no_poller = watcher is None or os.environ.get("TRIO_WS_NO_POLLER") == "1"
    return f"{'tasks' if no_poller else 'poller'}, {implementation()} frames"


def is_expected(record: logging.LogRecord) -> bool:
    """Tell whether a line is about a handler that was told to go wrong."""
    told = ("of /fail failed", "of /close failed")
    return bool(record.exc_info) and record.getMessage().endswith(told)


if __name__ == "__main__":
    program.run(serve, is_expected)
