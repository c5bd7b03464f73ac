"""`Inbox`: messages that have arrived and were not received yet."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import TypeVar

import trio
from outcome import Outcome
from trio.lowlevel import checkpoint_if_cancelled, reschedule, wait_task_rescheduled

from trio_ws._types import Message

ResultT = TypeVar("ResultT")

_GIVE_WAY = 32  # messages taken in a row before other tasks get a turn


def message_size(message: Message) -> int:
    """Return the bytes of a message as it travels: text counts in UTF-8."""
    if isinstance(message, str) and not message.isascii():
        return len(message.encode())
    return len(message)


class Delivery(Outcome[Message]):
    """A message on its way to the task that waits for it.

    This is outcome's `Value`, except that it can be used again: one that is made and thrown away
    for each message takes half a microsecond.
    """

    __slots__ = ("message",)

    message: Message

    def unwrap(self) -> Message:
        """Return the message, once."""
        message = self.message
        # It may be large, and the next one may be long in coming.
        del self.message
        return message

    def send(self, gen: Generator[ResultT, Message, object]) -> ResultT:
        """Send the message into a generator."""
        return gen.send(self.unwrap())

    async def asend(self, agen: AsyncGenerator[ResultT, Message]) -> ResultT:
        """Send the message into an async generator."""
        return await agen.asend(self.unwrap())


class Inbox:
    """A bounded queue from the reader to the one task that receives.

    Args:
        max_messages: Messages that make it full.
        max_bytes: Bytes that make it full; the message that crosses the mark is kept.
        on_room: Called when it was full and is half empty again.
    """

    __slots__ = (
        "_delivery",
        "_end",
        "_max_bytes",
        "_max_messages",
        "_messages",
        "_on_room",
        "_receiver",
        "_taken",
        "_was_full",
        "_woken",
        "size",
    )

    def __init__(
        self, *, max_messages: float, max_bytes: float, on_room: Callable[[], None]
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._on_room = on_room
        # Made when a message comes and dropped with the last one: an empty deque costs an idle
        # connection as much as all the rest of its inbox.
        self._messages: deque[Message] | None = None
        self._end: Callable[[], Exception] | None = None
        self._delivery: Delivery | None = None
        self._receiver: trio.lowlevel.Task | None = None
        self._woken = False
        self._was_full = False
        self._taken = 0
        self.size = 0
        """Bytes of the messages that wait."""

    def __len__(self) -> int:
        return len(self._messages) if self._messages else 0

    @property
    def full(self) -> bool:
        """Whether no more should be put in."""
        messages = self._messages
        return messages is not None and (
            len(messages) >= self._max_messages or self.size >= self._max_bytes
        )

    @property
    def holds_up(self) -> bool:
        """Whether it is full, or was and has not asked for more yet."""
        return self._was_full or self.full

    @property
    def room(self) -> tuple[float, float]:
        """How many messages make it full, and how many bytes."""
        if self._messages is None:
            return self._max_messages, self._max_bytes
        return self._max_messages - len(self._messages), self._max_bytes - self.size

    def put(self, message: Message) -> None:
        """Add a message and wake the receiver; after `end` it is dropped."""
        # One that is handed over at once is not counted, and to count text takes encoding it.
        waits = self._receiver is None or self._woken or self._messages is not None
        self.extend((message,), message_size(message) if waits else 0)

    def extend(self, messages: Sequence[Message], size: int) -> None:
        """Add as many messages as there is `room` for, and wake the receiver once.

        Args:
            messages: The messages; after `end` they are dropped.
            size: Their bytes; see `message_size`.
        """
        if self._end is not None:
            return
        if self._messages:
            self._messages.extend(messages)
        else:
            if self._receiver is not None and not self._woken:
                # Straight to whoever waits: nothing is made to be thrown away at once.
                self._woken = True
                if self._delivery is None:
                    self._delivery = Delivery()
                self._delivery.message = messages[0]
                reschedule(self._receiver, self._delivery)
                if len(messages) == 1:
                    return
                size -= message_size(messages[0])
                messages = messages[1:]
            self._messages = deque(messages)
        self.size += size
        if len(self._messages) >= self._max_messages or self.size >= self._max_bytes:
            self._was_full = True
        self._wake()

    def end(self, error: Callable[[], Exception], *, discard: bool = False) -> None:
        """Add no more: `receive` hands out what is left and then raises `error()`.

        Args:
            error: Makes the error anew for each call.
            discard: Throw away what is left. This may follow an `end` without it.
        """
        if self._end is None or discard:
            self._end = error
        if discard:
            self._messages = None
            self.size = 0
            self._was_full = False
        self._wake()

    @trio.lowlevel.enable_ki_protection
    async def receive(self, *, iterating: bool = False) -> Message:
        """Take the next message.

        Args:
            iterating: Whether this is a step of an iteration, which has an end and no error when
                the channel ends.

        Raises:
            trio.BusyResourceError: Another task is already waiting here.

        Cancellation:
            Atomic: a cancelled call has taken no message.
        """
        if self._receiver is not None:
            await checkpoint_if_cancelled()
            raise trio.BusyResourceError("another task is already receiving from this connection")
        if self._messages:
            await checkpoint_if_cancelled()
            self._taken += 1
            if self._taken >= _GIVE_WAY:
                await self._give_way()
        # Not in front of a wait, which looks for a cancellation by itself.
        while not (messages := self._messages):
            if self._end is not None:
                await checkpoint_if_cancelled()
                error = self._end()
                if iterating and isinstance(error, trio.EndOfChannel):
                    raise StopAsyncIteration
                raise error
            self._receiver = trio.lowlevel.current_task()
            self._woken = False
            self._taken = 0
            handed_over: Message | None
            try:
                handed_over = await wait_task_rescheduled(self._abort)
            finally:
                self._receiver = None
            if handed_over is not None:
                return handed_over
        message = messages.popleft()
        if messages:
            self.size -= len(message) if message.__class__ is bytes else message_size(message)
        else:
            self._messages = None
            self.size = 0
        if self._was_full and self._has_room():
            self._was_full = False
            self._on_room()
        return message

    def _has_room(self) -> bool:
        """Tell whether it is half empty: reading in larger runs costs fewer task switches."""
        return 2 * len(self) <= self._max_messages and 2 * self.size <= self._max_bytes

    async def _give_way(self) -> None:
        self._receiver = trio.lowlevel.current_task()
        self._woken = True
        self._taken = 0
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._receiver = None

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        # A cancelled task is on its way already, and must not be rescheduled once more.
        self._woken = True
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        if self._receiver is not None and not self._woken:
            self._woken = True
            reschedule(self._receiver)
