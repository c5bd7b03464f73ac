"""What the README says is true: its programs run, and its tables name what there is."""

import ast
import re
import ssl
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

import trio_ws
import trio_ws.testing

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def _names_of(block: str, namespace: dict[str, object]) -> dict[str, object]:
    """Run a program of the README up to its last line, which would run it for ever."""
    tree = ast.parse(block)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body.pop()
    exec(compile(tree, "README.md", "exec"), namespace)  # noqa: S102 - the project's own text
    return namespace


@pytest.mark.parametrize("block", BLOCKS)
def test_every_program_is_python(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_the_greeting_passes_its_own_test(autojump_clock: MockClock) -> None:
    namespace: dict[str, object] = {}
    for block in (BLOCKS[0], BLOCKS[2]):
        _names_of(block, namespace)

    test = namespace["test_greets"]
    assert callable(test)
    await test()


@pytest.mark.network
async def test_the_greeting_client_is_heard_by_the_greeting_server(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await nursery.start(trio_ws.serve, _names_of(BLOCKS[0], {})["greet"], 0)
    client = BLOCKS[1].replace("localhost:8080", f"localhost:{server.port}")
    main = _names_of(client, {})["main"]
    assert callable(main)

    with trio.fail_after(30):
        await main()
        await server.drain(10)

    assert "Mensagem do servidor: Olá, cliente!" in capsys.readouterr().out


async def test_the_middleware_asks_for_the_password_and_tells_the_handler_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = [each for each in BLOCKS if "basic_auth" in each]
    monkeypatch.setenv("ANA_PASSWORD", "segredo")

    app: Any = _names_of(block, {"trio_ws": trio_ws})["app"]

    async with trio_ws.testing.connect(app, "ws://ana:segredo@testserver/") as connection:
        assert await connection.receive() == "Olá, ana!"
    assert (await trio_ws.testing.request(app)).status == 401


@pytest.mark.network
async def test_the_server_with_mutual_tls_greets_clients_by_the_names_in_their_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    (block,) = [each for each in BLOCKS if "CERT_REQUIRED" in each]
    clients, servers = trustme.CA(), trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients-ca.pem")
    certificate = servers.issue_cert("localhost").private_key_and_cert_chain_pem
    certificate.write_to_path(tmp_path / "server.pem")
    monkeypatch.chdir(tmp_path)

    names: dict[str, Any] = _names_of(block, {"trio_ws": trio_ws})
    start = partial(trio_ws.serve, names["chat"], 0, ssl_context=names["context"])
    server = await nursery.start(start)
    ours = ssl.create_default_context()
    servers.configure_trust(ours)
    clients.issue_cert("ana@example.com", common_name="Ana").configure_cert(ours)

    url = f"wss://localhost:{server.port}/"
    async with trio_ws.connect(url, ssl_context=ours) as connection:
        assert await connection.receive() == "Olá, Ana!"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("settings", [trio_ws.Limits, trio_ws.Keepalive])
def test_every_setting_stands_in_the_table_of_limits(
    settings: type[trio_ws.Limits] | type[trio_ws.Keepalive],
) -> None:
    table = README.partition("## Limits and their defaults")[2].partition("\n## ")[0]

    for field in fields(settings):
        assert f"`{field.name}`" in table


@pytest.mark.parametrize("name", [name for name in trio_ws.__all__ if name != "Handler"])
def test_every_public_name_is_spoken_of(name: str) -> None:
    assert name in README
