"""The client's request and its answer."""

import pytest

from trio_ws._protocol.exchange import Exchange
from trio_ws._types import Headers

REQUEST = [("Host", "localhost"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]


def exchange(max_head: float = 1000, max_headers: float = 10, max_body: int = 100) -> Exchange:
    """Make an exchange whose request was sent."""
    result = Exchange(max_head=max_head, max_headers=max_headers, max_body=max_body)
    result.start("GET", "/", REQUEST)
    return result


def answered(*pieces: bytes, max_body: int = 100) -> Exchange:
    result = exchange(max_body=max_body)
    for piece in pieces:
        result.receive(piece)
    return result


def test_exchange_starts_with_the_request() -> None:
    data = Exchange(max_head=1, max_headers=1, max_body=1).start(
        "GET", "/a?b", [("Host", "x"), ("X-Name", "é")]
    )

    assert data == b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Name: \xe9\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("GET", "/", ("X", "a\r\nY: b")),
        ("GET", "/", ("X\r\nY", "b")),
        ("GET", "/", ("X", "€")),
        ("GET", "/", ("é", "b")),
        ("GET", "/a b", ("X", "a")),
        ("GET", "/\r\nX: a", ("X", "a")),
        ("GET", "/é", ("X", "a")),
        ("GE T", "/", ("X", "a")),
    ],
)
def test_exchange_refuses_to_send_what_is_not_well_formed(
    method: str, target: str, field: tuple[str, str]
) -> None:
    fresh = Exchange(max_head=1000, max_headers=10, max_body=100)

    with pytest.raises(ValueError):  # noqa: PT011 - each part has a message of its own
        fresh.start(method, target, [("Host", "x"), field])


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \xe9\r\n\r\n"


@pytest.mark.parametrize("cut", range(1, len(SWITCH)))
def test_switch_cut_anywhere_is_complete_with_what_follows_it(cut: int) -> None:
    result = answered(SWITCH[:cut], SWITCH[cut:] + b"\x81\x00")

    assert (result.status, result.switched, result.complete) == (101, True, True)
    assert result.headers == Headers([("Upgrade", "websocket"), ("X", "\xe9")])
    assert (result.rest, result.body) == (b"\x81\x00", b"")


def test_exchange_without_an_answer_is_not_complete() -> None:
    result = answered(SWITCH[:-1])

    assert (result.status, result.switched, result.complete) == (None, False, False)
    assert (result.body, result.headers) == (b"", Headers())


REFUSAL = b"HTTP/1.1 403 Forbidden\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 3\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nTrailer: 1\r\n\r\n",
    ],
)
def test_body_with_a_length_completes_the_answer_however_it_is_cut(rest: bytes) -> None:
    data = REFUSAL + rest

    results = [answered(data[:cut], data[cut:]) for cut in range(1, len(data))]
    results.append(answered(*(bytes([byte]) for byte in data)))

    assert {(r.status, r.body, r.complete, r.switched) for r in results} == {
        (403, b"abc", True, False)
    }


def test_body_without_a_length_ends_with_the_stream() -> None:
    result = answered(REFUSAL + b"\r\nab", b"c")
    before = result.complete

    result.receive(b"")

    assert (before, result.complete, result.body) == (False, True, b"abc")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 No\r\n\r\n", REFUSAL + b"Content-Length: 0\r\n\r\n"]
)
def test_answer_without_a_body_is_complete_with_its_head(head: bytes) -> None:
    result = answered(head)

    assert (result.complete, result.body) == (True, b"")


def test_body_is_cut_at_max_body_and_then_complete() -> None:
    result = answered(REFUSAL + b"\r\n" + b"x" * 5000, max_body=10)

    assert (result.complete, result.body) == (True, b"x" * 10)


def test_body_over_several_reads_is_cut_at_max_body() -> None:
    result = answered(REFUSAL + b"\r\n", b"x" * 7, b"y" * 7, b"z" * 7, max_body=10)

    assert (result.complete, result.body) == (True, b"x" * 7 + b"y" * 3)


def test_body_larger_than_one_piece_is_whole() -> None:
    body = bytes(range(256)) * 20
    head = REFUSAL + b"Content-Length: %d\r\n\r\n" % len(body)

    assert answered(head + body, max_body=10_000).body == body


