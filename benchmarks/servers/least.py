"""The least: what a message costs where each connection has a task, and frames are compiled.

One poller, as trio_ws has one, a wake-up of the connection's task, and a write by that task; and
nothing of what a library is for: no control frames, fragments, limits, faults, queues, timeouts or
cancellation. It ends at a close frame, without an answer. It shows how much of trio_ws's time is
Trio's and the system's.
"""

import os
import select
from typing import NoReturn

import outcome
import trio

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce
from trio_ws._protocol.frames import serialise, split
from trio_ws._protocol.messages import encoded
from trio_ws._protocol.upgrade import accept_key

_CLOSE = 0x88  # how a close frame begins

_ROUND = 32  # sockets read before their tasks have their step, as in trio_ws

_epoll = select.epoll()
_waiting: dict[int, trio.lowlevel.Task] = {}
_early: dict[int, list[str | bytes]] = {}  # messages of those that are still writing


async def poll() -> NoReturn:
    """Read what is ready, and hand each task its messages."""
    buffer = bytearray(256 * 1024)
    view = memoryview(buffer)
    rests: dict[int, bytes] = {}
    while True:
        await trio.lowlevel.wait_readable(_epoll.fileno())
        while ready := _epoll.poll(0, _ROUND):
            for fd, _ in ready:
                try:
                    count = os.readv(fd, [buffer])
                except ConnectionResetError:
                    count = 0
                if not count:
                    rests.pop(fd, None)
                    end_connection(fd)
                    continue
                data = rests.pop(fd) + view[:count] if fd in rests else view[:count]
                messages, end, _ = split(
                    data,
                    0,
                    masked=True,
                    max_message=MAX_MESSAGE,
                    max_count=1000,
                    max_bytes=MAX_MESSAGE,
                )
                if messages:
                    hand_over(fd, messages)
                if end < len(data):
                    if data[end] == _CLOSE:
                        end_connection(fd)
                    else:
                        rests[fd] = bytes(data[end:])
            if len(ready) < _ROUND:
                break
            await trio.lowlevel.checkpoint()


def hand_over(fd: int, messages: list[str | bytes]) -> None:
    """Give messages to the task of a connection, now or when it has written what it has."""
    if (task := _waiting.pop(fd, None)) is not None:
        trio.lowlevel.reschedule(task, outcome.Value(messages))
    else:
        _early.setdefault(fd, []).extend(messages)


def end_connection(fd: int) -> None:
    """Read no more of a connection; no messages are the end for its task."""
    _epoll.unregister(fd)
    hand_over(fd, [])


async def echo(stream: trio.SocketStream) -> None:
    """Accept whatever comes, and send every message back."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some()
    lines = head.decode("latin-1").split("\r\n")
    keys = [line for line in lines if line.lower().startswith("sec-websocket-key:")]
    key = accept_key(keys[0].partition(":")[2].strip())
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {key}\r\n\r\n"
    )
    await stream.send_all(answer.encode())
    fd = stream.socket.fileno()
    task = trio.lowlevel.current_task()
    _epoll.register(fd, select.EPOLLIN)
    while True:
        messages = _early.pop(fd, None)
        if messages is None:
            _waiting[fd] = task
            messages = await trio.lowlevel.wait_task_rescheduled(_abort)
        if not messages:
            return
        frames = [serialise(*encoded(message), masked=False) for message in messages]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        try:
            count = os.write(fd, data)
        except BlockingIOError:
            count = 0
        if count < len(data):
            await stream.send_all(data[count:])


def _abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    if options.broadcast or options.ssl_context() is not None:
        raise SystemExit("it echoes over plain sockets, and does nothing else")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        listeners = await trio.open_tcp_listeners(0, host=HOST, backlog=2048)
        announce(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(echo, listeners)


if __name__ == "__main__":
    trio.run(main)
