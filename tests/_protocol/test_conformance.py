"""What each group of the Autobahn test suite asks for, asked of the engine by bytes alone.

The numbers of the groups are those of the suite; `make conformance` runs the suite itself. 12.* and
13.*, compression, are in `test_deflate.py` and beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from tests.fakes import WholeMessages, all_events, raw_frame
from trio_ws._protocol.engine import Engine

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """A frame to send, a right or a wrong one."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0


HELLO = Frame(TEXT, b"Hello")
MORE = Frame(PING, b"more")
BREACH = CloseConnection(1002)
BAD_DATA = CloseConnection(1007)
HELLO_BACK = TextMessage("Hello")


def echo(engine: Engine, events: Iterator[Event]) -> Iterator[bytes]:
    """Answer events as an endpoint does that sends every message back."""
    for event in events:
        if isinstance(event, (TextMessage, BytesMessage)):
            yield engine.send(event)
        elif isinstance(event, Ping):
            yield engine.send(Pong(event.payload))
        elif isinstance(event, CloseConnection):
            yield engine.send(event)


def answers(frames: Sequence[Frame], *, client: bool, piece: int | None = None) -> list[Event]:
    """Return what comes back for frames.

    Args:
        frames: What the peer sends.
        client: Whether the engine is the client.
        piece: Bytes that arrive at a time; None for all at once.
    """
    engine, peer = Engine(client=client), WholeMessages(client=not client)
    data = b"".join(
        raw_frame(
            frame.opcode,
            frame.payload,
            masked=not client,
            fin=frame.fin,
            reserved=frame.reserved,
        )
        for frame in frames
    )
    events: list[Event] = []
    for start in range(0, len(data), piece or len(data)):
        engine.receive_data(data[start : start + (piece or len(data))])
        for answer in echo(engine, all_events(engine)):
            peer.receive_data(answer)
            events += peer.events()
    return events


def check(frames: Sequence[Frame], expected: Sequence[Event]) -> None:
    """Check what comes back, on both sides, for what arrives at once and byte by byte."""
    for client in (False, True):
        for piece in (None, 1):
            got = answers(frames, client=client, piece=piece)
            assert [*map(plain, got)] == [*map(plain, expected)], (client, piece)


def plain(event: Event) -> Event:
    """Leave out the words of a Close, which are for people."""
    return CloseConnection(int(event.code)) if isinstance(event, CloseConnection) else event


def close(code: int, reason: bytes = b"") -> Frame:
    return Frame(CLOSE, code.to_bytes(2, "big") + reason)


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65535, 65536])
def test_1_framing_of_every_length_is_echoed(size: int) -> None:
    check([Frame(TEXT, b"*" * size)], [TextMessage("*" * size)])
    check([Frame(BINARY, b"\xfe" * size)], [BytesMessage(b"\xfe" * size)])


