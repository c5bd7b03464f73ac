"""`Server`: the server under test, a program of its own, and what it tells of itself."""

import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import trio

from tests.programs import Program, running
from tests.torture.settings import DESCRIPTORS, DRAIN, FIGURES, RELEASED, STOP

_WORDS = 8  # lines of a server's last words that are told


class ServerError(Exception):
    """The server is gone, or does not answer; the text says what it said last."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server tells of itself at a time at which it has been tidied up."""

    tasks: Counter[str]
    """Tasks that live, by name."""
    descriptors: Mapping[int, str] | None
    """File descriptors, and what they are; None where the system does not tell."""
    counts: Mapping[str, int]
    """What the library counts itself."""
    memory: int | None
    """Bytes in use; None where the system does not tell."""
    heap: int | None
    """Bytes that `malloc` has given out; None where the system does not tell."""
    blocks: int
    """Blocks of memory that Python has allocated."""
    complaints: Sequence[str]
    """What is in its log, and should not."""
    shortages: int
    """How often it has said that no file descriptor is left."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Figures":
        """Read what a server has told."""
        found = told["descriptors"]
        return cls(
            tasks=Counter(told["tasks"]),
            descriptors=None if found is None else {int(fd): found[fd] for fd in found},
            counts=told["counts"],
            memory=told["memory"],
            heap=told["heap"],
            blocks=told["blocks"],
            complaints=told["complaints"],
            shortages=told["shortages"],
        )


class Server:
    """A server under test. Created by `serving`."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._asking = trio.Lock()
        self.what = ""
        self.ports = (0, 0)
        self.before: Figures
        """Its figures before it served."""

    async def _hear(self) -> Any:  # noqa: ANN401 - JSON
        try:
            return json.loads(await self._program.hear())
        except AssertionError:
            raise ServerError(f"the server has ended: {self.last_words()}") from None
        except trio.TooSlowError:
            raise ServerError("the server does not answer") from None

    async def _ask(self, order: str) -> Any:  # noqa: ANN401 - JSON
        async with self._asking:
            try:
                await self._program.type(order + "\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ServerError(f"the server has ended: {self.last_words()}") from None
            return await self._hear()

    async def start(self) -> None:
        """Wait until it serves."""
        told = await self._hear()
        self.what, self.ports = told["what"], tuple(told["ports"])
        self.before = Figures.of(told["before"])

    async def figures(self) -> Figures:
        """Return its figures, taken after what is garbage was collected."""
        return Figures.of(await self._ask(FIGURES))

    async def release(self) -> None:
        """Have the handlers that never return do so."""
        await self._ask(RELEASED)

    async def allow_descriptors(self, free: int, figures: Figures) -> bool:
        """Leave it so many free descriptors; tell whether that can be done here."""
        if figures.descriptors is None:
            return False
        unused = (number for number in count() if number not in figures.descriptors)
        limit = next(islice(unused, free, None))
        return bool(await self._ask(f"{DESCRIPTORS} {limit}"))

    async def allow_all_descriptors(self) -> None:
        """Leave it as many descriptors as at first."""
        await self._ask(DESCRIPTORS)

    async def drain(self) -> None:
        """Have it end in order, if it knows how."""
        await self._ask(DRAIN)

    async def stop(self) -> Figures:
        """Stop it; return its figures after it has served."""
        return Figures.of(await self._ask(STOP))

    async def wait_ended(self) -> int | None:
        """Wait for the end of the program; return its exit status."""
        await self._program.end_input()
        await self._program.hear_all()
        return self._program.status

    def last_words(self) -> str:
        """Return what it has said on its standard error stream, the end of it."""
        spoken = [line for line in self._program.errors.splitlines() if any(map(str.isalpha, line))]
        return " / ".join(spoken[-_WORDS:]) or "it said nothing"


@asynccontextmanager
async def serving(
    arguments: Sequence[str],
    certificate: Path,
    scale: float,
    environment: Mapping[str, str],
) -> AsyncGenerator[Server, None]:
    """Run a server under test; it is killed if it has not ended when the block is left.

    Args:
        arguments: The module below `tests.torture.servers`, and arguments of its own.
        certificate: Key and certificate for TLS.
        scale: How patient it is; see `Times`.
        environment: What its environment has beyond this program's own.
    """
    module, *more = arguments
    command = (sys.executable, "-m", f"tests.torture.servers.{module}", *more)
    options = (str(certificate), "--scale", str(scale))
    async with running(*command, *options, environment=environment) as program:
        server = Server(program)
        await server.start()
        yield server
