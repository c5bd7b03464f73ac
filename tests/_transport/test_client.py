"""`connect` opens a connection, or says what kept it from opening."""

import base64
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import CloseConnection, Ping

from tests._transport.fakes import Failing, RawPeer, Resolver, Tls, cancel_when_blocked, read_to_end
from tests.fakes import raw_frame
from trio_ws._config import Keepalive, Limits
from trio_ws._errors import HandshakeError, HandshakeRejected
from trio_ws._protocol.upgrade import accept_key
from trio_ws._transport.client import connect
from trio_ws._transport.connection import Connection
from trio_ws._transport.nurseries import lone_errors
from trio_ws._types import HeadersLike
from trio_ws.testing import MemoryStream, stream_pair

needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")

URL = "ws://testserver/"


def switched(key: str, *fields: str, accept: str | None = None) -> bytes:
    """Write the answer that accepts a handshake, with further header lines."""
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept or accept_key(key)}",
        *fields,
    )
    return "\r\n".join((*lines, "", "")).encode()


class PlayedServer:
    """A server played by hand, which reads one request and answers it.

    Args:
        answer: What to answer to a handshake with a key.
    """

    def __init__(self, answer: Callable[[str], bytes] = switched) -> None:
        self._answer = answer
        self.stream, self.far = stream_pair()
        self.request = b""

    @property
    def fields(self) -> dict[str, str]:
        """The header fields of the request, by their names in lower case."""
        lines = self.request.decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def run(self) -> None:
        while not self.request.endswith(b"\r\n\r\n"):
            self.request += await self.far.receive_some(1)
        await self.far.send_all(self._answer(self.fields["sec-websocket-key"]))
        await self.far.send_eof()


async def attempt(
    answer: Callable[[str], bytes] = switched,
    url: str = URL,
    **options: Any,  # noqa: ANN401 - connect() checks them
) -> tuple[PlayedServer, Connection]:
    """Connect to a played server, and close again."""
    server = PlayedServer(answer)
    with lone_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            async with connect(url, stream=server.stream, **options) as connection:
                pass
    return server, connection


async def attempt_alone(answer: Callable[[str], bytes], **options: Any) -> None:  # noqa: ANN401 - as above
    """Connect to a played server that reads no request before it answers."""
    stream, far = stream_pair()
    await far.send_all(answer(""))
    await far.send_eof()
    async with connect(URL, stream=stream, **options):
        pass


async def open_and_close(url: str, **options: Any) -> None:  # noqa: ANN401 - as above
    async with connect(url, **options):
        pass


async def test_connect_opens_a_connection_over_a_stream() -> None:
    _, connection = await attempt(url="ws://testserver/chat?room=1")

    assert connection.is_client
    assert connection.path == "/chat?room=1"
    assert (connection.remote, connection.local) == ("<MemoryStream>", "<MemoryStream>")
    assert (b"upgrade", b"websocket") in connection.handshake_headers


async def test_the_request_is_an_opening_handshake() -> None:
    server, _ = await attempt(url="ws://testserver:8080/ol%C3%A1/é?x=1")

    assert server.request.startswith(b"GET /ol%C3%A1/%C3%A9?x=1 HTTP/1.1\r\n")
    assert server.fields["host"] == "testserver:8080"
    assert server.fields["upgrade"] == "websocket"
    assert server.fields["sec-websocket-version"] == "13"
    assert server.fields["user-agent"].startswith("trio_ws/")
    assert len(base64.b64decode(server.fields["sec-websocket-key"])) == 16
    assert {"origin", "authorization", "sec-websocket-protocol"}.isdisjoint(server.fields)


async def test_each_handshake_has_a_key_of_its_own() -> None:
    keys = {(await attempt())[0].fields["sec-websocket-key"] for _ in range(3)}

    assert len(keys) == 3


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://[::1]/", "[::1]"),
        ("ws://[::1]:8080/", "[::1]:8080"),
        ("ws://h:80/", "h"),
        ("ws://h:443/", "h:443"),
        ("ws+unix:/run/app.sock:/chat", "localhost"),
    ],
)
async def test_the_host_is_written_as_in_the_url(url: str, host: str) -> None:
    server, _ = await attempt(url=url)

    assert server.fields["host"] == host


