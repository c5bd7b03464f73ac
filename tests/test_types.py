"""Headers, responses and close codes."""

import copy
import pickle
from http import HTTPStatus
from typing import Any

import pytest

from trio_ws._types import (
    CloseCode,
    Headers,
    Response,
    check_close,
    escaped,
    is_token,
    is_wire_code,
    status_phrase,
)

WIRE_CODES = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]


def test_codes_for_the_wire_are_those_of_the_rfc_and_the_registry() -> None:
    assert [code for code in range(-1, 70000) if is_wire_code(code)] == WIRE_CODES


@pytest.mark.parametrize("code", [CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.TLS_FAILURE])
def test_codes_that_stand_for_something_else_are_not_for_the_wire(code: CloseCode) -> None:
    assert not is_wire_code(code)


def test_check_close_lets_a_good_close_pass() -> None:
    check_close(1000, None)
    check_close(CloseCode.GOING_AWAY, "bye")
    check_close(4999, "x" * 123)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_check_close_refuses_a_code_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        check_close(code, None)


def test_check_close_refuses_a_code_that_is_no_whole_number() -> None:
    code: Any = 1000.5

    with pytest.raises(ValueError, match="may not be sent"):
        check_close(code, None)


@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62])
def test_check_close_counts_the_bytes_of_the_reason(reason: str) -> None:
    with pytest.raises(ValueError, match="124 bytes long in UTF-8, at most 123 fit"):
        check_close(1000, reason)


def test_token_consists_of_the_characters_of_the_rfc() -> None:
    characters = [chr(code) for code in range(256) if is_token(chr(code))]

    # RFC 9110 §5.6.2: any VCHAR, except delimiters.
    delimiters = set('"(),/:;<=>?@[\\]{}')
    assert characters == [chr(code) for code in range(0x21, 0x7F) if chr(code) not in delimiters]


def test_empty_text_is_no_token() -> None:
    assert not is_token("")


def test_headers_are_found_without_regard_to_case() -> None:
    headers = Headers({"X-Name": "value"})

    assert headers["x-name"] == headers["X-NAME"] == "value"
    assert "x-NAME" in headers
    assert headers.get("Other", "none") == "none"


def test_headers_join_repeats_and_give_them_one_by_one() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])

    assert headers["A"] == "1, 3"
    assert headers.get_all("A") == ["1", "3"]
    assert headers.get_all("C") == []


def test_headers_name_each_name_once_as_first_written() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])

    assert list(headers) == ["A", "B"]
    assert len(headers) == 2
    assert dict(headers) == {"A": "1, 3", "B": "2"}


def test_headers_contain_no_name_that_is_no_text() -> None:
    name: object = 5

    assert name not in Headers({"5": "x"})


def test_headers_of_headers_keep_every_field() -> None:
    headers = Headers([("A", "1"), ("a", "3")])

    assert Headers(headers).fields == (("A", "1"), ("a", "3"))
    assert Headers(iter(headers.fields)) == headers


def test_missing_header_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Headers()["A"]


def test_headers_are_equal_without_regard_to_the_case_of_names() -> None:
    assert Headers({"A": "x"}) == Headers([("a", "x")])
    assert hash(Headers({"A": "x"})) == hash(Headers({"a": "x"}))


@pytest.mark.parametrize("other", [{"A": "X"}, {"B": "x"}, {}, [("A", "x"), ("A", "x")]])
def test_headers_with_other_fields_differ(other: Any) -> None:  # noqa: ANN401 - several forms
    assert Headers({"A": "x"}) != Headers(other)


def test_headers_are_compared_with_mappings_as_mappings_are() -> None:
    assert Headers({"A": "x"}) == {"A": "x"}
    assert Headers({"A": "x"}) != {"A": "y"}
    assert Headers({"A": "x"}) != "A"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", "a\x00", "(a)"])
def test_header_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no token"):
        Headers({name: "x"})