@pytest.mark.parametrize(
    "pieces",
    [
        [b"Content-Length: 9\r\n\r\nab", b""],
        [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b""],
        [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"no size\r\n"],
        [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1;" + b"x" * 5000],
        [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", b"X: " + b"x" * 5000],
    ],
)
def test_broken_body_ends_with_what_is_known_of_the_answer(pieces: list[bytes]) -> None:
    result = answered(REFUSAL + pieces[0], *pieces[1:])

    assert (result.status, result.body, result.complete) == (403, b"ab", True)


def test_parser_gets_a_body_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes time quadratic in the length of a chunk's first line to refuse it.
    result = answered(REFUSAL + b"Transfer-Encoding: chunked\r\n\r\n")
    sizes: list[int] = []
    monkeypatch.setattr("h11.Connection.receive_data", lambda _, data: sizes.append(len(data)))

    result.receive(b"5;" + b" " * 64_000 + b"\n\r\n")

    assert max(sizes) <= 1024


def test_answer_is_complete_once_and_for_all() -> None:
    result = answered(REFUSAL + b"Content-Length: 1\r\n\r\na")

    result.receive(b"more")
    result.receive(b"")
    result.receive(b"after the end")

    assert (result.body, result.rest) == (b"a", b"")


def test_interim_responses_are_passed_over() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

    result = answered(interim, interim + SWITCH + b"rest")

    assert (result.status, result.rest) == (101, b"rest")
    assert "Link" not in result.headers


def test_answer_behind_a_long_interim_response_is_found_in_the_same_read() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 500 + b"\r\n\r\n"

    result = answered(interim[:-1], interim[-1:] + SWITCH)

    assert result.switched


def test_interim_responses_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="interim responses without end"):
        answered(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.parametrize("start", [b"SSH-2.0-x", b"\x15\x03", b"220 mail", b"HTTQ", b"\r\n", b"h"])
def test_answer_that_is_not_http_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(ValueError, match="is not HTTP, it begins with"):
        answered(start)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_malformed_answer_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are h11's
        answered(head)


def test_status_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="the status 600"):
        answered(b"HTTP/1.1 600 High\r\n\r\n")


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x0B, 0x0D, 0x1F, 0x7F])
def test_control_character_in_an_answer_is_refused(byte: int) -> None:
    with pytest.raises(ValueError, match="control character"):
        answered(REFUSAL + b"X:" + b" " * 500 + bytes([byte]) + b"\r\n\r\n")


def test_answer_head_of_exactly_max_head_is_taken() -> None:
    result = exchange(max_head=len(SWITCH))

    result.receive(SWITCH + b"rest")

    assert result.switched


def test_answer_head_of_one_byte_more_than_max_head_is_refused() -> None:
    with pytest.raises(ValueError, match=f"longer than {len(SWITCH) - 1} bytes"):
        exchange(max_head=len(SWITCH) - 1).receive(SWITCH)


def test_answer_head_that_is_too_long_is_refused_before_it_is_whole() -> None:
    result = exchange(max_head=50)
    result.receive(SWITCH[:50])

    with pytest.raises(ValueError, match="longer than 50 bytes"):
        result.receive(SWITCH[50:51])


def test_answer_head_without_limit_is_taken() -> None:
    result = exchange(max_head=float("inf"))

    result.receive(REFUSAL + b"X: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n")

    assert result.complete


def test_answer_with_exactly_max_headers_is_taken() -> None:
    result = exchange(max_headers=2)

    result.receive(SWITCH)

    assert result.switched


def test_answer_with_more_than_max_headers_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 header fields"):
        exchange(max_headers=1).receive(SWITCH)


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 101 Swi"], [b"HTTP/1.1 100 Continue\r\n\r\n"]])
def test_stream_that_ends_before_the_answer_is_refused(pieces: list[bytes]) -> None:
    result = answered(*pieces)

    with pytest.raises(ValueError, match="ended before the answer was whole"):
        result.receive(b"")


def test_switch_that_was_not_asked_for_is_refused() -> None:
    result = Exchange(max_head=1000, max_headers=10, max_body=100)
    result.start("GET", "/", [("Host", "x")])

    with pytest.raises(ValueError, match=r"101|SWITCH"):
        result.receive(SWITCH)
