"""`Service` answers every stream in the right way, and no stream costs another anything."""

import logging
import socket
from contextlib import suppress
from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import CloseConnection, TextMessage

import trio_ws.testing
from tests._transport.fakes import (
    Clients,
    Failing,
    Plain,
    Tls,
    handshake,
    open_service,
    read_to_end,
)
from tests._transport.socket_benches import needs_watcher
from tests.fakes import raw_frame
from trio_ws._config import Limits
from trio_ws._errors import ConnectionClosed, HandshakeError
from trio_ws._protocol.hosts import Hosts
from trio_ws._protocol.origin import Origins
from trio_ws._transport.handshake import Request
from trio_ws._transport.link import Link
from trio_ws._types import Response
from trio_ws.testing import MemoryStream, stream_pair

GET = b"GET / HTTP/1.1\r\nHost: testserver\r\n\r\n"


class PolicyError(Exception):
    """An error that says how to close."""

    close_code = 1008


async def page(request: Request) -> Response:
    return Response(200, "a page")


async def nothing(request: Request) -> None:
    return


async def echo(request: Request) -> None:
    async with request.accept() as connection:
        async for message in connection:
            if message == "fail":
                raise ValueError(message)
            await connection.send(message)


async def fail(request: Request) -> None:
    raise ValueError("failed")


def status_of(answer: bytes) -> int:
    version, status, _ = answer.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(status)


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_request_is_answered_with_the_handlers_response() -> None:
    async with open_service(page) as clients:
        answer = await clients.ask(GET)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 200
    assert {b"Connection: close", b"Content-Length: 6"} <= set(head.split(b"\r\n"))
    assert body == b"a page"


async def test_head_is_answered_without_a_body() -> None:
    async with open_service(page) as clients:
        answer = await clients.ask(GET.replace(b"GET", b"HEAD"))

    assert b"\r\nContent-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_handler_that_does_nothing_is_answered_404() -> None:
    async with open_service(nothing) as clients:
        answers = [await clients.ask(GET), await clients.ask(handshake())]

    assert list(map(status_of, answers)) == [404, 404]


async def test_accepting_what_is_no_handshake_is_answered_426() -> None:
    async with open_service(echo) as clients:
        answer = await clients.ask(GET)

        assert status_of(answer) == 426
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
        assert clients.service.counters.failures == 0


async def test_a_handshake_opens_a_connection(autojump_clock: MockClock) -> None:
    async with open_service(echo) as clients:
        peer = await clients.open()
        await peer.send(TextMessage("hello"))

        assert await peer.read() == [TextMessage("hello")]
        assert len(clients.service.connections) == 1
        assert clients.service.counters.connections == 1


async def test_a_connection_that_is_over_is_forgotten() -> None:
    async with open_service(echo) as clients:
        peer = await clients.open()
        await peer.send(CloseConnection(1000))
        await peer.read_all()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert not clients.service.connections
        assert clients.service.counters.failures == 0


async def test_a_connection_that_cannot_start_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_to_start(*_: object, **__: object) -> None:
        raise OSError("no tasks today")

    monkeypatch.setattr(Link, "start", fail_to_start)
    async with open_service(echo) as clients:
        assert await clients.ask(handshake()) == b""

        assert not clients.service.connections
    assert "no tasks today" in caplog.text


async def test_a_handler_that_fails_before_it_accepts_is_answered_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_service(fail) as clients:
        answer = await clients.ask(GET)

        assert clients.service.counters.failures == 1
    assert status_of(answer) == 500
    (record,) = errors_in(caplog)
    assert record.exc_info is not None
    assert record.getMessage() == "the handler of / failed"


async def test_a_handler_that_fails_after_it_accepted_closes_with_1011_and_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(echo) as clients:
        failing, other = await clients.open(), await clients.open()
        await failing.send(TextMessage("fail"))
        (close,) = await failing.read_all()
        await other.send(TextMessage("still there"))

        assert close == CloseConnection(1011, "")
        assert await other.read() == [TextMessage("still there")]
        assert clients.service.counters.failures == 1
    assert len(errors_in(caplog)) == 1


async def test_a_handlers_error_may_carry_the_close_code(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> None:
        async with request.accept():
            raise PolicyError

    async with open_service(handler) as clients:
        peer = await clients.open()

        assert await peer.read_all() == [CloseConnection(1008, "")]


async def receive_in_a_nursery(request: Request) -> None:
    async with request.accept() as connection, trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive)
        nursery.start_soon(connection.wait_closed)


async def receive(request: Request) -> None:
    async with request.accept() as connection:
        await connection.receive()


