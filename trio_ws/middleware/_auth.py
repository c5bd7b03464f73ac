"""`basic_auth` and `bearer_auth`: who a client is, before a handler is asked.

What a client sends is compared by the digests of both, in a time that tells nothing of either.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from trio_ws._transport.handshake import Handler, Request
from trio_ws._types import Response

BasicCheck: TypeAlias = Mapping[str, str] | Callable[[str, str], Awaitable[bool]]
"""Passwords by user, or an async function that tells whether a password is that user's."""

BearerCheck: TypeAlias = Mapping[str, str] | Callable[[str], Awaitable[str | None]]
"""Users by token, or an async function that returns the user of a token, None for none."""

# RFC 6750 §2.1.
_TOKEN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=")


def basic_auth(handler: Handler, check: BasicCheck, *, realm: str = "trio_ws") -> Handler:
    """Ask for a user name and a password (RFC 7617); without good ones the answer is 401.

    The handler finds the name in `Request.user`. Use it over TLS only: the password is sent as it
    is. A browser asks its user when a page is loaded, and sends the same for a WebSocket to the
    same origin; `trio_ws.connect` takes both from the URL.

    Example::

        app = basic_auth(chat, {"ana": os.environ["ANA_PASSWORD"]})

    Args:
        handler: The handler.
        check: Passwords by user, compared in constant time. Or an async function of user and
            password, which has to see to that itself; slow hashes belong into a thread.
        realm: What the password is for, which a browser shows.

    Returns:
        A handler that passes requests with good credentials on to the other.

    Raises:
        ValueError: The realm cannot stand in a header, or a user name holds a colon.
    """
    challenge = f'Basic realm="{_checked_realm(realm)}", charset="UTF-8"'
    verify = check if callable(check) else _password_check(check)

    async def authenticated(request: Request) -> Response | None:
        credentials = _basic_credentials(_authorization(request, "basic"))
        if credentials is None:
            return _refusal(challenge, "a user name and a password are needed here")
        if not await verify(*credentials):
            return _refusal(challenge, "the user name or the password is wrong")
        request.user = credentials[0]
        return await handler(request)

    return authenticated


def bearer_auth(handler: Handler, check: BearerCheck, *, realm: str = "trio_ws") -> Handler:
    """Ask for a bearer token (RFC 6750); without a good one the answer is 401.

    The handler finds the user in `Request.user`. A page cannot set the header of a WebSocket: for
    browsers use a cookie, or a first message, instead.

    Example::

        app = bearer_auth(feed, {os.environ["FEED_TOKEN"]: "feeder"})

    Args:
        handler: The handler.
        check: Users by token, compared in constant time. Or an async function from a token to a
            user, or None.
        realm: What the token is for.

    Returns:
        A handler that passes requests with a good token on to the other.

    Raises:
        ValueError: The realm cannot stand in a header, or a token is none.
    """
    challenge = f'Bearer realm="{_checked_realm(realm)}"'
    verify = check if callable(check) else _token_check(check)

    async def authenticated(request: Request) -> Response | None:
        token = _authorization(request, "bearer")
        if token is None:
            # RFC 6750 §3.1: no error code for a request that does not even try.
            return _refusal(challenge, "a bearer token is needed here")
        user = await verify(token) if _is_bearer_token(token) else None
        if user is None:
            return _refusal(f'{challenge}, error="invalid_token"', "the token is not a good one")
        request.user = user
        return await handler(request)

    return authenticated


def _checked_realm(realm: str) -> str:
    if not realm.isascii() or not realm.isprintable() or '"' in realm or "\\" in realm:
        raise ValueError(
            f"a realm is printable ASCII without quotes and backslashes, not {realm!r}"
        )
    return realm


def _refusal(challenge: str, why: str) -> Response:
    return Response(401, f"{why}\n", headers={"WWW-Authenticate": challenge})


def _authorization(request: Request, scheme: str) -> str | None:
    """Return what a request says under a scheme; None if nothing, or two things."""
    fields = request.headers.get_all("Authorization")
    if len(fields) != 1:
        return None
    name, _, credentials = fields[0].partition(" ")
    return credentials.strip(" ") if name.lower() == scheme else None


def _basic_credentials(encoded: str | None) -> tuple[str, str] | None:
    """Decode user and password (RFC 7617 §2); None for what is malformed."""
    try:
        text = base64.b64decode(encoded or "", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    controls = any(each < " " or each == "\x7f" for each in text)
    return (user, password) if colon and not controls else None


def _is_bearer_token(token: str) -> bool:
    return bool(token.rstrip("=")) and _TOKEN.issuperset(token)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _password_check(passwords: Mapping[str, str]) -> Callable[[str, str], Awaitable[bool]]:
    for user in passwords:
        if ":" in user:
            raise ValueError(f"the user name {user!r} holds a colon, which Basic auth cannot carry")
    digests = {user: _digest(password) for user, password in passwords.items()}
    # Somebody unknown is compared, too, so that time does not tell who is known.
    nobody = os.urandom(32)

    async def verify(user: str, password: str) -> bool:
        return hmac.compare_digest(digests.get(user, nobody), _digest(password))

    return verify


def _token_check(users: Mapping[str, str]) -> Callable[[str], Awaitable[str | None]]:
    for token in users:
        if not _is_bearer_token(token):
            raise ValueError(
                "a token is letters, digits and -._~+/ (RFC 6750 §2.1), unlike one here"
            )
    digests = [(_digest(token), user) for token, user in users.items()]

    async def verify(token: str) -> str | None:
        given = _digest(token)
        found = [user for digest, user in digests if hmac.compare_digest(digest, given)]
        return found[0] if found else None

    return verify
