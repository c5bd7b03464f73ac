"""`TlsWire` keeps TLS out of the way of a connection, and lets no peer use it as a weapon.

What it has in common with `SocketWire` is tested there, for both.
"""

import socket
import ssl
import sys
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests._transport.fakes import (
    Tls,
    cancel_when_blocked,
    read_to_end,
    with_certificate_later,
)
from tests._transport.socket_benches import Bench, Benches, needs_watcher
from trio_ws._transport import poller as poller_module
from trio_ws._transport.tls import PIECE, RECORDS, TlsSession
from trio_ws._transport.tls_stream import TlsStream
from trio_ws._transport.watchers import READ, WRITE

pytestmark = [pytest.mark.network, needs_watcher]


@pytest.fixture
def benches(tls: Tls) -> Benches:
    return Benches(tls)


def start_early(
    tls: Tls, nursery: trio.Nursery, *, rest: bytes = b"", reads_on: bool = True
) -> tuple[Bench, "trio.SSLStream[trio.SocketStream]"]:
    """Start a client's wire whose TLS handshake was not done.

    A handshake that the peer begins later, as TLS 1.2 allows, looks the same to the wire: it
    cannot write before it has read something.
    """
    here, there = trio.socket.socketpair()
    near, far = trio.SocketStream(here), trio.SocketStream(there)
    ours = TlsStream(near, TlsSession(tls.client, server_hostname="localhost"))
    theirs = trio.SSLStream(far, tls.server, server_side=True, https_compatible=True)
    bench = Bench(nursery, ours, theirs, far, client=True, write_timeout=20)
    bench.owner.reads_on = reads_on
    bench.wire.start(nursery, rest)
    return bench, theirs


async def end(bench: Bench) -> None:
    bench.wire.abort()
    await bench.wire.wait_stopped()
    await bench.peer.aclose()


async def announce_end(bench: Bench) -> None:
    """Have the peer send its close alert, and not wait for an answer."""
    assert isinstance(bench.peer, trio.SSLStream)
    with trio.CancelScope() as scope:
        bench.nursery.start_soon(cancel_when_blocked, scope)
        await bench.peer.unwrap()


async def test_what_came_in_one_piece_with_the_head_is_handed_over_with_its_rest(
    benches: Benches,
) -> None:
    async with benches.open(start=False) as bench:
        await bench.peer.send_all(b"head, rest, ")
        await bench.peer.send_all(b"and more")
        assert isinstance(bench.stream, TlsStream)
        head = await bench.stream.receive_some(5)

        bench.wire.start(bench.nursery, b"and first ")

        assert head == b"head,"
        assert bench.owner.data == b"and first  rest, and more"
        bench.wire.abort()


async def test_an_end_that_came_in_one_piece_with_the_head_is_told(benches: Benches) -> None:
    async with benches.open(start=False) as bench:
        await bench.peer.send_all(b"head and rest")
        await announce_end(bench)
        assert isinstance(bench.stream, TlsStream)
        await bench.stream.receive_some(4)

        bench.wire.start(bench.nursery, b"")

        assert bench.owner.data == b" and rest"
        assert bench.owner.ends == [None]
        bench.wire.abort()


