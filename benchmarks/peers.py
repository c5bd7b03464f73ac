"""`Peer`: who is measured, what it needs, and whether that is here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_NODE = ROOT / "benchmarks" / "node"

_NPM = ("ws", "bufferutil")

_NO_SPEEDUPS, _NO_POLLER = "TRIO_WS_NO_SPEEDUPS", "TRIO_WS_NO_POLLER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server, and perhaps a client, to measure."""

    name: str
    """What the tables call it."""
    program: str
    """The file in ``servers/``, and in ``clients/`` if it is there, without its suffix."""
    needs: tuple[str, ...] = ()
    """Distributions of Python that must be installed, the one that is measured first."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that switch parts of it on or off, whatever is exported."""
    raw: bool = False
    """Whether it speaks no WebSocket, and gets bare bytes."""
    only_echoes: bool = False
    """Whether it does nothing but to echo over plain sockets."""

    @property
    def server(self) -> list[str]:
        """The command that starts the server."""
        if self.is_node:
            return ["node", str(_NODE / "server.js")]
        return [sys.executable, "-m", f"benchmarks.servers.{self.program}"]

    @property
    def client(self) -> list[str] | None:
        """The command that starts the client, if there is one."""
        if not (ROOT / "benchmarks" / "clients" / f"{self.program}.py").exists():
            return None
        return [sys.executable, "-m", f"benchmarks.clients.{self.program}"]

    @property
    def is_variant(self) -> bool:
        """Whether it is trio_ws with a part of it switched off."""
        return self.program == REFERENCE and self.name != REFERENCE

    @property
    def is_node(self) -> bool:
        """Whether Node.js runs it."""
        return self.program == "node"

    def absence(self) -> str | None:
        """Return why it cannot be measured here, or None."""
        if self.is_node:
            if shutil.which("node") is None:
                return "Node.js is not installed"
            if not (_NODE / "node_modules" / "ws").exists():
                return "the npm package ws is not installed (npm ci in benchmarks/node)"
        missing = [name for name in self.needs if _version(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else None

    def versions(self) -> dict[str, str]:
        """Return the versions of what it is made of."""
        if self.is_node:
            return {"node": _node_version(), **{name: _npm_version(name) for name in _NPM}}
        versions = {name: _version(name) or "absent" for name in self.needs}
        return {**versions, **self.parts()}

    def parts(self) -> dict[str, str]:
        """Return what parses frames and what reads sockets, if it is made of trio_ws."""
        return _parts(tuple(self.environment.items())) if "trio-ws" in self.needs else {}

    def is_uncompiled(self) -> bool:
        """Tell whether it is to have the compiled half of trio_ws, which is not built here."""
        wanted = self.environment.get(_NO_SPEEDUPS) == "0"
        return wanted and self.parts()["frames"] == "python"


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _node_version() -> str:
    return subprocess.run(
        ["node", "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()


def _npm_version(name: str) -> str:
    package = _NODE / "node_modules" / name / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() else "absent"


@cache
def _parts(environment: tuple[tuple[str, str], ...]) -> dict[str, str]:
    program = (
        "from trio_ws._protocol.frames import implementation\n"
        "from trio_ws._transport.poller import can_poll\n"
        'print(implementation(), "poller" if can_poll() else "tasks")'
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **dict(environment)},
        capture_output=True,
        text=True,
        check=True,
    )
    frames, wires = done.stdout.split()
    return {"frames": frames, "wires": wires}


REFERENCE = "trio_ws"
"""The peer to which the ratios refer."""


def _switches(*, speedups: bool = True, poller: bool = True) -> dict[str, str]:
    return {
        _NO_SPEEDUPS: "0" if speedups else "1",
        _NO_POLLER: "0" if poller else "1",
    }


PEERS = (
    Peer(
        name=REFERENCE,
        program="trio_ws",
        needs=("trio-ws", "trio"),
        environment=_switches(),
    ),
    Peer(
        name="trio_ws, no speedups",
        program="trio_ws",
        needs=("trio-ws", "trio"),
        environment=_switches(speedups=False),
    ),
    Peer(
        name="trio_ws, no poller",
        program="trio_ws",
        needs=("trio-ws", "trio"),
        environment=_switches(poller=False),
    ),
    Peer(name="trio-websocket", program="trio_websocket", needs=("trio-websocket", "wsproto")),
    Peer(name="websockets, Trio", program="websockets_trio", needs=("websockets", "trio")),
    Peer(name="Hypercorn, Trio", program="hypercorn", needs=("hypercorn", "wsproto", "trio")),
    Peer(
        name="websockets, uvloop",
        program="websockets_asyncio",
        needs=("websockets", "uvloop"),
    ),
    Peer(name="aiohttp, uvloop", program="aiohttp", needs=("aiohttp", "uvloop")),
    Peer(name="picows, uvloop", program="picows", needs=("picows", "uvloop")),
    Peer(name="socketify (uWebSockets)", program="socketify", needs=("socketify",)),
    Peer(name="Node ws", program="node"),
    Peer(name="floor: bare Trio stream", program="floor", needs=("trio",), raw=True),
    Peer(
        name="floor: bare task and poller",
        program="least",
        needs=("trio", "trio-ws"),
        environment=_switches(),
        only_echoes=True,
    ),
)
