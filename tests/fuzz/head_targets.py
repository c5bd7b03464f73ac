"""Fuzz targets: what comes before the frames, that is HTTP, its headers, and the PROXY header."""

from collections.abc import Collection
from ipaddress import ip_address

from tests.fuzz.bounds import counted, held
from tests.fuzz.haste import sample
from tests.fuzz.splits import splits
from trio_ws._config import Deflate, TrustedProxies
from trio_ws._protocol.exchange import Exchange
from trio_ws._protocol.extensions import Agreement, answer_offers, read_answer
from trio_ws._protocol.forwarded import Address, ProxyPolicy, plain_address, said_secure
from trio_ws._protocol.http import (
    HeadBuffer,
    RequestError,
    RequestHead,
    parse_any,
    parse_plain,
    read_request,
    write_response,
)
from trio_ws._protocol.proxy_header import (
    PREFIX_SIZE,
    ProxyHeaderError,
    read_length,
    read_source,
)
from trio_ws._protocol.upgrade import (
    UpgradeError,
    accept_head,
    accept_key,
    check_answer,
    read_upgrade,
    request_fields,
)
from trio_ws._types import Headers, is_token

MAX_HEAD, MAX_HEADERS, MAX_BODY = 1500, 12, 400

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455 §1.3, to which the answer is known."""

OFFERED = ("chat.v2", "chat.v1")
"""The subprotocols that the client of the target `answer` offers."""

_HEAD_FAULTS = {400, 413, 414, 431, 501, 505}
_UPGRADE_FAULTS = {400, 405, 426}


def request_head(data: bytes) -> None:
    """A request: read the same in whatever pieces, refused with a status that is documented."""
    outcomes = [_read_head(pieces) for pieces in sample(data, splits(data))]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    if not isinstance(outcomes[0], tuple):
        return
    head, rest = outcomes[0]
    assert data.endswith(head + rest)
    assert len(head) <= MAX_HEAD
    try:
        with counted(limit=2000 + 30 * len(head)):
            request = read_request(head, max_headers=MAX_HEADERS)
    except RequestError as error:
        _check_refusal(error, _HEAD_FAULTS)
        return
    _check_request(request)
    # What does not go through h11 is read as h11 would.
    plain = parse_plain(head)
    assert plain is None or (*plain[:3], plain[3].fields) == _by_h11(head)
    try:
        with counted(limit=500 + 30 * len(head)):
            upgrade = read_upgrade(request)
    except RequestError as error:
        _check_refusal(error, _UPGRADE_FAULTS)
        return
    if upgrade is not None:
        assert request.method == "GET"
        assert all(map(is_token, upgrade.subprotocols))


def _by_h11(head: bytes) -> tuple[object, ...]:
    method, target, version, headers = parse_any(head)
    return method, target, version, headers.fields


def _read_head(pieces: list[bytes]) -> tuple[bytes, bytes] | int | None:
    """Return the head and what follows it, the status of a refusal, or None if it goes on."""
    buffer = HeadBuffer(MAX_HEAD)
    try:
        with counted(limit=200 + 40 * len(pieces)):
            for index, piece in enumerate(pieces):
                found = buffer.feed(piece)
                if found is not None:
                    return found[0], found[1] + b"".join(pieces[index + 1 :])
                assert len(buffer) <= MAX_HEAD
    except RequestError as error:
        _check_refusal(error, {400, 414, 431})
        return error.response.status
    assert held(buffer) <= 1000 + 1.25 * MAX_HEAD + max(map(len, pieces), default=0)
    return None


def _check_refusal(error: RequestError, statuses: Collection[int]) -> None:
    response = error.response
    assert response.status in statuses
    assert len(response.body) <= 400
    client = _client(4096)
    client.receive(write_response(response))
    assert (client.complete, client.status, client.body) == (True, response.status, response.body)


def _client(max_body: int) -> Exchange:
    """Make a client that has sent an opening handshake, and waits for the answer."""
    client = Exchange(max_head=MAX_HEAD, max_headers=MAX_HEADERS, max_body=max_body)
    client.start("GET", "/", [("Host", "localhost"), *request_fields(KEY, OFFERED)])
    return client


def _check_request(request: RequestHead) -> None:
    assert is_token(request.method)
    assert Headers(request.headers.fields) == request.headers
    assert len(request.headers.fields) <= MAX_HEADERS
    assert request.target.isascii()
    assert request.target.isprintable()
    assert " " not in request.target
    assert request.target == "*" or request.target.startswith("/")
    query = f"?{request.query}" if "?" in request.target else ""
    assert request.target == request.raw_path + query
    assert "\0" not in request.path
    assert request.authority.isascii()
    assert not set("/?#@\\ ") & set(request.authority)
    assert request.version in {"1.0", "1.1"}
    # Whoever disagrees about where the body ends disagrees about what the next request is.
    assert "Transfer-Encoding" not in request.headers
    assert not request.headers.get("Content-Length", "").strip("0")


def response_head(data: bytes) -> None:
    """An answer to the client: the same in whatever pieces, and its body is cut."""
    first, *others = [_receive(pieces) for pieces in sample(data, splits(data))]
    for other in others:
        assert other[:-1] == first[:-1]
        if "Transfer-Encoding" in first[1]:
            # How long a line of chunked coding may be depends on where it was cut.
            assert other[-1].startswith(first[-1]) or first[-1].startswith(other[-1])
        else:
            assert other[-1] == first[-1]


def _receive(pieces: list[bytes]) -> tuple[object, Headers, bytes, bytes]:
    """Return the status or an error, the header fields, what follows a 101, and the body."""
    exchange = _client(MAX_BODY)
    # The end of the stream is an empty piece.
    waiting = [*pieces, b""]
    size = sum(map(len, waiting))
    try:
        with counted(limit=3000 + 300 * size):
            while waiting and not exchange.complete:
                exchange.receive(waiting.pop(0))
    except ValueError as error:
        assert len(str(error)) <= 400
        return "refused", Headers(), b"", b""
    finally:
        assert held(exchange) <= 40_000 + 3 * (MAX_HEAD + MAX_BODY)
    assert exchange.complete
    assert exchange.status is not None
    assert exchange.status == 101 or 200 <= exchange.status <= 599
    assert len(exchange.body) <= MAX_BODY
    assert len(exchange.headers.fields) <= MAX_HEADERS
    assert Headers(exchange.headers.fields) == exchange.headers
    rest = exchange.rest + b"".join(waiting) if exchange.switched else b""
    return exchange.status, exchange.headers, rest, exchange.body


def fields_of(data: bytes) -> Headers:
    """Make header fields of lines; what is no field is left out."""
    fields: list[tuple[str, str]] = []
    for line in data.split(b"\n"):
        name, colon, value = line.decode("latin-1").partition(":")
        try:
            Headers([(name, value)])
        except ValueError:
            continue
        if colon:
            fields.append((name, value.strip(" \t")))
    return Headers(fields)


def upgrade(data: bytes) -> None:
    """The header fields of an opening handshake: what is accepted, the client understands."""
    headers = fields_of(data)
    request = RequestHead(
        method="GET",
        target="/",
        path="/",
        raw_path="/",
        query="",
        authority="localhost",
        headers=headers,
        version="1.1",
    )
    try:
        with counted(limit=300 + 40 * len(data)):
            found = read_upgrade(request)
    except RequestError as error:
        _check_refusal(error, _UPGRADE_FAULTS)
        return
    if found is None:
        return
    # Whatever the client can have sent, it could have sent by these means.
    request_fields(found.key, found.subprotocols)
    for subprotocol in (None, *found.subprotocols[-1:]):
        answer = accept_head(found, subprotocol=subprotocol, headers=Headers())
        client = _client(0)
        client.receive(answer + b"frames")
        assert (client.switched, client.rest) == (True, b"frames")
        assert check_answer(client.headers, found.key, found.subprotocols) == subprotocol


def answer(data: bytes) -> None:
    """The header fields of a 101: accepted only if they are what RFC 6455 §4.1 asks for."""
    headers = fields_of(data)
    try:
        with counted(limit=300 + 40 * len(data)):
            chosen = check_answer(headers, KEY, OFFERED)
            assert read_answer(headers.get_all("Sec-WebSocket-Extensions"), None) is None
    except UpgradeError:
        return
    assert headers.get("Upgrade", "").strip(", \t").lower() == "websocket"
    assert headers["Sec-WebSocket-Accept"] == accept_key(KEY)
    assert "Sec-WebSocket-Extensions" not in headers or not headers[
        "Sec-WebSocket-Extensions"
    ].strip(", \t")
    assert headers.get_all("Sec-WebSocket-Protocol") == ([] if chosen is None else [chosen])
    assert chosen is None or chosen in OFFERED


def extensions(data: bytes) -> None:
    """Extension headers, a line each: an agreement that both sides understand, or none."""
    values = data.decode("latin-1").split("\n")
    for settings in (Deflate(), Deflate(receive_window_bits=15, send_context_takeover=False)):
        with counted(limit=500 + 60 * len(data)):
            agreed = answer_offers(values, settings)
        if agreed is not None:
            _check_agreement(agreed, settings)
        try:
            with counted(limit=500 + 60 * len(data)):
                chosen = read_answer(values, settings)
        except UpgradeError as error:
            assert str(error).isprintable()
            assert len(str(error)) <= 500
            continue
        if chosen is not None:
            assert chosen.send_window_bits <= settings.send_window_bits
            assert 9 <= chosen.receive_window_bits <= 15
            assert chosen.settings is settings


def _check_agreement(agreed: Agreement, settings: Deflate) -> None:
    """See that a client that can do everything understands the same of what was answered."""
    able = Deflate(send_window_bits=15, receive_window_bits=15)
    chosen = read_answer([agreed.text], able)
    assert chosen is not None
    assert agreed.send_window_bits <= settings.send_window_bits
    assert agreed.send_window_bits <= chosen.receive_window_bits
    assert chosen.send_window_bits <= agreed.receive_window_bits
    assert agreed.send_context_takeover == chosen.receive_context_takeover
    assert agreed.receive_context_takeover == chosen.send_context_takeover


def proxy_header(data: bytes) -> None:
    """A PROXY header: an address, nothing, or an error; whatever follows is not looked at."""
    prefix = data[:PREFIX_SIZE]
    if len(prefix) < PREFIX_SIZE:
        return
    try:
        length = read_length(prefix)
    except ProxyHeaderError as error:
        assert len(str(error)) <= 100
        return
    body = data[PREFIX_SIZE : PREFIX_SIZE + length]
    if len(body) < length:
        return
    try:
        with counted(limit=300 + 10 * length):
            source = read_source(prefix, body)
    except ProxyHeaderError as error:
        assert len(str(error)) <= 100
        return
    if isinstance(source, str):
        assert source.isprintable()
        assert len(source) <= 500
    elif source is not None:
        assert source[1] in range(2**16)


def forwarded(data: bytes) -> None:
    """Header fields of a proxy: the client is the last address that is no trusted proxy."""
    headers = fields_of(data)
    policy = ProxyPolicy(TrustedProxies(["10.0.0.0/8", "::1"], max_hops=3))
    try:
        with counted(limit=2000 + 40 * len(data)):
            client = policy.client(headers)
    except RequestError as error:
        _check_refusal(error, {400})
    else:
        _check_client(headers, client)
    try:
        secure = said_secure(headers)
    except RequestError as error:
        _check_refusal(error, {400})
        return
    assert secure is None or "X-Forwarded-Proto" in headers


def _check_client(headers: Headers, client: tuple[Address, int] | None) -> None:
    said = [part.strip() for part in headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if client is None:
        assert not said
        return
    address, port = client
    assert port in range(2**16)
    # The address stands in one of the last few elements, and behind it trusted ones alone.
    assert any(str(address) in _plain(element) for element in said[-3:])


def _plain(element: str) -> set[str]:
    """Return what an element may mean: itself, and without brackets and a port."""
    candidates = {element, element.rpartition(":")[0], element.partition("]")[0].lstrip("[")}
    found: set[str] = set()
    for each in candidates:
        try:
            found.add(str(plain_address(ip_address(each))))
        except ValueError:
            continue
    return found
