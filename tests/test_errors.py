"""The exception tree."""

import copy
import pickle

import pytest
import trio
import trio_websocket

from trio_ws._errors import (
    CloseReason,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedHere,
    ConnectionClosedOK,
    HandshakeError,
    HandshakeRejected,
    WebSocketError,
    close_error,
    describe_close,
)
from trio_ws._types import Response


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (HandshakeError, (WebSocketError, trio_websocket.HandshakeError)),
        (HandshakeRejected, (HandshakeError, trio_websocket.ConnectionRejected)),
        (ConnectionClosed, (WebSocketError, trio_websocket.ConnectionClosed)),
        (ConnectionClosedOK, (ConnectionClosed, trio.EndOfChannel)),
        (ConnectionClosedError, (ConnectionClosed, trio.BrokenResourceError)),
    ],
)
def test_error_is_what_users_of_each_library_expect(
    error: type[Exception], bases: tuple[type[Exception], ...]
) -> None:
    assert all(issubclass(error, base) for base in bases)


def test_close_reason_is_its_text() -> None:
    reason = CloseReason(1001, "até logo")

    assert reason == "até logo"
    assert isinstance(reason, str)


def test_close_reason_is_that_of_trio_websocket() -> None:
    reason: trio_websocket.CloseReason = CloseReason(1001, "bye")

    assert (reason.code, reason.name, reason.reason) == (1001, "GOING_AWAY", "bye")


def test_close_reason_without_a_text_is_empty() -> None:
    reason = CloseReason(1006, None)

    assert reason == ""
    assert reason.reason is None


def test_close_reason_shows_its_code_and_its_text() -> None:
    assert repr(CloseReason(4000, "x")) == "CloseReason(4000, 'x')"


@pytest.mark.parametrize("text", ["bye", "", None])
def test_close_reason_survives_pickling_and_copying(text: str | None) -> None:
    reason = CloseReason(1001, text)

    copies = [pickle.loads(pickle.dumps(reason)), copy.deepcopy(reason)]  # noqa: S301 - pickled here

    assert [(each.code, each.reason) for each in copies] == [(1001, text)] * 2


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_normal_close_is_the_end_of_a_channel(code: int) -> None:
    error = close_error(CloseReason(code, None), "it ended")

    assert type(error) is ConnectionClosedOK


@pytest.mark.parametrize("code", [1002, 1006, 1009, 1011, 1012, 3000, 4000])
def test_other_close_is_a_broken_resource(code: int) -> None:
    error = close_error(CloseReason(code, None), "it broke")

    assert type(error) is ConnectionClosedError


def test_closed_connection_says_what_happened() -> None:
    error = close_error(CloseReason(1001, "bye"), "the peer left")

    assert (error.code, error.reason, error.detail) == (1001, "bye", "the peer left")
    assert str(error) == "the peer left (code 1001 GOING_AWAY, reason 'bye')"
    assert repr(error) == "ConnectionClosedOK(CloseReason(1001, 'bye'), 'the peer left')"


def test_closed_connection_has_no_source_unless_it_is_told() -> None:
    assert close_error(CloseReason(1000, None), "").source is None


def test_closing_it_oneself_is_both_a_closed_connection_and_a_closed_resource() -> None:
    error = ConnectionClosedHere(CloseReason(1000, None), "this side closed")

    assert isinstance(error, trio_websocket.ConnectionClosed)
    assert isinstance(error, trio.ClosedResourceError)
    assert str(error) == "this side closed (code 1000 NORMAL_CLOSURE)"


def test_closed_connection_survives_pickling() -> None:
    error = close_error(CloseReason(1011, "oops"), "it broke")

    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here

    assert repr(again) == repr(error)
    assert again.code == 1011


@pytest.mark.parametrize(
    ("code", "text", "described"),
    [
        (1000, None, "code 1000 NORMAL_CLOSURE"),
        (1006, "", "code 1006 ABNORMAL_CLOSURE"),
        (4000, None, "code 4000"),
        (4000, "x", "code 4000, reason 'x'"),
        (1000, "\x1b[2J\n", "code 1000 NORMAL_CLOSURE, reason '\\x1b[2J\\n'"),
    ],
)
def test_describe_close_is_one_line_with_the_text_escaped(
    code: int, text: str | None, described: str
) -> None:
    assert describe_close(CloseReason(code, text)) == described


def rejected(status: int, body: str = "", **headers: str) -> HandshakeRejected:
    return HandshakeRejected("ws://x/", Response(status, body.encode(), headers=headers))


def test_rejected_handshake_has_the_response() -> None:
    response = Response(403, b"no", headers={"X-Why": "caf\xe9"})

    error = HandshakeRejected("ws://x/", response)

    assert (error.url, error.response) == ("ws://x/", response)


def test_rejected_handshake_is_that_of_trio_websocket() -> None:
    error = HandshakeRejected("ws://x/", Response(403, b"no", headers={"X-Why": "caf\xe9"}))

    assert (error.status_code, error.body) == (403, b"no")
    assert error.headers == ((b"x-why", b"caf\xe9"),)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (rejected(403), "ws://x/ answered 403 Forbidden instead of opening a WebSocket"),
        (rejected(299), "ws://x/ answered 299 instead of opening a WebSocket"),
        (
            rejected(404, "\nnot\x1b here\nmore"),
            "ws://x/ answered 404 Not Found instead of opening a WebSocket: 'not\\x1b here'",
        ),
        (
            rejected(302, Location="ws://y/"),
            "ws://x/ answered 302 Found instead of opening a WebSocket; it points to 'ws://y/', "
            "and redirects are not followed",
        ),
        (
            rejected(200, Location="ws://y/"),
            "ws://x/ answered 200 OK instead of opening a WebSocket",
        ),
    ],
)
def test_rejected_handshake_says_what_the_server_answered(
    error: HandshakeRejected, text: str
) -> None:
    assert str(error) == text


def test_rejected_handshake_shows_little_of_a_long_body() -> None:
    assert len(str(rejected(500, "x" * 10_000))) < 300


def test_rejected_handshake_survives_pickling() -> None:
    error = rejected(403, "no")

    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here

    assert (again.url, again.response, str(again)) == (error.url, error.response, str(error))


def test_close_reason_is_true_without_a_text_too() -> None:
    assert CloseReason(1000, None)
