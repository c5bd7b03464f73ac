"""Who the client is, when proxies say so in header fields."""

from ipaddress import ip_address

import pytest

from trio_ws._config import TrustedProxies
from trio_ws._protocol.forwarded import ProxyPolicy, plain_address, said_secure
from trio_ws._protocol.http import RequestError
from trio_ws._types import Headers

TRUSTED = ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]


def client(*fields: str, max_hops: int = 4) -> tuple[str, int] | None:
    policy = ProxyPolicy(TrustedProxies(TRUSTED, max_hops=max_hops))
    found = policy.client(Headers([("X-Forwarded-For", field) for field in fields]))
    return None if found is None else (str(found[0]), found[1])


def refused(*fields: str, max_hops: int = 4) -> str:
    with pytest.raises(RequestError) as caught:
        client(*fields, max_hops=max_hops)
    assert caught.value.response.status == 400
    return caught.value.response.text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["203.0.113.9"], ("203.0.113.9", 0)),
        (["203.0.113.9:4711"], ("203.0.113.9", 4711)),
        (["2001:db8::9"], ("2001:db8::9", 0)),
        (["[2001:db8::9]"], ("2001:db8::9", 0)),
        (["[2001:DB8:0::9]:4711"], ("2001:db8::9", 4711)),
        (["::ffff:203.0.113.9"], ("203.0.113.9", 0)),
        (["203.0.113.9, 10.1.2.3"], ("203.0.113.9", 0)),
        (["203.0.113.9,10.1.2.3,fd00::1,192.0.2.1"], ("203.0.113.9", 0)),
        (["203.0.113.9", "10.1.2.3"], ("203.0.113.9", 0)),
        (["\t203.0.113.9 , ,10.1.2.3,"], ("203.0.113.9", 0)),
    ],
)
def test_client_is_the_rightmost_address_that_is_no_proxy(
    fields: list[str], expected: tuple[str, int]
) -> None:
    assert client(*fields) == expected


@pytest.mark.parametrize(
    "fields",
    [
        ["127.0.0.1, 203.0.113.9"],
        ["127.0.0.1", "203.0.113.9, 10.1.2.3"],
        ["10.9.9.9, 203.0.113.9, 10.1.2.3"],
        ["nonsense\x80, <script>, 203.0.113.9, 10.1.2.3"],
        ["unknown," * 1000 + "203.0.113.9"],
    ],
)
def test_what_the_client_itself_has_written_is_not_even_looked_at(fields: list[str]) -> None:
    assert client(*fields) == ("203.0.113.9", 0)


@pytest.mark.parametrize("fields", [[], [""], [" , ,"]])
def test_nothing_said_is_nothing_known(fields: list[str]) -> None:
    assert client(*fields) is None


def test_when_all_are_proxies_the_leftmost_made_the_request_itself() -> None:
    assert client("10.0.0.3, 10.0.0.2, 10.0.0.1") == ("10.0.0.3", 0)


MALFORMED = [
    "unknown",
    "_hidden",
    "localhost",
    "203.0.113",
    "203.0.113.9:",
    "203.0.113.9:x",
    "203.0.113.9:-1",
    "203.0.113.9:65536",
    "203.0.113.9:²",
    "203.0.113.9/32",
    "203.0.113.9 10.0.0.1",
    "3405803785",
    "fe80::1%eth0",
    "[fe80::1%25eth0]",
    "[2001:db8::9",
    "[2001:db8::9]x",
    "[2001:db8::9]:",
    "[]",
    "2001:db8::9]",
    '"203.0.113.9"',
    "::ffff:203.0.113.9:80",
    "1" * 10_000,
    "[::1]:" + "0" * 100,
]


@pytest.mark.parametrize("node", MALFORMED)
def test_proxy_that_names_no_address_is_refused(node: str) -> None:
    text = refused(f"203.0.113.9, {node}, 10.0.0.1")

    assert "X-Forwarded-For names" in text
    assert len(text) < 200


def test_as_many_proxies_as_may_be_are_passed() -> None:
    assert client("203.0.113.9, 10.0.0.2, 10.0.0.1", max_hops=3) == ("203.0.113.9", 0)
    assert client("10.0.0.2, 10.0.0.1", max_hops=2) == ("10.0.0.2", 0)


def test_one_proxy_more_is_refused() -> None:
    text = refused("203.0.113.9, 10.0.0.2, 10.0.0.1", max_hops=2)

    assert "more than 2 trusted proxies" in text
    assert "max_hops=" in text


@pytest.mark.parametrize(
    ("fields", "secure"),
    [
        ([], None),
        ([""], None),
        (["http"], False),
        (["https"], True),
        (["WSS"], True),
        (["ws"], False),
        (["https, http"], False),
        (["http", " https "], True),
        (["nonsense, https"], True),
    ],
)
def test_scheme_is_what_the_nearest_proxy_says(fields: list[str], secure: bool | None) -> None:
    assert said_secure(Headers([("X-Forwarded-Proto", field) for field in fields])) is secure


@pytest.mark.parametrize("field", ["on", "https://", "h2", "ftp" * 1000, "https, ftp"])
def test_scheme_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(RequestError) as caught:
        said_secure(Headers([("X-Forwarded-Proto", field)]))

    assert caught.value.response.status == 400
    assert "X-Forwarded-Proto says" in caught.value.response.text
    assert len(caught.value.response.text) < 200


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("::ffff:10.0.0.1", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("fd12::1", True),
        ("2001:db8::1", False),
    ],
)
def test_peer_is_trusted_by_its_address(address: str, trusted: bool) -> None:
    assert ProxyPolicy(TrustedProxies(TRUSTED)).trusts(ip_address(address)) is trusted


@pytest.mark.parametrize(
    ("address", "plain"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("::10.0.0.1", "::a00:1")],
)
def test_address_is_the_same_however_it_is_written(address: str, plain: str) -> None:
    assert plain_address(ip_address(address)) == ip_address(plain)


def test_peer_without_an_address_is_trusted_by_the_word_unix() -> None:
    assert ProxyPolicy(TrustedProxies(["unix"])).trusts(None)
    assert not ProxyPolicy(TrustedProxies(TRUSTED)).trusts(None)


def test_protocol_tells_who_speaks_first() -> None:
    assert ProxyPolicy(TrustedProxies(TRUSTED, protocol="proxy-v2")).speaks_first
    assert not ProxyPolicy(TrustedProxies(TRUSTED)).speaks_first
