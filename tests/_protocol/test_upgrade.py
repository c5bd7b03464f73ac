"""The opening handshake, both sides."""

import os
from collections.abc import Sequence

import pytest

from trio_ws._protocol.http import RequestError, read_request
from trio_ws._protocol.upgrade import (
    RESERVED,
    Upgrade,
    UpgradeError,
    accept_head,
    accept_key,
    check_answer,
    check_subprotocols,
    make_key,
    read_upgrade,
    request_fields,
    tokens,
)
from trio_ws._types import Headers, Response

# RFC 6455 §1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
ANSWER = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def read(
    changes: dict[str, str | None] | None = None,
    *more: tuple[str, str],
    method: str = "GET",
    version: str = "1.1",
) -> Upgrade | None:
    """Read a handshake with some headers changed, left out (None) or added."""
    fields = {**HANDSHAKE, **(changes or {})}
    pairs = [(name, value) for name, value in fields.items() if value is not None]
    lines = [f"{name}: {value}" for name, value in (*pairs, *more)]
    head = "\r\n".join([f"{method} / HTTP/{version}", *lines, "", ""])
    return read_upgrade(read_request(head.encode(), max_headers=100))


def refusal(
    changes: dict[str, str | None], *more: tuple[str, str], method: str = "GET"
) -> Response:
    with pytest.raises(RequestError) as caught:
        read(changes, *more, method=method)
    return caught.value.response


def answer(changes: dict[str, str | None], *more: tuple[str, str]) -> Headers:
    fields = {**ANSWER, **changes}
    pairs = [(name, value) for name, value in fields.items() if value is not None]
    return Headers([*pairs, *more])


def test_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


def test_make_key_is_sixteen_bytes_of_the_operating_systems_entropy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"the sample nonce"[:size])

    assert make_key() == KEY


def test_make_key_makes_a_fresh_one_each_time() -> None:
    assert len({make_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["a"], ["a"]),
        ([" a ,\tb\t", "c"], ["a", "b", "c"]),
        ([",,a,, ,"], ["a"]),
    ],
)
def test_tokens_splits_lists_and_drops_empty_elements(
    values: list[str], expected: list[str]
) -> None:
    assert tokens(values) == expected


def test_handshake_is_read() -> None:
    assert read() == Upgrade(KEY, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, upgrade"},
        {"Connection": "UPGRADE"},
    ],
)
def test_handshake_is_read_without_regard_to_case_and_other_tokens(
    changes: dict[str, str | None],
) -> None:
    assert read(changes) == Upgrade(KEY, ())


def test_subprotocols_are_read_in_order_from_several_headers() -> None:
    upgrade = read({}, ("Sec-WebSocket-Protocol", "b, a"), ("sec-websocket-protocol", "c"))

    assert upgrade == Upgrade(KEY, ("b", "a", "c"))


@pytest.mark.parametrize("value", [None, "h2c", "websockets", ""])
def test_request_that_asks_for_no_websocket_is_an_ordinary_one(value: str | None) -> None:
    assert read({"Upgrade": value}) is None


def test_upgrade_in_http_1_0_is_ignored() -> None:
    assert read(version="1.0") is None


def test_handshake_by_another_method_is_answered_405() -> None:
    response = refusal({}, method="POST")

    assert (response.status, response.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("value", [None, "keep-alive", "upgraded"])
def test_handshake_whose_connection_header_says_no_upgrade_is_answered_400(
    value: str | None,
) -> None:
    assert refusal({"Connection": value}).status == 400


@pytest.mark.parametrize("value", [None, "8", "013", "13, 8", "14", ""])
def test_handshake_of_another_version_is_answered_426_with_ours(value: str | None) -> None:
    response = refusal({"Sec-WebSocket-Version": value})

    assert response.status == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"
    assert response.headers["Upgrade"] == "websocket"


def test_handshake_with_the_version_twice_is_answered_426() -> None:
    assert refusal({}, ("Sec-WebSocket-Version", "13")).status == 426


@pytest.mark.parametrize(
    "key", [None, "", "short", "dGhlIHNhbXBsZSBub25jZQ", KEY[:-2] + "A=", "*" + KEY[1:], KEY + KEY]
)
def test_handshake_with_a_bad_key_is_answered_400(key: str | None) -> None:
    assert refusal({"Sec-WebSocket-Key": key}).status == 400


def test_handshake_with_a_key_that_is_not_ascii_is_answered_400() -> None:
    assert refusal({"Sec-WebSocket-Key": "é" + KEY[1:]}).status == 400


def test_handshake_with_two_keys_is_answered_400() -> None:
    assert refusal({}, ("Sec-WebSocket-Key", KEY)).status == 400


@pytest.mark.parametrize("value", ["a b", "a, a", 'a"', "a;q=1", "é"])
def test_handshake_with_bad_subprotocols_is_answered_400(value: str) -> None:
    assert refusal({"Sec-WebSocket-Protocol": value}).status == 400


def test_handshake_with_a_subprotocol_twice_in_two_headers_is_answered_400() -> None:
    twice = [("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b, a")]

    assert refusal({}, *twice).status == 400


def test_accept_head_switches_protocols() -> None:
    head = accept_head(Upgrade(KEY, ("chat",)), subprotocol=None, headers=Headers())

    assert head.decode().split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "",
        "",
    ]


