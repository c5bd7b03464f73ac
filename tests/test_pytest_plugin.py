"""The fixtures, used here, and by tests of their own that pytest runs in a fresh folder."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
import trio
import trio.testing

import trio_ws
import trio_ws.testing

StartServer: TypeAlias = Callable[..., Awaitable[trio_ws.Server]]


async def greet(request: trio_ws.Request) -> None:
    """Greet whoever comes, until they leave."""
    async with request.accept() as connection:
        await connection.send("Olá, cliente!")
        async for _ in connection:
            pass


@pytest.mark.network
async def test_ws_server_starts_a_real_server(ws_server: StartServer) -> None:
    server = await ws_server(greet)

    async with trio_ws.connect(f"ws://127.0.0.1:{server.port}") as connection:
        assert await connection.receive() == "Olá, cliente!"


@pytest.mark.network
async def test_ws_server_starts_several_servers(ws_server: StartServer) -> None:
    servers = [await ws_server(greet) for _ in range(3)]

    assert len({server.port for server in servers}) == 3


@pytest.mark.network
async def test_ws_server_passes_options_on(ws_server: StartServer) -> None:
    server = await ws_server(greet, subprotocols=["chat"], limits=trio_ws.Limits(max_connections=1))

    url = f"ws://127.0.0.1:{server.port}"
    async with trio_ws.connect(url, subprotocols=["chat"]) as connection:
        assert connection.subprotocol == "chat"
        with pytest.raises(trio_ws.HandshakeRejected, match="503"):
            async with trio_ws.connect(url):
                pytest.fail("there is room for one only")


async def test_ws_server_refuses_what_serve_does_not_know(ws_server: StartServer) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        await ws_server(greet, no_such_option=1)


_Pair: TypeAlias = tuple[trio_ws.Connection, trio_ws.Connection]


async def test_ws_connection_pair_is_a_client_and_a_server(ws_connection_pair: _Pair) -> None:
    client, server = ws_connection_pair

    await client.send("Olá")

    assert await server.receive() == "Olá"
    assert (client.is_client, server.is_server) == (True, True)


async def test_ws_connection_pair_lives_by_the_clock_of_the_test(
    ws_connection_pair: _Pair, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = ws_connection_pair

    await trio.sleep(24 * 60 * 60)

    assert (client.close_code, server.close_code) == (None, None)


async def test_ws_channel_pair_is_two_ends_of_one_channel(
    ws_channel_pair: tuple[trio_ws.testing.MemoryChannel, trio_ws.testing.MemoryChannel],
) -> None:
    left, right = ws_channel_pair

    await left.send("Olá")
    await right.send(b"\x00")

    assert (await right.receive(), await left.receive()) == ("Olá", b"\x00")


USES_EVERY_FIXTURE = """
import pytest
import trio_ws

async def echo(request):
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)

{mark}
async def test_server(ws_server):
    server = await ws_server(echo)
    async with trio_ws.connect(f"ws://127.0.0.1:{{server.port}}") as connection:
        await connection.send("one")
        assert await connection.receive() == "one"

{mark}
async def test_connections(ws_connection_pair):
    client, server = ws_connection_pair
    await server.send("one")
    assert await client.receive() == "one"

{mark}
async def test_channels(ws_channel_pair):
    left, right = ws_channel_pair
    await left.send("one")
    assert await right.receive() == "one"
"""


def run(pytester: pytest.Pytester, source: str, *, trio_mode: bool) -> pytest.RunResult:
    """Run pytest in a process of its own, with the plugins that are installed."""
    ini = "trio_mode = true\n" if trio_mode else ""
    pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}")
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


@pytest.mark.network
@pytest.mark.parametrize("trio_mode", [True, False], ids=["trio_mode", "marked"])
def test_fixtures_are_found_by_their_entry_point(
    pytester: pytest.Pytester, *, trio_mode: bool
) -> None:
    mark = "" if trio_mode else "@pytest.mark.trio"

    result = run(pytester, USES_EVERY_FIXTURE.format(mark=mark), trio_mode=trio_mode)

    result.assert_outcomes(passed=3)
    assert result.ret == 0


@pytest.mark.network
def test_server_ends_with_its_test(pytester: pytest.Pytester) -> None:
    source = """
    import socket

    import pytest
    import trio
    import trio_ws

    ports, ended = [], []

    # Not async: it ends after the whole Trio run of the test, every fixture of it included.
    @pytest.fixture(autouse=True)
    def look_afterwards():
        yield
        assert sorted(ended) == ["client", "handler"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", ports[0]))

    async def hold(request):
        async with request.accept() as connection:
            try:
                await trio.sleep_forever()
            finally:
                ended.append("handler")

    async def test_leaves_a_connection_open(ws_server, nursery):
        server = await ws_server(hold)
        ports.append(server.port)

        async def stay(task_status):
            async with trio_ws.connect(f"ws://127.0.0.1:{server.port}"):
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append("client")

        await nursery.start(stay)
    """

    result = run(pytester, source, trio_mode=True)

    result.assert_outcomes(passed=1)


def test_error_of_a_server_fails_its_test(pytester: pytest.Pytester) -> None:
    source = """
    async def test_has_no_such_option(ws_server):
        await ws_server(None, no_such_option=1)
    """

    result = run(pytester, source, trio_mode=True)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TypeError*no_such_option*"])


def test_fixtures_explain_themselves(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider")

    # Each with its summary, instead of "no docstring available".
    result.stdout.fnmatch_lines(["ws_server -- *", "    Start real servers on free ports *"])
    result.stdout.fnmatch_lines(["ws_connection_pair -- *", "    Give the client's and *"])
    result.stdout.fnmatch_lines(["ws_channel_pair -- *", "    Give two connected channels *"])