async def test_user_info_becomes_basic_auth() -> None:
    server, connection = await attempt(url="ws://us%40er:s%C3%A9cret@testserver/")

    credentials = base64.b64encode("us@er:sécret".encode()).decode()
    assert server.fields["authorization"] == f"Basic {credentials}"
    assert "cret" not in repr(connection)


async def test_headers_of_the_caller_win_over_those_of_the_library() -> None:
    headers = {"Host": "other", "User-Agent": "tests", "Authorization": "Bearer x", "X": "1"}

    server, _ = await attempt(url="ws://user:secret@testserver/", headers=headers)

    sent = {name.title(): server.fields[name.lower()] for name in headers}
    assert sent == headers


async def test_an_origin_is_sent_on_demand() -> None:
    server, _ = await attempt(origin="https://example.com")

    assert server.fields["origin"] == "https://example.com"


async def test_subprotocols_are_offered_and_the_servers_choice_is_known() -> None:
    server, connection = await attempt(
        lambda key: switched(key, "Sec-WebSocket-Protocol: b"), subprotocols=["a", "b"]
    )

    assert server.fields["sec-websocket-protocol"] == "a, b"
    assert connection.subprotocol == "b"


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"headers": {"Upgrade": "x"}}, ValueError, "Upgrade belongs to the handshake"),
        ({"headers": {"X": "a\r\nb"}}, ValueError, "control character"),
        ({"subprotocols": ["a b"]}, ValueError, "is no token"),
        ({"subprotocols": "chat"}, TypeError, "not one string"),
        ({"origin": "a\r\nb"}, ValueError, "control character"),
        ({"ssl_context": ssl.create_default_context()}, ValueError, "goes with a wss: URL"),
        (
            {"url": "wss://testserver/", "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
            ValueError,
            "ssl_context is a server's",
        ),
        ({"url": "http://testserver/"}, ValueError, "is no WebSocket URL"),
    ],
)
async def test_mistakes_of_the_caller_are_found_before_anything_is_sent(
    options: dict[str, Any], error: type[Exception], why: str
) -> None:
    stream, far = stream_pair()

    with pytest.raises(error, match=why):
        await open_and_close(**{"url": URL, "stream": stream, **options})
    assert await read_to_end(far) == b""
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_what_comes_behind_the_answer_is_received() -> None:
    def answer(key: str) -> bytes:
        return switched(key) + raw_frame(1, b"early", masked=False)

    server = PlayedServer(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        async with connect(URL, stream=server.stream) as connection:
            assert await connection.receive() == "early"
            await server.far.aclose()


def rejecting(head: str, body: bytes = b"") -> Callable[[str], bytes]:
    return lambda _: head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


async def rejection(answer: Callable[[str], bytes]) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as caught:
        await attempt_alone(answer)
    return caught.value


async def test_a_rejection_carries_status_headers_and_body() -> None:
    head = "HTTP/1.1 403 Forbidden\nContent-Length: 5\nX-Why: because"

    error = await rejection(rejecting(head, b"go on"))

    assert error.response.status == 403
    assert error.response.headers["X-Why"] == "because"
    assert error.response.body == b"go on"
    text = "ws://testserver/ answered 403 Forbidden instead of opening a WebSocket: 'go on'"
    assert str(error) == text


async def test_a_redirect_is_not_followed_and_says_where_it_points() -> None:
    error = await rejection(rejecting("HTTP/1.1 302 Found\nLocation: /else\nContent-Length: 0"))

    assert "it points to '/else', and redirects are not followed" in str(error)


@pytest.mark.parametrize(
    ("head", "body", "kept"),
    [
        ("HTTP/1.1 500 X\nContent-Length: 3", b"abc", b"abc"),
        ("HTTP/1.1 500 X\nContent-Length: 9", b"abc", b"abc"),
        ("HTTP/1.1 500 X", b"abc", b"abc"),
        ("HTTP/1.1 500 X\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("HTTP/1.1 200 OK\nContent-Length: 0", b"", b""),
    ],
)
async def test_the_body_of_a_rejection_is_kept_however_it_ends(
    head: str, body: bytes, kept: bytes
) -> None:
    error = await rejection(rejecting(head, body))

    assert error.response.body == kept


async def test_an_endless_body_is_cut_after_64_kib(nursery: trio.Nursery) -> None:
    stream, far = stream_pair()
    nursery.start_soon(_send_without_end, far)

    with pytest.raises(HandshakeRejected) as caught:
        await open_and_close(URL, stream=stream)
    assert len(caught.value.response.body) == 64 * 1024


async def _send_without_end(stream: MemoryStream) -> None:
    await stream.send_all(b"HTTP/1.1 500 X\r\n\r\n")
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(bytes(10_000))


@pytest.mark.parametrize(
    ("fields", "accept", "why"),
    [
        ([], "x", "Sec-WebSocket-Accept does not fit the key"),
        (["Sec-WebSocket-Protocol: c"], None, "chose the subprotocol 'c', which was not offered"),
        (
            ["Sec-WebSocket-Extensions: permessage-deflate"],
            None,
            "chose the extension 'permessage-deflate', which was not offered",
        ),
    ],
)
async def test_an_answer_that_may_not_be_accepted_is_refused(
    fields: Sequence[str], accept: str | None, why: str
) -> None:
    with pytest.raises(HandshakeError, match=f"cannot be talked to: .*{why}"):
        await attempt(lambda key: switched(key, *fields, accept=accept), subprotocols=["a"])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP: .*it begins with b'SSH-2.0"),
        (b"\x15\x03\x01\x00\x02", "does not speak HTTP"),
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 101 Sw", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(10) + b"\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", "more than 100 header fields"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 17000, "longer than 16384 bytes"),
    ],
)
async def test_what_is_no_answer_is_told_from_one(data: bytes, why: str) -> None:
    with pytest.raises(HandshakeError, match=f"ws://testserver/ .*{why}"):
        await attempt_alone(lambda _: data)