async def test_what_does_not_fit_into_the_workspace_is_handed_over_part_by_part(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 160
    async with benches.open() as bench:
        monkeypatch.setattr(poller_module, "READ_SIZE", 1000)

        await bench.peer.send_all(data)
        await wait_all_tasks_blocked()

        assert len(bench.poller.workspace) == 1000
        assert bench.owner.data == data


async def test_a_pause_leaves_nothing_behind_that_was_read(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False

        await bench.peer.send_all(bytes(3 * PIECE) + b"last")
        await wait_all_tasks_blocked()

        assert len(bench.owner.data) == 3 * PIECE + 4
        assert bench.interest == 0
        assert bench.wire.paused


MANY = bytes(number % 251 for number in range(10 * RECORDS))


def seal_bytes(bench: Bench, data: bytes) -> bytes:
    """Encrypt each byte in a record of its own."""
    assert isinstance(bench.peer, trio.SSLStream)
    for byte in data:
        bench.peer._ssl_object.write(bytes([byte]))  # noqa: SLF001 - Trio's send_all would send each
    return bytes(bench.peer._outgoing.read())  # noqa: SLF001 - see above


async def give_many(bench: Bench, data: bytes = MANY) -> None:
    """Send many records at once, and let only the first of them be decrypted."""
    await bench.raw.send_all(seal_bytes(bench, data))
    while not bench.owner.data:
        await trio.lowlevel.checkpoint()
    assert len(bench.owner.data) < len(data)


class Growth(trio.abc.Instrument):
    """Notes how many bytes each step of any task hands over.

    Args:
        bench: Whose.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._size = 0
        self.steps: list[int] = []
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, _: trio.lowlevel.Task) -> None:
        size = len(self._bench.owner.data)
        if size > self._size:
            self.steps.append(size - self._size)
        self._size = size


async def test_others_have_their_turn_after_so_many_records(benches: Benches) -> None:
    async with benches.open() as bench:
        growth = Growth(bench)

        await bench.raw.send_all(seal_bytes(bench, MANY))
        await wait_all_tasks_blocked()

        assert growth.steps == [RECORDS] * 10
        assert bench.owner.data == MANY
        assert bench.interest == READ
        await bench.peer.send_all(b"more")
        await wait_all_tasks_blocked()
        assert bench.owner.data == MANY + b"more"


async def test_records_that_have_waited_are_no_sign_of_life(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open() as bench:
        await give_many(bench)

        mock_clock.jump(7)
        await wait_all_tasks_blocked()

        assert bench.owner.data == MANY
        assert bench.wire.heard == 0


async def test_nothing_is_read_while_records_wait(benches: Benches) -> None:
    async with benches.open() as bench:
        await give_many(bench)
        assert bench.interest == 0

        await bench.peer.send_all(b"more")
        await wait_all_tasks_blocked()

        assert bench.owner.data == MANY + b"more"


async def test_a_pause_leaves_no_record_behind_that_was_read(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False

        await give_many(bench)
        await wait_all_tasks_blocked()

        assert bench.owner.data == MANY
        assert bench.interest == 0
        bench.wire.resume()
        assert bench.interest == READ


async def test_a_pause_that_ends_while_records_wait_lets_nothing_overtake_them(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False
        await give_many(bench)

        bench.owner.reads_on = True
        bench.wire.resume()
        interest = bench.interest
        await wait_all_tasks_blocked()

        assert interest == 0
        assert bench.owner.data == MANY
        assert bench.interest == READ


async def test_the_end_of_reading_waits_for_the_records_that_were_read(benches: Benches) -> None:
    async with benches.open() as bench:
        await give_many(bench)

        await bench.raw.aclose()
        await wait_all_tasks_blocked()

        assert bench.owner.data == MANY
        assert bench.owner.ends == [None]


async def test_a_line_that_breaks_in_a_pause_ends_behind_the_records_that_were_read(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        bench.owner.reads_on = False
        await give_many(bench)

        bench.reset()
        bench.write(b"x")
        bench.wire.flush()
        ends = list(bench.owner.ends)
        await wait_all_tasks_blocked()

        assert ends == []
        assert bench.owner.data == MANY
        assert [type(error) for error in bench.owner.ends] == [trio.BrokenResourceError]
        await end(bench)


async def test_a_line_that_is_cut_decrypts_nothing_more(benches: Benches) -> None:
    async with benches.open() as bench:
        await give_many(bench)
        size = len(bench.owner.data)

        bench.wire.abort()
        await wait_all_tasks_blocked()

        assert bench.owner.ends == [None]
        assert len(bench.owner.data) == size


async def test_an_owner_that_fails_in_a_later_step_loses_this_line_only(
    benches: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open() as bench:
        await give_many(bench)

        bench.owner.fault = ValueError("ours")
        await wait_all_tasks_blocked()

        assert bench.owner.ends == [bench.owner.fault]
        assert "reading failed; the connection is dropped" in caplog.text
        await end(bench)


async def test_many_records_behind_the_head_are_handed_over_in_steps(benches: Benches) -> None:
    async with benches.open(start=False) as bench:
        await bench.raw.send_all(seal_bytes(bench, MANY))
        assert isinstance(bench.stream, TlsStream)
        head = await bench.stream.receive_some(1)
        growth = Growth(bench)

        bench.wire.start(bench.nursery, b"")
        interest = bench.interest
        await wait_all_tasks_blocked()

        assert head + bench.owner.data == MANY
        assert interest == 0
        assert bench.interest == READ
        assert max(growth.steps) <= RECORDS
        bench.wire.abort()


async def test_a_part_of_a_record_is_a_sign_of_life(
    benches: Benches, mock_clock: MockClock
) -> None:
    async with benches.open() as bench:
        mock_clock.jump(7)

        await bench.raw.send_all(b"\x17")
        await wait_all_tasks_blocked()

        assert bench.wire.heard == 7
        assert bench.owner.data == b""


async def test_an_announced_end_is_told_without_an_error(benches: Benches) -> None:
    async with benches.open() as bench:
        await bench.peer.send_all(b"last")
        await announce_end(bench)

        assert bench.owner.data == b"last"
        assert bench.owner.ends == [None]
        assert bench.interest == 0


async def test_what_is_not_from_the_peer_ends_the_line_and_is_answered_with_an_alert(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        await bench.peer.send_all(b"good")
        await bench.raw.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        await wait_all_tasks_blocked()

        (error,) = bench.owner.ends
        assert bench.owner.data == b"good"
        assert isinstance(error, trio.BrokenResourceError)
        assert isinstance(error.__cause__, ssl.SSLError)
        with pytest.raises(trio.BrokenResourceError) as told:
            await bench.peer.receive_some()
        assert "bad record mac" in str(told.value.__cause__)


async def test_an_alert_follows_what_was_being_written(benches: Benches) -> None:
    told: list[str] = []

    async def hear_all(bench: Bench) -> None:
        try:
            await read_to_end(bench.peer)
        except trio.BrokenResourceError as error:
            told.append(str(error.__cause__))

    async with benches.open() as bench:
        await bench.fill()
        bench.write(bytes(1024 * 1024))
        await wait_all_tasks_blocked()

        await bench.raw.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        await wait_all_tasks_blocked()
        bench.nursery.start_soon(hear_all, bench)
        await wait_all_tasks_blocked()

        assert len(told) == 1
        assert "alert bad record mac" in told[0]
        assert bench.outgoing.size == 0


async def test_nothing_is_written_when_tls_has_failed(
    benches: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    async with benches.open() as bench:
        await bench.raw.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        await wait_all_tasks_blocked()

        bench.write(b"lost")
        await wait_all_tasks_blocked()

        assert bench.outgoing.empty
        assert len(bench.owner.ends) == 1
        assert caplog.records == []


async def test_a_writing_that_tls_cannot_do_yet_is_done_when_it_can(
    tls: Tls, nursery: trio.Nursery
) -> None:
    bench, theirs = start_early(tls, nursery)
    data = bytes(range(256)) * 1000
    bench.outgoing.push((b"header ", data))
    bench.write(b" last")
    await wait_all_tasks_blocked()

    heard = b""
    while not heard.endswith(b" last"):
        heard += await theirs.receive_some()

    assert heard == b"header " + data + b" last"
    assert bench.outgoing.size == 0
    assert bench.interest == READ
    await end(bench)


async def test_a_peer_for_whom_tls_waits_too_long_is_stuck(
    tls: Tls, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench, _ = start_early(tls, nursery)
    bench.write(b"data")
    await wait_all_tasks_blocked()

    mock_clock.jump(19.9)
    await wait_all_tasks_blocked()
    before = bench.owner.stuck
    mock_clock.jump(0.2)
    await wait_all_tasks_blocked()

    assert (before, bench.owner.stuck) == (0, 1)
    await end(bench)


async def test_a_peer_whose_bytes_are_not_read_is_not_blamed_when_tls_waits_for_them(
    tls: Tls, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench, theirs = start_early(tls, nursery, rest=b"rest", reads_on=False)
    bench.write(b"data")
    nursery.start_soon(theirs.do_handshake)
    await wait_all_tasks_blocked()

    for _ in range(5):
        mock_clock.jump(20.1)
        await wait_all_tasks_blocked()
    bench.wire.resume()

    assert await theirs.receive_some() == b"data"
    assert bench.owner.stuck == 0
    await end(bench)


async def test_a_line_can_be_cut_while_tls_waits(tls: Tls, nursery: trio.Nursery) -> None:
    bench, _ = start_early(tls, nursery)
    bench.write(b"data")
    await wait_all_tasks_blocked()

    await end(bench)

    assert bench.outgoing.size == 0
    assert bench.here.fileno() == -1


async def test_what_tls_has_to_say_for_itself_is_said(tls: Tls, nursery: trio.Nursery) -> None:
    client, server = with_certificate_later(tls)
    here, there = trio.socket.socketpair()
    near, far = trio.SocketStream(here), trio.SocketStream(there)
    ours = TlsStream(near, TlsSession(client, server_hostname="localhost"))
    theirs = trio.SSLStream(far, server, server_side=True, https_compatible=True)
    nursery.start_soon(ours.do_handshake)
    await theirs.do_handshake()
    bench = Bench(nursery, ours, theirs, far, client=True, write_timeout=20)
    bench.wire.start(nursery, b"")

    theirs._ssl_object.verify_client_post_handshake()  # noqa: SLF001 - Trio does not forward it
    await theirs.send_all(b"who are you?")
    await wait_all_tasks_blocked()
    before = theirs.getpeercert()
    bench.write(b"somebody")
    heard = await theirs.receive_some()

    assert bench.owner.data == b"who are you?"
    assert (before, heard) == (None, b"somebody")
    assert theirs.getpeercert()
    assert bench.outgoing.size == 0
    await end(bench)


class Talkative(TlsSession):
    """A session that has something more to say than it has said, once it is told how much."""

    has_to_say = 0

    @property
    def output(self) -> int:
        return super().output + self.has_to_say


@pytest.mark.parametrize(("size", "ends"), [(64 * 1024, 0), (64 * 1024 + 1, 1)])
async def test_a_peer_that_makes_tls_talk_without_end_is_left(
    size: int, ends: int, tls: Tls, nursery: trio.Nursery
) -> None:
    here, there = trio.socket.socketpair()
    near, far = trio.SocketStream(here), trio.SocketStream(there)
    session = Talkative(tls.server, server_hostname=None)
    theirs = trio.SSLStream(far, tls.client, server_hostname="localhost", https_compatible=True)
    bench = Bench(nursery, TlsStream(near, session), theirs, far, client=False, write_timeout=20)
    bench.wire.start(nursery, b"")
    await theirs.do_handshake()
    await wait_all_tasks_blocked()

    session.has_to_say = size
    await theirs.send_all(b"data")
    await wait_all_tasks_blocked()

    assert bench.owner.data == b"data"
    assert len(bench.owner.ends) == ends
    await end(bench)


async def test_what_a_full_socket_does_not_take_is_written_later(benches: Benches) -> None:
    async with benches.open() as bench:
        size = await bench.fill()
        bench.write(b"last")

        await bench.drain(size + 4)
        await wait_all_tasks_blocked()

        assert bench.outgoing.size == 0
        assert bench.interest == READ


async def test_nothing_is_written_to_a_socket_that_somebody_else_has_closed(
    benches: Benches,
) -> None:
    async with benches.open() as bench:
        bench.here.close()

        bench.write(b"lost")
        await wait_all_tasks_blocked()

        (error,) = bench.owner.ends
        assert isinstance(error, trio.BrokenResourceError)
        assert bench.outgoing.size == 0


async def test_a_socket_that_was_closed_before_the_start_ends_at_once(
    benches: Benches, nursery: trio.Nursery
) -> None:
    bench = await benches.make(nursery)
    await bench.stream.aclose()
    late = bench.make_wire()

    late.start(nursery, b"rest")

    assert isinstance(bench.owner.ends[0], trio.ClosedResourceError)
    late.abort()
    await late.wait_stopped()
    await bench.peer.aclose()


async def test_a_backlog_is_written_in_rounds_between_which_others_run(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        for _ in range(10):
            bench.write(bytes(64 * 1024))
        sizes: set[int] = set()
        bench.nursery.start_soon(bench.drain, 10 * 64 * 1024)
        while bench.outgoing.size:
            sizes.add(bench.outgoing.size)
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()

        assert len(sizes) > 1


async def test_what_waits_is_counted_with_what_tls_adds_to_it(benches: Benches) -> None:
    async with benches.open() as bench:
        size = await bench.fill()

        # FIONREAD tells how much of it has left: the peer's socket holds it.
        fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
        held = fcntl.ioctl(bench.raw.socket.fileno(), termios.FIONREAD, bytes(4))
        left = int.from_bytes(held, sys.byteorder)

        assert bench.outgoing.size > size - left
        await bench.drain(size)


class Reluctant(TlsSession):
    """A session that can be told to read something before it encrypts anything."""

    reluctant = False

    def encrypt(
        self, buffers: Sequence[bytes | memoryview], enough: int
    ) -> tuple[list[bytes], int]:
        return ([], 0) if self.reluctant else super().encrypt(buffers, enough)


async def test_a_full_socket_is_not_watched_for_room_while_tls_waits(
    tls: Tls, nursery: trio.Nursery
) -> None:
    here, there = trio.socket.socketpair()
    near, far = trio.SocketStream(here), trio.SocketStream(there)
    session = Reluctant(tls.server, server_hostname=None)
    theirs = trio.SSLStream(far, tls.client, server_hostname="localhost", https_compatible=True)
    bench = Bench(nursery, TlsStream(near, session), theirs, far, client=False, write_timeout=20)
    bench.wire.start(nursery, b"")
    await theirs.do_handshake()
    size = await bench.fill()

    session.reluctant = True
    while bench.interest & WRITE:
        size -= len(await theirs.receive_some())
        await wait_all_tasks_blocked()
    session.reluctant = False
    await theirs.send_all(b"now")
    await bench.drain(size)
    await wait_all_tasks_blocked()

    assert bench.outgoing.size == 0
    assert bench.interest == READ
    await end(bench)


async def test_what_was_read_may_have_the_line_cut(benches: Benches) -> None:
    async with benches.open() as bench:
        bench.owner.then = bench.wire.abort

        await bench.peer.send_all(b"enough")
        await wait_all_tasks_blocked()

        assert bench.owner.ends == [None]
        assert bench.here.fileno() == -1
