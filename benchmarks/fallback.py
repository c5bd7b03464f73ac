"""The load generator in Python, for where ``generator.c`` cannot be compiled. Same options.

It is a Trio program that speaks just enough WebSocket. It is slower than the faster servers, so
that only the server's CPU time a message says something, and it knows fewer works.
"""

import argparse
import json
import os
import socket
import struct
import sys
import time
from statistics import quantiles

import trio

from benchmarks import machine
from benchmarks.generator import STRETCH

_MASK = bytes((0x37, 0xFA, 0x21, 0x3D))

_READ = 256 * 1024

_OPENING = 64  # opening handshakes at a time

_TURNS = 10  # messages of each connection that are enough for an average


def _masked(payload: bytes) -> bytes:
    mask = (_MASK * (len(payload) // 4 + 1))[: len(payload)]
    size = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def _frame(options: argparse.Namespace) -> bytes:
    size = int(options.size)
    if options.text:
        payload = ("Olá, servidor! ".encode() * (size // 16)).ljust(size, b".")
    else:
        payload = bytes(index * 7 + 1 & 0xFF for index in range(size))
    if options.raw:
        return payload
    first = 0x81 if options.text else 0x82
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + _MASK + _masked(payload)


class Client:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, options: argparse.Namespace) -> None:
        self._stream = stream
        self._size = int(options.size)
        # Servers mask nothing, and everything that comes back has one length.
        head = 0 if options.raw else 2 + (0 if self._size < 126 else 2 if self._size < 65536 else 8)
        self._whole = head + self._size
        self._have = 0

    async def shake_hands(self, port: int) -> None:
        """Open the WebSocket."""
        await self._stream.send_all(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n" % port
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (part := await self._stream.receive_some(_READ)):
                raise SystemExit("the peer broke off the handshake")
            answer += part
        if not answer.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"the answer to the handshake is {answer[:40]!r}")

    async def send(self, data: bytes) -> None:
        """Send frames."""
        await self._stream.send_all(data)

    async def receive(self) -> int:
        """Return how many messages the next read completes."""
        if not (part := await self._stream.receive_some(_READ)):
            raise SystemExit("the peer closed a connection")
        complete, self._have = divmod(self._have + len(part), self._whole)
        return complete

    def reset(self) -> None:
        """Close without goodbye, leaving no port in TIME_WAIT."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()


class Counter:
    """What is counted while the window is open."""

    def __init__(self) -> None:
        self.measuring = False
        self.returned = 0
        self.messages = 0
        self.latencies: list[float] = []

    def add(self, messages: int, since: float) -> None:
        """Count messages that came back."""
        self.returned += messages
        if self.measuring and messages:
            self.messages += messages
            self.latencies.append(time.perf_counter() - since)

    def percentile(self, hundredth: int) -> float:
        """Return a percentile of the latencies."""
        if len(self.latencies) < 2:
            return sum(self.latencies)
        return quantiles(self.latencies, n=100)[hundredth - 1]


async def _open(options: argparse.Namespace) -> Client:
    client = Client(await trio.open_tcp_stream("127.0.0.1", options.port), options)
    if not options.raw:
        await client.shake_hands(options.port)
    return client


async def _open_all(options: argparse.Namespace) -> list[Client]:
    clients: list[Client] = []
    opening = trio.CapacityLimiter(_OPENING)

    async def open_one() -> None:
        async with opening:
            clients.append(await _open(options))

    async with trio.open_nursery() as nursery:
        for _ in range(options.connections):
            nursery.start_soon(open_one)
    return clients


async def _echo(client: Client, options: argparse.Namespace, counter: Counter) -> None:
    frame, missing = _frame(options), options.in_flight
    await client.send(frame * missing)
    since = time.perf_counter()
    while True:
        complete = await client.receive()
        counter.add(complete, since)
        if options.work == "burst":
            missing -= complete
            complete = options.in_flight if not missing else 0
            missing = missing or options.in_flight
        since = time.perf_counter()
        await client.send(frame * complete)


async def _broadcast(clients: list[Client], options: argparse.Namespace, counter: Counter) -> None:
    frame = _frame(options)
    while True:
        since = time.perf_counter()
        await clients[0].send(frame)
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(_hear, client, counter, since)


async def _hear(client: Client, counter: Counter, since: float) -> None:
    complete = 0
    while not complete:
        complete = await client.receive()
    counter.add(complete, since)


async def _handshakes(options: argparse.Namespace, counter: Counter) -> None:
    while True:
        since = time.perf_counter()
        client = await _open(options)
        counter.add(1, since)
        client.reset()


async def _run_turns(
    seconds: float, turns: int, options: argparse.Namespace, counter: Counter
) -> None:
    """Wait, for longer where too few messages come back; see ``generator.c``."""
    enough = counter.returned + turns * options.connections * (options.work == "echo")
    for _ in range(STRETCH):
        await trio.sleep(seconds)
        if counter.returned >= enough:
            return


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Do the work, and return what was measured."""
    counter = Counter()
    memory = machine.memory(options.pid)
    async with trio.open_nursery() as nursery:
        clients = [] if options.work == "handshakes" else await _open_all(options)
        if options.work in {"echo", "burst"}:
            for client in clients:
                nursery.start_soon(_echo, client, options, counter)
        elif options.work == "broadcast":
            await trio.sleep(0.3)  # A server may know a connection a moment after its client does.
            nursery.start_soon(_broadcast, clients, options, counter)
        elif options.work == "handshakes":
            for _ in range(options.connections):
                nursery.start_soon(_handshakes, options, counter)
        await _run_turns(options.warmup, 1, options, counter)
        memory = machine.memory(options.pid) - memory
        cpu, own, begin = machine.cpu_seconds(options.pid), time.process_time(), time.perf_counter()
        counter.measuring = True
        await _run_turns(options.seconds, _TURNS, options, counter)
        counter.measuring = False
        cpu, own = machine.cpu_seconds(options.pid) - cpu, time.process_time() - own
        seconds = time.perf_counter() - begin
        nursery.cancel_scope.cancel()
    return {
        "messages": counter.messages,
        "seconds": seconds,
        "cpu": cpu,
        "own_cpu": own,
        "p50": counter.percentile(50),
        "p99": counter.percentile(99),
        "memory": memory,
    }


def main() -> None:
    """Read the options, do the work, print the result."""
    parser = argparse.ArgumentParser()
    for name in ("connections", "in-flight", "size", "flood", "port", "pid"):
        parser.add_argument(f"--{name}", type=int, default=1)
    for name in ("warmup", "seconds"):
        parser.add_argument(f"--{name}", type=float, default=1)
    for name in ("text", "tls", "raw"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--work", default="echo")
    parser.add_argument("--role", default="connect")
    options = parser.parse_args()
    if options.tls or options.work == "quiet" or options.role != "connect":
        sys.exit("this needs the generator in C")
    print(json.dumps(trio.run(run, options)), flush=True)
    # Thousands of streams need no goodbye, one by one, from a program that ends.
    os._exit(0)


if __name__ == "__main__":
    main()