@pytest.mark.parametrize(
    ("cause", "how"), [(None, "opening handshake"), (OSError("reset"), "opening handshake: reset")]
)
async def test_a_reset_in_the_handshake_says_so(cause: Exception | None, how: str) -> None:
    inner, _ = stream_pair()
    stream = Failing(inner)
    error = stream.errors["receive_some"] = trio.BrokenResourceError()
    error.__cause__ = cause

    with pytest.raises(HandshakeError, match=f"broke off the connection, .*{how}$") as caught:
        await open_and_close(URL, stream=stream)
    assert caught.value.__cause__ is error


async def test_a_server_that_stays_silent_is_given_up_after_the_open_timeout(
    autojump_clock: MockClock,
) -> None:
    stream, far = stream_pair()

    with pytest.raises(HandshakeError, match="timed out waiting for the answer to the opening"):
        await open_and_close(URL, stream=stream, limits=Limits(open_timeout=3))
    assert trio.current_time() == 3
    assert (await read_to_end(far)).startswith(b"GET / HTTP/1.1")


async def test_a_server_that_answers_byte_by_byte_has_no_more_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream, far = stream_pair()
    nursery.start_soon(_drip, far)

    with pytest.raises(HandshakeError, match="took longer than 10 seconds"):
        await open_and_close(URL, stream=stream)
    assert trio.current_time() == 10


