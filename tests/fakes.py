"""Doubles and makers of bytes that several test modules share."""

from collections.abc import Iterator

from wsproto.connection import CLIENT, SERVER, Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage
from wsproto.frame_protocol import CloseReason

from trio_ws._protocol.engine import Engine
from trio_ws._types import Sendable


class WholeMessages:
    """wsproto's `Connection` with the interface of `Engine`: it joins fragments.

    What `Engine` does better it leaves out: it checks limits only when the bytes have arrived, it
    says nothing of what it has buffered, it finds no control frame early, and it takes no run of
    messages at once.
    """

    def __init__(
        self,
        *,
        client: bool,
        max_message: float = float("inf"),
        max_fragments: float = float("inf"),
    ) -> None:
        self.client = client
        self.buffered = 0
        self.stalled = self.unseen = False
        self.missing = 0
        self._connection = Connection(CLIENT if client else SERVER)
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._parts: list[str | bytes] = []
        self._fragments = 1
        self._failed = False

    @property
    def state(self) -> ConnectionState:
        return self._connection.state

    def send(self, event: Event) -> bytes:
        if isinstance(event, CloseConnection) and event.code == CloseReason.NO_STATUS_RCVD:
            # wsproto knows "no code" by identity.
            event = CloseConnection(code=CloseReason.NO_STATUS_RCVD)
        return bytes(self._connection.send(event))

    def send_message(self, message: Sendable, _compress: bool | None = None) -> bytes:
        if isinstance(message, str):
            return self.send(TextMessage(data=message))
        if not isinstance(message, (bytes, bytearray, memoryview)):
            raise TypeError(f"a message is str or bytes-like, not {type(message).__name__}")
        return self.send(BytesMessage(data=bytes(message)))

    def receive_data(self, data: bytes | bytearray | memoryview, *, lent: bool = False) -> None:  # noqa: ARG002 - it copies anyway
        if self.state is not ConnectionState.CLOSED:
            self._connection.receive_data(bytes(data))

    def receive_messages(
        self, data: bytes | bytearray | memoryview, _max_count: float, _max_bytes: float
    ) -> tuple[list[str | bytes], int, bool]:
        self.receive_data(data)
        return [], 0, False

    def keep(self) -> None:
        pass

    def go_on(self) -> None:
        pass

    def messages(self, _max_count: float, _max_bytes: float) -> tuple[list[str | bytes], int]:
        return [], 0

    def events(self) -> Iterator[Event]:
        for event in self._connection.events():
            if self._failed:
                return
            if isinstance(event, (TextMessage, BytesMessage)):
                yield from self._join(event)
            else:
                yield event

    def early_control(self) -> Iterator[Event]:
        yield from ()

    def _join(self, event: TextMessage | BytesMessage) -> Iterator[Event]:
        text = isinstance(event, TextMessage)
        self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        size = sum(len(p.encode() if isinstance(p, str) else p) for p in self._parts)
        if size > self._max_message or self._fragments > self._max_fragments:
            self._failed = True
            yield CloseConnection(code=1009, reason="message is too large")
        elif event.message_finished:
            parts, self._parts, self._fragments = self._parts, [], 1
            if text:
                yield TextMessage(data="".join(p for p in parts if isinstance(p, str)))
            else:
                yield BytesMessage(data=b"".join(p for p in parts if isinstance(p, bytes)))
        elif event.frame_finished:
            self._fragments += 1


def all_events(engine: Engine) -> Iterator[Event]:
    """Yield the events of an engine, in as many steps as it takes."""
    yield from engine.events()
    while engine.stalled:
        engine.go_on()
        yield from engine.events()


def raw_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    masked: bool,
    fin: bool = True,
    reserved: int = 0,
    key: bytes = b"\x11\x22\x33\x44",
) -> bytes:
    """Make a frame by hand, a wrong one too, independently of the code under test."""
    size = len(payload)
    bit = 0x80 if masked else 0
    frame = bytearray([(0x80 if fin else 0) | reserved << 4 | opcode])
    if size <= 125:
        frame += bytes([bit | size])
    elif size <= 0xFFFF:
        frame += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        frame += bytes([bit | 127]) + size.to_bytes(8, "big")
    if masked:
        frame += key
        payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return bytes(frame) + payload
