"""`run`: every work by every peer, in turns, several times."""

import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import trio
import trustme

from benchmarks.generator import Generator, Load, Sample
from benchmarks.peers import Peer
from benchmarks.processes import BenchError, Running, running
from benchmarks.works import Unit, Work

_ENOUGH = 10  # of so many connections one message has to come back, or it is no measurement

_LAST_WORD = 1  # second in which the generator says what it measured, once the client has ended

Progress = Callable[[str], None]
"""Is told of each measurement, before it."""


@dataclass(slots=True)
class Result:
    """What became of one work of one peer."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refusal: str | None = None
    """Why there was nothing to measure."""

    def median(self, value: Callable[[Sample], float]) -> float:
        """Return the median of a value over the rounds."""
        return median(map(value, self.samples))


Results = dict[str, dict[str, Result]]
"""By the name of the work, then by the name of the peer."""


def count(works: Sequence[Work], peers: Sequence[Peer], rounds: int) -> int:
    """Return how many measurements there will be."""
    return sum(
        1 if work.once else rounds
        for work in works
        for peer in peers
        if refusal(work, peer) is None
    )


def refusal(work: Work, peer: Peer) -> str | None:
    """Return why a peer has no part in a work, or None."""
    if work.client and peer.client is None:
        return "has no client here"
    if peer.raw and work.load.work == "handshakes":
        return "speaks no protocol"
    if peer.only_echoes and (work.broadcast or work.load.tls):
        return "does nothing but to echo over plain sockets"
    return None


async def run(
    works: Sequence[Work],
    peers: Sequence[Peer],
    generator: Generator,
    *,
    rounds: int,
    seconds: float,
    progress: Progress = lambda _: None,
    results: Results | None = None,
) -> Results:
    """Measure all works of all peers; the peers take turns within each work.

    A measurement that fails is noted, and costs the others nothing. The results given are filled,
    and returned, so that an interrupted run has something to tell.
    """
    results = {} if results is None else results
    for work in works:
        results[work.name] = {peer.name: Result() for peer in peers}
    with _certificate() as certificate:
        for number in range(rounds):
            # What grows or warms up over time hits the first and the last alike.
            turns = list(peers) if number % 2 == 0 else list(reversed(peers))
            async with _open_servers(certificate) as servers:
                for work in works:
                    if work.once and number:
                        continue
                    for peer in turns:
                        result = results[work.name][peer.name]
                        if (reason := refusal(work, peer)) is not None:
                            result.refusal = reason
                            continue
                        progress(f"{work.name}: {peer.name}")
                        try:
                            sample = await _measure(work, seconds, peer, generator, servers)
                        except BenchError as error:
                            result.failures.append(str(error))
                        else:
                            result.samples.append(sample)
    return results


@contextmanager
def _certificate() -> Iterator[Path]:
    """Make a certificate that nobody trusts, for the works over TLS."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(path / "key.pem")
        for blob in issued.cert_chain_pems:
            blob.write_to_path(path / "chain.pem", append=True)
        yield path


class _Servers:
    """The servers of one round; each is kept for all the works that it can serve."""

    def __init__(self, certificate: Path) -> None:
        self._certificate = certificate
        self._running: dict[tuple[str, bool, bool], tuple[Running, AsyncExitStack]] = {}

    @asynccontextmanager
    async def lend(self, work: Work, peer: Peer) -> AsyncGenerator[Running, None]:
        """Lend a server for a work; one that failed in it is not lent again."""
        command = [*peer.server, *["--broadcast"] * work.broadcast]
        if work.load.tls:
            command += ["--certificate", str(self._certificate)]
        if work.fresh:
            async with running(command, peer, listens=True) as server:
                yield server
            return
        key = (peer.name, work.broadcast, work.load.tls)
        if key not in self._running:
            stack = AsyncExitStack()
            server = await stack.enter_async_context(running(command, peer, listens=True))
            self._running[key] = (server, stack)
        server, _ = self._running[key]
        try:
            yield server
        except BenchError:
            _, stack = self._running.pop(key)
            await stack.aclose()
            raise
        await server.rest()

    async def aclose(self) -> None:
        for _, stack in self._running.values():
            await stack.aclose()


@asynccontextmanager
async def _open_servers(certificate: Path) -> AsyncGenerator[_Servers, None]:
    servers = _Servers(certificate)
    try:
        yield servers
    finally:
        await servers.aclose()


async def _measure(
    work: Work, seconds: float, peer: Peer, generator: Generator, servers: _Servers
) -> Sample:
    load = work.load.timed(seconds)
    if work.client:
        sample = await _measure_client(load, peer, generator)
    else:
        async with servers.lend(work, peer) as server:
            try:
                sample = await generator.drive(load, server.port, server.pid, raw=peer.raw)
            except BenchError as error:
                raise await _explain(error, server, "server") from error
    if work.unit is not Unit.MEMORY:
        check_count(sample, load)
    return sample


def check_count(sample: Sample, load: Load) -> None:
    """See that enough came back for an average.

    A server that is fair to all its connections may be done with the large messages of all of them
    at once, and have worked for that longer than it is measured.

    Raises:
        BenchError: It was not.
    """
    if sample.messages * _ENOUGH < load.connections or not sample.messages:
        within = f"within {sample.seconds:.3g} seconds"
        raise BenchError(f"too few messages came back {within} for an average: {sample.messages}")


async def _measure_client(load: Load, peer: Peer, generator: Generator) -> Sample:
    assert peer.client is not None
    sample: Sample | None = None
    failure = BenchError("the generator said nothing")
    async with generator.face(load) as facing:
        options = [f"--port={facing.port}", f"--connections={load.connections}"]
        async with running([*peer.client, *options], peer, listens=False) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, client, nursery.cancel_scope)
                try:
                    sample = await facing.measure(client.pid)
                except BenchError as error:
                    failure = error
                nursery.cancel_scope.cancel()
            if sample is None:
                raise await _explain(failure, client, "client") from failure
    return sample


async def _cancel_after(client: Running, waiting: trio.CancelScope) -> None:
    """Cancel the wait for a client that has ended, for which the generator would wait in vain."""
    await client.process.wait()
    # When all is done the client ends a moment before the generator says what it measured.
    await trio.sleep(_LAST_WORD)
    waiting.cancel()


async def _explain(error: BenchError, program: Running, role: str) -> BenchError:
    """Say what a program that has ended said last, which tells more than the generator can."""
    await trio.sleep(0.1)
    if program.alive:
        return BenchError(f"{error}")
    return BenchError(f"the {role} ended: {program.complaint()}")