@pytest.mark.parametrize("character", [*map(chr, range(9)), "\n", "\x0b", "\r", "\x1f", "\x7f"])
def test_header_value_with_a_control_character_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Headers({"X": f"a{character}Y: b"})


def test_header_value_outside_of_latin_1_is_refused() -> None:
    with pytest.raises(ValueError, match="outside of Latin-1"):
        Headers({"X": "€"})


@pytest.mark.parametrize("value", ["", "a\tb", "é", "\x85\xa0\xff", " a "])
def test_header_value_of_other_characters_is_kept(value: str) -> None:
    assert Headers({"X": value})["X"] == value


def test_headers_show_their_fields() -> None:
    assert repr(Headers([("A", "1"), ("a", "2")])) == "Headers([('A', '1'), ('a', '2')])"


def test_response_is_200_and_empty_unless_told_otherwise() -> None:
    response = Response()

    assert (response.status, response.body, response.text) == (200, b"", "")
    assert response.headers == Headers()


def test_response_of_text_is_utf8_and_says_so() -> None:
    response = Response(404, "não", headers={"X": "1"})

    assert response.body == "não".encode()
    assert response.headers.fields == (
        ("X", "1"),
        ("Content-Type", "text/plain; charset=utf-8"),
    )


def test_response_of_text_keeps_the_type_it_is_given() -> None:
    response = Response(200, "<p>", headers={"content-type": "text/html"})

    assert response.headers.fields == (("content-type", "text/html"),)


def test_response_of_bytes_has_no_type_of_its_own() -> None:
    assert "Content-Type" not in Response(200, b"x").headers


def test_text_of_a_response_replaces_what_is_not_utf8() -> None:
    assert Response(200, b"a\xff").text == "a\ufffd"


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000])
def test_response_refuses_a_status_that_is_not_final(status: int) -> None:
    with pytest.raises(ValueError, match=f"200 to 599, not {status}"):
        Response(status)


@pytest.mark.parametrize("status", [200, 599, HTTPStatus.NOT_FOUND])
def test_response_takes_a_final_status(status: int) -> None:
    assert Response(status).status == status


def test_responses_are_equal_when_all_their_fields_are() -> None:
    one = Response(200, b"x", headers={"A": "1"})

    assert one == Response(200, b"x", headers={"a": "1"})
    assert one != Response(201, b"x", headers={"A": "1"})
    assert hash(one) == hash(Response(200, b"x", headers={"a": "1"}))


def test_response_cannot_be_changed() -> None:
    response: Any = Response()

    with pytest.raises(AttributeError):
        response.status = 404


def test_response_survives_pickling_and_copying() -> None:
    response = Response(404, "não", headers=[("A", "1"), ("a", "2")])

    assert pickle.loads(pickle.dumps(response)) == response  # noqa: S301 - pickled here
    assert copy.deepcopy(response) == response


@pytest.mark.parametrize(("status", "phrase"), [(200, "OK"), (404, "Not Found"), (299, "")])
def test_status_phrase_is_the_standard_one_or_empty(status: int, phrase: str) -> None:
    assert status_phrase(status) == phrase


@pytest.mark.parametrize("text", ["", "/chat", "olá, 日本", "it's", 'a "word"', "C:\\path"])
def test_escaped_leaves_what_can_be_seen(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb", "a\\r\\nb"),
        ("\0\x7f\x85", "\\x00\\x7f\\x85"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066\u2028\u200b\ufeff", "\\u2066\\u2028\\u200b\\ufeff"),
        ("é\n", "é\\n"),
        ("\udc80", "\\udc80"),
        ("\\n\n", "\\\\n\\n"),
    ],
)
def test_escaped_shows_what_cannot_be_seen(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_escaped_is_bounded() -> None:
    assert escaped("x" * 200) == "x" * 200
    assert escaped("x" * 201) == "x" * 200 + "…"
    assert len(escaped("\U0010ffff" * 10**6)) == 200 * 10 + 1
    assert escaped("abc", 2) == "ab…"
