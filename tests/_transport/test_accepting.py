"""`serve_streams` goes on accepting, whatever the system says."""

import errno
import logging
import os

import pytest
import trio
import trio.abc
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import MemoryListener, read_to_end
from trio_ws._transport.accepting import serve_streams
from trio_ws._transport.nurseries import lone_errors
from trio_ws.testing import MemoryStream

SHORT = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]
SAID = "no file descriptor is free for another client (EMFILE)"


class Scripted(MemoryListener):
    """A listener that fails as it is told, before it accepts who dials.

    Args:
        script: Error numbers, and between them seconds that pass; the last one is for ever.
    """

    def __init__(self, *script: float) -> None:
        super().__init__()
        self._script = list(script)
        self.tries: list[float] = []
        """When it was asked."""

    async def accept(self) -> MemoryStream:
        self.tries.append(trio.current_time())
        while self._script:
            step = self._script[0]
            if isinstance(step, int):
                if len(self._script) > 1:
                    del self._script[0]
                await trio.lowlevel.checkpoint()
                raise OSError(step, os.strerror(step))
            del self._script[0]
            await trio.sleep(step)
            if step == 0:
                # As if somebody had come.
                self.dial()
                break
        return await super().accept()

    def closed(self) -> bool:
        try:
            self.dial()
        except trio.BrokenResourceError:
            return True
        return False


async def greet(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"hello")
    await stream.aclose()


async def is_served(listener: MemoryListener) -> bool:
    async with listener.dial() as client:
        return await read_to_end(client) == b"hello"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trio_ws.server"]


async def start(nursery: trio.Nursery, *listeners: MemoryListener) -> None:
    nursery.start_soon(serve_streams, greet, listeners, nursery)
    await wait_all_tasks_blocked()


async def test_every_listener_is_accepted_from_again_and_again(nursery: trio.Nursery) -> None:
    listeners = [MemoryListener(), MemoryListener()]

    await start(nursery, *listeners)

    for listener in listeners * 2:
        assert await is_served(listener)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", SHORT, ids=errno.errorcode.get)
async def test_a_shortage_is_waited_out_and_named_with_its_remedy_once(
    number: int,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Scripted(*[number] * 50, 0.0)
    nursery.start_soon(serve_streams, greet, [listener], nursery)

    assert await is_served(listener)

    (line,) = said(caplog)
    assert f"({errno.errorcode[number]})" in line
    assert "Limits.max_connections" in line
    assert ("ulimit -n" in line) is (number in {errno.EMFILE, errno.ENFILE})
    nursery.cancel_scope.cancel()


async def test_accepting_is_tried_ten_times_a_second_in_a_shortage(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    listener = Scripted(errno.EMFILE, errno.EMFILE, errno.EMFILE, 0.0)
    nursery.start_soon(serve_streams, greet, [listener], nursery)
    await is_served(listener)

    waits = [later - sooner for sooner, later in zip(listener.tries, listener.tries[1:4])]  # noqa: B905 - pairs of neighbours
    assert waits == pytest.approx([0.1, 0.1, 0.1])
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("pause", "lines"), [(0.0, 1), (59.9, 1), (60.0, 2)], ids=["at once", "soon", "after a minute"]
)
async def test_a_shortage_is_news_after_a_minute_without_one(
    pause: float,
    lines: int,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The tenth of a second that is waited after an error belongs to the minute.
    calm = max(pause - 0.1, 0.0)
    listener = Scripted(errno.EMFILE, calm, errno.EMFILE, 0.0)
    nursery.start_soon(serve_streams, greet, [listener], nursery)

    assert await is_served(listener)

    assert len(said(caplog)) == lines
    nursery.cancel_scope.cancel()


async def test_a_shortage_at_several_listeners_is_named_once(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = [Scripted(errno.EMFILE, 0.0), Scripted(errno.EMFILE, 0.0)]
    nursery.start_soon(serve_streams, greet, listeners, nursery)

    for listener in listeners:
        assert await is_served(listener)

    assert [SAID in line for line in said(caplog)] == [True]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "number", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO], ids=errno.errorcode.get
)
async def test_a_client_that_was_gone_before_it_was_accepted_costs_nobody_anything(
    number: int, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = Scripted(number, number, 0.0)

    await start(nursery, listener)

    assert await is_served(listener)
    assert said(caplog) == []
    nursery.cancel_scope.cancel()


async def test_a_listener_that_only_fails_keeps_nobody_from_running(
    nursery: trio.Nursery,
) -> None:
    good = MemoryListener()
    nursery.start_soon(serve_streams, greet, [Scripted(errno.ECONNABORTED), good], nursery)

    assert await is_served(good)
    nursery.cancel_scope.cancel()


async def test_a_listener_that_is_broken_ends_it_and_all_listeners_are_closed() -> None:
    listeners = [Scripted(errno.EBADF), Scripted()]

    with pytest.raises(OSError, match=os.strerror(errno.EBADF)), lone_errors():
        async with trio.open_nursery() as nursery:
            await serve_streams(greet, listeners, nursery)

    assert [listener.closed() for listener in listeners] == [True, True]


async def test_streams_are_served_on_when_accepting_is_cancelled(nursery: trio.Nursery) -> None:
    listener, go_on = Scripted(), trio.Event()

    async def greet_later(stream: trio.abc.Stream) -> None:
        await go_on.wait()
        await greet(stream)

    async def accept(scope: trio.CancelScope) -> None:
        with scope:
            await serve_streams(greet_later, [listener], nursery)
        go_on.set()

    accepting = trio.CancelScope()
    nursery.start_soon(accept, accepting)
    client = listener.dial()
    await wait_all_tasks_blocked()
    accepting.cancel()

    assert await read_to_end(client) == b"hello"
    assert listener.closed()
