"""Request heads and responses."""

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws._protocol.http import (
    HeadBuffer,
    RequestError,
    RequestHead,
    decode_path,
    has_controls,
    parse_any,
    parse_plain,
    read_request,
    refuse,
    write_head,
    write_response,
)
from trio_ws._types import Headers, Response

HEAD = b"GET /chat?x=1 HTTP/1.1\r\nHost: localhost:8080\r\nX-One: 1\r\n\r\n"


def read(*lines: str, target: str = "/", method: str = "GET", version: str = "1.1") -> RequestHead:
    """Read a request of some header lines; ``Host`` is there unless the lines name one."""
    host = [] if any(line.startswith("Host:") for line in lines) else ["Host: localhost"]
    first = f"{method} {target} HTTP/{version}"
    head = "\r\n".join([first, *host, *lines, "", ""])
    return read_request(head.encode("latin-1"), max_headers=100)


def status_of(*lines: str, target: str = "/", method: str = "GET", version: str = "1.1") -> int:
    with pytest.raises(RequestError) as caught:
        read(*lines, target=target, method=method, version=version)
    return caught.value.response.status


def status_of_feeding(buffer: HeadBuffer, data: bytes) -> int:
    with pytest.raises(RequestError) as caught:
        buffer.feed(data)
    return caught.value.response.status


def test_refuse_makes_an_answer_of_one_line() -> None:
    error = refuse(405, "use GET", ("Allow", "GET"))

    assert error.response.status == 405
    assert error.response.text == "use GET\n"
    assert error.response.headers["Allow"] == "GET"
    assert str(error) == "405 use GET"


@pytest.mark.parametrize("cut", range(len(HEAD)))
def test_head_cut_anywhere_is_whole_at_its_last_byte(cut: int) -> None:
    buffer = HeadBuffer(1000)

    first = buffer.feed(HEAD[:cut])
    second = buffer.feed(HEAD[cut:] + b"\x81\x00")

    assert first is None
    assert second == (HEAD, b"\x81\x00")


def test_head_arriving_byte_by_byte_is_whole_at_its_last_byte() -> None:
    buffer = HeadBuffer(1000)

    results = [buffer.feed(bytes([byte])) for byte in HEAD]

    assert results == [None] * (len(HEAD) - 1) + [(HEAD, b"")]
    assert len(buffer) == len(HEAD)


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\n\r\n"])
def test_head_ends_at_the_first_empty_line_however_it_is_written(end: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x" + end

    assert HeadBuffer(1000).feed(head + b"rest\n\n\r\n\r\n") == (head, b"rest\n\n\r\n\r\n")


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n"])), st.lists(st.integers(0, 80)))
def test_empty_lines_before_a_request_are_ignored_however_they_are_cut(
    lines: list[bytes], places: list[int]
) -> None:
    data, buffer = b"".join(lines) + HEAD, HeadBuffer(len(HEAD))
    cuts = sorted({0, len(data), *(place for place in places if place < len(data))})

    results = [buffer.feed(data[start:end]) for start, end in itertools.pairwise(cuts)]

    assert results[-1] == (HEAD, b"")


def test_empty_lines_without_end_are_not_kept() -> None:
    buffer = HeadBuffer(100)

    results = [buffer.feed(b"\r\n" * 1000) for _ in range(10)]

    assert results == [None] * 10
    assert len(buffer) == 0


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b" GET", b"\x00", b"\x80\x2e\x01", b":", b"\t"])
def test_what_cannot_be_http_is_answered_400_at_its_first_byte(first: bytes) -> None:
    assert status_of_feeding(HeadBuffer(1000), first) == 400


def test_head_of_exactly_max_head_is_taken() -> None:
    assert HeadBuffer(len(HEAD)).feed(HEAD + b"more") == (HEAD, b"more")


def test_head_of_one_byte_more_than_max_head_is_answered_431() -> None:
    assert status_of_feeding(HeadBuffer(len(HEAD) - 1), HEAD) == 431


def test_head_that_is_too_long_is_answered_431_before_it_is_whole() -> None:
    buffer = HeadBuffer(100)

    assert buffer.feed(b"GET / HTTP/1.1\r\nX: ".ljust(100, b"x")) is None
    assert status_of_feeding(buffer, b"x") == 431


def test_request_line_that_is_too_long_is_answered_414() -> None:
    buffer = HeadBuffer(100)

    assert buffer.feed(b"GET /".ljust(100, b"x")) is None
    assert status_of_feeding(buffer, b"x") == 414


