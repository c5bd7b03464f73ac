"""`Outgoing`: bytes that wait to be written.

Theory of operation
-------------------
There are two lanes. Pongs and pings overtake the messages, at frame boundaries; messages keep their
order, and so does a Close: what was sent before it is written before it, whoever is at fault. Only
a Close that gives up a silent peer drops the messages that wait.

Whoever writes calls `take`, which hands out whole frames, and `written` as bytes leave. Frames that
were taken are gone from here: nobody can tear one any more by cancelling anything.
"""

import math
from collections import deque
from typing import cast

import trio

from trio_ws._protocol.messages import Frame, forget_message

CHUNK = 64 * 1024
"""Bytes that `take` gathers for one write; one larger frame goes alone."""

MAX_PONGS = 16
"""Pongs that wait. More drop the oldest: RFC 6455 §5.5.3 lets the latest answer them all."""


class Outgoing:
    """One connection's queue of frames.

    Args:
        high_water: Bytes above which `wait_for_room` waits.
    """

    __slots__ = (
        "_called",
        "_head",
        "_high_water",
        "_large",
        "_lot",
        "_messages",
        "_pings",
        "_pongs",
        "size",
    )

    def __init__(self, high_water: float) -> None:
        self._high_water = high_water
        self._head = b""
        self._messages: list[Frame] = []
        # These are made when they are needed: an empty deque is large beside an idle connection.
        # Whether there may be a large one among the messages.
        self._large = False
        self._pongs: deque[bytes] | None = None
        self._pings: deque[bytes] | None = None
        self._lot: trio.lowlevel.ParkingLot | None = None
        # Whether a sender that waited was woken and has not passed on yet: the room is taken.
        self._called = False
        self.size = 0
        """Bytes not written yet, those taken for a write included."""

    @property
    def crowded(self) -> bool:
        """Whether a sender has to wait, for room or for its turn."""
        return self._called or self.size > self._high_water

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take."""
        return not (self._head or self._messages or self._pongs or self._pings)

    def push_head(self, head: bytes) -> None:
        """Queue what comes before every frame, and what no fault drops: the response head."""
        self._head = head
        self.size += len(head)

    def push(self, frame: Frame) -> None:
        """Queue a message's frame."""
        self._messages.append(frame)
        if frame.__class__ is bytes:
            self.size += len(frame)
        else:
            self._large = True
            self.size += frame_size(frame)

    def push_pong(self, frame: bytes) -> None:
        """Queue a pong; it overtakes messages."""
        if self._pongs is None:
            self._pongs = deque()
        if len(self._pongs) == MAX_PONGS:
            self.size -= len(self._pongs.popleft())
        self._pongs.append(frame)
        self.size += len(frame)

    def push_ping(self, frame: bytes) -> None:
        """Queue a ping; it overtakes messages. How many there can be is for `Pings` to bound."""
        if self._pings is None:
            self._pings = deque()
        self._pings.append(frame)
        self.size += len(frame)

    def withdraw_ping(self, frame: bytes) -> None:
        """Take a ping back, if it was not taken for writing yet."""
        if self._pings is not None and frame in self._pings:
            self._pings.remove(frame)
            self.size -= len(frame)

    def push_close(self, frame: bytes, *, drop_messages: bool = False) -> None:
        """Queue the Close frame, the last one.

        Args:
            frame: The frame.
            drop_messages: Forget the messages that wait, to say it without delay.
        """
        if drop_messages:
            self.size -= sum(map(frame_size, self._messages))
            self._messages.clear()
        self.push(frame)
        self._high_water = math.inf
        self.release()

    def clear(self) -> None:
        """Forget everything: the line is gone."""
        # What waited behind a write that did not end may still be kept for other connections.
        forget_message()
        self._head = b""
        self._messages.clear()
        self._pongs = self._pings = None
        self.size = 0
        self._high_water = math.inf
        self.release()

    def take(self) -> tuple[bytes, ...]:
        """Hand out whole frames to write now, at least one and about `CHUNK` bytes at most.

        A large frame ends the chunk; its payload is a buffer of its own, and is not copied.

        Returns:
            At most two buffers, to be written in one go; none when nothing waits.
        """
        messages = self._messages
        if self._head or self._pongs or self._pings:
            frames = self._take_control()
        elif len(messages) == 1:
            # Nearly always.
            frame = messages.pop()
            self._large = False
            return frame if isinstance(frame, tuple) else (frame,)
        elif not self._large and self.size <= CHUNK:
            data = b"".join(cast("list[bytes]", messages))
            messages.clear()
            return (data,) if data else ()
        else:
            frames = []
        size = sum(map(len, frames))
        last: Frame = b""
        count = 0
        for frame in messages:
            size += frame_size(frame)
            if frames and size > CHUNK:
                break
            count += 1
            if isinstance(frame, tuple):
                last = frame
                break
            frames.append(frame)
        # Nearly always the whole list is taken at once; what is left is within a high-water mark,
        # unless the application has turned that off.
        del messages[:count]
        self._large = self._large and bool(messages)
        if isinstance(last, tuple):
            header, payload = last
            return b"".join((*frames, header)), payload
        return (b"".join(frames),) if frames else ()

    def _take_control(self) -> list[bytes]:
        frames = [self._head, *(self._pongs or ()), *(self._pings or ())]
        self._head = b""
        self._pongs = self._pings = None
        return frames

    def written(self, count: int) -> None:
        """Note that bytes of what was taken have left; wakes a sender when there is room."""
        left = self.size - count
        # What was taken may have been forgotten by `clear` meanwhile.
        self.size = left if left > 0 else 0  # noqa: FURB136 - a call takes longer
        if self._lot:
            self._call_next()

    def grow(self, count: int) -> None:
        """Note that what was taken has become more on its way: TLS has wrapped it."""
        self.size += count

    async def wait_for_room(self) -> None:
        """Wait until no more than the high-water mark waits to be written.

        Senders get through one by one, in the order they came. Whoever comes out calls `pass_on`
        after it has queued its frame, or given up; until then it has no checkpoint.

        Cancellation:
            Nothing has happened when it is cancelled.
        """
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        if self.crowded:
            await self._lot.park()

    def pass_on(self) -> None:
        """Wake the next sender, if there is room for one more."""
        self._called = False
        self._call_next()

    def _call_next(self) -> None:
        if self._lot and not self.crowded:
            self._called = True
            self._lot.unpark()

    def release(self) -> None:
        """Wake every sender that waits: there is nothing to wait for any more."""
        self._called = False
        if self._lot:
            self._lot.unpark_all()


def frame_size(frame: Frame) -> int:
    """Return the bytes of a frame."""
    return len(frame[0]) + len(frame[1]) if isinstance(frame, tuple) else len(frame)
