"""The examples, run as a person runs them."""

import importlib.util
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
import trio
import trustme

import trio_ws
import trio_ws.testing
from tests.programs import EXAMPLES, Program, running, running_example

pytestmark = pytest.mark.network

needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows cannot send a signal to one process"
)

# Each server, where it takes WebSockets, and further arguments.
SERVERS: dict[str, tuple[str, ...]] = {
    "background_task.py": ("",),
    "chat.py": ("/chat",),
    "graceful_shutdown.py": ("", "--saving", "0"),
    "greeting_server.py": ("",),
    "http_and_websocket.py": ("/echo",),
    "notifications.py": ("/feed",),
}


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "secret")


@asynccontextmanager
async def serving(name: str, *arguments: str) -> AsyncGenerator[tuple[Program, str], None]:
    """Run a server, and wait until it has said where it listens."""
    async with running_example(name, "--port", "0", *arguments) as server:
        address = re.search(r"localhost:\d+", await server.hear())
        assert address is not None
        yield server, f"ws://{address[0]}"


async def get(url: str, path: str, *, method: str = "GET") -> tuple[int, str]:
    """Ask an HTTP server, and return the status and the body."""
    host, _, port = url.removeprefix("ws://").partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b"".join([chunk async for chunk in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def assert_ends_well(program: Program, *last_lines: str) -> None:
    """Wait for a program's end: its last lines, status 0 and no word on the error stream."""
    assert await program.hear_all() == list(last_lines)
    assert (program.status, program.errors) == (0, "")


async def assert_fails(program: Program, error: str) -> None:
    """Wait for a program's end: nothing more printed, one line on the error stream, status 1."""
    assert await program.hear_all() == []
    assert re.fullmatch(error, program.errors.rstrip("\r\n")), program.errors
    assert program.status == 1


def test_every_example_is_run_by_this_module() -> None:
    source = Path(__file__).read_text(encoding="utf-8")

    run = set(re.findall(r'\b(?:serving|running_example)\(\s*"(\w+\.py)"', source))

    assert run == {path.name for path in EXAMPLES.glob("*.py")}


def test_every_example_stands_in_their_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    linked = set(re.findall(r"\((\w+\.\w+)\)", readme))

    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".html"}}
    assert linked == files


@needs_signals
@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_server_says_goodbye_with_1001_when_it_is_stopped(
    name: str, number: signal.Signals
) -> None:
    path, *arguments = SERVERS[name]

    async with (
        serving(name, *arguments) as (server, url),
        trio_ws.connect(url + path) as connection,
    ):
        server.send_signal(number)
        await connection.wait_closed()
        await server.hear_all()

        assert (connection.close_code, connection.closed_by) == (1001, "remote")
        assert (server.status, server.errors) == (0, "")


@pytest.mark.parametrize("name", SERVERS)
async def test_server_says_in_one_line_that_the_port_is_taken(name: str) -> None:
    async with serving("greeting_server.py") as (_, url):
        port = url.rpartition(":")[2]

        async with running_example(name, "--port", port) as server:
            await assert_fails(server, rf"[^\n]*{port}: \[Errno \d+\] [^\n]*")


async def test_greeting_server_prints_what_clients_do() -> None:
    async with (
        serving("greeting_server.py") as (server, url),
        trio_ws.connect(url) as connection,
    ):
        assert server.lines == [f"Servidor escutando em {url}"]
        assert await server.hear() == "Cliente conectado"
        assert await connection.receive() == "Olá, cliente!"
        await connection.send("Olá, servidor!")
        assert await server.hear() == "Mensagem recebida: Olá, servidor!"


async def test_greeting_server_escapes_what_could_steer_a_terminal() -> None:
    async with (
        serving("greeting_server.py") as (server, url),
        trio_ws.connect(url) as connection,
    ):
        await server.hear()
        await connection.send("\x1b[2J\r\nCliente conectado\u202e 🙂")
        await connection.send(b"\x00\xff")

        assert await server.hear() == (r"Mensagem recebida: \x1b[2J\r\nCliente conectado\u202e 🙂")
        assert await server.hear() == r"Mensagem recebida: b'\x00\xff'"


async def test_greeting_server_serves_others_when_a_client_is_gone() -> None:
    async with serving("greeting_server.py") as (server, url):
        async with running_example("greeting_client.py", url) as client:
            await client.hear()
            await server.hear()
        async with trio_ws.connect(url) as connection:
            assert await connection.receive() == "Olá, cliente!"

        assert server.errors == ""