def test_accept_head_names_the_subprotocol_and_further_headers() -> None:
    upgrade = Upgrade(KEY, ("chat", "echo"))

    head = accept_head(upgrade, subprotocol="echo", headers=Headers({"X": "é"}))

    assert head.endswith(b"\r\nSec-WebSocket-Protocol: echo\r\nX: \xe9\r\n\r\n")


@pytest.mark.parametrize("subprotocol", ["echo", "", "chat\r\nX: y"])
def test_accept_head_refuses_a_subprotocol_that_is_not_offered(subprotocol: str) -> None:
    with pytest.raises(ValueError, match="does not offer the subprotocol"):
        accept_head(Upgrade(KEY, ("chat",)), subprotocol=subprotocol, headers=Headers())


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("chat", TypeError),
        (["a b"], ValueError),
        ([""], ValueError),
        (["a", "a"], ValueError),
    ],
)
def test_malformed_subprotocols_are_refused(names: Sequence[str], error: type[Exception]) -> None:
    with pytest.raises(error, match="subprotocol"):
        check_subprotocols(names)


def test_sound_subprotocols_are_kept_in_order() -> None:
    assert check_subprotocols(["b", "a"]) == ("b", "a")


def test_request_fields_ask_for_a_websocket() -> None:
    expected = [(name, value) for name, value in HANDSHAKE.items() if name != "Host"]

    assert request_fields(KEY, ()) == expected


def test_request_fields_offer_subprotocols_in_order() -> None:
    fields = request_fields(KEY, ("b", "a"))

    assert fields[-1] == ("Sec-WebSocket-Protocol", "b, a")


@pytest.mark.parametrize("subprotocols", [["a", "a"], ["a b"], [""], ["a\r\nX: y"], ["a,b"]])
def test_request_fields_refuses_bad_subprotocols(subprotocols: list[str]) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        request_fields(KEY, subprotocols)


def test_server_reads_the_request_fields_of_a_client() -> None:
    fields = dict(request_fields(KEY, ("b", "a")))

    assert read({**HANDSHAKE, **fields}) == Upgrade(KEY, ("b", "a"))


def test_handshake_headers_are_reserved() -> None:
    names = [*HANDSHAKE, *ANSWER, "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]

    assert {name.lower() for name in names} - {"host"} == RESERVED


def test_answer_without_a_subprotocol_is_accepted() -> None:
    assert check_answer(answer({}), KEY, ()) is None


def test_answer_is_accepted_without_regard_to_case() -> None:
    headers = answer({"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"})

    assert check_answer(headers, KEY, ()) is None


def test_answer_with_an_offered_subprotocol_is_accepted() -> None:
    headers = answer({"Sec-WebSocket-Protocol": "a"})

    assert check_answer(headers, KEY, ("b", "a")) == "a"


@pytest.mark.parametrize("value", [None, "h2c", "websocket, h2c", ""])
def test_answer_that_upgrades_to_something_else_is_refused(value: str | None) -> None:
    with pytest.raises(UpgradeError, match="does not upgrade to WebSocket"):
        check_answer(answer({"Upgrade": value}), KEY, ())


@pytest.mark.parametrize("value", [None, "close"])
def test_answer_whose_connection_header_says_no_upgrade_is_refused(value: str | None) -> None:
    with pytest.raises(UpgradeError, match="Connection header"):
        check_answer(answer({"Connection": value}), KEY, ())


@pytest.mark.parametrize("value", [None, "", ACCEPT.lower(), ACCEPT[:-1], KEY])
def test_answer_with_a_wrong_accept_key_is_refused(value: str | None) -> None:
    with pytest.raises(UpgradeError, match="does not fit the key"):
        check_answer(answer({"Sec-WebSocket-Accept": value}), KEY, ())


def test_answer_with_the_accept_key_twice_is_refused() -> None:
    with pytest.raises(UpgradeError, match="does not fit the key"):
        check_answer(answer({}, ("Sec-WebSocket-Accept", ACCEPT)), KEY, ())


@pytest.mark.parametrize("value", ["b", "A", "a, b", ""])
def test_answer_with_a_subprotocol_that_was_not_offered_is_refused(value: str) -> None:
    with pytest.raises(UpgradeError, match=r"subprotocol .* which was not offered"):
        check_answer(answer({"Sec-WebSocket-Protocol": value}), KEY, ("a",))


def test_answer_with_two_subprotocols_is_refused() -> None:
    headers = answer({"Sec-WebSocket-Protocol": "a"}, ("Sec-WebSocket-Protocol", "b"))

    with pytest.raises(UpgradeError, match="was not offered"):
        check_answer(headers, KEY, ("a", "b"))