def test_whole_request_line_that_is_too_long_is_answered_414() -> None:
    head = b"GET /".ljust(200, b"x") + b" HTTP/1.1\r\n\r\n"

    assert status_of_feeding(HeadBuffer(100), head) == 414


def test_head_without_limit_is_taken() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"

    assert HeadBuffer(float("inf")).feed(head) == (head, b"")


def test_request_is_read() -> None:
    request = read_request(HEAD, max_headers=2)

    assert request == RequestHead(
        method="GET",
        target="/chat?x=1",
        path="/chat",
        raw_path="/chat",
        query="x=1",
        authority="localhost:8080",
        headers=Headers([("Host", "localhost:8080"), ("X-One", "1")]),
        version="1.1",
    )


def test_headers_keep_their_order_repeats_and_spelling() -> None:
    request = read("x-A: 1", "X-b:2", "X-a:  3\t")

    assert request.headers.fields[1:] == (("x-A", "1"), ("X-b", "2"), ("X-a", "3"))


def test_header_bytes_outside_of_ascii_are_latin_1() -> None:
    assert read("X: caf\xe9\x85").headers["X"] == "caf\xe9\x85"


def test_folded_header_is_read_as_one_line() -> None:
    assert read("X: a", "  b").headers["X"] == "a b"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_version_is_read(version: str) -> None:
    assert read(version=version).version == version


def test_later_minor_version_counts_as_the_latest_known() -> None:
    assert read(version="1.9").version == "1.1"


@pytest.mark.parametrize("version", ["0.9", "2.0", "2", "3.0"])
def test_other_version_is_answered_505(version: str) -> None:
    assert status_of(version=version) == 505


