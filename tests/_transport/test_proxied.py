"""Who the client is, when trusted proxies say so, through a whole server."""

import logging
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests._protocol.proxy_headers import extra, proxy_header, tcp_addresses, unix_addresses
from tests._transport.fakes import Tls, handshake, open_service, read_to_end
from trio_ws._config import Limits, TrustedProxies
from trio_ws._transport.endpoint import UNKNOWN, Endpoint
from trio_ws._transport.handshake import Request
from trio_ws._transport.proxied import Proxies
from trio_ws._transport.server import serve
from trio_ws._types import Response

FORWARDED = TrustedProxies(["unix", "127.0.0.1"])
FIRST = TrustedProxies(["unix", "127.0.0.1"], protocol="proxy-v2")

GET = b"GET / HTTP/1.1\r\nHost: testserver\r\n\r\n"

CLIENT = proxy_header(tcp_addresses("203.0.113.9", 4711))


async def who(request: Request) -> Response:
    """Tell the client who it is."""
    return Response(200, f"{request.remote!r} {request.secure}")


async def hold(request: Request) -> None:
    async with request.accept() as connection:
        await connection.wait_closed()


def request_with(*fields: str) -> bytes:
    return GET.replace(b"\r\n\r\n", "\r\n".join(("", *fields, "", "")).encode())


def body_of(answer: bytes) -> str:
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer.partition(b"\r\n\r\n")[2].decode()


def shown(address: str, port: int = 0, *, secure: bool = False) -> str:
    return f"{Endpoint(address, port, secure)!r} {secure}"


async def test_a_trusted_proxy_is_believed() -> None:
    async with open_service(who, proxies=FORWARDED) as clients:
        answer = await clients.ask(
            request_with("X-Forwarded-For: 1.1.1.1, 203.0.113.9", "X-Forwarded-Proto: https")
        )

    assert body_of(answer) == shown("203.0.113.9", secure=True)


async def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    async with open_service(who, proxies=FORWARDED) as clients:
        answer = await clients.ask(GET)

    assert body_of(answer) == "'<MemoryStream>' False"


@pytest.mark.parametrize("proxies", [None, TrustedProxies(["10.0.0.1"])])
async def test_anybody_else_is_not_believed(proxies: TrustedProxies | None) -> None:
    async with open_service(who, proxies=proxies) as clients:
        answer = await clients.ask(
            request_with("X-Forwarded-For: nonsense", "X-Forwarded-Proto: https")
        )

    assert body_of(answer) == "'<MemoryStream>' False"


@pytest.mark.parametrize(
    "field",
    ["X-Forwarded-For: unknown", "X-Forwarded-Proto: on", "X-Forwarded-For: " + "unix," * 9],
)
async def test_a_trusted_proxy_that_makes_no_sense_is_answered_400(field: str) -> None:
    async with open_service(who, proxies=FORWARDED) as clients:
        answers = [await clients.ask(request_with(field)), await clients.ask(handshake("/", field))]

        assert clients.service.counters.refused == 2
    assert all(answer.startswith(b"HTTP/1.1 400 ") for answer in answers)


async def test_the_host_a_proxy_was_asked_for_is_not_believed() -> None:
    async with open_service(who, proxies=FORWARDED, hosts=["example.com"]) as clients:
        answer = await clients.ask(
            request_with("X-Forwarded-Host: example.com", "Forwarded: host=example.com")
        )

    assert answer.startswith(b"HTTP/1.1 421 ")


async def test_a_connection_has_the_address_of_its_client(autojump_clock: MockClock) -> None:
    async with open_service(hold, proxies=FORWARDED) as clients:
        await clients.open("X-Forwarded-For: [2001:db8::9]:4711")
        (connection,) = clients.service.connections

        assert repr(connection) == "<Connection server / [2001:db8::9]:4711 open>"


@pytest.mark.network
async def test_a_proxy_on_this_machine_may_ask_for_any_host(nursery: trio.Nursery) -> None:
    start = partial(serve, who, 0, host="127.0.0.1", proxies=FORWARDED)
    server: trio_ws.Server = await nursery.start(start)

    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(request_with("X-Forwarded-For: 203.0.113.9"))
        answer = await read_to_end(stream)
    nursery.cancel_scope.cancel()

    assert body_of(answer) == shown("203.0.113.9")


