"""Node.js peers that use the npm package ws: the tutorial's own, and one that obeys us."""

import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

import pytest
import trio

import trio_ws
from tests.programs import ROOT, Program, running, running_example

FOLDER = ROOT / "tests" / "node"
NODE = shutil.which("node")

missing = "node is not on the PATH" if NODE is None else "`npm ci` was not run in tests/node"
present = NODE is not None and (FOLDER / "node_modules" / "ws").is_dir()

pytestmark = [
    pytest.mark.network,
    pytest.mark.node,
    pytest.mark.skipif(
        not present and os.environ.get("TRIO_WS_REQUIRE_NODE") != "1", reason=missing
    ),
]


@pytest.fixture(autouse=True)
def _node() -> None:
    assert present, missing


def running_node(name: str, *arguments: str) -> AbstractAsyncContextManager[Program]:
    """Run one of the programs beside this module's folder."""
    assert NODE is not None
    return running(NODE, FOLDER / name, *arguments)


@asynccontextmanager
async def serving(
    handler: trio_ws.Handler, compression: trio_ws.Deflate | None = None
) -> AsyncGenerator[str, None]:
    """Serve on a real socket."""
    serve = partial(trio_ws.serve, compression=compression)
    async with trio.open_nursery() as nursery:
        server: trio_ws.Server = await nursery.start(serve, handler, 0)
        yield f"ws://localhost:{server.port}"
        nursery.cancel_scope.cancel()


async def greet(request: trio_ws.Request) -> None:
    """Do what the tutorial's server does."""
    async with request.accept() as connection:
        await connection.send("Olá, cliente!")
        async for message in connection:
            await connection.send(f"recebida: {message!r}")


# The tutorial's peers


async def test_node_client_and_greeting_server_greet_each_other() -> None:
    async with running_example("greeting_server.py", "--port", "0") as server:
        url = (await server.hear()).rpartition(" ")[2]
        async with running_node("greeting_client.mjs", url) as client:
            assert await client.hear() == "Conectado ao servidor"
            assert await client.hear() == "Mensagem do servidor: Olá, cliente!"
            assert await server.hear() == "Cliente conectado"
            assert await server.hear() == "Mensagem recebida: Olá, servidor!"
            server.send_signal(signal.SIGTERM)

            assert await client.hear_all() == ["Desconectado: 1001"]
            assert (client.status, client.errors) == (0, "")
        assert await server.hear_all() == []
        assert (server.status, server.errors) == (0, "")


async def test_node_client_and_serve_greet_each_other() -> None:
    async with serving(greet) as url, running_node("greeting_client.mjs", url) as client:
        assert [await client.hear() for _ in range(3)] == [
            "Conectado ao servidor",
            "Mensagem do servidor: Olá, cliente!",
            "Mensagem do servidor: recebida: 'Olá, servidor!'",
        ]


async def test_greeting_client_and_node_server_greet_each_other() -> None:
    async with running_node("greeting_server.mjs") as server:
        url = (await server.hear()).rpartition(" ")[2]
        async with running_example("greeting_client.py", url) as client:
            assert await client.hear() == "Conectado ao servidor"
            assert await client.hear() == "Mensagem do servidor: Olá, cliente!"
            assert await server.hear() == "Cliente conectado"
            assert await server.hear() == "Mensagem recebida: Olá, servidor!"
            client.send_signal(signal.SIGINT)

            assert await server.hear() == "Cliente desconectado: 1001"
            assert await client.hear_all() == []
            assert (client.status, client.errors) == (0, "")
        assert server.errors == ""


async def test_connect_and_node_server_greet_each_other() -> None:
    async with running_node("greeting_server.mjs") as server:
        url = (await server.hear()).rpartition(" ")[2]
        async with trio_ws.connect(url) as connection:
            assert await connection.receive() == "Olá, cliente!"
            assert await server.hear() == "Cliente conectado"
            await connection.send("Olá, servidor!")
            assert await server.hear() == "Mensagem recebida: Olá, servidor!"

        assert await server.hear() == "Cliente desconectado: 1000"


async def test_greeting_client_says_in_one_line_that_node_server_was_killed() -> None:
    async with running_node("greeting_server.mjs") as server:
        url = (await server.hear()).rpartition(" ")[2]
        async with running_example("greeting_client.py", url) as client:
            await client.hear()
            await client.hear()
            server.kill()

            assert await client.hear_all() == []
            assert client.status == 1
            assert client.errors.count("\n") == 1
            assert "1006" in client.errors


# A peer that obeys

Role = Literal["client", "server"]


class NodePeer:
    """A Node.js peer, and our connection to it. Created by `node_peer`."""

    def __init__(self, connection: trio_ws.Connection, program: Program) -> None:
        self.connection = connection
        self._program = program

    async def tell(self, method: str, *parameters: object) -> None:
        """Have it call a method of its socket."""
        await self.connection.send(json.dumps([method, *parameters]))

    async def event(self) -> list[Any]:
        """Wait for the next event that it reports."""
        event: list[Any] = json.loads(await self._program.hear())
        return event


