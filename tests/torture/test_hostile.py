"""A hostile client knows how its line ended."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.fakes import raw_frame
from tests.invariants.peers import CLOSE, PING, PONG, TEXT, Peer
from tests.torture.hostile import CUT, TORN, UnexpectedError, expect, how_it_ends, while_sending
from trio_ws.testing import MemoryStream, stream_pair

_101 = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
_CLOSE = raw_frame(CLOSE, (1009).to_bytes(2, "big"), masked=False)
_TEXT = raw_frame(TEXT, b"hello", masked=False)


async def said(data: bytes) -> tuple[Peer, MemoryStream]:
    """Make a client whose server has said something, and then ended the line."""
    mine, theirs = stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    return Peer(mine), theirs


@pytest.mark.parametrize(
    ("data", "ended"),
    [
        (b"", CUT),
        (b"HTTP/1.1 4", CUT),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\ntoo slow\n", "408"),
        (_101, CUT),
        (_101 + _TEXT, CUT),
        (_101 + _TEXT + _CLOSE, "1009"),
        (_101 + raw_frame(CLOSE, masked=False), "1005"),
        (_101 + _TEXT[:-1], TORN),
        (_101 + _CLOSE[:-1], TORN),
    ],
)
async def test_the_end_of_a_line_is_told_in_a_word(
    data: bytes, ended: str, autojump_clock: MockClock
) -> None:
    peer, _ = await said(data)

    assert await how_it_ends(peer, opened=False) == ended


@pytest.mark.parametrize("data", [_CLOSE + b"\0", _CLOSE + _CLOSE, _TEXT[:-1] + b"\xff" * 9])
async def test_what_no_server_may_send_is_not_expected(
    data: bytes, autojump_clock: MockClock
) -> None:
    peer, _ = await said(data)

    with pytest.raises(UnexpectedError):
        await how_it_ends(peer)


@pytest.mark.parametrize(
    ("answers", "sent"),
    [(False, []), (True, [(PONG, b"x"), (CLOSE, (1009).to_bytes(2, "big"))])],
)
async def test_a_client_answers_if_it_is_to(
    answers: bool, sent: list[tuple[int, bytes]], autojump_clock: MockClock
) -> None:
    peer, theirs = await said(raw_frame(PING, b"x", masked=False) + _CLOSE)

    await how_it_ends(peer, answers=answers)
    await peer.stream.aclose()

    server = Peer(theirs, masked=False)
    assert [await server.receive() for _ in sent] == sent
    assert await server.read_to_end() == b""


async def test_sending_stops_when_it_is_known_how_the_line_ended(
    autojump_clock: MockClock,
) -> None:
    peer, _ = await said(_CLOSE)

    ended = await while_sending(trio.sleep_forever, partial(how_it_ends, peer, answers=False))

    assert ended == "1009"


@pytest.mark.parametrize(("ended", "right"), [("404", True), ("500", False), (CUT, True)])
def test_an_end_is_right_if_a_pattern_says_so(ended: str, right: bool) -> None:
    patterns = ("4??", CUT)

    if right:
        assert expect(ended, *patterns) == ended
    else:
        with pytest.raises(UnexpectedError, match="as 500, not as 4"):
            expect(ended, *patterns)
