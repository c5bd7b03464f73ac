"""`parse_url` reads every WebSocket URL, and says of any other what is wrong with it."""

import base64

import pytest

from trio_ws._transport.url import Target, parse_url


def test_a_plain_url_names_host_port_and_resource() -> None:
    assert parse_url("ws://example.com:8080/chat?room=1") == Target(
        secure=False,
        host="example.com",
        port=8080,
        unix_path=None,
        authority="example.com:8080",
        resource="/chat?room=1",
        credentials=None,
        name="ws://example.com:8080/chat",
    )


def test_a_unix_url_names_a_socket_and_a_resource() -> None:
    assert parse_url("ws+unix:/run/my%20app.sock:/chat?room=1") == Target(
        secure=False,
        host="",
        port=0,
        unix_path="/run/my app.sock",
        authority="localhost",
        resource="/chat?room=1",
        credentials=None,
        name="ws+unix:/run/my%20app.sock:/chat",
    )


@pytest.mark.parametrize(
    ("url", "secure", "port", "authority"),
    [
        ("ws://h/", False, 80, "h"),
        ("wss://h/", True, 443, "h"),
        ("ws://h:80/", False, 80, "h"),
        ("wss://h:443/", True, 443, "h"),
        ("ws://h:443/", False, 443, "h:443"),
        ("wss://h:80/", True, 80, "h:80"),
        ("WSS://H:8443/", True, 8443, "h:8443"),
        ("ws://h:/", False, 80, "h"),
        ("ws://h:1/", False, 1, "h:1"),
        ("ws://h:65535/", False, 65535, "h:65535"),
    ],
)
def test_the_port_is_in_the_authority_unless_it_is_the_default_of_the_scheme(
    url: str, secure: bool, port: int, authority: str
) -> None:
    target = parse_url(url)

    assert (target.secure, target.port, target.authority) == (secure, port, authority)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("ws://[::1]/", "::1", "[::1]"),
        ("ws://[::1]:8080/", "::1", "[::1]:8080"),
        ("wss://[2001:DB8::1]:443/", "2001:db8::1", "[2001:db8::1]"),
        ("ws://[fe80::1%25eth0]:8080/", "fe80::1%eth0", "[fe80::1]:8080"),
        ("ws://[fe80::1%eth0]/", "fe80::1%eth0", "[fe80::1]"),
        ("ws://127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080"),
    ],
)
def test_an_address_has_brackets_in_the_authority_alone(
    url: str, host: str, authority: str
) -> None:
    target = parse_url(url)

    assert (target.host, target.authority) == (host, authority)


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("ws://h", "/"),
        ("ws://h?a=1", "/?a=1"),
        ("ws://h/a?", "/a?"),
        ("ws://h/a%2Fb", "/a%2Fb"),
        ("ws://h/olá?q=é", "/ol%C3%A1?q=%C3%A9"),
        ("ws://h/a;b=c,d", "/a;b=c,d"),
        ('ws://h/"<>"', "/%22%3C%3E%22"),
        ("ws+unix:/s", "/"),
        ("ws+unix:/s?a=1", "/?a=1"),
        ("ws+unix:/s:/olá", "/ol%C3%A1"),
    ],
)
def test_the_resource_is_ascii_and_keeps_escapes(url: str, resource: str) -> None:
    assert parse_url(url).resource == resource


def test_a_name_in_another_script_is_encoded() -> None:
    target = parse_url("ws://Bücher.example:8080/")

    assert target.host == "xn--bcher-kva.example"
    assert target.authority == "xn--bcher-kva.example:8080"


@pytest.mark.parametrize(
    ("user_info", "plain"),
    [
        ("user:secret", "user:secret"),
        ("user", "user:"),
        ("us%40er:p%3Ass", "us@er:p:ss"),
        ("usér:ç", "usér:ç"),
        (":secret", ":secret"),
    ],
)
def test_user_info_becomes_basic_credentials(user_info: str, plain: str) -> None:
    credentials = parse_url(f"ws://{user_info}@h/").credentials

    assert credentials == "Basic " + base64.b64encode(plain.encode()).decode()


def test_the_name_holds_neither_user_info_nor_query() -> None:
    name = parse_url("wss://user:secret@h/chat?token=secret").name

    assert name == "wss://h/chat"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h/", "is no WebSocket URL: it begins with"),
        ("h:80", "is no WebSocket URL: it begins with"),
        ("", "is no WebSocket URL: it begins with"),
        ("ws://h/#part", "has a fragment"),
        ("ws+unix:/s#part", "has a fragment"),
        ("ws://h/a#", "has a fragment"),
        ("ws://h/a b", "white space or a control character"),
        ("ws://h/a\r\nHost: evil", "white space or a control character"),
        ("ws://h/\x7f", "white space or a control character"),
        ("ws://", "names no host"),
        ("ws:///chat", "names no host"),
        ("ws:h/chat", "names no host"),
        ("ws://:8080/", "names no host"),
        ("ws://h:0/", "names port 0"),
        ("ws://h:65536/", "is no WebSocket URL: Port"),
        ("ws://h:http/", "is no WebSocket URL: Port"),
        ("ws://\u00ad\u2028/", "is no host name"),
        ("ws://us%3Aer@h/", "holds a colon"),
        ("ws+unix://h/s", "names a host"),
        ("ws+unix:", "names no socket"),
        ("ws+unix::/chat", "names no socket"),
        ("ws+unix:/s:chat", "does not begin with a slash"),
        ("ws://[::1/", "is no URL: Invalid"),
        ("ws://h\u2100x/", "is no URL: netloc"),
        ("ws://h/\udcff", "is no URL: it holds half a surrogate pair"),
        ("ws://u:\udcff@h/", "is no URL: it holds half a surrogate pair"),
        # Where every name that is not ASCII would have gone into a header as it is.
        ("ws://[v1.é:]/", r"names '\[v1.é:\]', which is no host name or address"),
        ("ws://[v1.a]/", "names '\\[v1.a\\]', which is no host name or address"),
        ("ws://a%20b/", "names 'a%20b', which is no host name or address"),
        ("ws://*.h/", "which is no host name or address"),
    ],
)
def test_another_url_is_refused_with_a_reason(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_url(url)


def test_host_name_may_be_as_long_as_names_may() -> None:
    wide = "\uff41"  # a letter of full width, which stands for that of ASCII
    name = f"{wide * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}."

    assert parse_url(f"ws://{name}/").host == name.replace(wide, "a")
    with pytest.raises(ValueError, match="254 characters at most, not 255"):
        parse_url(f"ws://e{name}/")


@pytest.mark.parametrize("rest", ["host:0/", "host/#part", "host/ ", "[::1", ""])
def test_an_error_does_not_repeat_the_password(rest: str) -> None:
    with pytest.raises(ValueError, match=r"ws://\*\*\*@") as caught:
        parse_url(f"ws://user:secret@{rest}")

    assert "secret" not in str(caught.value)
