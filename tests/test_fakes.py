"""The fakes do what the tests that use them rely on."""

import pytest
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from tests.fakes import WholeMessages, raw_frame


def events_of(engine: WholeMessages, data: bytes) -> list[Event]:
    engine.receive_data(data)
    return list(engine.events())


def test_whole_messages_joins_the_fragments_of_a_text() -> None:
    engine = WholeMessages(client=True)
    data = raw_frame(1, b"ol\xc3", masked=False, fin=False) + raw_frame(0, b"\xa1", masked=False)

    events = events_of(engine, data)

    assert events == [TextMessage(data="olá")]


def test_whole_messages_joins_the_fragments_of_a_binary_message_around_a_ping() -> None:
    engine = WholeMessages(client=False)
    frames = [(2, b"a", False), (9, b"p", True), (0, b"b", True)]
    data = b"".join(raw_frame(op, part, masked=True, fin=fin) for op, part, fin in frames)

    events = events_of(engine, data)

    assert events == [Ping(payload=b"p"), BytesMessage(data=b"ab")]


def test_whole_messages_leaves_every_message_to_its_events() -> None:
    engine = WholeMessages(client=True)
    engine.receive_data(raw_frame(1, b"ola", masked=False))

    assert engine.messages(9, 9) == ([], 0)
    assert list(engine.events()) == [TextMessage(data="ola")]


@pytest.mark.parametrize(("limit", "fine"), [(3, True), (2, False)])
def test_whole_messages_counts_bytes_against_its_limit(limit: int, fine: bool) -> None:
    engine = WholeMessages(client=True, max_message=limit)

    events = events_of(engine, raw_frame(1, "aá".encode(), masked=False) * 2)

    assert isinstance(events[0], TextMessage) is fine
    assert len(events) == (2 if fine else 1)


def test_whole_messages_counts_frames_against_its_limit() -> None:
    engine = WholeMessages(client=True, max_fragments=2)
    part = raw_frame(0, masked=False, fin=False)

    events = events_of(engine, raw_frame(2, masked=False, fin=False) + part + part)

    assert [getattr(event, "code", None) for event in events] == [1009]


def test_whole_messages_is_silent_after_its_limit_was_passed() -> None:
    engine = WholeMessages(client=True, max_message=1)
    events_of(engine, raw_frame(2, b"ab", masked=False))

    assert events_of(engine, raw_frame(2, b"a", masked=False)) == []


def test_whole_messages_counts_a_frame_once_however_it_is_cut() -> None:
    engine = WholeMessages(client=True, max_fragments=1)
    data = raw_frame(2, b"abc", masked=False)

    events = [event for byte in data for event in events_of(engine, bytes([byte]))]

    assert events == [BytesMessage(data=b"abc")]


def test_whole_messages_sends_a_close_without_a_code() -> None:
    engine = WholeMessages(client=False)

    assert engine.send(CloseConnection(code=1005)) == b"\x88\x00"


def test_whole_messages_ignores_what_follows_the_end() -> None:
    engine = WholeMessages(client=True)
    engine.send(CloseConnection(code=1000))
    events_of(engine, raw_frame(8, masked=False))

    assert engine.state is ConnectionState.CLOSED
    assert events_of(engine, raw_frame(9, masked=False)) == []


def test_whole_messages_finds_no_control_frame_early() -> None:
    engine = WholeMessages(client=True)
    engine.receive_data(raw_frame(9, masked=False))

    assert list(engine.early_control()) == []
    assert engine.buffered == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_raw_frame_is_read_by_wsproto(size: int) -> None:
    engine = WholeMessages(client=False)

    events = events_of(engine, raw_frame(2, bytes(size), masked=True))

    assert b"".join(e.data for e in events if isinstance(e, BytesMessage)) == bytes(size)