def test_http2_preface_is_answered_505() -> None:
    with pytest.raises(RequestError) as caught:
        read_request(b"PRI * HTTP/2.0\r\n\r\n", max_headers=100)

    assert caught.value.response.status == 505


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/x.1\r\nHost: x\r\n\r\n",
        b"GET / http/1.1\r\nHost: x\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"",
    ],
)
def test_malformed_head_is_answered_400(head: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(head, max_headers=100)

    assert caught.value.response.status == 400


@pytest.mark.parametrize("byte", [*range(9), 0x0B, 0x0C, 0x0D, *range(0x0E, 0x20), 0x7F])
def test_control_character_in_a_header_is_answered_400(byte: int) -> None:
    assert status_of(f"X: a{chr(byte)}b") == 400


def test_control_character_behind_many_spaces_never_reaches_the_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # h11 takes time quadratic in the number of spaces to refuse it.
    monkeypatch.setattr("h11.Connection.receive_data", lambda *_: pytest.fail("it was parsed"))

    assert status_of("X:" + " " * 16_000 + "\x00") == 400


def test_answer_does_not_echo_more_than_a_little_of_a_malformed_line() -> None:
    with pytest.raises(RequestError) as caught:
        read("x" * 10_000)

    assert 100 < len(caught.value.response.body) < 300


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(b"\r\n\t :/%#?*.1AHTP\x00\x7f\x80\xff"), max_size=30))
def test_no_head_raises_anything_but_request_errors(noise: list[int]) -> None:
    for start in (b"", b"GET ", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        with contextlib.suppress(RequestError):
            read_request(start + bytes(noise) + b"\r\n\r\n", max_headers=100)


BROWSER = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: example.com:8443\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: https://example.com\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n"
    b'Cookie: a="b c"; d=; e=f%20g\r\n'
    b"X-Empty:\r\n"
    b"x-spaces:   a  b   \r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)


@pytest.mark.parametrize("head", [HEAD, BROWSER])
def test_heads_of_common_clients_are_read_without_h11(head: bytes) -> None:
    plain = parse_plain(head)

    assert plain is not None
    assert told(plain) == told(parse_any(head))


def test_what_is_common_in_handshakes_is_kept_once_for_all() -> None:
    first, second = (parse_plain(BROWSER) for _ in range(2))
    assert first is not None
    assert second is not None
    texts = [text for field in first[3].fields for text in field]
    others = [text for field in second[3].fields for text in field]

    kept = {text for text, other in zip(texts, others, strict=True) if text is other}

    assert kept >= {"Host", "Sec-WebSocket-Key", "Cookie", "Upgrade", "websocket", "13"}
    assert kept.isdisjoint(
        {"X-Empty", "x-spaces", "dGhlIHNhbXBsZSBub25jZQ==", "https://example.com"}
    )


def told(parsed: tuple[str, str, str, Headers]) -> tuple[object, ...]:
    """Return what a parser has found, with the names of fields as they are written."""
    return (*parsed[:3], parsed[3].fields)


# Pieces of which a head of every kind can be made: those that most have, and those that make it
# one for h11.
_LINES = st.sampled_from(BROWSER.split(b"\r\n")[:-2]) | st.sampled_from(
    [
        b"GET / HTTP/1.0",
        b"POST / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET http://example.com/ HTTP/1.1",
        b"GET",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Host: again",
        b"HOST: again",
        b" folded",
        b"no colon",
        b": no name",
        b"spaced : name",
        b"tab:\there",
        "Latin: ä".encode("latin-1"),
        b"a: b: c",
        b"",
    ]
)
_NOISE = st.tuples(
    st.integers(min_value=0, max_value=1000), st.binary(max_size=3), st.integers(0, 4)
)


@settings(deadline=None, max_examples=1000)
@given(
    lines=st.lists(_LINES, max_size=8),
    usual=st.booleans(),
    end=st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
    noise=st.lists(_NOISE, max_size=2),
)
def test_what_is_read_without_h11_is_what_h11_reads(
    lines: list[bytes], usual: bool, end: bytes, noise: list[tuple[int, bytes, int]]
) -> None:
    first = [b"GET /chat HTTP/1.1", b"Host: example.com"] if usual else []
    head = b"\r\n".join([*first, *lines]) + end + end
    for where, inserted, left_out in noise:
        place = where % (len(head) + 1)
        head = head[:place] + inserted + head[place + left_out :]

    if not has_controls(head) and (plain := parse_plain(head)) is not None:
        assert told(plain) == told(parse_any(head))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore",
        b"GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX(): b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_everything_else_is_left_to_h11(head: bytes) -> None:
    assert parse_plain(head) is None


@pytest.mark.parametrize("count", [0, 1])
def test_header_fields_are_counted_against_max_headers(count: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * (4 + count) + b"\r\n"

    if not count:
        assert len(read_request(head, max_headers=5).headers.fields) == 5
        return
    with pytest.raises(RequestError) as caught:
        read_request(head, max_headers=5)
    assert caught.value.response.status == 431


@pytest.mark.parametrize(
    "line",
    ["Content-Length: 1", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked"],
)
def test_request_with_a_body_is_answered_413(line: str) -> None:
    assert status_of(line, method="POST") == 413


def test_request_with_two_kinds_of_body_is_answered_413() -> None:
    assert status_of("Content-Length: 0", "Transfer-Encoding: chunked") == 413


@pytest.mark.parametrize("value", ["0", "000", "0, 0"])
def test_request_with_an_empty_body_is_read(value: str) -> None:
    assert read(f"Content-Length: {value}", method="POST").method == "POST"


@pytest.mark.parametrize("value", ["gzip", "gzip, chunked", "chunked, chunked", "xchunked"])
def test_request_with_an_unknown_transfer_coding_is_answered_501(value: str) -> None:
    assert status_of(f"Transfer-Encoding: {value}") == 501


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        ("/", "localhost", "/", ""),
        ("/a?b?c", "localhost", "/a", "b?c"),
        ("/?", "localhost", "/", ""),
        ("//other/a", "localhost", "//other/a", ""),
        ("*", "localhost", "*", ""),
        ("http://example.com", "example.com", "/", ""),
        ("http://example.com/", "example.com", "/", ""),
        ("http://example.com:81/a?b", "example.com:81", "/a", "b"),
        ("HTTPS://example.com?b/c", "example.com", "/", "b/c"),
        ("ws://[::1]:8080/a", "[::1]:8080", "/a", ""),
        ("wss://example.com/http://x", "example.com", "/http://x", ""),
    ],
)
def test_target_is_brought_into_origin_form(
    target: str, authority: str, path: str, query: str
) -> None:
    request = read(target=target)

    assert (request.authority, request.path, request.query) == (authority, path, query)
    assert request.target == path + ("?" + query if "?" in target else "")


@pytest.mark.parametrize(
    "target",
    ["chat", "example.com:80", "ftp://example.com/", "://x/", "http:/x", "http://", "http:///a"],
)
def test_target_of_another_form_is_answered_400(target: str) -> None:
    assert status_of(target=target) == 400


def test_target_with_a_fragment_is_answered_400() -> None:
    assert status_of(target="/a#b") == 400


@pytest.mark.parametrize("host", ["", "localhost", "a_b.c:1", "[::1]", "[::ffff:1.2.3.4]:", "x:"])
def test_host_is_read(host: str) -> None:
    assert read(f"Host: {host}").authority == host


@pytest.mark.parametrize(
    "host",
    ["a b", "user@a", "a/b", "a?b", "a\\b", 'a"b', "a:b", "::1", "[::1", "[g]", "a\xe9", "a:1:2"],
)
def test_host_that_is_none_is_answered_400(host: str) -> None:
    assert status_of(f"Host: {host}") == 400


def test_user_info_in_the_target_is_answered_400() -> None:
    assert status_of(target="http://user:pw@example.com/") == 400


def test_host_may_be_missing_in_http_1_0() -> None:
    request = read_request(b"GET / HTTP/1.0\r\n\r\n", max_headers=100)

    assert request.authority == ""


def test_path_is_decoded_once_and_kept_as_sent() -> None:
    request = read(target="/caf%C3%A9%2520/a%2Fb?x=%41")

    assert request.path == "/café%20/a/b"
    assert request.raw_path == "/caf%C3%A9%2520/a%2Fb"
    assert request.query == "x=%41"


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("a+b", "a+b"),
        ("%41%61", "Aa"),
        ("%e2%82%ac", "€"),
        ("%25", "%"),
        ("%2541", "%41"),
        ("", ""),
    ],
)
def test_decode_path_decodes_once(raw: str, decoded: str) -> None:
    assert decode_path(raw) == decoded