@needs_signals
async def test_greeting_server_ends_well_when_it_is_stopped_twice() -> None:
    async with serving("greeting_server.py") as (server, url):
        host, _, port = url.removeprefix("ws://").partition(":")
        # A client that does not answer the goodbye, so that the server waits for it.
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert await server.hear() == "Cliente conectado"
            server.send_signal(signal.SIGINT)
            while b"\x88" not in await stream.receive_some():
                pass
            server.send_signal(signal.SIGINT)
        await assert_ends_well(server)


async def test_greeting_client_greets_the_greeting_server() -> None:
    async with (
        serving("greeting_server.py") as (server, url),
        running_example("greeting_client.py", url) as client,
    ):
        assert await client.hear() == "Conectado ao servidor"
        assert await client.hear() == "Mensagem do servidor: Olá, cliente!"
        assert await server.hear() == "Cliente conectado"
        assert await server.hear() == "Mensagem recebida: Olá, servidor!"


@needs_signals
async def test_greeting_client_ends_when_the_server_leaves() -> None:
    async with (
        serving("greeting_server.py") as (server, url),
        running_example("greeting_client.py", url) as client,
    ):
        await client.hear()
        server.send_signal(signal.SIGTERM)

        await assert_ends_well(client, "Mensagem do servidor: Olá, cliente!")


@needs_signals
async def test_greeting_client_says_goodbye_on_ctrl_c() -> None:
    served: list[trio_ws.Connection] = []

    async def serve_one(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            served.append(connection)
            await connection.send("Olá\x07")
            async for _ in connection:
                pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve, serve_one, 0)
        async with running_example("greeting_client.py", f"ws://localhost:{server.port}") as client:
            await client.hear()
            assert await client.hear() == r"Mensagem do servidor: Olá\x07"
            client.send_signal(signal.SIGINT)
            await assert_ends_well(client)
        nursery.cancel_scope.cancel()

    assert (served[0].close_code, served[0].closed_by) == (1001, "remote")


async def test_greeting_client_says_in_one_line_that_nobody_is_there() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()

    async with running_example("greeting_client.py", f"ws://127.0.0.1:{port}") as client:
        await assert_fails(client, rf"Sem conexão: [^\n]*127\.0\.0\.1:{port}[^\n]*refused[^\n]*")


async def test_greeting_client_says_in_one_line_that_the_server_is_lost() -> None:
    async with (
        serving("greeting_server.py") as (server, url),
        running_example("greeting_client.py", url) as client,
    ):
        await client.hear()
        await client.hear()
        server.kill()

        await assert_fails(client, r"Sem conexão: [^\n]*1006[^\n]*")


async def test_greeting_client_says_in_one_line_what_is_no_url() -> None:
    async with running_example("greeting_client.py", "http://localhost") as client:
        await assert_fails(client, r"Sem conexão: [^\n]*http://localhost[^\n]*")


async def test_chat_serves_its_page() -> None:
    async with serving("chat.py") as (_, url):
        status, body = await get(url, "/")

    assert status == 200
    assert body == (EXAMPLES / "chat.html").read_text(encoding="utf-8")


async def test_chat_lets_terminals_talk_to_everyone() -> None:
    async with (
        serving("chat.py") as (server, url),
        running_example("chat.py", "connect", f"{url}/chat", "--name", "Ana") as ana,
    ):
        assert await ana.hear() == "* Ana has come, 1 here"
        async with running_example("chat.py", "connect", f"{url}/chat") as other:
            assert await other.hear() == "* someone has come, 2 here"
            await ana.type("oi\n\n")
            assert await other.hear() == "Ana: oi"
            await other.type("tchau\n")
            assert await other.hear() == "someone: tchau"
            await other.end_input()
            await assert_ends_well(other)

        said = ["Ana: oi", "someone: tchau", "* someone has left, 1 here"]
        assert [await ana.hear() for _ in range(4)] == ["* someone has come, 2 here", *said]
        assert [await server.hear() for _ in range(5)][-3:] == said