@pytest.mark.parametrize("handler", [receive, receive_in_a_nursery])
@pytest.mark.parametrize("code", [1000, 4000])
async def test_a_handler_that_does_not_mind_the_clients_close_is_no_failure(
    handler: trio_ws.Handler, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(handler) as clients:
        peer = await clients.open()
        await peer.send(CloseConnection(code))
        await peer.read_all()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert clients.service.counters.failures == 0
    assert not errors_in(caplog)


async def test_the_close_of_another_connection_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: Request) -> None:
        async with request.accept(), trio_ws.testing.connect(nothing_much) as other:
            await other.receive()

    async def nothing_much(request: Request) -> None:
        async with request.accept():
            pass

    async with open_service(handler) as clients:
        peer = await clients.open()
        await peer.read()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert clients.service.counters.failures == 1
    assert isinstance(_error_of(errors_in(caplog)[0]), ConnectionClosed)


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


async def test_a_handshake_error_of_the_handlers_own_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: Request) -> None:
        raise HandshakeError("with another server")

    async with open_service(handler) as clients:
        answer = await clients.ask(handshake())

    assert status_of(answer) == 500
    assert isinstance(_error_of(errors_in(caplog)[0]), HandshakeError)


async def test_a_request_with_too_many_query_fields_is_answered_400() -> None:
    target = b"/?" + b"&".join([b"f"] * 101)

    async with open_service(page) as clients:
        answer = await clients.ask(GET.replace(b"/ ", target + b" "))

        assert status_of(answer) == 400
        assert clients.service.counters.failures == 0


@pytest.mark.parametrize("returned", ["a page", 200, b"", object()])
async def test_a_handler_that_returns_something_else_has_failed(
    returned: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response | None:
        return returned  # type: ignore[return-value]  # on purpose

    async with open_service(handler) as clients:
        answer = await clients.ask(GET)

    assert status_of(answer) == 500
    assert f"not {type(returned).__name__}" in str(_error_of(errors_in(caplog)[0]))


async def test_a_response_after_the_handler_has_accepted_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: Request) -> Response:
        await echo(request)
        return Response(200)

    async with open_service(handler) as clients:
        peer = await clients.open()
        await peer.send(CloseConnection(1000))
        await peer.read_all()
        await peer.stream.aclose()
        await wait_all_tasks_blocked()

        assert clients.service.counters.failures == 1
    assert "returned a response after it had accepted" in caplog.text


async def serve_one(handler: trio_ws.Handler, *, propagate: bool = False) -> None:
    """Serve one request in this task."""
    client, server = stream_pair()
    async with open_service(handler, propagate=propagate) as clients:
        await client.send_all(GET)
        await client.send_eof()
        await clients.service.serve_stream(server)


@pytest.mark.parametrize("error", [ValueError("x"), trio.BrokenResourceError("another's")])
async def test_a_handlers_error_propagates_when_it_is_asked_to(error: Exception) -> None:
    async def handler(request: Request) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await serve_one(handler, propagate=True)
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (KeyboardInterrupt(), 0),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 0),
        (BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]), 1),
    ],
)
async def test_what_is_no_exception_propagates_always(
    error: BaseException, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        raise error

    with pytest.raises(KeyboardInterrupt):
        await serve_one(handler)
    assert len(errors_in(caplog)) == logged


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 413),
        (b"GET /" + b"x" * 20000, 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 20000, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (handshake().replace(b"GET", b"POST"), 405),
        (handshake().replace(b"Version: 13", b"Version: 8"), 426),
        (handshake().replace(b"Key: ", b"Key: x"), 400),
    ],
)
async def test_a_malformed_request_is_refused_with_the_right_status(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(page) as clients:
        answer = await clients.ask(data)

        assert status_of(answer) == status
        assert clients.service.counters.refused == 1
    assert not errors_in(caplog)


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 431)])
async def test_a_head_may_be_as_long_as_the_limit(extra: int, status: int) -> None:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    head = start + b"x" * (100 - len(start) - 4 + extra) + b"\r\n\r\n"

    async with open_service(page, limits=Limits(max_head=100)) as clients:
        assert status_of(await clients.ask(head)) == status