@pytest.mark.parametrize(
    "raw",
    ["%", "%4", "a%", "%zz", "%4g", "%-1", "%%41", "%C3", "%ff", "%c0%af", "%ED%A0%80", "%00"],
)
def test_decode_path_refuses_what_is_no_text(raw: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_path(raw)

    assert caught.value.response.status == 400


def lines_of(data: bytes) -> list[str]:
    return data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


def test_response_is_written_as_the_last_of_its_connection() -> None:
    data = write_response(Response(200, "olá", headers={"Date": "then"}))

    assert lines_of(data) == [
        "HTTP/1.1 200 OK",
        "Date: then",
        "Content-Type: text/plain; charset=utf-8",
        "Connection: close",
        "Content-Length: 4",
    ]
    assert data.endswith(b"\r\n\r\n" + "olá".encode())


def test_response_gets_a_date() -> None:
    (date,) = [line for line in lines_of(write_response(Response())) if line.startswith("Date: ")]

    assert date.endswith(" GMT")


def test_response_to_head_has_the_length_of_its_body_and_no_body() -> None:
    data = write_response(Response(200, b"abc"), body=False)

    assert "Content-Length: 3" in lines_of(data)
    assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_response_that_may_have_no_body_has_none(status: int) -> None:
    data = write_response(Response(status, b"abc"))

    assert not any(line.startswith("Content-Length") for line in lines_of(data))
    assert data.endswith(b"\r\n\r\n")


def test_response_without_a_body_says_so() -> None:
    assert "Content-Length: 0" in lines_of(write_response(Response(404)))


def test_framing_headers_of_a_caller_are_replaced() -> None:
    wrong = {"content-length": "9", "Transfer-Encoding": "chunked", "connection": "keep-alive"}

    lines = lines_of(write_response(Response(200, b"abc", headers={**wrong, "Date": ""})))

    assert lines[1:] == ["Date: ", "Connection: close", "Content-Length: 3"]


def test_response_that_asks_for_an_upgrade_names_it_in_connection() -> None:
    data = write_response(Response(426, headers={"Upgrade": "websocket"}))

    assert "Connection: close, Upgrade" in lines_of(data)


def test_response_with_an_unknown_status_has_an_empty_phrase() -> None:
    assert lines_of(write_response(Response(299)))[0] == "HTTP/1.1 299 "


def test_header_that_would_write_headers_of_its_own_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="control character"):
        Response(200, headers={"X": "a\r\nSet-Cookie: b"})


def test_write_head_writes_latin_1() -> None:
    assert write_head("GET / HTTP/1.1", [("X", "é")]) == b"GET / HTTP/1.1\r\nX: \xe9\r\n\r\n"
