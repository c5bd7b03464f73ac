"""What every parser costs for the worst inputs grows with their size, and no faster.

Each input is given in a small size and in one four times as large, and two things are compared: the
lines of Python executed, and the bytes allocated, which tell of copies that are made again and
again. What is linear takes four times as much; what is quadratic, sixteen times.

What compiled code does between two lines is not seen. That is: `speedups.c`, which reads each byte
once and decodes each text once; zlib, whose time is bounded by what comes out of it, which is
limited, and by a fixed cost of each byte that goes in; the search for the end of a head, which has
a test of its own here; and the regular expressions of h11. Where one of those takes quadratic time,
in the number of spaces before what it refuses, `http` refuses that first, or gives it 1024 bytes.
"""

import contextlib
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable, Iterator
from math import inf

import pytest

from tests._protocol.proxy_headers import extra, proxy_header, tcp_addresses
from tests.fakes import raw_frame
from tests.fuzz.bounds import Trace
from tests.fuzz.head_targets import KEY
from trio_ws._config import Deflate, TrustedProxies
from trio_ws._protocol import http
from trio_ws._protocol.authority import split_authority
from trio_ws._protocol.engine import Engine
from trio_ws._protocol.exchange import Exchange
from trio_ws._protocol.extensions import Agreement, answer_offers
from trio_ws._protocol.forwarded import ProxyPolicy
from trio_ws._protocol.http import HeadBuffer, RequestError, read_request
from trio_ws._protocol.origin import OriginPolicy
from trio_ws._protocol.proxy_header import PREFIX_SIZE, read_source
from trio_ws._protocol.upgrade import UpgradeError, check_answer, read_upgrade, request_fields
from trio_ws._transport.url import parse_url
from trio_ws._types import Headers

SMALL, LARGE = 75, 300

# Four times is linear. What is allocated in steps may take a little more.
MOST = 6

# Bytes that a line has to allocate to be looked at. The interpreter's own objects are smaller.
MUCH = 512

# Bytes that may be allocated whatever the size, by buffers that begin large.
FLOOR = 128 * 1024


class Cost:
    """Lines executed and bytes allocated by what is called in `measured`."""

    def __init__(self) -> None:
        self.lines = 0
        self.allocated = 0
        """In lines that allocate much."""


def cost_of(work: Callable[[], object]) -> Cost:
    """Count what some work costs."""
    cost = Cost()
    before = 0

    def look() -> None:
        # What was allocated since the line before, even if it is given back already.
        nonlocal before
        now, peak = tracemalloc.get_traced_memory()
        if peak - before > MUCH:
            cost.allocated += peak - before
        before = now
        tracemalloc.reset_peak()

    def on_event(_frame: types.FrameType, event: str, _argument: object) -> Trace:
        look()
        cost.lines += event == "line"
        return on_event

    tracer = sys.gettrace()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    sys.settrace(on_event)
    try:
        work()
    finally:
        sys.settrace(tracer)
        look()
        tracemalloc.stop()
    return cost


def assert_linear(work: Callable[[int], Callable[[], object]]) -> None:
    """See that a work costs in proportion to its size.

    Args:
        work: Prepares work of a size; what it returns is what is measured.
    """
    # The first time is not like the others: caches are filled.
    work(SMALL)()
    small, large = cost_of(work(SMALL)), cost_of(work(LARGE))
    assert large.lines <= MOST * small.lines
    assert large.allocated <= MOST * small.allocated + FLOOR


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved)


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


STREAMS: dict[str, Callable[[int], bytes]] = {
    "small frames": lambda n: frame(2, b"a") * n,
    "empty frames": lambda n: frame(1) * n,
    "pings": lambda n: frame(9, b"a") * n,
    "empty fragments": lambda n: frame(2, fin=False) + frame(0, fin=False) * n,
    "fragments of a byte": lambda n: frame(1, b"a", fin=False) + frame(0, b"b", fin=False) * n,
    "pings between fragments": lambda n: frame(2, fin=False) + (frame(0, fin=False) + frame(9)) * n,
    "a large frame": lambda n: frame(2, bytes(5 * n)),
    "a large text": lambda n: frame(1, "ü".encode() * 3 * n),
    "text that is cut inside of its characters": lambda n: (
        frame(1, b"\xf0", fin=False) + frame(0, b"\x9f\xa6\x9c\xf0", fin=False) * n
    ),
    "compressed frames": lambda n: frame(2, deflated(b"a"), reserved=4) * n,
    "a compressed frame that yields nothing": lambda n: frame(2, b"\0\0\0\xff\xff" * n, reserved=4),
    "final blocks": lambda n: frame(2, b"\x03\0" * n, reserved=4),
    "what inflates to very much": lambda n: frame(2, deflated(bytes(900 * n)), reserved=4),
    "compressed fragments": lambda n: (
        frame(2, fin=False, reserved=4) + frame(0, b"\0\0\0\xff\xff", fin=False) * n
    ),
}