@asynccontextmanager
async def node_peer(
    role: Role, compression: trio_ws.Deflate | None = None, theirs: object = True
) -> AsyncGenerator[NodePeer, None]:
    """Connect to a Node.js server, or have a Node.js client connect to ours."""
    if role == "server":
        async with running_node("peer.mjs", "server", json.dumps(theirs)) as program:
            _, port = json.loads(await program.hear())
            url = f"ws://127.0.0.1:{port}"
            async with trio_ws.connect(url, compression=compression) as connection:
                yield NodePeer(connection, program)
        return

    accepted: list[trio_ws.Connection] = []
    opened, left = trio.Event(), trio.Event()

    async def hold(request: trio_ws.Request) -> None:
        async with request.accept() as connection:
            accepted.append(connection)
            opened.set()
            await left.wait()

    async with (
        serving(hold, compression) as url,
        running_node("peer.mjs", "client", url, json.dumps(theirs)) as program,
    ):
        await opened.wait()
        yield NodePeer(accepted[0], program)
        left.set()


both_roles = pytest.mark.parametrize("role", ["client", "server"])


@both_roles
@pytest.mark.parametrize(
    "message",
    ["", "Olá 🙂", "x" * 125, "x" * 126, "é" * 40_000, b"", b"\x00\xff", bytes(range(256)) * 400],
    ids=lambda message: f"{type(message).__name__}-{len(message)}",
)
async def test_node_sends_a_message_back_as_it_was(role: Role, message: str | bytes) -> None:
    async with node_peer(role) as peer:
        await peer.connection.send(message)

        assert await peer.connection.receive() == message


@both_roles
async def test_node_sends_many_messages_back_in_order(role: Role) -> None:
    messages = [
        f"message {number}" if number % 2 else bytes([number % 256]) * number
        for number in range(1000)
    ]

    async def send_all(connection: trio_ws.Connection) -> None:
        for message in messages:
            await connection.send(message)

    async with node_peer(role) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(send_all, peer.connection)
        received = [await peer.connection.receive() for _ in messages]

    assert received == messages


NODE_COMPRESSION = [
    {"threshold": 0},
    {"threshold": 0, "serverNoContextTakeover": True, "clientNoContextTakeover": True},
    {"threshold": 0, "serverMaxWindowBits": 10, "clientMaxWindowBits": 10},
    {"threshold": 1024},
]

OUR_COMPRESSION = [
    trio_ws.Deflate(min_size=1),
    trio_ws.Deflate(min_size=1, send_window_bits=15, receive_window_bits=15),
    trio_ws.Deflate(min_size=1, send_context_takeover=False, receive_context_takeover=False),
]


@both_roles
@pytest.mark.parametrize("theirs", NODE_COMPRESSION, ids=json.dumps)
@pytest.mark.parametrize("ours", OUR_COMPRESSION, ids=repr)
async def test_node_sends_compressed_messages_back_as_they_were(
    role: Role, ours: trio_ws.Deflate, theirs: object
) -> None:
    messages: list[str | bytes] = [
        "Olá! " * 200,
        "",
        b"",
        "Olá! " * 200,
        bytes(100_000),
        os.urandom(10_000),
        "x",
    ]
    async with node_peer(role, ours, theirs) as peer:
        assert peer.connection.statistics().compression is not None
        for message in messages * 2:
            await peer.connection.send(message)

            assert await peer.connection.receive() == message
        size = 2 * sum(map(len, messages))
        assert peer.connection.statistics().bytes_received < size / 2


@both_roles
async def test_we_join_the_fragments_of_node(role: Role) -> None:
    async with node_peer(role) as peer:
        for part, fin in (("Ol", False), ("", False), ("á", True)):
            await peer.tell("send", part, {"fin": fin, "binary": False})

        assert await peer.connection.receive() == "Olá"


@both_roles
async def test_node_answers_our_ping(role: Role) -> None:
    async with node_peer(role) as peer:
        assert await peer.connection.ping(b"are you there") < 30
        assert await peer.event() == ["ping", "are you there"]


@both_roles
async def test_we_answer_a_ping_of_node(role: Role) -> None:
    async with node_peer(role) as peer:
        await peer.tell("ping", "are you there")

        assert await peer.event() == ["pong", "are you there"]


@both_roles
@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (1013, "até já"), (4999, "r" * 123)]
)
async def test_node_sees_why_we_close(role: Role, code: int, reason: str) -> None:
    async with node_peer(role) as peer:
        await peer.connection.aclose(code, reason)

        assert await peer.event() == ["close", code, reason]
        assert peer.connection.closed_by == "local"
        assert (peer.connection.close_code, peer.connection.close_reason) == (code, reason)


@both_roles
@pytest.mark.parametrize(
    ("parameters", "code", "reason"),
    [
        ((), 1005, ""),
        ((1000, ""), 1000, ""),
        ((1011, "até já"), 1011, "até já"),
        ((4001, "r" * 123), 4001, "r" * 123),
    ],
    ids=["none", "1000", "1011", "4001"],
)
async def test_we_see_why_node_closes(
    role: Role, parameters: tuple[object, ...], code: int, reason: str
) -> None:
    async with node_peer(role) as peer:
        await peer.tell("close", *parameters)
        with pytest.raises(trio_ws.ConnectionClosed) as caught:
            await peer.connection.receive()

        assert (caught.value.code, str(caught.value.reason)) == (code, reason)
        assert peer.connection.closed_by == "remote"
        # The reason need not be echoed (RFC 6455 §5.5.1), and is not.
        assert await peer.event() == ["close", code, ""]


@both_roles
async def test_we_see_that_node_cut_the_line(role: Role) -> None:
    async with node_peer(role) as peer:
        await peer.tell("terminate")
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await peer.connection.receive()

        assert caught.value.code == 1006
        assert peer.connection.closed_by is None