def test_a_socket_whose_peer_has_gone_is_no_proxy() -> None:
    assert not Proxies(FORWARDED).include(UNKNOWN)
    assert Proxies(FORWARDED).include("unix:")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (CLIENT, shown("203.0.113.9", 4711)),
        (
            proxy_header(tcp_addresses("::ffff:203.0.113.9", 1), family=0x21),
            shown("203.0.113.9", 1),
        ),
        (proxy_header(tcp_addresses("::1", 1), family=0x21), shown("::1", 1)),
        (proxy_header(unix_addresses(b"/run/x"), family=0x31), "'unix:/run/x' False"),
        (proxy_header(command=0x20, family=0), "'<MemoryStream>' False"),
        (proxy_header(tcp_addresses("203.0.113.9", 1), command=0x20), "'<MemoryStream>' False"),
        (proxy_header(family=0), "'<MemoryStream>' False"),
    ],
    ids=["TCP4", "mapped", "TCP6", "Unix", "LOCAL", "LOCAL with addresses", "UNSPEC"],
)
async def test_a_proxy_header_tells_the_client(header: bytes, expected: str) -> None:
    async with open_service(who, proxies=FIRST) as clients:
        answer = await clients.ask(header + GET)

    assert body_of(answer) == expected


async def test_behind_a_proxy_header_no_field_is_believed() -> None:
    async with open_service(who, proxies=FIRST) as clients:
        request = request_with("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https")
        answers = [
            await clients.ask(CLIENT + request),
            await clients.ask(proxy_header(command=0x20) + request),
        ]

    assert body_of(answers[0]) == shown("203.0.113.9", 4711)
    assert body_of(answers[1]) == "'<MemoryStream>' False"


async def test_a_proxy_header_may_arrive_byte_by_byte(autojump_clock: MockClock) -> None:
    async with open_service(who, proxies=FIRST) as clients, clients.dial() as stream:
        for byte in proxy_header(tcp_addresses("203.0.113.9", 1), extras=extra(4, b"pad")) + GET:
            await stream.send_all(bytes((byte,)))
            await wait_all_tasks_blocked()

        assert body_of(await read_to_end(stream)) == shown("203.0.113.9", 1)


async def test_a_proxy_header_comes_before_tls() -> None:
    tls = Tls()
    async with open_service(who, proxies=FIRST, ssl_context=tls.server) as clients:
        raw = clients.dial()
        await raw.send_all(CLIENT)
        stream = trio.SSLStream(
            raw, tls.client, server_hostname="testserver", https_compatible=True
        )
        await stream.send_all(GET)
        answer = await read_to_end(stream)
        await raw.aclose()

    assert body_of(answer) == shown("203.0.113.9", 4711, secure=True)


@pytest.mark.network
async def test_a_proxy_header_comes_before_the_tls_of_a_listener(nursery: trio.Nursery) -> None:
    tls = Tls()
    listeners = await trio.open_ssl_over_tcp_listeners(0, tls.server, host="127.0.0.1")

    start = partial(serve, who, listeners=listeners, proxies=FIRST)
    server: trio_ws.Server = await nursery.start(start)
    raw = await trio.open_tcp_stream("127.0.0.1", server.port)
    await raw.send_all(CLIENT)
    stream = trio.SSLStream(raw, tls.client, server_hostname="127.0.0.1", https_compatible=True)
    await stream.send_all(GET)
    answer = await read_to_end(stream)
    await raw.aclose()
    nursery.cancel_scope.cancel()

    assert body_of(answer) == shown("203.0.113.9", 4711, secure=True)