def parse(engine: Engine, data: bytes) -> None:
    engine.receive_data(data)
    while True:
        engine.messages(inf, inf)
        for _ in engine.events():
            pass
        if not engine.stalled:
            return
        engine.go_on()


def look_ahead(engine: Engine, data: bytes) -> None:
    engine.receive_data(data)
    for _ in engine.early_control():
        pass


@pytest.mark.parametrize("size", [1, 10**9], ids="{} bytes at a time".format)
@pytest.mark.parametrize("take", [parse, look_ahead])
@pytest.mark.parametrize("stream", STREAMS)
def test_frames_cost_in_proportion_to_their_bytes(
    stream: str, take: Callable[[Engine, bytes], None], size: int
) -> None:
    agreement = Agreement(15, True, 15, True, "", Deflate())

    def work(count: int) -> Callable[[], object]:
        engine = Engine(client=False, agreement=agreement)
        # In front of it a message that is not taken, where the rest has to wait.
        front = frame(2, b"first") if take is look_ahead else b""
        data = pieces(front + STREAMS[stream](count), size)

        def take_all() -> None:
            for piece in data:
                take(engine, piece)

        return take_all

    assert_linear(work)


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"

HEADS: dict[str, Callable[[int], bytes]] = {
    "many fields": lambda n: REQUEST + b"a: b\r\n" * (n // 5) + b"\r\n",
    "spaces before a value": lambda n: REQUEST + b"a:" + b" " * n + b"b\r\n\r\n",
    "spaces behind a value": lambda n: REQUEST + b"a: b" + b" " * n + b"\r\n\r\n",
    "spaces within a value": lambda n: REQUEST + b"a: b" + b" c" * n + b"\r\n\r\n",
    "spaces before a control character": lambda n: REQUEST + b"a: b" + b" " * n + b"\x0b\r\n\r\n",
    "spaces before a NUL": lambda n: REQUEST + b"a: b" + b" " * n + b"\0\r\n\r\n",
    "folded lines": lambda n: REQUEST + b"a: b\r\n" + b" c\r\n" * (n // 5) + b"\r\n",
    "a long target": lambda n: b"GET /" + b"%41" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long host": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a." * n + b"\r\n\r\n",
    "a long name": lambda n: REQUEST + b"a" * n + b": b\r\n\r\n",
    "commas": lambda n: REQUEST + b"Upgrade: websocket" + b"," * n + b"\r\n\r\n",
    "lengths": lambda n: REQUEST + b"Content-Length: 0" + b",0" * n + b"\r\n\r\n",
    "a line that does not end": lambda n: b"GET /" + b"a" * n,
    "line feeds": lambda n: b"\r\n" * n + REQUEST + b"\r\n",
}


def read_head(data: list[bytes]) -> None:
    buffer = HeadBuffer(inf)
    for piece in data:
        found = buffer.feed(piece)
        if found is not None:
            read_upgrade(read_request(found[0], max_headers=inf))
            return


@pytest.mark.parametrize("size", [1, 10**9], ids="{} bytes at a time".format)
@pytest.mark.parametrize("head", HEADS)
def test_request_heads_cost_in_proportion_to_their_bytes(head: str, size: int) -> None:
    def work(count: int) -> Callable[[], object]:
        data = pieces(HEADS[head](5 * count), size)

        def read() -> None:
            with contextlib.suppress(RequestError):
                read_head(data)

        return read

    assert_linear(work)


class Searched(bytearray):
    """Bytes that note how many of them were looked through."""

    looked_at = 0

    def find(self, part: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        # Any object that is an index there, and any number of them.
        self.looked_at += len(self) - start
        return super().find(part, start, end)


def test_head_that_comes_byte_by_byte_is_searched_once() -> None:
    data = Searched()

    for searched in range(1000):
        data += b"a"
        http.find_end(data, searched)

    # For each of two kinds of end the new byte, and two before it that may belong to the end.
    assert data.looked_at <= 2 * 3 * 1000


ANSWER = b"HTTP/1.1 200 OK\r\n"
CHUNKED = ANSWER + b"Transfer-Encoding: chunked\r\n\r\n"

ANSWERS: dict[str, Callable[[int], bytes]] = {
    "many fields": lambda n: ANSWER + b"a: b\r\n" * (n // 5) + b"\r\n",
    "interim answers": lambda n: b"HTTP/1.1 100 Continue\r\n\r\n" * (n // 20),
    "a long reason": lambda n: b"HTTP/1.1 200 " + b"a" * n + b"\r\n\r\n",
    "small chunks": lambda n: CHUNKED + b"1\r\na\r\n" * (n // 5),
    "long extensions of chunks": lambda n: CHUNKED + (b"1;" + b" " * 99 + b"\r\na\r\n") * (n // 50),
    "a chunk extension that does not end": lambda n: CHUNKED + b"1;" + b" " * n,
    "a body without end": lambda n: ANSWER + b"\r\n" + b"a" * n,
    "trailers": lambda n: CHUNKED + b"0\r\n" + b"a: b\r\n" * (n // 5),
}


@pytest.mark.parametrize("size", [1, 10**9], ids="{} bytes at a time".format)
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_cost_in_proportion_to_their_bytes(answer: str, size: int) -> None:
    def work(count: int) -> Callable[[], object]:
        exchange = Exchange(max_head=inf, max_headers=inf, max_body=10**9)
        exchange.start("GET", "/", [("Host", "localhost"), *request_fields(KEY, ())])
        data = pieces(ANSWERS[answer](5 * count), size)

        def receive() -> None:
            with contextlib.suppress(ValueError):
                for piece in data:
                    exchange.receive(piece)

        return receive

    assert_linear(work)


def texts() -> Iterator[tuple[str, Callable[[int], Callable[[], object]]]]:
    """Yield work on texts of a size."""
    accept = Headers({"Upgrade": "websocket", "Connection": "Upgrade"})
    proxies = ProxyPolicy(TrustedProxies(["10.0.0.0/8"], max_hops=10**6))
    origins = OriginPolicy(["https://*.example.com"])

    def checked(fields: list[tuple[str, str]]) -> Callable[[], object]:
        headers = Headers([*accept.fields, *fields])
        return lambda: check_answer(headers, KEY, ())

    yield "commas of an answer", lambda n: checked([("Connection", "," * n)])
    yield "offers", lambda n: lambda: answer_offers(["permessage-deflate; x," * n], Deflate())
    yield "parameters", lambda n: lambda: answer_offers(["a" + "; b=c" * n], Deflate())
    yield "backslashes", lambda n: lambda: answer_offers(['a; b="' + "\\" * n + '"'], Deflate())
    yield "commas", lambda n: lambda: answer_offers(["," * n], Deflate())
    for_ = "X-Forwarded-For"
    yield "hops", lambda n: lambda: proxies.client(Headers([(for_, "10.0.0.1," * n)]))
    yield "no hops", lambda n: lambda: proxies.client(Headers([(for_, " ," * n)]))
    yield "fields of hops", lambda n: lambda: proxies.client(Headers([(for_, "10.0.0.1")] * n))
    yield "a long host", lambda n: lambda: split_authority("a." * n, 80)
    yield "a long port", lambda n: lambda: split_authority("a:" + "0" * n, 80)
    yield "colons", lambda n: lambda: split_authority(f"[{':' * n}]", 80)
    yield "a long origin", lambda n: lambda: origins.refusal("https://" + "a." * n, "a")
    yield "digits of a host", lambda n: lambda: parse_url("ws://" + "\u0660" * n + "/")
    yield "a long path", lambda n: lambda: parse_url("ws://a/" + "ü" * n)
    yield "slashes", lambda n: lambda: parse_url("ws://a" + "/" * n)
    yield "user info", lambda n: lambda: parse_url("ws://" + "a" * n + "@b/")
    addresses = tcp_addresses("192.0.2.1", 1)
    yield "extras", lambda n: _source(proxy_header(addresses, extras=extra(4, b"") * n))
    yield "a long extra", lambda n: _source(proxy_header(addresses, extras=extra(4, bytes(n))))


def _source(header: bytes) -> Callable[[], object]:
    return lambda: read_source(header[:PREFIX_SIZE], header[PREFIX_SIZE:])


@pytest.mark.parametrize(("work"), [pytest.param(work, id=name) for name, work in texts()])
def test_texts_cost_in_proportion_to_their_length(
    work: Callable[[int], Callable[[], object]],
) -> None:
    def tried(count: int) -> Callable[[], object]:
        read = work(count)

        def attempt() -> None:
            # That it is refused is as right as that it is not.
            with contextlib.suppress(UpgradeError, RequestError, ValueError):
                read()

        return attempt

    assert_linear(tried)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_copies_made_again_and_again_are_seen(kind: type[bytes | bytearray]) -> None:
    def work(count: int) -> Callable[[], object]:
        def copy() -> None:
            data = kind()
            for _ in range(count):
                data = data + b"a" * 10

        return copy

    with pytest.raises(AssertionError, match="allocated"):
        assert_linear(work)