@pytest.mark.parametrize("payload", [b"", b"Hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125])
def test_2_ping_is_answered_with_its_payload(payload: bytes) -> None:
    check([Frame(PING, payload)], [Pong(payload)])


def test_2_ping_of_more_than_125_bytes_is_a_breach() -> None:
    check([Frame(PING, b"\xfe" * 126)], [BREACH])


def test_2_pong_that_nobody_asked_for_is_no_matter() -> None:
    check([Frame(PONG), Frame(PONG, b"unasked"), Frame(PING, b"asked")], [Pong(b"asked")])


def test_2_ten_pings_are_answered_in_their_order() -> None:
    payloads = [b"payload-%d" % number for number in range(10)]

    check([Frame(PING, payload) for payload in payloads], [Pong(payload) for payload in payloads])


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("reserved", range(1, 8))
def test_3_reserved_bits_are_a_breach_behind_what_was_valid(reserved: int, opcode: int) -> None:
    check([HELLO, Frame(opcode, b"", reserved=reserved), MORE], [HELLO_BACK, BREACH])


@pytest.mark.parametrize("payload", [b"", b"reserved opcode"])
@pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
def test_4_reserved_opcodes_are_a_breach_behind_what_was_valid(opcode: int, payload: bytes) -> None:
    check([HELLO, Frame(opcode, payload), MORE], [HELLO_BACK, BREACH])


HEL, LO = Frame(TEXT, b"Hel", fin=False), Frame(CONT, b"lo")


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_5_control_frame_in_fragments_is_a_breach(opcode: int) -> None:
    check([Frame(opcode, b"frag", fin=False), Frame(CONT, b"ment")], [BREACH])


def test_5_fragments_are_one_message() -> None:
    check([HEL, LO], [HELLO_BACK])
    check([Frame(TEXT, fin=False), Frame(CONT, fin=False), Frame(CONT)], [TextMessage("")])


def test_5_ping_between_fragments_is_answered_before_the_message() -> None:
    check([HEL, Frame(PING, b"now"), LO], [Pong(b"now"), HELLO_BACK])


@pytest.mark.parametrize("fin", [True, False])
def test_5_continuation_of_nothing_is_a_breach(fin: bool) -> None:
    nothing = Frame(CONT, b"non-continuation", fin=fin)

    check([nothing, HELLO], [BREACH])
    check([HELLO, nothing, HELLO], [HELLO_BACK, BREACH])
    # 5.15: behind a message in fragments.
    check([HEL, LO, nothing, HEL, LO], [HELLO_BACK, BREACH])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_new_message_within_another_is_a_breach(opcode: int) -> None:
    check([HEL, Frame(opcode, b"Hello")], [BREACH])


def test_5_many_fragments_and_pings_keep_their_order() -> None:
    parts = [Frame(CONT, b"fragment%d" % number, fin=number == 5) for number in range(2, 6)]
    frames = [Frame(TEXT, b"fragment1", fin=False), parts[0], Frame(PING, b"1"), *parts[1:3]]

    check(
        [*frames, Frame(PING, b"2"), parts[3]],
        [Pong(b"1"), Pong(b"2"), TextMessage("fragment1fragment2fragment3fragment4fragment5")],
    )


VALID_TEXTS = [
    "",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00\x7f",
    "\x80\u07ff",
    "\u0800\ud7ff\ue000\ufffd\ufffe\uffff",
    "\U00010000\U0010fffe\U0010ffff",
    # Non-characters are characters of UTF-8.
    "".join(chr(plane << 16 | 0xFFFE | last) for plane in range(17) for last in (0, 1)),
]


@pytest.mark.parametrize("text", VALID_TEXTS)
def test_6_valid_text_is_echoed_wherever_it_is_cut(text: str) -> None:
    data = text.encode()

    check([Frame(TEXT, data)], [TextMessage(text)])
    for cut in range(len(data) + 1):
        parts = [
            Frame(TEXT, data[:cut], fin=False),
            Frame(CONT, fin=False),
            Frame(CONT, data[cut:]),
        ]
        check(parts, [TextMessage(text)])


# Each with the number of bytes after which no continuation could make it valid any more.
INVALID_TEXTS = {
    "a continuation byte alone": (b"\x80", 1),
    "two of them": (b"\x80\xbf", 1),
    "a lead byte behind a lead byte": (b"\xc3\xc3", 2),
    "a lead byte in front of a space": (b"\xe2\x82 ", 3),
    "bytes that are never used": (b"\xfe\xff", 1),
    "overlong in two bytes": (b"\xc0\xaf", 1),
    "overlong in three": (b"\xe0\x80\xaf", 2),
    "overlong in four": (b"\xf0\x80\x80\xaf", 2),
    "overlong in five": (b"\xf8\x80\x80\x80\xaf", 1),
    "the longest overlong in three": (b"\xe0\x9f\xbf", 2),
    "the longest overlong in four": (b"\xf0\x8f\xbf\xbf", 2),
    "beyond the last plane": (b"\xf4\x90\x80\x80", 2),
    "a high surrogate": (b"\xed\xa0\x80", 2),
    "a low surrogate": (b"\xed\xbf\xbf", 2),
    "a pair of surrogates": (b"\xed\xa0\x80\xed\xb0\x80", 2),
    "behind valid text": (b"\xce\xba\xe1\xbd\xb9\xf4\x90", 7),
}


@pytest.mark.parametrize(("data", "bad"), INVALID_TEXTS.values(), ids=INVALID_TEXTS.keys())
def test_6_invalid_text_is_refused_at_its_bad_byte(data: bytes, bad: int) -> None:
    rest = 40
    for client in (False, True):
        for fin in (False, True):
            # A frame that is not complete yet.
            whole = raw_frame(TEXT, data + b"x" * rest, masked=not client, fin=fin)
            size = len(whole) - len(data) - rest + bad
            engine = Engine(client=client)
            engine.receive_data(whole[: size - 1])
            assert list(engine.events()) == []
            engine.receive_data(whole[size - 1 : size])
            (fault,) = engine.events()
            assert plain(fault) == BAD_DATA


@pytest.mark.parametrize(("data", "bad"), INVALID_TEXTS.values(), ids=INVALID_TEXTS.keys())
def test_6_invalid_text_is_refused_in_the_fragment_that_has_its_bad_byte(
    data: bytes, bad: int
) -> None:
    for cut in range(bad):
        check(
            [HELLO, Frame(TEXT, data[:cut], fin=False), Frame(CONT, data[cut:], fin=False), MORE],
            [HELLO_BACK, BAD_DATA],
        )


@pytest.mark.parametrize("character", ["ß", "€", "\U00010000"])
def test_6_text_that_ends_within_a_character_is_refused(character: str) -> None:
    data = character.encode()[:-1]

    check([Frame(TEXT, data)], [BAD_DATA])
    check([Frame(TEXT, data, fin=False), Frame(CONT)], [BAD_DATA])


def test_6_binary_messages_are_not_looked_into() -> None:
    check(
        [Frame(BINARY, b"\xff\xc0", fin=False), Frame(CONT, b"\x80")],
        [BytesMessage(b"\xff\xc0\x80")],
    )


def test_7_close_is_answered_behind_the_message_and_what_follows_ignored() -> None:
    check([HELLO, close(1000), HELLO, MORE, close(1001)], [HELLO_BACK, CloseConnection(1000)])


def test_7_close_within_a_message_is_answered() -> None:
    check([HEL, close(1000), LO], [CloseConnection(1000)])


def test_7_close_without_a_code_is_answered_without_one() -> None:
    check([Frame(CLOSE)], [CloseConnection(1005)])


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1014), 3000, 3999, 4000, 4999])
@pytest.mark.parametrize("reason", [b"", b"Hello World!", b"*" * 123])
def test_7_close_is_answered_with_its_code(code: int, reason: bytes) -> None:
    check([close(code, reason)], [CloseConnection(code)])


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_7_code_that_may_not_be_sent_is_a_breach(code: int) -> None:
    check([close(code)], [BREACH])