MALFORMED = {
    "none": GET,
    "version 1": b"PROXY TCP4 203.0.113.9 203.0.113.1 4711 80\r\n" + GET,
    "cut off": CLIENT[:20],
    "too short": proxy_header(b"123") + GET,
    "datagram": proxy_header(tcp_addresses("203.0.113.9", 1), family=0x12) + GET,
    "extra": proxy_header(tcp_addresses("203.0.113.9", 1), extras=b"\x04\xff") + GET,
    "checksum": proxy_header(tcp_addresses("203.0.113.9", 1), extras=extra(3, b"1234")) + GET,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_proxy_without_a_sound_header_is_cut_off_and_said_to_be(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(who, proxies=FIRST) as clients, clients.dial() as stream:
        await stream.send_all(data)
        await stream.send_eof()

        assert await read_to_end(stream) == b""
        assert clients.service.counters.refused == 1
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("no PROXY header from the proxy <MemoryStream>: ")
    assert record.getMessage().isprintable()


async def test_a_proxy_that_only_looks_whether_the_server_is_there_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_service(who, proxies=FIRST) as clients, clients.dial() as stream:
        await stream.send_eof()

        assert await read_to_end(stream) == b""
        assert clients.service.counters.refused == 0
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(("size", "answered"), [(1000, True), (1001, False)])
async def test_a_proxy_header_may_be_as_long_as_a_head(size: int, answered: bool) -> None:
    padding = size - len(CLIENT) - 3
    header = proxy_header(tcp_addresses("203.0.113.9", 1), extras=extra(4, bytes(padding)))
    assert len(header) == size
    limits = Limits(max_head=1000)

    async with open_service(who, proxies=FIRST, limits=limits) as clients:
        answer = await clients.ask(header + GET)

    assert answer.startswith(b"HTTP/1.1 200 ") is answered


@pytest.mark.parametrize("start", [b"", CLIENT[:10], CLIENT[:16], CLIENT[:-1]])
async def test_a_proxy_header_has_the_time_of_the_opening(
    start: bytes, autojump_clock: MockClock
) -> None:
    limits = Limits(open_timeout=3)
    async with open_service(who, proxies=FIRST, limits=limits) as clients, clients.dial() as stream:
        await stream.send_all(start)
        began = trio.current_time()

        assert await read_to_end(stream) == b""
        assert trio.current_time() - began == 3


async def test_a_header_and_the_request_share_the_time_of_the_opening(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(open_timeout=3)
    async with open_service(who, proxies=FIRST, limits=limits) as clients, clients.dial() as stream:
        began = trio.current_time()
        await trio.sleep(2)
        await stream.send_all(CLIENT + b"GET")

        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 408 ")
        # The one second more is the time to read the answer and to end.
        assert trio.current_time() - began <= 4


async def test_anybody_else_sends_no_header_and_a_header_is_no_request() -> None:
    proxies = TrustedProxies(["10.0.0.1"], protocol="proxy-v2")
    async with open_service(who, proxies=proxies) as clients:
        plain = await clients.ask(GET)
        with_header = await clients.ask(CLIENT + GET)

    assert body_of(plain) == "'<MemoryStream>' False"
    assert with_header.startswith(b"HTTP/1.1 400 ")


async def test_the_test_kit_takes_proxies() -> None:
    seen: list[Endpoint | str] = []

    async def handler(request: Request) -> None:
        seen.append(request.remote)
        async with request.accept():
            pass

    fields = {"X-Forwarded-For": "203.0.113.9"}
    async with trio_ws.testing.connect(handler, headers=fields, proxies=FORWARDED):
        pass

    assert repr(seen[0]) == repr(Endpoint("203.0.113.9", 0, False))


ONE_EACH = Limits(max_connections_per_address=1)


def forwarded(address: str) -> str:
    return f"X-Forwarded-For: {address}"


async def test_clients_behind_a_proxy_are_counted_each_by_its_address(
    autojump_clock: MockClock,
) -> None:
    async with open_service(hold, proxies=FORWARDED, limits=ONE_EACH) as clients:
        first = await clients.open(forwarded("2001:db8:1:2::1"))
        same = await clients.ask(handshake("/", forwarded("2001:db8:1:2::ffff")))
        await clients.open(forwarded("2001:db8:1:3::1"))
        await first.stream.aclose()
        await wait_all_tasks_blocked()
        await clients.open(forwarded("2001:db8:1:2::2"))

        assert clients.service.counters.refused == 1
    assert same.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 1\r\n" in same


async def test_a_proxy_itself_is_not_counted(autojump_clock: MockClock) -> None:
    async with open_service(hold, proxies=FORWARDED, limits=ONE_EACH) as clients:
        for _ in range(3):
            await clients.open()

        assert len(clients.service.connections) == 3


async def test_clients_that_a_proxy_header_tells_are_counted_before_tls(
    autojump_clock: MockClock,
) -> None:
    tls = Tls()
    async with (
        open_service(hold, proxies=FIRST, limits=ONE_EACH, ssl_context=tls.server) as clients,
        clients.dial() as silent,
    ):
        await silent.send_all(CLIENT)
        await wait_all_tasks_blocked()
        raw = clients.dial()
        await raw.send_all(CLIENT)
        stream = trio.SSLStream(
            raw, tls.client, server_hostname="testserver", https_compatible=True
        )
        answer = await read_to_end(stream)
        await raw.aclose()

        assert answer.startswith(b"HTTP/1.1 429 ")
        assert clients.service.counters.refused == 1


async def test_clients_without_a_place_are_answered_64_at_a_time(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(max_connections_per_address=1, open_timeout=5)
    tls = Tls()
    async with open_service(hold, proxies=FIRST, limits=limits, ssl_context=tls.server) as clients:
        streams = [clients.dial() for _ in range(1 + 64 + 5)]
        for stream in streams:
            await stream.send_all(CLIENT)
            await wait_all_tasks_blocked()
        closed = 0
        for stream in streams:
            with trio.move_on_after(0.01):
                closed += not await stream.receive_some()

        assert closed == 5
        assert clients.service.counters.refused == 64 + 5
        for stream in streams:
            await stream.aclose()


@pytest.mark.network
async def test_streams_of_one_address_are_counted_from_their_beginning(
    nursery: trio.Nursery,
) -> None:
    limits = Limits(max_connections_per_address=1)
    start = partial(serve, hold, 0, host="127.0.0.1", limits=limits)
    server: trio_ws.Server = await nursery.start(start)
    url = f"ws://127.0.0.1:{server.port}/"

    for _ in range(2):
        # The second sends nothing, and is answered all the same.
        async with (
            trio_ws.connect(url),
            await trio.open_tcp_stream("127.0.0.1", server.port) as stream,
        ):
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 429 ")
        # The handler ends a moment after its client has.
        while server.statistics().streams:
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()
