"""`Request` tells what was asked for, and `accept` makes a connection of an opening handshake."""

from collections.abc import Sequence

import pytest
import trio
import trio_websocket
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import TextMessage

import trio_ws.testing
from tests._transport.fakes import handshake, open_service
from tests.fakes import raw_frame
from trio_ws._errors import HandshakeError, HandshakeRejected
from trio_ws._transport.handshake import Request, not_found
from trio_ws._types import HeadersLike, Response


class Recorder:
    """A handler that keeps its requests, and accepts those that can be."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response | None:
        self.requests.append(request)
        if not request.upgrade:
            return Response(204)
        async with request.accept() as connection:
            await connection.wait_closed()
        return None


async def accept(request: Request) -> None:
    async with request.accept() as connection:
        await connection.wait_closed()


async def test_a_request_tells_what_was_asked_for() -> None:
    recorder = Recorder()

    target = "/ol%C3%A1/a%252Fb?room=1"
    await trio_ws.testing.request(recorder, "POST", target, headers={"X-Thing": "1"})

    (request,) = recorder.requests
    assert (request.method, request.target) == ("POST", target)
    assert request.path == "/olá/a%2Fb"
    assert (request.host, request.headers["x-thing"]) == ("testserver", "1")
    assert (request.upgrade, request.subprotocols, request.params) == (False, (), {})
    assert (request.remote, request.local) == ("<MemoryStream>", "<MemoryStream>")
    assert request.secure is False


async def test_an_opening_handshake_tells_what_is_offered() -> None:
    recorder = Recorder()

    async with trio_ws.testing.connect(recorder, subprotocols=["b", "a"]):
        (request,) = recorder.requests

    assert request.upgrade
    assert request.subprotocols == ("b", "a")


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("?", {}),
        ("?a=1&b=2", {"a": "1", "b": "2"}),
        ("?a=1&a=2", {"a": "2"}),
        ("?a=&b", {"a": "", "b": ""}),
        ("?n%C3%A3o=a%20b+c%2B", {"não": "a b c+"}),
    ],
)
async def test_the_query_is_decoded(query: str, fields: dict[str, str]) -> None:
    recorder = Recorder()

    await trio_ws.testing.request(recorder, target="/" + query)

    assert recorder.requests[0].query == fields


@pytest.mark.parametrize(("count", "status"), [(100, 204), (101, 400)])
async def test_a_query_has_at_most_100_fields(count: int, status: int) -> None:
    query = "&".join(f"f{number}=x" for number in range(count))

    response = await trio_ws.testing.request(Recorder(), target="/?" + query)

    assert response.status == status


async def test_repr_tells_what_a_request_is() -> None:
    recorder = Recorder()

    await trio_ws.testing.request(recorder, "DELETE", "/a?b=c")
    async with trio_ws.testing.connect(recorder, "ws://testserver/chat"):
        pass

    assert list(map(repr, recorder.requests)) == [
        "<Request DELETE /a?b=c from <MemoryStream>>",
        "<Request GET /chat from <MemoryStream> upgrade>",
    ]


async def test_an_accepted_connection_knows_its_request() -> None:
    async def handler(request: Request) -> None:
        async with request.accept() as connection:
            assert connection.is_server
            assert connection.path == "/chat?room=1"
            assert (b"x-thing", b"1") in connection.handshake_headers
            await connection.send("checked")

    headers = {"X-Thing": "1"}
    async with trio_ws.testing.connect(
        handler, "ws://testserver/chat?room=1", headers=headers
    ) as client:
        assert await client.receive() == "checked"


async def test_further_headers_are_part_of_the_answer() -> None:
    async def handler(request: Request) -> None:
        async with request.accept(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]):
            pass

    async with trio_ws.testing.connect(handler) as client:
        cookies = [value for name, value in client.handshake_headers if name == b"set-cookie"]

    assert cookies == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        (["a", "b"], ["b", "a"], "a"),
        (["x", "b"], ["a", "b"], "b"),
        (["x"], ["a"], None),
        ([], ["a"], None),
        (["a"], [], None),
    ],
)
async def test_the_first_subprotocol_of_the_server_that_is_offered_is_chosen(
    spoken: Sequence[str], offered: Sequence[str], chosen: str | None
) -> None:
    async with trio_ws.testing.connect(
        accept, subprotocols=offered, server_subprotocols=spoken
    ) as client:
        assert client.subprotocol == chosen


async def test_a_handler_chooses_the_subprotocol_itself() -> None:
    async def handler(request: Request) -> None:
        async with request.accept(subprotocol="b") as connection:
            assert connection.subprotocol == "b"

    async with trio_ws.testing.connect(
        handler, subprotocols=["a", "b"], server_subprotocols=["a"]
    ) as client:
        assert client.subprotocol == "b"


async def rejected(handler: trio_ws.Handler) -> None:
    """Open a WebSocket that is expected to fail."""
    async with trio_ws.testing.connect(handler, subprotocols=["a"]):
        pass


async def test_a_subprotocol_that_is_not_offered_is_refused() -> None:
    async def handler(request: Request) -> None:
        async with request.accept(subprotocol="b"):
            pass

    with pytest.raises(ValueError, match="does not offer the subprotocol 'b'"):
        await rejected(handler)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Sec-WebSocket-Accept": "x"}, "Sec-WebSocket-Accept belongs to the handshake"),
        ({"upgrade": "x"}, "upgrade belongs to the handshake"),
        ({"X-Evil": "a\r\nb"}, "control character"),
        ({"X Y": "a"}, "is no token"),
    ],
)
async def test_headers_that_are_not_for_a_handler_to_set_are_refused(
    headers: HeadersLike, why: str
) -> None:
    async def handler(request: Request) -> None:
        async with request.accept(headers=headers):
            pass

    with pytest.raises(ValueError, match=why):
        await rejected(handler)


async def test_a_request_that_is_accepted_without_a_block_says_so() -> None:
    async def handler(request: Request) -> None:
        opened: object = request.accept()
        await opened  # type: ignore[misc]

    with pytest.raises(TypeError, match="write `async with`, not `await`"):
        await rejected(handler)


async def test_a_request_is_accepted_once() -> None:
    async def handler(request: Request) -> None:
        async with request.accept(), request.accept():
            pass

    with pytest.raises(RuntimeError, match="accepted already"):
        await rejected(handler)


async def test_accepting_what_is_no_handshake_answers_426() -> None:
    response = await trio_ws.testing.request(accept, "GET", "/")

    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["Sec-WebSocket-Version"] == "13"


async def test_a_handler_may_answer_otherwise_what_it_could_not_accept() -> None:
    async def handler(request: Request) -> Response | None:
        try:
            await accept(request)
        except HandshakeError:
            return Response(200, "a page instead")
        return None

    response = await trio_ws.testing.request(handler)

    assert (response.status, response.text) == (200, "a page instead")


async def test_accepting_while_the_server_drains_answers_503() -> None:
    drained = trio.Event()

    async def handler(request: Request) -> None:
        await drained.wait()
        await accept(request)

    async with open_service(handler) as clients, clients.dial() as stream:
        await stream.send_all(handshake())
        await wait_all_tasks_blocked()
        clients.service.drain()
        drained.set()

        assert (await stream.receive_some()).startswith(b"HTTP/1.1 503 ")


async def test_an_accept_that_is_not_entered_is_none() -> None:
    async def handler(request: Request) -> None:
        request.accept()

    with pytest.raises(HandshakeRejected) as caught:
        await rejected(handler)
    assert caught.value.response.status == 404


async def test_a_response_instead_of_a_connection_refuses_the_handshake() -> None:
    async def handler(request: Request) -> Response:
        return Response(401, "who are you?", headers={"WWW-Authenticate": "Basic"})

    with pytest.raises(trio_websocket.ConnectionRejected) as caught:
        await rejected(handler)
    assert caught.value.status_code == 401
    assert caught.value.body == b"who are you?"


async def test_messages_behind_the_head_of_a_request_are_received(
    autojump_clock: MockClock,
) -> None:
    async def handler(request: Request) -> None:
        async with request.accept() as connection:
            await connection.send(await connection.receive())

    async with open_service(handler) as clients:
        peer = await clients.open(rest=raw_frame(1, b"early", masked=True))

        assert TextMessage("early") in await peer.read()


def test_not_found_names_the_target_cut_short() -> None:
    response = not_found("/" + "x" * 1000)

    assert response.status == 404
    assert response.text == "there is nothing at /" + "x" * 199 + "\n"
