"""`soak`: rounds of hundreds of hostile clients at once, while others are served as ever."""

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import trio

from tests.invariants.peers import TEXT
from tests.torture.chat import KINDS, Kind, chat
from tests.torture.hostile import (
    CUT,
    LATE,
    TORN,
    Fault,
    Hostile,
    LateError,
    Target,
    UnexpectedError,
    expect,
    how_it_ends,
)
from tests.torture.judge import Sample, leak, sockets_left, tasks_left
from tests.torture.outcome import Outcome
from tests.torture.plan import ROUNDS_IN_A_LAP, Attack, Options, rounds
from tests.torture.server import Figures, Server, ServerError
from trio_ws._transport.nurseries import lone_errors

_LOOK = 0.1  # seconds from one look at an idle server to the next
_SPREAD = 2.0  # seconds in which those begin that wait for the server's patience
_CHURN = 0.2  # seconds from one short-lived well-behaved connection to the next
_LEAST = 20  # messages of a connection that lasts for a round, however short that is
_SHORT = 5  # messages of such a one
_FREE = 20  # descriptors that are left in a shortage
_STAY = 0.3  # seconds that each of them stays, at most
_HOPELESS = 200  # violations after which a round is not gone on with
_PATHS_OF_THE_END = ("/echo", "/hold", "/never", "/push", "/stubborn")


