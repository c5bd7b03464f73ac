"""The engine gives way: what a step may cost, in frames, and how it goes on behind it."""

from itertools import chain, islice
from math import inf

import pytest
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests.fakes import raw_frame
from trio_ws._config import Deflate
from trio_ws._protocol.engine import FRAMES, Engine
from trio_ws._protocol.extensions import Agreement
from trio_ws._protocol.frames import MESSAGES_A_FRAME

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

RUN = FRAMES * MESSAGES_A_FRAME


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Make a frame as a client sends it."""
    return raw_frame(opcode, payload, masked=True, fin=fin)


def engine_with(data: bytes, *, compressing: bool = False) -> Engine:
    """Make a server's engine that has received something."""
    agreement = Agreement(15, True, 15, True, "", Deflate()) if compressing else None
    engine = Engine(client=False, agreement=agreement)
    engine.receive_data(data)
    return engine


MESSAGE, FRAGMENT = frame(BINARY, b"a"), frame(CONT, b"a", fin=False)

FLOODS = {
    "fragments": (frame(BINARY, b"a", fin=False), FRAGMENT),
    "empty fragments": (frame(TEXT, fin=False), frame(CONT, fin=False)),
    "messages in two fragments": (b"", frame(BINARY, fin=False) + frame(CONT)),
    "pings": (b"", frame(PING)),
    "pongs": (b"", frame(PONG)),
    "messages, event by event": (b"", MESSAGE),
}


