"""Basic and bearer authentication, through the test kit and a real client."""

import base64
import hmac
from typing import Any

import pytest
import trio

import trio_ws
import trio_ws.testing
from trio_ws import HandshakeRejected, Request, Response
from trio_ws.middleware import basic_auth, bearer_auth


async def who(request: Request) -> Response | None:
    """Tell the client who it is."""
    if not request.upgrade:
        return Response(200, f"{request.user}")
    async with request.accept() as connection:
        await connection.send(f"{request.user}")
    return None


def basic(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(data).decode()


USERS = {"ana": "s3cret", "joão": "é:x", "nobody": ""}
BASIC = basic_auth(who, USERS, realm="the chat")
CHALLENGE = 'Basic realm="the chat", charset="UTF-8"'


async def ask(handler: trio_ws.Handler, *authorizations: str) -> Response:
    fields = [("Authorization", each) for each in authorizations]
    return await trio_ws.testing.request(handler, headers=fields)


async def test_handler_knows_of_no_user_when_nobody_asked() -> None:
    assert (await ask(who, basic("ana:s3cret"))).text == "None"


@pytest.mark.parametrize(
    ("credentials", "user"),
    [("ana:s3cret", "ana"), ("joão:é:x", "joão"), ("nobody:", "nobody")],
)
async def test_good_password_tells_the_handler_the_user(credentials: str, user: str) -> None:
    response = await ask(BASIC, basic(credentials))

    assert (response.status, response.text) == (200, user)


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Basic  "])
async def test_scheme_is_matched_without_regard_to_case_and_spaces(scheme: str) -> None:
    response = await ask(BASIC, basic("ana:s3cret").replace("Basic", scheme))

    assert response.text == "ana"


@pytest.mark.parametrize(
    "credentials", ["ana:wrong", "ana:", "ana:s3cret ", "eva:s3cret", ":s3cret", "ana:S3CRET", ":"]
)
async def test_wrong_password_is_answered_401(credentials: str) -> None:
    response = await ask(BASIC, basic(credentials))

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == CHALLENGE
    assert response.text == "the user name or the password is wrong\n"


MALFORMED = [
    "",
    "Basic",
    "Basic !!!!",
    "Basic YW5h",
    "Basic YW5hOnMzY3JldA",
    "Basic YW5h OnMzY3JldA==",
    "Basicx YW5hOnMzY3JldA==",
    "Bearer YW5hOnMzY3JldA==",
    basic(b"ana:\xff"),
    basic("ana:s3cret\n"),
    basic("ana\0:s3cret"),
    basic("ana:s3cret\x7f"),
]


@pytest.mark.parametrize("authorization", MALFORMED)
async def test_malformed_credentials_are_answered_401(authorization: str) -> None:
    response = await ask(BASIC, authorization)

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == CHALLENGE
    assert response.text == "a user name and a password are needed here\n"


async def test_no_credentials_and_two_are_answered_401() -> None:
    good = basic("ana:s3cret")

    assert [(await ask(BASIC, *each)).status for each in ((), (good, good))] == [401, 401]


async def test_handler_is_not_asked_without_good_credentials() -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError

    assert (await ask(basic_auth(handler, USERS), basic("ana:x"))).status == 401
    assert (await ask(bearer_auth(handler, {"abc": "ana"}), "Bearer x")).status == 401


async def test_client_takes_the_credentials_from_its_url() -> None:
    async with trio_ws.testing.connect(BASIC, "ws://ana:s3cret@testserver/") as connection:
        assert await connection.receive() == "ana"


async def test_handshake_without_good_credentials_is_rejected_with_401() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        async with trio_ws.testing.connect(BASIC, "ws://ana:wrong@testserver/"):
            pass

    assert caught.value.response.status == 401
    assert caught.value.response.headers["WWW-Authenticate"] == CHALLENGE


async def test_password_may_be_checked_by_an_async_function() -> None:
    asked: list[tuple[str, str]] = []

    async def check(user: str, password: str) -> bool:
        asked.append((user, password))
        await trio.lowlevel.checkpoint()
        return password == "good"

    handler = basic_auth(who, check)

    assert (await ask(handler, basic("eva:good"))).text == "eva"
    assert (await ask(handler, basic("eva:bad"))).status == 401
    assert asked == [("eva", "good"), ("eva", "bad")]


async def test_check_that_fails_is_a_failure_of_the_handler() -> None:
    async def check(user: str, password: str) -> bool:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        await ask(basic_auth(who, check), basic("eva:good"))


async def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def noting(one: Any, other: Any) -> bool:  # noqa: ANN401 - as the original
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    for credentials in ("ana:s3cret", "ana:" + "x" * 1000, "unknown:x"):
        await ask(BASIC, basic(credentials))
    for token in ("abc", "x" * 1000):
        await ask(BEARER, f"Bearer {token}")

    # Digests, whatever the length of what was sent, and for somebody unknown as well.
    assert compared == [(32, 32)] * 7


BEARER = bearer_auth(who, {"abc": "ana", "d-._~+/==": "eva"}, realm="api")


@pytest.mark.parametrize(("token", "user"), [("abc", "ana"), ("d-._~+/==", "eva")])
async def test_good_token_tells_the_handler_the_user(token: str, user: str) -> None:
    response = await ask(BEARER, f"bearer {token}")

    assert (response.status, response.text) == (200, user)


@pytest.mark.parametrize("token", ["x", "ABC", "abcd", "ab", "a b", "é", "===", "abc,abc"])
async def test_wrong_token_is_answered_401_and_called_invalid(token: str) -> None:
    response = await ask(BEARER, f"Bearer {token}")

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.parametrize("authorizations", [(), ("Bearer abc", "Bearer abc"), (basic("abc:"),)])
async def test_no_token_is_answered_401_without_an_error(authorizations: tuple[str, ...]) -> None:
    response = await ask(BEARER, *authorizations)

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="api"'


async def test_token_may_be_checked_by_an_async_function() -> None:
    async def check(token: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return token.upper() if token.startswith("a") else None

    handler = bearer_auth(who, check)

    assert (await ask(handler, "Bearer abc")).text == "ABC"
    assert (await ask(handler, "Bearer xyz")).status == 401


@pytest.mark.parametrize("realm", ['a"b', "a\\b", "a\r\nX: y", "é", "\x7f"])
def test_realm_that_cannot_stand_in_a_header_is_refused(realm: str) -> None:
    with pytest.raises(ValueError, match="a realm is printable ASCII"):
        basic_auth(who, {}, realm=realm)
    with pytest.raises(ValueError, match="a realm is printable ASCII"):
        bearer_auth(who, {}, realm=realm)


def test_user_that_basic_auth_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="'a:b' holds a colon"):
        basic_auth(who, {"a:b": "x"})


@pytest.mark.parametrize("token", ["", "a b", "é", "=", "a\n"])
def test_token_that_is_none_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="a token is letters, digits"):
        bearer_auth(who, {token: "ana"})
