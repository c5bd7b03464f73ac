"""A client that greets the server and prints what it says, until the server leaves or Ctrl-C.

python examples/greeting_client.py [ws://localhost:8080]
"""

import sys

import trio

import trio_ws


async def main(url: str) -> None:
    """Greet the server, and print its messages until it leaves."""
    async with trio_ws.connect(url) as connection:
        print("Conectado ao servidor")
        await connection.send("Olá, servidor!")
        async for message in connection:
            print(f"Mensagem do servidor: {printable(message)}")


def printable(message: str | bytes) -> str:
    """Show a message on one line; a stranger's control characters could steer the terminal."""
    text = message if isinstance(message, str) else repr(message)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080")
    except KeyboardInterrupt:
        pass  # Leaving the block has said goodbye already.
    except (trio_ws.WebSocketError, ValueError) as error:
        # Not reached, or lost; or the URL is none.
        sys.exit(f"Sem conexão: {error}")