def test_7_close_of_a_wrong_length_is_a_breach() -> None:
    check([Frame(CLOSE, b"a")], [BREACH])
    check([close(1000, b"*" * 124)], [BREACH])


def test_7_reason_that_is_no_text_is_refused() -> None:
    check([close(1000, "κόσμε".encode() + b"\xed\xa0\x80edited")], [BAD_DATA])


@pytest.mark.parametrize("client", [False, True])
def test_7_close_of_ours_is_over_when_it_is_answered(client: bool) -> None:
    engine = Engine(client=client)
    engine.send(CloseConnection(1000))

    engine.receive_data(raw_frame(CLOSE, b"\x03\xe8", masked=not client))

    assert [*map(plain, engine.events())] == [CloseConnection(1000)]
    assert engine.state is ConnectionState.CLOSED


SIZE = 1024 * 1024


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("piece", [None, 64, 1460])
def test_9_large_message_is_echoed_in_whatever_pieces_it_comes(
    piece: int | None, client: bool
) -> None:
    (message,) = answers([Frame(BINARY, b"\xfe" * SIZE)], client=client, piece=piece)

    assert message == BytesMessage(b"\xfe" * SIZE)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("size", [64, 1024, 65536])
def test_9_large_message_is_echoed_in_however_many_frames_it_comes(size: int, client: bool) -> None:
    count = SIZE // size
    frames = [
        Frame(CONT if number else TEXT, b"*" * size, fin=number == count - 1)
        for number in range(count)
    ]

    (message,) = answers(frames, client=client, piece=64 * 1024)

    assert message == TextMessage("*" * SIZE)


def test_10_message_in_frames_of_an_odd_size_is_echoed() -> None:
    text = "*" * 65536
    cuts = range(0, len(text), 1300)
    frames = [
        Frame(TEXT if cut == 0 else CONT, text[cut : cut + 1300].encode(), fin=cut == cuts[-1])
        for cut in cuts
    ]

    assert answers(frames, client=False) == [TextMessage(text)]
