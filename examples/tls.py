"""TLS: a server with a certificate, a client that trusts it, and a client that does not.

    python examples/tls.py                                       with a throwaway certificate
    python examples/tls.py --cert server.pem --key server.key    with one of yours, for localhost

The throwaway certificate needs `pip install trustme`.
"""

import argparse
import functools
import ssl
import sys
from pathlib import Path

import trio

import trio_ws


async def greet(request: trio_ws.Request) -> None:
    """Greet one client, in private."""
    async with request.accept() as connection:
        await connection.send("Olá, cliente!")


async def main(serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """Serve, and connect twice: with trust in the certificate, and without."""
    serve = functools.partial(trio_ws.serve, greet, 0, ssl_context=serving)
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(serve)
        url = f"wss://localhost:{server.port}"
        print(f"Serving at {url}")

        async with trio_ws.connect(url, ssl_context=trusting) as connection:
            print(f"A client that trusts the certificate hears {await connection.receive()!r}")

        try:
            # Without a context the system's authorities are trusted, and no others.
            async with trio_ws.connect(url):
                print("A client that knows the public authorities trusts it, too")
        except trio_ws.HandshakeError as error:
            print(f"A client that does not: {error}")

        nursery.cancel_scope.cancel()


def throwaway() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make an authority and a certificate for localhost that live as long as this program."""
    import trustme  # noqa: PLC0415 - whoever has a certificate does not need it

    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return serving, trusting


def from_files(cert: Path, key: Path | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Load a certificate, and trust it, or the authority at the end of its chain."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)
    return serving, ssl.create_default_context(cafile=cert)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="WebSocket over TLS, against itself.")
    parser.add_argument("--cert", type=Path, help="a certificate for localhost, in PEM")
    parser.add_argument("--key", type=Path, help="its key, unless that stands in the same file")
    args = parser.parse_args()
    try:
        contexts = from_files(args.cert, args.key) if args.cert else throwaway()
    except ModuleNotFoundError:
        sys.exit("Install trustme for a throwaway certificate, or give one with --cert and --key.")
    except OSError as error:
        sys.exit(f"cannot load the certificate: {error}")
    trio.run(main, *contexts)
