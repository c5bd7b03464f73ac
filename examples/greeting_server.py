"""A server that greets every client and prints what they say.

    python examples/greeting_server.py [--port 8080]

Ctrl-C or SIGTERM ends it: every client is told goodbye (1001), and then the program is over.
"""

import argparse
import signal
import sys

import trio

import trio_ws


async def greet(request: trio_ws.Request) -> None:
    """Greet one client, and print its messages until it leaves."""
    async with request.accept() as connection:
        print("Cliente conectado")
        await connection.send("Olá, cliente!")
        async for message in connection:
            print(f"Mensagem recebida: {printable(message)}")


def printable(message: str | bytes) -> str:
    """Show a message on one line; a stranger's control characters could steer the terminal."""
    text = message if isinstance(message, str) else repr(message)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


async def main(port: int) -> str | None:
    """Serve until a signal comes, and return what went wrong, if anything did."""
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, greet, port)
        except OSError as error:
            return f"Não é possível escutar na porta {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Servidor escutando em ws://localhost:{server.port}")
            await anext(signals)
        # Cancelling the server says goodbye to every client, which takes 5 seconds at most.
        nursery.cancel_scope.cancel()
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Greet every client, and print what they say.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    try:
        sys.exit(trio.run(main, parser.parse_args().port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
