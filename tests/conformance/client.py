"""The client under test: for each case it connects to the suite, and sends every message back."""

import argparse
import ssl
import sys

import trio

import trio_ws
from tests.conformance.settings import AGENT, COMPRESSION, KEEPALIVE, LIMITS


async def run_case(url: str, ssl_context: ssl.SSLContext | None) -> None:
    """Send every message back until the connection ends; an end with an error is the suite's."""
    try:
        async with trio_ws.connect(
            url,
            ssl_context=ssl_context,
            compression=COMPRESSION,
            limits=LIMITS,
            keepalive=KEEPALIVE,
        ) as connection:
            async for message in connection:
                await connection.send(message)
    except trio_ws.ConnectionClosed:
        # Half of the cases are faults of the peer; the suite judges what was said about them.
        pass
    except trio_ws.HandshakeError as error:
        # The suite reports it as well; it goes on with the next case.
        print(f"{url}: {error}", file=sys.stderr)


async def main(url: str, cases: list[str], certificate: str | None) -> None:
    """Run cases one after the other, then have the suite write its report."""
    ssl_context = None
    if certificate is not None:
        ssl_context = ssl.create_default_context(cafile=certificate)
    for case in cases:
        await run_case(f"{url}/runCase?casetuple={case}&agent={AGENT}", ssl_context)
    await run_case(f"{url}/updateReports?agent={AGENT}", ssl_context)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where the suite listens")
    parser.add_argument("cases", nargs="+", help="such as 1.1.1")
    parser.add_argument("--certificate", help="the authority to trust for wss: (PEM)")
    arguments = parser.parse_args()
    trio.run(main, arguments.url, arguments.cases, arguments.certificate)
