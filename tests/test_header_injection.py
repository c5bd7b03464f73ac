"""No value that would end a header line gets into a head, on either side."""

from collections.abc import Callable

import pytest

import trio_ws
from trio_ws.testing import connect, stream_pair

BREAKS = ["\r\nX-Evil: 1", "\nX-Evil: 1", "\r", "\0"]
TELLING = r"^[^\x00-\x1f\x7f]{10,300}\Z"
"""What the error says: one line, without what would end it."""

URL = "ws://example.com/"

CLIENTS: dict[str, Callable[[str], object]] = {
    "a header": lambda bad: {"headers": {"X-Good": f"a{bad}"}},
    "a name": lambda bad: {"headers": {f"X-Good{bad}": "a"}},
    "a subprotocol": lambda bad: {"subprotocols": [f"chat{bad}"]},
    "the origin": lambda bad: {"origin": f"https://example.com{bad}"},
}

RESPONSES: dict[str, Callable[[str], object]] = {
    "a header": lambda bad: trio_ws.Response(200, headers={"X-Good": f"a{bad}"}),
    "a name": lambda bad: trio_ws.Response(200, headers={f"X-Good{bad}": "a"}),
    "pairs": lambda bad: trio_ws.Response(200, headers=[("X-Good", "a"), ("X-Good", f"a{bad}")]),
}


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize("where", CLIENTS)
async def test_a_client_refuses_to_send_it_in(where: str, bad: str) -> None:
    stream, peer = stream_pair()
    options = CLIENTS[where](bad)
    assert isinstance(options, dict)

    with pytest.raises(ValueError, match=TELLING):
        async with trio_ws.connect(URL, stream=stream, **options):
            pytest.fail("it was sent")

    await stream.aclose()
    assert await peer.receive_some() == b""


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize("url", ["ws://example.com/{}", "ws://example.com{}/", "ws://a{}@b/"])
async def test_a_client_sends_no_address_with_it(url: str, bad: str) -> None:
    stream, peer = stream_pair()

    with pytest.raises(ValueError, match=TELLING):
        async with trio_ws.connect(url.format(bad), stream=stream):
            pytest.fail("it was sent")

    await stream.aclose()
    assert await peer.receive_some() == b""


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize("where", RESPONSES)
def test_a_response_cannot_be_made_with_it_in(where: str, bad: str) -> None:
    with pytest.raises(ValueError, match=TELLING):
        RESPONSES[where](bad)


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize("where", ["header", "name", "subprotocol"])
async def test_accept_refuses_it_in(where: str, bad: str) -> None:
    refused: list[str] = []

    async def handler(request: trio_ws.Request) -> trio_ws.Response:
        subprotocol = f"chat{bad}" if where == "subprotocol" else None
        headers = {"header": {"X-Good": f"a{bad}"}, "name": {f"X-Good{bad}": "a"}}.get(where, {})
        with pytest.raises(ValueError, match=TELLING) as caught:
            async with request.accept(subprotocol=subprotocol, headers=headers):
                pytest.fail("it was accepted")
        refused.append(str(caught.value))
        return trio_ws.Response(403)

    with pytest.raises(trio_ws.HandshakeRejected) as rejected:
        async with connect(handler, subprotocols=["chat"]):
            pytest.fail("it was accepted")

    assert rejected.value.response.status == 403
    assert len(refused) == 1
