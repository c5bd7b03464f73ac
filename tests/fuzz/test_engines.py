"""Two engines, joined by lines that may hold bytes back: whatever is done, nothing is lost.

A machine of hypothesis sends messages whole and in fragments, pings, pongs, closes and now and then
something broken from either side, delivers bytes in pieces of any size, in buffers that are used
again, and takes messages and events in any order and number. A model knows what has to come out.
"""

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from tests.fakes import raw_frame
from tests.fuzz.implementations import IMPLEMENTATIONS, Implementation, using
from trio_ws._config import Deflate
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.extensions import Agreement, answer_offers, make_offer, read_answer
from trio_ws._protocol.frames import DEFLATED
from trio_ws._protocol.messages import LARGE
from trio_ws._transport.inbox import message_size
from trio_ws._types import Message

MAX_MESSAGE, MAX_FRAGMENTS = 70_000, 6

TEXT, PING, RESERVED = 1, 9, 3

Name: TypeAlias = Literal["client", "server"]
Step: TypeAlias = Literal["messages", "events", "early control"]

NAMES: tuple[Name, Name] = ("client", "server")
SIDES = st.sampled_from(NAMES)
SMALL = st.text(max_size=5) | st.binary(max_size=5) | st.sampled_from([bytes(130), "ü" * 200])
SIZES = st.sampled_from([125, 126, 127, LARGE - 1, LARGE, 65535, 65536])
# Pings, for whoever takes the payload of a message for frames.
DECOY = raw_frame(PING, masked=False) * 40
MESSAGES = SMALL | st.just(DECOY) | SIZES.map(bytes) | SIZES.map("x".__mul__)
COMPRESSION = st.none() | st.builds(
    Deflate,
    send_window_bits=st.sampled_from([9, 15]),
    send_context_takeover=st.booleans(),
    min_size=st.sampled_from([1, 100]),
)
PAYLOADS = st.binary(max_size=4) | st.just(bytes(125))
CODES = st.sampled_from([1000, 1001, 1005, 1011, 3000, 4999])
PIECES = st.integers(0, 12) | st.sampled_from([130, 1000, 20_000, 10**6])
STEPS = st.lists(
    st.tuples(st.sampled_from(["messages", "events", "early control"]), st.integers(0, 4)),
    max_size=3,
)

OPEN, CLOSED = ConnectionState.OPEN, ConnectionState.CLOSED
LOCAL, REMOTE = ConnectionState.LOCAL_CLOSING, ConnectionState.REMOTE_CLOSING


@dataclass
class Sent:
    """A message that was sent."""

    message: Message
    size: int
    """Bytes of its frames."""
    plain: bool
    """Whether it is a single frame."""


@dataclass
class Line:
    """What one side has sent, and how much of it has arrived."""

    data: bytearray = field(default_factory=bytearray)
    arrived: int = 0
    frames: list[tuple[int, int, bool]] = field(default_factory=list)
    """Where the header of each frame ends, where the frame ends, whether it is a control frame."""
    messages: list[Sent] = field(default_factory=list)
    control: list[Event] = field(default_factory=list)
    close: CloseConnection | None = None
    broken: Literal["header", "payload"] | None = None
    """What is wrong with the last frame that means anything."""
    fault: int | None = None
    """The code to answer that with."""
    certain: int = 0
    """How many control events come whatever happens; what is behind a fault may come early."""

    def put(self, frame: bytes, *, control: bool = False) -> None:
        start = len(self.data)
        size = 2 + {126: 2, 127: 8}.get(frame[1] & 127, 0) + (4 if frame[1] >= 128 else 0)
        self.data += frame
        self.frames.append((start + size, len(self.data), control))

    def put_control(self, frame: bytes, event: Event) -> None:
        self.put(frame, control=True)
        if self.broken != "header":
            self.control.append(event)
            self.certain += self.broken is None

    @property
    def unparsed(self) -> int:
        """Bytes that wait for more: those of a header, or of a control frame, that is not whole."""
        start = 0
        for header, end, control in self.frames:
            if self.arrived < end:
                return self.arrived - start if control or self.arrived < header else 0
            start = end
        return 0


def agreed(settings: Deflate | None) -> tuple[Agreement | None, Agreement | None]:
    """Return what a client and a server of some settings agree on, as each of them sees it."""
    if settings is None:
        return None, None
    answer = answer_offers([make_offer(settings)], settings)
    assert answer is not None
    return read_answer([answer.text], settings), answer


