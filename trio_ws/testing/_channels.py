"""`channel_pair`: channels of messages in memory, without any protocol."""

import trio
import trio.abc

from trio_ws._types import Message


class MemoryChannel(trio.abc.Channel[Message]):
    """One end of `channel_pair`: what is written for a channel, tested without any protocol.

    It behaves as memory channels do: `receive` raises `trio.EndOfChannel` when the other end has
    closed and nothing is left, `send` raises `trio.BrokenResourceError` then.
    """

    def __init__(
        self,
        sending: trio.MemorySendChannel[Message],
        receiving: trio.MemoryReceiveChannel[Message],
    ) -> None:
        self._sending = sending
        self._receiving = receiving

    async def send(self, value: Message) -> None:
        """Send a message; blocks while the channel is full.

        Raises:
            TypeError: It is no ``str`` or ``bytes``.
            trio.BrokenResourceError: The other end has closed.
            trio.ClosedResourceError: This end has closed.

        Cancellation:
            Atomic.
        """
        self._check(value)
        await self._sending.send(value)

    def send_nowait(self, value: Message) -> None:
        """Send a message if there is room.

        Raises:
            TypeError: It is no ``str`` or ``bytes``.
            trio.WouldBlock: The channel is full.
            trio.BrokenResourceError: The other end has closed.
            trio.ClosedResourceError: This end has closed.
        """
        self._check(value)
        self._sending.send_nowait(value)

    @staticmethod
    def _check(value: object) -> None:
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(value).__name__}")

    async def receive(self) -> Message:
        """Receive a message.

        Raises:
            trio.EndOfChannel: The other end has closed, and nothing is left.
            trio.ClosedResourceError: This end has closed.

        Cancellation:
            Atomic.
        """
        return await self._receiving.receive()

    async def aclose(self) -> None:
        """Close this end.

        Cancellation:
            It is closed all the same.
        """
        self._sending.close()
        self._receiving.close()
        await trio.lowlevel.checkpoint()


def channel_pair(capacity: float = 16) -> tuple[MemoryChannel, MemoryChannel]:
    """Make two connected channels of messages, out of memory channels.

    Args:
        capacity: Messages that fit into each direction; a whole number or ``math.inf``.
    """
    there, here = trio.open_memory_channel[Message](capacity)
    back, away = trio.open_memory_channel[Message](capacity)
    return MemoryChannel(there, away), MemoryChannel(back, here)