async def _drip(stream: MemoryStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
    with suppress(trio.BrokenResourceError):
        while True:
            await trio.sleep(0.9)
            await stream.send_all(b"y")


class SlowResolver(Resolver):
    """Takes an hour to find an address."""

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401 - nothing comes
        await trio.sleep(3600)


async def test_the_open_timeout_bounds_the_name_lookup(autojump_clock: MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(SlowResolver())

    with pytest.raises(HandshakeError, match="timed out looking up the address and connecting"):
        await open_and_close("ws://slow.example/")
    assert trio.current_time() == 10


async def test_the_open_timeout_bounds_the_tls_handshake(
    tls: Tls, autojump_clock: MockClock
) -> None:
    stream, _ = stream_pair()

    with pytest.raises(HandshakeError, match="timed out waiting for the TLS handshake"):
        await open_and_close("wss://testserver/", stream=stream, ssl_context=tls.client)
    assert trio.current_time() == 10


async def test_a_name_that_cannot_be_resolved_says_so() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())

    why = "the host name of ws://nowhere.example/ cannot be resolved: Name or service not known"
    with pytest.raises(HandshakeError, match=why) as caught:
        await open_and_close("ws://nowhere.example/")
    assert isinstance(caught.value.__cause__, socket.gaierror)


async def test_a_name_in_another_script_is_looked_up_in_ascii() -> None:
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)

    with pytest.raises(HandshakeError):
        await open_and_close("ws://bücher.example/")
    assert resolver.asked == [b"xn--bcher-kva.example"]


@pytest.fixture
def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.network
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.1"]])
async def test_a_refused_connection_says_so_once(addresses: list[str], free_port: int) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(*addresses))

    why = f"^ws://h:{free_port}/ cannot be reached: [^;:]*refused$"
    with pytest.raises(HandshakeError, match=why) as caught:
        await open_and_close(f"ws://h:{free_port}/")
    assert isinstance(caught.value.__cause__, OSError)


@needs_unix
@pytest.mark.network
async def test_a_unix_socket_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(HandshakeError, match="cannot be reached: No such file"):
        await open_and_close(f"ws+unix:{tmp_path}/nothing:/")