@pytest.mark.parametrize("compressing", [False, True])
@pytest.mark.parametrize("flood", FLOODS)
def test_events_stall_in_front_of_one_frame_too_many(flood: str, compressing: bool) -> None:
    first, more = FLOODS[flood]
    count = 2 if flood == "messages in two fragments" else 1
    data = first + more * ((FRAMES - bool(first)) // count)
    engine = engine_with(data, compressing=compressing)

    found = len(list(engine.events()))

    assert not engine.stalled
    assert engine.buffered == 0
    engine = engine_with(data + MESSAGE, compressing=compressing)
    assert len(list(engine.events())) == found
    assert engine.stalled
    assert engine.buffered == len(MESSAGE)


def test_events_go_on_where_they_stalled() -> None:
    pings = [Ping(payload=number.to_bytes(2, "big")) for number in range(2 * FRAMES + 1)]
    engine = engine_with(b"".join(frame(PING, bytes(ping.payload)) for ping in pings))

    steps = [list(engine.events())]
    while engine.stalled:
        # Until it is told to go on, nothing more comes.
        assert list(engine.events()) == []
        engine.go_on()
        steps.append(list(engine.events()))

    assert [len(step) for step in steps] == [FRAMES, FRAMES, 1]
    assert list(chain(*steps)) == pings


def test_fragments_of_many_steps_are_one_message() -> None:
    engine = engine_with(frame(TEXT, b"a", fin=False) + FRAGMENT * (3 * FRAMES) + frame(CONT, b"z"))

    for _ in range(3):
        assert list(engine.events()) == []
        assert engine.stalled
        engine.go_on()

    assert list(engine.events()) == [TextMessage(data="a" + "a" * (3 * FRAMES) + "z")]


def test_what_is_received_begins_another_step() -> None:
    engine = engine_with(frame(PING) * (FRAMES + 1))
    list(engine.events())

    engine.receive_data(frame(PONG))

    assert not engine.stalled
    assert list(engine.events()) == [Ping(payload=b""), Pong(payload=b"")]


def test_frame_that_is_not_all_there_does_not_stall() -> None:
    engine = engine_with(frame(PING) * FRAMES + frame(PING)[:3])
    assert len(list(engine.events())) == FRAMES
    assert not engine.stalled


def test_peers_close_one_frame_too_many_waits_for_the_next_step() -> None:
    engine = engine_with(frame(PING) * FRAMES + frame(CLOSE, b"\x03\xe9"))
    list(engine.events())
    before = engine.state

    engine.go_on()

    assert before is ConnectionState.OPEN
    assert list(engine.events()) == [CloseConnection(code=1001, reason="")]
    assert engine.state is ConnectionState.REMOTE_CLOSING
    assert not engine.stalled


def test_run_of_messages_in_one_read_is_bounded() -> None:
    engine = engine_with(b"")

    messages, size, whole = engine.receive_messages(MESSAGE * (RUN + 1), inf, inf)

    assert (len(messages), size, whole) == (RUN, RUN, False)
    assert engine.messages(inf, inf) == ([b"a"], 1)


def test_runs_of_messages_spend_the_step() -> None:
    engine = engine_with(MESSAGE * (RUN + 1))

    assert len(engine.messages(inf, inf)[0]) == RUN
    assert engine.messages(inf, inf) == ([], 0)
    assert list(engine.events()) == []
    assert engine.stalled
    engine.go_on()
    assert engine.messages(inf, inf) == ([b"a"], 1)


def test_message_by_itself_costs_as_much_as_a_frame() -> None:
    engine = engine_with(MESSAGE * (FRAMES + 1))

    taken = sum(len(engine.messages(1, inf)[0]) for _ in range(FRAMES + 1))

    assert taken == FRAMES


def test_messages_and_events_spend_the_same_step() -> None:
    engine = engine_with((MESSAGE + frame(PING)) * FRAMES)

    found = 0
    while engine.messages(inf, inf)[0]:
        found += len(list(islice(engine.events(), 1)))

    assert found == FRAMES // 2


def test_search_for_control_frames_ends_in_front_of_one_frame_too_many() -> None:
    engine = engine_with(MESSAGE * (FRAMES - 1) + frame(PING, b"1"))
    assert list(engine.early_control()) == [Ping(payload=b"1")]
    assert not engine.unseen

    engine = engine_with(MESSAGE * FRAMES + frame(PING, b"1"))
    assert list(engine.early_control()) == []
    assert engine.unseen
    assert not engine.stalled


def test_search_for_control_frames_goes_on_where_it_ended() -> None:
    pings = [Ping(payload=number.to_bytes(2, "big")) for number in range(2 * FRAMES)]
    data = b"".join(MESSAGE + frame(PING, bytes(ping.payload)) for ping in pings)
    engine = engine_with(data)

    steps = [list(engine.early_control())]
    while engine.unseen:
        assert list(engine.early_control()) == []
        engine.go_on()
        steps.append(list(engine.early_control()))

    assert [len(step) for step in steps] == [FRAMES // 2] * 4
    assert list(chain(*steps)) == pings
    assert engine.buffered == len(data)


def test_search_for_control_frames_has_what_the_events_have_left() -> None:
    engine = engine_with(frame(PING, b"1") * 10 + MESSAGE + frame(PING, b"2") * FRAMES)
    taken = list(islice(engine.events(), 11))

    early = list(engine.early_control())

    assert len(taken) + len(early) == FRAMES
    assert engine.unseen


def test_nothing_is_unseen_behind_a_fault_or_the_peers_close() -> None:
    for end in (frame(CLOSE), frame(3)):
        engine = engine_with(MESSAGE * (FRAMES + 1) + end + frame(PING) * FRAMES)
        list(engine.early_control())
        assert engine.unseen
        engine.go_on()

        list(engine.early_control())

        assert not engine.unseen


def test_fault_leaves_nothing_unseen() -> None:
    text = frame(TEXT, b"a" * 10 + b"\xff" * 4)
    engine = engine_with(text[:10])
    list(engine.events())
    engine.receive_data(text[10:] + frame(PING) * (FRAMES + 1))
    list(engine.early_control())
    unseen = engine.unseen

    list(engine.events())

    assert unseen
    assert not engine.unseen


def test_run_that_was_received_begins_another_step() -> None:
    engine = engine_with(frame(PING) * FRAMES)
    list(engine.events())

    engine.receive_messages(MESSAGE + frame(PING) * FRAMES, inf, inf)

    assert len(list(engine.events())) == FRAMES
    assert not engine.stalled