class Side:
    """An engine, its line to the other one, and what came over the line from there."""

    def __init__(self, agreement: Agreement | None, *, client: bool) -> None:
        self.engine = Engine(
            client=client,
            max_message=MAX_MESSAGE,
            max_fragments=MAX_FRAGMENTS,
            agreement=agreement,
        )
        self.line = Line()
        self.fragments: list[Message] = []
        self.size_of_fragments = 0
        self.said_close = self.saw_close = self.saw_fault = False
        self.messages = self.control = 0

    @property
    def state(self) -> ConnectionState:
        """The state of RFC 6455 §7.1 that follows from what was said and seen."""
        if self.said_close:
            return CLOSED if self.saw_close else LOCAL
        return REMOTE if self.saw_close else OPEN

    def note(self, message: Message, size: int, *, plain: bool) -> None:
        """Note that a message was sent; it has to arrive unless there is a fault before it."""
        if self.line.broken is None:
            self.line.messages.append(Sent(message, size, plain))


class EnginePair(RuleBasedStateMachine):
    @initialize(settings=COMPRESSION)
    def begin(self, settings: Deflate | None) -> None:
        of_client, of_server = agreed(settings)
        self.client, self.server = Side(of_client, client=True), Side(of_server, client=False)

    def pair(self, name: Name) -> tuple[Side, Side]:
        """Return a side and the other one."""
        if name == "client":
            return self.client, self.server
        return self.server, self.client

    @rule(name=SIDES, message=MESSAGES, compress=st.sampled_from([None, True, False]))
    def send(self, name: Name, message: Message, compress: bool | None) -> None:
        side, _ = self.pair(name)
        if side.state is not OPEN or side.fragments:
            with pytest.raises(LocalProtocolError):
                side.engine.send_message(message, compress)
            return
        made = side.engine.send_message(message, compress)
        frame = b"".join(made) if isinstance(made, tuple) else made
        side.line.put(frame)
        side.note(message, len(frame), plain=not frame[0] & DEFLATED)

    @rule(name=SIDES, message=SMALL, last=st.booleans())
    def send_fragment(self, name: Name, message: Message, *, last: bool) -> None:
        side, _ = self.pair(name)
        last = last or len(side.fragments) + 1 == MAX_FRAGMENTS
        event = message_event(message, last=last)
        if side.state is not OPEN:
            with pytest.raises(LocalProtocolError):
                side.engine.send(event)
            return
        if side.fragments and type(side.fragments[0]) is not type(message):
            with pytest.raises(LocalProtocolError, match="cannot be mixed"):
                side.engine.send(event)
            return
        frame = side.engine.send(event)
        side.line.put(frame)
        side.fragments.append(message)
        side.size_of_fragments += len(frame)
        if last:
            plain = len(side.fragments) == 1
            side.note(joined(side.fragments), side.size_of_fragments, plain=plain)
            side.fragments, side.size_of_fragments = [], 0

    @rule(name=SIDES, kind=st.sampled_from([Ping, Pong]), payload=PAYLOADS)
    def send_control(self, name: Name, kind: type[Ping | Pong], payload: bytes) -> None:
        side, _ = self.pair(name)
        event = kind(payload=payload)
        if side.state is not OPEN:
            with pytest.raises(LocalProtocolError):
                side.engine.send(event)
            return
        side.line.put_control(side.engine.send(event), event)

    @rule(name=SIDES, code=CODES, reason=st.text(max_size=10))
    def close(self, name: Name, code: int, reason: str) -> None:
        side, _ = self.pair(name)
        # RFC 6455 §7.4.1: it stands for "no code", and then there is no reason.
        event = CloseConnection(code=code, reason="" if code == 1005 else reason)
        if side.said_close:
            with pytest.raises(LocalProtocolError):
                side.engine.send(event)
            return
        side.line.put(side.engine.send(event), control=True)
        side.said_close = True
        if side.line.broken != "header":
            side.line.close = event

    @rule(name=SIDES, how=st.sampled_from(["header", "payload"]))
    def break_the_protocol(self, name: Name, how: Literal["header", "payload"]) -> None:
        side, _ = self.pair(name)
        # Inside of a message in fragments even sound text is a fault.
        text = b"sound" if side.fragments else b"\xff"
        opcode, payload = (RESERVED, b"") if how == "header" else (TEXT, text)
        if side.said_close:
            opcode, payload = PING, b"late"
        side.line.put(raw_frame(opcode, payload, masked=side.engine.client))
        # Whatever follows a Close, or what is broken already, means nothing.
        if not side.said_close and side.line.broken is None:
            side.line.broken = how
            side.line.fault = 1002 if how == "header" or side.fragments else 1007

    @rule(name=SIDES, size=PIECES, lent=st.booleans(), steps=STEPS)
    def deliver(self, name: Name, size: int, *, lent: bool, steps: list[tuple[Step, int]]) -> None:
        side, other = self.pair(name)
        line = other.line
        piece = line.data[line.arrived : line.arrived + size]
        line.arrived += len(piece)
        before = side.engine.buffered
        with memoryview(piece) as view:
            if lent and steps:
                self.receive_run(name, view, steps[0][1])
            else:
                side.engine.receive_data(view, lent=lent)
                ignored = side.saw_close or side.saw_fault
                assert side.engine.buffered == before + (0 if ignored else len(piece))
            for step, count in steps:
                self.take(name, step, count)
            side.engine.keep()
        piece[:] = b"\xff" * len(piece)

    @rule(name=SIDES, step=STEPS.map(lambda steps: steps[0] if steps else ("events", 1)))
    def take_later(self, name: Name, step: tuple[Step, int]) -> None:
        self.take(name, *step)

    @rule(name=SIDES)
    def take_all(self, name: Name) -> None:
        side, other = self.pair(name)
        self.take_events(name, side.engine.events())
        while side.engine.stalled:
            side.engine.go_on()
            self.take_events(name, side.engine.events())
        if side.saw_close or side.saw_fault:
            assert side.engine.buffered == 0
        elif other.line.broken is None and not other.said_close:
            assert side.engine.buffered == other.line.unparsed

    def take(self, name: Name, step: Step, count: int) -> None:
        engine = self.pair(name)[0].engine
        if step == "messages":
            self.take_run(name, count, inf)
            self.take_run(name, inf, 3 * count)
        else:
            events = engine.events() if step == "events" else engine.early_control()
            self.take_events(name, itertools.islice(events, count))

    def receive_run(self, name: Name, piece: memoryview, count: int) -> None:
        """Give an engine bytes and take the messages they begin with, in one call."""
        side, _ = self.pair(name)
        ignored = side.saw_close or side.saw_fault
        before = side.engine.buffered + (0 if ignored else len(piece))
        messages, size, whole = side.engine.receive_messages(piece, count, inf)
        assert not (whole and side.engine.buffered)
        self.check_run(name, before, (messages, size), count, inf)

    def take_run(self, name: Name, max_count: float, max_bytes: float) -> None:
        side, _ = self.pair(name)
        before = side.engine.buffered
        run = side.engine.messages(max_count, max_bytes)
        self.check_run(name, before, run, max_count, max_bytes)

    def check_run(
        self,
        name: Name,
        before: int,
        run: tuple[list[Message], int],
        max_count: float,
        max_bytes: float,
    ) -> None:
        side, other = self.pair(name)
        messages, size = run
        sent = other.line.messages[side.messages : side.messages + len(messages)]
        side.messages += len(messages)
        assert messages == [each.message for each in sent]
        assert all(each.plain for each in sent)
        assert before - side.engine.buffered == sum(each.size for each in sent)
        sizes = [message_size(message) for message in messages]
        assert (size, len(messages) <= max_count) == (sum(sizes), True)
        assert sum(sizes[:-1]) < max_bytes or not messages

    def take_events(self, name: Name, events: Iterable[Event]) -> None:
        side, other = self.pair(name)
        for event in events:
            assert not side.saw_fault, "nothing follows a fault"
            if isinstance(event, (TextMessage, BytesMessage)):
                assert event.data == other.line.messages[side.messages].message
                side.messages += 1
            elif not isinstance(event, CloseConnection):
                assert not side.saw_close, "no control frame follows a Close"
                assert event == other.line.control[side.control]
                side.control += 1
                self.answer(side, event)
            elif side.engine.state is not side.state:
                assert event == other.line.close
                side.saw_close = True
            else:
                assert (event.code, side.saw_close) == (other.line.fault, False)
                side.saw_fault = True

    def answer(self, side: Side, event: Event) -> None:
        """Answer a ping, as a link does."""
        if isinstance(event, Ping) and side.state is OPEN:
            side.line.put_control(side.engine.send(event.response()), event.response())

    @invariant()
    def states_are_those_of_the_rfc(self) -> None:
        for name in NAMES:
            side, other = self.pair(name)
            assert side.engine.state is side.state
            assert side.engine.buffered <= other.line.arrived

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        # Twice: what arrives may be answered.
        for name in NAMES * 2:
            self.deliver(name, 10**9, lent=False, steps=[("messages", 3)])
            self.take_all(name)
        for name in NAMES:
            side, other = self.pair(name)
            line = other.line
            assert side.messages == len(line.messages)
            assert line.certain <= side.control <= len(line.control)
            assert side.control == len(line.control) or line.broken == "payload"
            if line.broken is None:
                assert (side.saw_close, side.saw_fault) == (other.said_close, False)
            else:
                # A Close behind a fault may be seen early, and then the fault changes nothing.
                assert side.saw_fault is not side.saw_close


def message_event(message: Message, *, last: bool) -> Event:
    if isinstance(message, str):
        return TextMessage(data=message, message_finished=last)
    return BytesMessage(data=message, message_finished=last)


def joined(fragments: list[Message]) -> Message:
    texts = [each for each in fragments if isinstance(each, str)]
    return (
        "".join(texts) if texts else b"".join(each for each in fragments if isinstance(each, bytes))
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_engines_lose_nothing_whatever_is_done(implementation: Implementation) -> None:
    with using(implementation):
        run_state_machine_as_test(
            EnginePair,
            settings=settings(
                deadline=None,
                max_examples=200,
                stateful_step_count=40,
                derandomize="CI" in os.environ,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