@needs_signals
@pytest.mark.parametrize("who", ["client", "server"])
async def test_chat_in_a_terminal_ends_when_either_side_is_stopped(who: str) -> None:
    async with (
        serving("chat.py") as (server, url),
        running_example("chat.py", "connect", f"{url}/chat") as client,
    ):
        await client.hear()
        (client if who == "client" else server).send_signal(signal.SIGINT)

        await assert_ends_well(client, *["* the server has left"][: who == "server"])


@pytest.mark.parametrize("url", ["ws://localhost:1/chat", "http://localhost"])
async def test_chat_in_a_terminal_says_in_one_line_what_is_wrong_with_the_url(url: str) -> None:
    async with running_example("chat.py", "connect", url) as client:
        await assert_fails(client, rf"[^\n]*{url}[^\n]*")


async def test_chat_escapes_names_and_messages() -> None:
    async with (
        serving("chat.py") as (_, url),
        trio_ws.connect(f"{url}/chat?name=%1b%5b2J") as connection,
    ):
        assert await connection.receive() == r"* \x1b[2J has come, 1 here"
        await connection.send("a\nb")
        assert await connection.receive() == r"\x1b[2J: a\nb"


def load(name: str) -> ModuleType:
    """Import an example, to test a part of it in memory."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def receive_all(connection: trio_ws.Connection) -> list[str | bytes]:
    """Receive until the connection closes, which raises unless it closes normally."""
    return [message async for message in connection]


async def test_chat_closes_a_member_who_is_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    chat = load("chat.py").chat
    reads_nothing = trio_ws.Limits(inbox_messages=1)

    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(
            trio_ws.testing.connect(chat, "ws://chat/?name=Slow", limits=reads_nothing)
        )
        fast = await stack.enter_async_context(trio_ws.testing.connect(chat))
        for _ in range(100):
            await fast.send("x" * 4000)
        heard = ""
        while heard != "* Slow has left, 1 here":
            heard = str(await fast.receive())
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await receive_all(slow)

    assert (caught.value.code, str(caught.value.reason)) == (1013, "too slow for this chat")


async def test_notifications_reach_everyone_who_listens() -> None:
    async with (
        serving("notifications.py") as (server, url),
        running_example("greeting_client.py", f"{url}/feed") as listener,
        trio_ws.connect(f"{url}/feed", compression=trio_ws.Deflate()) as another,
    ):
        assert await listener.hear() == "Conectado ao servidor"
        publish = f"{url.replace('ws://', 'ws://ana:secret@')}/publish"
        text = "O pão está quente! " * 10
        async with running_example("notifications.py", "publish", publish, text) as ana:
            await assert_ends_well(ana, "2 of 2 were told")

        assert await server.hear() == "ana publishes"
        assert await listener.hear() == f"Mensagem do servidor: ana: {text}"
        assert await another.receive() == f"ana: {text}"
        assert another.statistics().bytes_received < len(text)


@pytest.mark.parametrize("user", ["", "ana@", "ana:guess@", "ana:@", "bob:secret@"])
async def test_notifications_are_published_with_the_password_only(user: str) -> None:
    async with serving("notifications.py") as (_, url):
        publish = f"{url.replace('ws://', f'ws://{user}')}/publish"
        async with running_example("notifications.py", "publish", publish, "oi") as stranger:
            await assert_fails(stranger, r"[^\n]*401[^\n]*")


async def test_notifications_want_a_password_to_start_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSWORD")

    async with running_example("notifications.py", "--port", "0") as server:
        await assert_fails(server, "set PASSWORD in the environment: .*")


async def test_notification_is_missed_by_who_is_too_slow_and_waits_for_nobody() -> None:
    notifications = load("notifications.py")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        slow, fast = [
            await enter(
                trio_ws.testing.connect(
                    notifications.feed, limits=trio_ws.Limits(inbox_messages=messages)
                )
            )
            for messages in (1, 10_000)
        ]
        told: list[str | bytes] = []
        async with trio_ws.testing.connect(notifications.publish) as publisher:
            while not told or told[-1] == "2 of 2 were told":
                await publisher.send("x" * 4000)
                told.append(await publisher.receive())

        assert told[-1] == "1 of 2 were told"
        assert [await fast.receive() for _ in told] == ["None: " + "x" * 4000] * len(told)
        assert slow.close_code is None


async def test_http_and_websocket_share_a_port() -> None:
    async with serving("http_and_websocket.py") as (_, url):
        assert await get(url, "/health") == (200, "ok\n")
        assert (await get(url, "/"))[1].startswith("<!doctype html>")
        assert (await get(url, "/echo"))[0] == 426
        assert (await get(url, "/nothing"))[0] == 404
        assert (await get(url, "/health", method="DELETE"))[0] == 405
        async with trio_ws.connect(f"{url}/echo") as connection:
            for message in ("Olá", b"\x00\xff"):
                await connection.send(message)
                assert await connection.receive() == message


@needs_signals
async def test_graceful_shutdown_saves_before_it_ends() -> None:
    async with (
        serving("graceful_shutdown.py", "--saving", "0.1") as (server, url),
        trio_ws.connect(url) as connection,
    ):
        await connection.send("note")
        assert await server.hear() == "a client has come"
        assert await server.hear() == "1 note(s) taken"
        server.send_signal(signal.SIGTERM)

        await assert_ends_well(
            server,
            "SIGTERM: draining 1 connection(s) within 5 seconds",
            "saving 1 note(s)",
            "saved",
            "drained",
        )


async def test_graceful_shutdown_saves_what_a_lost_client_said() -> None:
    async with serving("graceful_shutdown.py", "--saving", "0") as (server, url):
        async with running_example("greeting_client.py", url):
            assert await server.hear() == "a client has come"
            assert await server.hear() == "1 note(s) taken"

        heard = [await server.hear() for _ in range(3)]

    assert heard == ["a client was lost", "saving 1 note(s)", "saved"]


@needs_signals
async def test_graceful_shutdown_cancels_what_takes_longer_than_the_grace() -> None:
    async with (
        serving("graceful_shutdown.py", "--saving", "60", "--grace", "0.1") as (server, url),
        trio_ws.connect(url),
    ):
        assert await server.hear() == "a client has come"
        server.send_signal(signal.SIGTERM)

        await assert_ends_well(
            server,
            "SIGTERM: draining 1 connection(s) within 0.1 seconds",
            "saving 0 note(s)",
            "the grace is over, the notes are lost",
            "drained",
        )


async def test_tls_greets_who_trusts_it_and_nobody_else() -> None:
    async with running_example("tls.py") as program:
        lines = await program.hear_all()
        assert (program.status, program.errors) == (0, "")

    assert re.fullmatch(r"Serving at wss://localhost:\d+", lines[0])
    assert lines[1] == "A client that trusts the certificate hears 'Olá, cliente!'"
    assert "is not trusted" in lines[2]
    assert len(lines) == 3


async def test_tls_takes_a_certificate_from_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain, key = tmp_path / "server.pem", tmp_path / "server.key"
    chain.write_bytes(issued.cert_chain_pems[0].bytes() + authority.cert_pem.bytes())
    issued.private_key_pem.write_to_path(key)

    async with running_example("tls.py", "--cert", str(chain), "--key", str(key)) as program:
        lines = await program.hear_all()
        assert (program.status, program.errors) == (0, "")

    assert lines[1] == "A client that trusts the certificate hears 'Olá, cliente!'"


async def test_tls_says_in_one_line_what_is_no_certificate(tmp_path: Path) -> None:
    async with running_example("tls.py", "--cert", str(tmp_path / "none.pem")) as program:
        await assert_fails(program, r"cannot load the certificate: [^\n]*")


async def test_tls_says_how_to_get_a_certificate_when_trustme_is_missing() -> None:
    path = str(EXAMPLES / "tls.py")
    without = "import runpy, sys; sys.modules['trustme'] = None; sys.argv = ['tls.py']; "

    async with running(
        sys.executable, "-c", f"{without}runpy.run_path({path!r}, run_name='__main__')"
    ) as program:
        await assert_fails(program, r"Install trustme [^\n]*")


async def test_background_task_ticks_until_its_client_leaves() -> None:
    async with serving("background_task.py", "--interval", "0.01") as (server, url):
        async with running_example("greeting_client.py", url) as client:
            await client.hear()
            heard = [await client.hear() for _ in range(3)]

        assert "Mensagem do servidor: tick 1" in heard
        assert "Mensagem do servidor: tick 2" in heard
        assert re.fullmatch(r"a ticker has ended after \d+ ticks", await server.hear())


async def test_background_task_answers_between_the_ticks() -> None:
    async with (
        serving("background_task.py", "--interval", "60") as (_, url),
        trio_ws.connect(url) as connection,
    ):
        await connection.send("Olá")

        assert await connection.receive() == "3 characters, thank you"
