"""The server under test: it sends every message back."""

import argparse
import ssl

import trio

import trio_ws
from tests.conformance.settings import COMPRESSION, KEEPALIVE, LIMITS


async def echo(request: trio_ws.Request) -> None:
    """Send every message back, as it came."""
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)


async def main(certificate: str | None) -> None:
    """Serve on a free port of the loopback interface, and print which it is."""
    ssl_context = None
    if certificate is not None:
        ssl_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ssl_context.load_cert_chain(certificate)
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(
            lambda task_status: trio_ws.serve(
                echo,
                0,
                host="127.0.0.1",
                ssl_context=ssl_context,
                compression=COMPRESSION,
                limits=LIMITS,
                keepalive=KEEPALIVE,
                task_status=task_status,
            )
        )
        print(server.port, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", help="serve wss: with this key and certificate (PEM)")
    trio.run(main, parser.parse_args().certificate)