class Soak:
    """A soak of one server.

    Args:
        server: The server.
        target: The way to it.
        faults: What its hostile clients do.
        options: How hard, and how long.
        progress: Told about each round.
    """

    def __init__(
        self,
        server: Server,
        target: Target,
        faults: Sequence[Fault],
        options: Options,
        progress: Callable[[str], None],
    ) -> None:
        self._server = server
        self._target = target
        self._options = options
        self._progress = progress
        self._rounds = rounds(faults, options.seed, options.steps)
        self._random = Random(f"{options.seed}/others")
        by_seed = Random(f"{options.seed}/end").randrange(2) == 1
        self._drains = by_seed if options.drain is None else options.drain
        self._now = 0
        self._over = False
        self._calm = False
        self._opening: set[object] = set()
        self._idle: Figures
        self.outcome = Outcome(server.what)
        self._note = self.outcome.violations.note

    async def run(self) -> Outcome:
        """Go through rounds until the time is over, or something is not as it must be."""
        outcome = self.outcome
        begun = trio.current_time()
        try:
            self._idle = await self._server.figures()
            while not (outcome.violations or self._is_enough()):
                with lone_errors():
                    await self._round(next(self._rounds))
                outcome.rounds += 1
                outcome.seconds = trio.current_time() - begun
                self._progress(self._describe())
            if not outcome.violations:
                with lone_errors():
                    await self._end()
        except ServerError as error:
            outcome.violations.note_end(str(error))
        outcome.seconds = trio.current_time() - begun
        return outcome

    def _is_enough(self) -> bool:
        outcome, options = self.outcome, self._options
        laps = outcome.rounds // ROUNDS_IN_A_LAP
        return outcome.seconds >= options.seconds and laps >= options.laps

    async def _round(self, attacks: Sequence[Attack]) -> None:
        self._over = False
        async with self._chatting():
            await self._attack_all(attacks)
            if self._options.visitors:
                await self._run_short()
        figures = await self._settle()
        for complaint in figures.complaints:
            self._note("log", f"in the log of the server: {complaint}")
        self.outcome.samples.append(Sample(self.outcome.injected, figures.blocks, figures.heap))
        self.outcome.memory = (self._idle.memory, figures.memory)
        if what := leak(self.outcome.samples):
            self._note("memory", what)

    @asynccontextmanager
    async def _chatting(self) -> AsyncGenerator[None, None]:
        """Have well-behaved connections exchange messages all the while."""
        async with trio.open_nursery() as nursery:
            for index in range(self._options.chats):
                nursery.start_soon(self._chat, KINDS[index % len(KINDS)], self._is_over)
            nursery.start_soon(self._churn, nursery)
            nursery.start_soon(self._watch_lag)
            yield
            self._over = True

    def _is_over(self, sent: int) -> bool:
        return self._over and sent >= _LEAST

    async def _churn(self, nursery: trio.Nursery) -> None:
        while not self._over:
            if not self._calm:
                kind = self._random.choice(KINDS)
                nursery.start_soon(self._chat, kind, lambda sent: sent >= _SHORT)
            await trio.sleep(_CHURN)

    async def _watch_lag(self) -> None:
        while not self._over:
            due = trio.current_time() + _LOOK
            await trio.sleep_until(due)
            self.outcome.lag = max(self.outcome.lag, trio.current_time() - due)

    async def _chat(self, kind: Kind, until: Callable[[int], bool]) -> None:
        opening = object()
        self._opening.add(opening)
        try:
            faults = await chat(
                kind,
                self._target,
                random=Random(self._random.random()),
                tally=self.outcome.tally,
                bound=self._options.bound,
                until=until,
                on_open=lambda: self._opening.discard(opening),
            )
        finally:
            self._opening.discard(opening)
        for fault in faults:
            self._note(f"chat of {kind.name}", f"a well-behaved connection of {fault}")

    async def _attack_all(self, attacks: Sequence[Attack]) -> None:
        waiting = [attack for attack in reversed(attacks) if not attack.fault.slow]

        async def work() -> None:
            while waiting and self.outcome.violations.total < _HOPELESS:
                await self._attack(waiting.pop())

        async with trio.open_nursery() as nursery:
            for attack in attacks:
                if attack.fault.slow:
                    nursery.start_soon(self._attack, attack)
            for _ in range(self._options.crowd):
                nursery.start_soon(work)

    async def _attack(self, attack: Attack) -> None:
        random = Random(f"{self._options.seed}/{attack.index}")
        if attack.fault.slow:
            # Hundreds of them in one moment would be a test of the generator.
            await trio.sleep(random.uniform(0, _SPREAD * self._target.times.scale))
        hostile = Hostile(self._target, step=attack.step, secure=attack.secure, random=random)
        self._now += 1
        self.outcome.most = max(self.outcome.most, self._now)
        ended = "wrong"
        begun = trio.current_time()
        try:
            with trio.fail_after(self._options.patience), lone_errors():
                ended = await attack.fault.act(hostile)
        except trio.TooSlowError:
            seconds = self._options.patience
            self._note(
                attack.fault.name,
                f"{attack}: the server was not done with it after {seconds:g} seconds",
            )
        except LateError:
            ended = LATE
        except (
            EOFError,
            OSError,
            UnexpectedError,
            ValueError,
            trio.BrokenResourceError,
        ) as error:
            if not attack.fault.slow and trio.current_time() - begun >= self._target.times.open:
                ended = LATE
            else:
                self._note(attack.fault.name, f"{attack}: {_told(error)}")
        finally:
            self._now -= 1
            self.outcome.lines += hostile.opened
            await hostile.aclose()
        self.outcome.faults.setdefault(attack.fault.name, Counter())[ended] += 1

    async def _run_short(self) -> None:
        """Have more clients come than the server has file descriptors for.

        Nobody comes over TLS meanwhile: that is another server, which would say so as well.
        """
        self._calm = True
        while self._opening:  # noqa: ASYNC110 - what is waited for sets no event
            await trio.sleep(_LOOK)
        figures = await self._server.figures()
        if not await self._server.allow_descriptors(_FREE, figures):
            self._calm = False
            return
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._options.visitors):
                    nursery.start_soon(self._visit, Random(self._random.random()))
        finally:
            with trio.CancelScope(shield=True):
                # The deadline is that of whoever asks.
                await self._server.allow_all_descriptors()
            self._calm = False
        told = (await self._server.figures()).shortages
        self.outcome.shortages += 1
        if told == 0 or told - figures.shortages > 1:
            self._note(
                "shortage",
                f"without a free descriptor, the server said so {told - figures.shortages} times",
            )

    async def _visit(self, random: Random) -> None:
        """Be a client who has to wait until there is room."""
        hostile = Hostile(self._target, step=0, secure=False, random=random)
        try:
            with trio.fail_after(self._options.bound):
                peer = await hostile.enter()
                await peer.send(TEXT, b"still here")
                expect(str(await peer.receive() == (TEXT, b"still here")), "True")
                await trio.sleep(random.uniform(0, _STAY))
                await peer.close()
                expect(await how_it_ends(peer), "1000")
        except (EOFError, OSError, UnexpectedError, trio.BrokenResourceError) as error:
            self._note("shortage", f"a client that came without a free descriptor: {error!r}")
        except trio.TooSlowError:
            self._note("shortage", "a client that came without a free descriptor was never served")
        finally:
            await hostile.aclose()

    async def _settle(self) -> Figures:
        """Wait until the server is as it was before, and see what is left if it is not."""
        await self._wait_until_none(sockets_left)
        await self._server.release()
        return await self._wait_until_none(tasks_left)

    async def _wait_until_none(self, left: Callable[[Figures, Figures], Iterator[str]]) -> Figures:
        deadline = trio.current_time() + self._options.patience
        while True:
            figures = await self._server.figures()
            remains = ", ".join(left(self._idle, figures))
            if not remains:
                return figures
            if trio.current_time() > deadline:
                self._note("left", f"left behind when all clients had gone: {remains}")
                return figures
            await trio.sleep(_LOOK)

    async def _end(self) -> None:
        """Stop the server with clients of each kind there, and see that nothing is left."""
        async with trio.open_nursery() as nursery:
            entered: list[trio.Event] = []
            for path, secure in itertools.product(_PATHS_OF_THE_END, (False, True)):
                entered.append(trio.Event())
                nursery.start_soon(partial(self._stay, path, entered[-1], secure=secure))
            for event in entered:
                await event.wait()
            if self._drains:
                await self._server.drain()
            figures = await self._server.stop()
        status = await self._server.wait_ended()
        remains = [*tasks_left(self._server.before, figures)]
        remains += sockets_left(self._server.before, figures)
        if remains:
            self._note("left", f"left behind when the server had stopped: {', '.join(remains)}")
        if status != 0:
            words = self._server.last_words()
            self._note("end", f"the server's exit status is {status}: {words}")

    async def _stay(self, path: str, entered: trio.Event, *, secure: bool) -> None:
        hostile = Hostile(self._target, step=0, secure=secure, random=self._random)
        try:
            with trio.fail_after(self._options.patience):
                peer = await hostile.enter(path)
                entered.set()
                # Who is sent to without end may have too much to read before the Close.
                expect(await how_it_ends(peer), "1001", *((CUT, TORN) if path == "/push" else ()))
        except (UnexpectedError, OSError, trio.TooSlowError) as error:
            self._note("end", f"a client at {path} when the server stopped: {error!r}")
        finally:
            entered.set()
            await hostile.aclose()

    def _describe(self) -> str:
        outcome = self.outcome
        last = outcome.samples[-1]
        _, size = outcome.memory
        memory = "" if size is None else f", {size / 2**20:.1f} MiB"
        return (
            f"{outcome.what}: round {outcome.rounds}, {outcome.seconds:.0f} s: "
            f"{outcome.injected} faults, {outcome.tally.messages} messages, "
            f"{last.blocks} blocks{memory}"
        )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UnexpectedError) else repr(error)