@pytest.mark.parametrize(("count", "status"), [(4, 200), (5, 431)])
async def test_a_head_may_have_as_many_fields_as_the_limit(count: int, status: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"

    async with open_service(page, limits=Limits(max_headers=4)) as clients:
        assert status_of(await clients.ask(head)) == status


async def test_half_a_head_is_answered_408_after_the_open_timeout(
    autojump_clock: MockClock,
) -> None:
    async with open_service(page) as clients:
        answer = await clients.ask(b"GET / HT")

        assert status_of(answer) == 408
        assert trio.current_time() == 10
        assert clients.service.counters.refused == 1


async def test_a_head_that_comes_byte_by_byte_has_no_more_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with open_service(page) as clients, clients.dial() as stream:
        nursery.start_soon(_drip, stream)
        answer = await read_to_end(stream)

    assert status_of(answer) == 408
    assert trio.current_time() <= 11


async def _drip(stream: MemoryStream) -> None:
    # The stream is closed under its hands.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(b"GET /")
        while True:
            await trio.sleep(0.9)
            await stream.send_all(b"x")


async def test_a_head_that_is_whole_just_in_time_is_served(autojump_clock: MockClock) -> None:
    async with open_service(page) as clients, clients.dial() as stream:
        await stream.send_all(GET[:-1])
        await trio.sleep(9.9)
        await stream.send_all(GET[-1:])

        assert status_of(await read_to_end(stream)) == 200


async def test_a_silent_client_is_left_without_an_answer(autojump_clock: MockClock) -> None:
    async with open_service(page) as clients:
        answer = await clients.ask(b"")

        assert answer == b""
        assert trio.current_time() == 10
        assert clients.service.counters.refused == 0


@pytest.mark.parametrize("data", [b"", b"GET / HT"])
async def test_a_client_that_leaves_before_its_head_is_whole_gets_nothing(data: bytes) -> None:
    async with open_service(page) as clients, clients.dial() as stream:
        await stream.send_all(data)
        await stream.send_eof()

        assert await read_to_end(stream) == b""


@pytest.mark.parametrize(
    ("origins", "fields", "status"),
    [
        (None, ["Origin: http://testserver"], 101),
        (None, ["Origin: https://evil.example"], 403),
        (None, [], 101),
        (["https://a.example"], ["Origin: https://a.example"], 101),
        (["https://a.example"], ["Origin: http://testserver"], 403),
        (["https://*.a.example"], ["Origin: https://x.a.example"], 101),
        (["https://*.a.example"], ["Origin: https://a.example"], 403),
        ("*", ["Origin: https://evil.example"], 101),
    ],
)
async def test_pages_of_strange_origins_are_refused(
    origins: Origins,
    fields: list[str],
    status: int,
    autojump_clock: MockClock,
) -> None:
    async with (
        open_service(echo, origins=origins) as clients,
        clients.dial() as stream,
    ):
        await stream.send_all(handshake("/", *fields))
        answer = await stream.receive_some()

    assert status_of(answer) == status
    assert (b"name it in the origins= of the server" in answer) is (status == 403)


async def test_the_origin_of_a_plain_request_does_not_matter() -> None:
    async with open_service(page) as clients:
        head = GET.replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n")

        assert status_of(await clients.ask(head)) == 200


@pytest.mark.parametrize(
    ("hosts", "status"),
    [(None, 200), ("*", 200), (["testserver"], 200), (["*.testserver", "example.com"], 421)],
)
async def test_a_request_for_a_strange_host_is_answered_421(hosts: Hosts, status: int) -> None:
    async with open_service(page, hosts=hosts) as clients:
        answer = await clients.ask(GET)

        assert clients.service.counters.refused == (status == 421)
    assert status_of(answer) == status
    assert (b"name it in the hosts= of the server" in answer) is (status == 421)


async def test_an_opening_handshake_for_a_strange_host_is_answered_421_whatever_its_origin() -> (
    None
):
    async with open_service(echo, hosts=["example.com"]) as clients:
        answer = await clients.ask(handshake("/", "Origin: http://testserver"))

    assert status_of(answer) == 421


async def test_the_host_of_an_absolute_target_is_the_one_that_counts() -> None:
    async with open_service(page, hosts=["testserver"]) as clients:
        answer = await clients.ask(GET.replace(b"GET /", b"GET http://evil.com/"))

    assert status_of(answer) == 421


@needs_watcher
@pytest.mark.network
@pytest.mark.parametrize(
    ("early", "late", "waits"), [(GET, b"", 0), (GET[:9], GET[9:], 1), (b"", GET, 1)]
)
async def test_a_request_that_is_here_already_is_not_waited_for(
    early: bytes, late: bytes, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    receive_some = trio.SocketStream.receive_some
    waited: list[int] = []
    count = 0

    async def counting(self: trio.SocketStream, max_bytes: int | None = None) -> bytes:
        nonlocal count
        count += self is stream
        return bytes(await receive_some(self, max_bytes))

    async def note(request: Request) -> Response:
        waited.append(count)
        return await page(request)

    monkeypatch.setattr(trio.SocketStream, "receive_some", counting)

    async with open_service(note) as clients, trio.open_nursery() as nursery:
        theirs.send(early)
        nursery.start_soon(clients.service.serve_stream, stream)
        await wait_all_tasks_blocked()
        theirs.send(late)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as far:
            assert status_of(await read_to_end(far)) == 200

    assert waited == [waits]


@needs_watcher
@pytest.mark.network
@pytest.mark.parametrize(
    ("data", "status"), [(b"\x16\x03\x01", 400), (b"GET / HTTP/2.0\r\n\r\n", 505)]
)
async def test_a_malformed_request_that_is_here_already_is_refused(
    data: bytes, status: int
) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(data)
    async with open_service(page) as clients, trio.open_nursery() as nursery:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        nursery.start_soon(clients.service.serve_stream, stream)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as far:
            assert status_of(await read_to_end(far)) == status


@needs_watcher
@pytest.mark.network
async def test_a_request_that_is_here_already_is_not_taken_by_a_cancelled_service() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(GET)
    asked: list[Request] = []

    async def note(request: Request) -> Response:
        asked.append(request)
        return await page(request)

    async with open_service(note) as clients, trio.open_nursery() as nursery:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        nursery.start_soon(clients.service.serve_stream, stream)
        nursery.cancel_scope.cancel()
    theirs.close()

    assert (asked, stream.socket.fileno()) == ([], -1)


async def test_a_draining_service_refuses_handshakes_and_serves_the_rest() -> None:
    async with open_service(page) as clients:
        clients.service.drain()
        answers = [await clients.ask(handshake()), await clients.ask(GET)]

    assert list(map(status_of, answers)) == [503, 200]
    assert b"\r\nRetry-After: 1\r\n" in answers[0]


async def test_draining_refuses_the_handshakes_that_a_handler_has_not_accepted_yet() -> None:
    drained = trio.Event()

    async def handler(request: Request) -> None:
        await drained.wait()
        await echo(request)

    async with open_service(handler) as clients, clients.dial() as stream:
        await stream.send_all(handshake())
        await stream.send_eof()
        await wait_all_tasks_blocked()
        clients.service.drain()
        drained.set()

        assert status_of(await read_to_end(stream)) == 503


async def test_draining_tells_every_connection_goodbye(autojump_clock: MockClock) -> None:
    async with open_service(echo) as clients:
        peers = [await clients.open(), await clients.open()]
        clients.service.drain()
        events = [await peer.read() for peer in peers]

    assert events == [[CloseConnection(1001, "")]] * 2


async def test_a_cancelled_service_tells_every_connection_goodbye(
    autojump_clock: MockClock,
) -> None:
    async with open_service(echo) as clients:
        peer = await clients.open()

    assert await peer.read_all() == [CloseConnection(1001, "")]


def dial_failing(clients: Clients, nursery: trio.Nursery) -> tuple[Failing, MemoryStream]:
    """Have a stream served that can be told to fail."""
    client, server = stream_pair()
    stream = Failing(server)
    nursery.start_soon(clients.service.serve_stream, stream)
    return stream, client


@pytest.mark.parametrize("method", ["receive_some", "send_all"])
async def test_a_client_that_resets_costs_nothing(
    method: str, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(page) as clients:
        stream, client = dial_failing(clients, nursery)
        stream.errors[method] = trio.BrokenResourceError("reset")
        await client.send_all(GET)
        await wait_all_tasks_blocked()

        assert await read_to_end(client) == b""
    assert not errors_in(caplog)


@pytest.mark.parametrize("method", ["receive_some", "send_all", "aclose"])
async def test_a_stream_that_breaks_its_contract_is_logged_and_costs_nobody_else_anything(
    method: str, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(page) as clients:
        stream, client = dial_failing(clients, nursery)
        stream.errors[method] = KeyError("odd")
        await client.send_all(GET)
        await client.send_eof()
        await read_to_end(client)

        assert status_of(await clients.ask(GET)) == 200
    assert len(errors_in(caplog)) == 1


async def test_a_client_that_does_not_take_its_answer_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with open_service(page) as clients:
        stream = clients.dial(capacity=8)
        await stream.send_all(GET)
        await trio.sleep(19.9)
        await stream.send_all(b"")
        await trio.sleep(0.2)

        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_an_answered_client_gets_a_second_to_end_its_side(
    autojump_clock: MockClock,
) -> None:
    async with open_service(page) as clients:
        stream = clients.dial()
        await stream.send_all(GET)
        await read_to_end(stream)
        await stream.send_all(b"more that nobody reads")
        await trio.sleep(1.1)

        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_a_stream_that_cannot_half_close_is_closed_after_the_answer(
    nursery: trio.Nursery,
) -> None:
    client, server = stream_pair()
    async with open_service(page) as clients:
        nursery.start_soon(clients.service.serve_stream, Plain(server))
        await client.send_all(GET)

        assert status_of(await read_to_end(client)) == 200


async def secure(client: MemoryStream, tls: Tls) -> "trio.SSLStream[MemoryStream]":
    return trio.SSLStream(client, tls.client, server_hostname="testserver", https_compatible=True)


async def test_tls_is_spoken_beneath(tls: Tls) -> None:
    async with open_service(page, ssl_context=tls.server) as clients:
        stream = await secure(clients.dial(), tls)
        await stream.send_all(GET)
        answer = await stream.receive_some()

        assert status_of(bytes(answer)) == 200
        await stream.transport_stream.aclose()


async def test_tls_and_the_head_have_one_deadline(tls: Tls, autojump_clock: MockClock) -> None:
    async with open_service(page, ssl_context=tls.server) as clients:
        inner = clients.dial()
        stream = await secure(inner, tls)
        await trio.sleep(6)
        await stream.do_handshake()
        await stream.send_all(GET[:-1])
        answer = await stream.receive_some()

        assert status_of(bytes(answer)) == 408
        assert trio.current_time() == 10
        await inner.aclose()


async def test_a_client_that_never_ends_its_tls_handshake_is_left(
    tls: Tls, autojump_clock: MockClock
) -> None:
    async with open_service(page, ssl_context=tls.server) as clients:
        assert await clients.ask(b"\x16\x03\x01") == b""
        assert trio.current_time() == 10


async def test_what_is_no_tls_is_left_at_once(
    tls: Tls, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(page, ssl_context=tls.server) as clients:
        answer = await clients.ask(GET)

    assert not answer.startswith(b"HTTP")
    assert trio.current_time() == 0
    assert not errors_in(caplog)


async def test_a_client_without_room_is_answered_503_before_it_asks() -> None:
    client, server = stream_pair()
    await client.send_eof()

    async with open_service(page) as clients:
        await clients.service.refuse_stream(server)

        assert status_of(await read_to_end(client)) == 503
        assert clients.service.counters.refused == 1


async def test_a_client_without_room_that_takes_nothing_is_left_after_the_open_timeout(
    autojump_clock: MockClock,
) -> None:
    _, server = stream_pair(capacity=1)

    async with open_service(page) as clients:
        await clients.service.refuse_stream(server)

    assert trio.current_time() == 10


@pytest.mark.parametrize(
    ("error", "logged"), [(trio.BrokenResourceError("reset"), 0), (KeyError("odd"), 1)]
)
async def test_a_client_without_room_that_breaks_off_costs_nothing(
    error: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = stream_pair()
    stream = Failing(server)
    stream.errors["send_all"] = error

    async with open_service(page) as clients:
        await clients.service.refuse_stream(stream)

    assert len(errors_in(caplog)) == logged


async def test_a_client_without_room_is_answered_where_no_interrupt_comes_between() -> None:
    _, server = stream_pair()
    protected: list[bool] = []

    class Asking(Plain):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())
            await super().send_all(data)

    async with open_service(page) as clients, trio.open_nursery() as nursery:
        # As the task that it is in a server.
        nursery.start_soon(clients.service.refuse_stream, Asking(server))

    assert protected == [True]


async def test_a_request_that_was_answered_is_kept_by_nobody() -> None:
    async with open_service(page) as clients:
        client, server = stream_pair()
        await client.send_all(GET)
        await clients.service.serve_stream(server)

        assert not clients.service._waiting  # noqa: SLF001


async def test_limits_reach_the_connection(autojump_clock: MockClock) -> None:
    async with open_service(echo, limits=Limits(max_message=5, open_timeout=inf)) as clients:
        peer = await clients.open(rest=raw_frame(1, b"too long", masked=True))
        (close,) = await peer.read_all()

    assert isinstance(close, CloseConnection)
    assert close.code == 1009


async def test_a_malformed_host_is_refused() -> None:
    with pytest.raises(ValueError, match="is no host"):
        async with open_service(page, hosts=["http://testserver"]):
            raise AssertionError


async def test_a_clients_context_is_refused(tls: Tls) -> None:
    with pytest.raises(ValueError, match="ssl_context is a client's"):
        async with open_service(page, ssl_context=tls.client):
            pass


async def test_a_malformed_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="is no origin"):
        async with open_service(page, origins=["testserver"]):
            pass
