"""Invariant 9: the protocol layer knows no I/O; bytes go in and values come out."""

import ast
import os
from pathlib import Path

import pytest
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

import trio_ws
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.exchange import Exchange
from trio_ws._protocol.http import HeadBuffer, read_request
from trio_ws._protocol.upgrade import accept_head, check_answer, make_key, read_upgrade
from trio_ws._protocol.upgrade import request_fields as fields_of
from trio_ws._types import Headers

_PACKAGE = Path(trio_ws.__file__).parent
_MODULES = sorted((_PACKAGE / "_protocol").glob("*.py"))
_FORBIDDEN = {
    "asyncio",
    "select",
    "selectors",
    "socket",
    "ssl",
    "threading",
    "time",
    "trio",
    "trio_websocket",
}


def _imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def _file_of(name: str) -> Path | None:
    if not name.startswith("trio_ws."):
        return None
    path = _PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _reached(module: Path) -> set[str]:
    """Collect all that a module imports, by way of the package's own modules too."""
    names: set[str] = set()
    waiting = [module]
    while waiting:
        new = _imported(waiting.pop()) - names
        names |= new
        waiting.extend(path for name in new if (path := _file_of(name)) is not None)
    return names


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.stem)
def test_module_of_the_protocol_layer_reaches_no_io(module: Path) -> None:
    top = {name.partition(".")[0] for name in _reached(module)}

    assert top.isdisjoint(_FORBIDDEN)


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.stem)
def test_module_of_the_protocol_layer_never_waits(module: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    tree = ast.parse(module.read_text(encoding="utf-8"))

    assert not [node for node in ast.walk(tree) if isinstance(node, waits)]


def _said(engine: Engine, data: bytes) -> list[Event]:
    engine.receive_data(data)
    return list(engine.events())


def test_two_engines_hold_a_whole_conversation_without_a_run() -> None:
    client, server = Engine(client=True), Engine(client=False)

    assert _said(server, client.send(TextMessage(data="olá"))) == [TextMessage(data="olá")]
    assert _said(client, server.send(BytesMessage(data=b"\0"))) == [BytesMessage(data=b"\0")]
    assert _said(server, client.send(Ping(payload=b"?"))) == [Ping(payload=b"?")]
    assert _said(client, server.send(Pong(payload=b"?"))) == [Pong(payload=b"?")]
    close = CloseConnection(code=1000, reason="done")
    assert _said(server, client.send(close)) == [close]
    assert _said(client, server.send(close)) == [close]
    assert client.state is server.state is ConnectionState.CLOSED


def test_an_opening_handshake_is_made_of_bytes_alone() -> None:
    key = make_key()
    exchange = Exchange(max_head=9999, max_headers=99, max_body=99)
    asked = exchange.start("GET", "/", [("Host", "a"), *fields_of(key, ["chat"])])

    found = HeadBuffer(9999).feed(asked)
    assert found is not None
    upgrade = read_upgrade(read_request(found[0], max_headers=99))
    assert upgrade is not None
    exchange.receive(accept_head(upgrade, subprotocol="chat", headers=Headers()) + b"rest")

    assert exchange.switched
    assert check_answer(exchange.headers, key, ["chat"]) == "chat"
    assert exchange.rest == b"rest"


def test_same_bytes_give_the_same_events_however_they_are_split() -> None:
    client = Engine(client=True)
    data = b"".join(
        client.send(event)
        for event in (
            TextMessage(data="olá", message_finished=False),
            Ping(payload=b"between"),
            TextMessage(data=", servidor"),
            BytesMessage(data=os.urandom(300)),
            CloseConnection(code=4000),
        )
    )
    whole = _said(Engine(client=False), data)

    for size in range(1, 20):
        server = Engine(client=False)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [event for piece in pieces for event in _said(server, piece)] == whole
