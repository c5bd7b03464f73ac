"""`MeteredInbox`: an inbox that takes no more than a `Rate` of messages.

Theory of operation
-------------------
Two buckets of tokens, for messages and for bytes, fill with time and are emptied by what arrives. A
message enters as long as there is a token for it and a byte is left, so the one that crosses the
mark is kept, and its bytes are owed. What comes when a bucket is empty is excess:

* to slow down, the inbox calls itself full until the buckets have tokens again. All that follows is
  the ordinary back-pressure: reading pauses, control frames are still seen, and the clock of the
  keepalive stands still. What the peer sent before its Close comes at the rate as well, so whoever
  receives learns of the Close when the next message could have come;
* to close, the excess is dropped, and the connection with it.

While the inbox is full because the application is behind, the peer's messages wait in the
network, and then come all at once. That is not the peer's haste, so for that time the buckets
fill beyond their brim.
"""

import logging
from collections.abc import Callable, Sequence
from math import inf

import trio

from trio_ws._config import Limits, Rate
from trio_ws._transport.alarms import Entry, current_alarms
from trio_ws._transport.inbox import Inbox, message_size
from trio_ws._types import Message

_logger = logging.getLogger("trio_ws.rate")


class _Bucket:
    """Tokens.

    Args:
        rate: Tokens that come in a second.
        capacity: Tokens at which it is full, as it is at first.
    """

    __slots__ = ("_capacity", "_rate", "tokens")

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self.tokens = capacity

    def fill(self, seconds: float, *, beyond: bool = False) -> None:
        """Add the tokens of some seconds, up to the brim unless told otherwise."""
        if self._rate == inf:
            return
        brim = inf if beyond else max(self._capacity, self.tokens)
        self.tokens = min(brim, self.tokens + seconds * self._rate)

    @property
    def whole(self) -> float:
        """Whole tokens, at least one: the alarm may ring a hair too early for it."""
        return self.tokens if self.tokens == inf else max(1, int(self.tokens))

    @property
    def delay(self) -> float:
        """Seconds until there is a whole token."""
        if self._rate == inf:
            return 0.0
        return max(0.0, (1 - self.tokens) / self._rate)


class MeteredInbox(Inbox):
    """An inbox for a connection whose peer may send at a certain rate only.

    Args:
        rate: The rate.
        limits: What makes it full otherwise.
        peer: How messages for people call the peer.
        on_room: Called when it was full and has room again.
        on_tokens: Called when there are tokens again, by a task that is nobody's; may not raise.
        on_excess: Called with the reason, to close the connection; tells whether it was open.
    """

    __slots__ = (
        "_alarm",
        "_bytes",
        "_excess",
        "_filled",
        "_go_on",
        "_items",
        "_on_excess",
        "_on_tokens",
        "_peer",
    )

    def __init__(
        self,
        rate: Rate,
        limits: Limits,
        peer: str,
        *,
        on_room: Callable[[], None],
        on_tokens: Callable[[], None],
        on_excess: Callable[[str], bool],
    ) -> None:
        super().__init__(
            max_messages=limits.inbox_messages,
            max_bytes=limits.inbox_bytes,
            on_room=self._have_room,
        )
        self._go_on = on_room
        self._on_tokens = on_tokens
        self._on_excess = on_excess
        self._excess = rate.excess
        self._peer = peer
        self._items = _Bucket(rate.messages, rate.messages * rate.burst)
        self._bytes = _Bucket(rate.bytes, rate.bytes * rate.burst)
        self._filled = trio.current_time()
        # The alarm for the time when there are tokens again; None while there are some.
        self._alarm: Entry | None = None

    @property
    def full(self) -> bool:
        """Whether no more should be put in: it is crowded, or the peer too fast."""
        return self._alarm is not None or super().full

    @property
    def room(self) -> tuple[float, float]:
        """How many messages make it full, and how many bytes."""
        messages, size = super().room
        if self._excess == "close":
            return messages, size
        self._fill()
        return min(messages, self._items.whole), min(size, self._bytes.whole)

    def put(self, message: Message) -> None:
        """Add a message, and note what it has used up; see `Inbox.put`."""
        self.extend((message,), message_size(message))

    def extend(self, messages: Sequence[Message], size: int) -> None:
        """Add messages, and note what they have used up; see `Inbox.extend`."""
        if self._end is not None:
            return
        self._fill()
        if self._excess == "close":
            count, size = self._affordable(messages)
        else:
            count = len(messages)
        self._items.tokens -= count
        self._bytes.tokens -= size
        if count:
            super().extend(messages[:count], size)
        if count < len(messages):
            if self._on_excess("the rate limit was exceeded"):
                _logger.warning("%s was closed with 1008: it sent faster than it may", self._peer)
        elif self._excess == "slow_down" and self._alarm is None:
            delay = max(self._items.delay, self._bytes.delay)
            if delay:
                self._alarm = current_alarms().at(trio.current_time() + delay, self)

    def _affordable(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Return how many of some messages there are tokens for, and their bytes."""
        items, left = self._items.tokens, self._bytes.tokens
        total = 0
        for count, message in enumerate(messages):
            if items < count + 1 or left <= total:
                return count, total
            total += message_size(message)
        return len(messages), total

    def end(self, error: Callable[[], Exception], *, discard: bool = False) -> None:
        """Add no more; see `Inbox.end`."""
        super().end(error, discard=discard)
        if self._alarm is not None:
            current_alarms().cancel(self._alarm)
            self._alarm = None

    def due(self) -> None:
        """Take messages again; see `Alarm`."""
        self._alarm = None
        if not super().full:
            self._on_tokens()

    def _have_room(self) -> None:
        """Give the peer the time back in which the application was behind."""
        # What made it full came last, and since then nothing has.
        self._fill(beyond=True)
        if self._alarm is None:
            self._go_on()

    def _fill(self, *, beyond: bool = False) -> None:
        now = trio.current_time()
        seconds, self._filled = now - self._filled, now
        self._items.fill(seconds, beyond=beyond)
        self._bytes.fill(seconds, beyond=beyond)