@needs_unix
@pytest.mark.network
async def test_connect_opens_a_unix_socket(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = f"{tmp_path}/socket"
    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()
        nursery.start_soon(_accept_one, trio.SocketListener(sock))

        async with connect(f"ws+unix:{path}:/chat") as connection:
            assert connection.path == "/chat"
            assert connection.remote == f"unix:{path}"


async def _accept_one(listener: trio.SocketListener) -> None:
    async with await listener.accept() as stream:
        await _serve(stream)


async def _serve(stream: trio.abc.Stream) -> None:
    """Accept a handshake, and end the line when the client does."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(65536)
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    await stream.send_all(switched(key.decode()))
    await stream.receive_some()


@pytest.mark.network
async def test_connect_opens_a_tcp_connection(nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        nursery.start_soon(_accept_one, listener)
        port = listener.socket.getsockname()[1]

        async with connect(f"ws://127.0.0.1:{port}/") as connection:
            assert repr(connection) == f"<Connection client / 127.0.0.1:{port} open>"


async def _serve_tls(stream: trio.abc.Stream, context: ssl.SSLContext) -> None:
    secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    # The client may not like what it sees.
    with suppress(trio.BrokenResourceError):
        await _serve(secure)
    await trio.aclose_forcefully(stream)


async def test_connect_puts_tls_over_a_stream(tls: Tls, nursery: trio.Nursery) -> None:
    stream, far = stream_pair()
    nursery.start_soon(_serve_tls, far, tls.server)

    async with connect("wss://testserver/", stream=stream, ssl_context=tls.client) as connection:
        assert connection.closed is None


async def test_connect_leaves_a_stream_that_speaks_tls_as_it_is(
    tls: Tls, nursery: trio.Nursery
) -> None:
    inner, far = stream_pair()
    stream = trio.SSLStream(inner, tls.client, server_hostname="testserver", https_compatible=True)
    nursery.start_soon(_serve_tls, far, tls.server)

    async with connect("wss://other/", stream=stream) as connection:
        assert connection.closed is None


@pytest.mark.parametrize(
    ("host", "trusting", "why"),
    [
        ("testserver", False, "the certificate of wss://testserver/ is not trusted: "),
        ("other", True, "the certificate of wss://other/ is not trusted: Hostname mismatch"),
    ],
)
async def test_a_certificate_that_is_not_trusted_says_so_at_once(
    host: str, trusting: bool, why: str, tls: Tls, nursery: trio.Nursery
) -> None:
    stream, far = stream_pair()
    nursery.start_soon(_serve_tls, far, tls.server)
    context = tls.client if trusting else None

    with pytest.raises(HandshakeError, match=why) as caught:
        await open_and_close(f"wss://{host}/", stream=stream, ssl_context=context)
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)


async def test_an_ip_address_is_checked_against_the_certificate(
    tls: Tls, nursery: trio.Nursery
) -> None:
    stream, far = stream_pair()
    nursery.start_soon(_serve_tls, far, tls.server)

    async with connect("wss://[::1]/", stream=stream, ssl_context=tls.client) as connection:
        assert connection.closed is None


async def test_a_server_that_speaks_no_tls_says_so_at_once(tls: Tls) -> None:
    stream, far = stream_pair()
    await far.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(HandshakeError, match="TLS with wss://testserver/ failed: "):
        await open_and_close("wss://testserver/", stream=stream, ssl_context=tls.client)


async def test_a_server_that_ends_the_tls_handshake_says_so(tls: Tls) -> None:
    stream, far = stream_pair()
    await far.send_eof()

    with pytest.raises(HandshakeError, match="wss://testserver/"):
        await open_and_close("wss://testserver/", stream=stream, ssl_context=tls.client)


async def test_a_failed_attempt_closes_the_stream() -> None:
    stream, far = stream_pair()
    await far.send_all(b"nonsense")

    with pytest.raises(HandshakeError):
        await open_and_close(URL, stream=stream)
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"x")


async def test_a_cancelled_attempt_closes_the_stream(nursery: trio.Nursery) -> None:
    stream, far = stream_pair()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await open_and_close(URL, stream=stream)

    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"x")


@pytest.mark.parametrize("headers", [{}, [("X", "1"), ("X", "2")]])
async def test_headers_are_a_mapping_or_pairs(headers: HeadersLike) -> None:
    server, _ = await attempt(headers=headers)

    assert server.request.count(b"\r\nX: ") == len(list(headers))


async def open_client(
    server: PlayedServer,
    nursery: trio.Nursery,
    **options: Any,  # noqa: ANN401 - as above
) -> tuple[Connection, RawPeer]:
    """Connect to a played server for as long as the nursery lasts."""

    async def live(*, task_status: trio.TaskStatus[Connection]) -> None:
        async with connect(URL, stream=server.stream, **options) as connection:
            task_status.started(connection)
            await connection.wait_closed()

    nursery.start_soon(_answer_only, server)
    connection: Connection = await nursery.start(live)
    return connection, RawPeer(server.far, client=False)


async def _answer_only(server: PlayedServer) -> None:
    while not server.request.endswith(b"\r\n\r\n"):
        server.request += await server.far.receive_some(1)
    await server.far.send_all(switched(server.fields["sec-websocket-key"]))


async def test_limits_reach_the_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    _, peer = await open_client(PlayedServer(), nursery, limits=Limits(max_message=5))

    await peer.send_frame(1, b"too long")
    (close,) = await peer.read_all()

    assert isinstance(close, CloseConnection)
    assert close.code == 1009
    await peer.stream.aclose()


async def test_the_keepalive_reaches_the_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    keepalive = Keepalive(interval=7)
    _, peer = await open_client(PlayedServer(), nursery, keepalive=keepalive)

    (ping,) = await peer.read()

    assert isinstance(ping, Ping)
    assert trio.current_time() == 7
    await peer.stream.aclose()


async def test_an_error_of_the_block_leaves_it_as_it_is() -> None:
    error = ExceptionGroup("the caller's own", [ValueError()])
    server = PlayedServer()

    async def fail() -> None:
        async with connect(URL, stream=server.stream):
            raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        with pytest.raises(ExceptionGroup) as caught:
            await fail()
        await server.far.aclose()

    assert caught.value is error
