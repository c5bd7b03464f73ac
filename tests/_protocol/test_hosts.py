"""Which names a server answers to."""

from typing import Any

import pytest

from trio_ws._protocol.hosts import HostPolicy, Hosts


def allows(hosts: Hosts, host: str, *, is_loopback: bool = False) -> bool:
    return HostPolicy(hosts).refusal(host, is_loopback=is_loopback) is None


LOCAL = [
    "",
    "localhost",
    "LocalHost:8080",
    "app.localhost",
    "127.0.0.1:8080",
    "[::1]",
    "[::1]:8080",
    "192.0.2.1",
    "0.0.0.0",  # noqa: S104 - nobody listens
]

FOREIGN = [
    "evil.com",
    "evil.com:8080",
    "localhost.evil.com",
    "evillocalhost",
    "127.0.0.1.evil.com",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "localhost.",
    "localhost:65536",
    "localhost, evil.com",
    "evil.com@localhost",
    "::1",
]


@pytest.mark.parametrize("host", LOCAL)
def test_loopback_answers_to_names_that_no_stranger_can_own(host: str) -> None:
    assert allows(None, host, is_loopback=True)


@pytest.mark.parametrize("host", FOREIGN)
def test_loopback_answers_to_no_other_name(host: str) -> None:
    assert not allows(None, host, is_loopback=True)


@pytest.mark.parametrize("host", [*LOCAL, *FOREIGN])
@pytest.mark.parametrize("is_loopback", [True, False])
def test_star_answers_to_every_name(host: str, is_loopback: bool) -> None:
    assert allows("*", host, is_loopback=is_loopback)


@pytest.mark.parametrize("host", [*LOCAL, *FOREIGN])
def test_other_addresses_answer_to_every_name_by_default(host: str) -> None:
    assert allows(None, host)


NAMED = ["example.com", "*.apps.example", "api.example:8443", "tls.example:443", "[2001:db8::1]:80"]


@pytest.mark.parametrize("is_loopback", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "EXAMPLE.com:1",
        "a.apps.example",
        "a.b.apps.example:8080",
        "api.example:8443",
        "tls.example",
        "tls.example:443",
        "[2001:DB8::1]",
        "[2001:db8:0::1]:80",
    ],
)
def test_named_host_is_answered_to(host: str, is_loopback: bool) -> None:
    assert allows(NAMED, host, is_loopback=is_loopback)


@pytest.mark.parametrize("is_loopback", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "apps.example",
        "evilapps.example",
        "a.example.com",
        "example.com.",
        "example.com.evil.com",
        "api.example",
        "api.example:443",
        "tls.example:80",
        "[2001:db8::1]:81",
        "example.com, evil.com",
    ],
)
def test_host_that_is_not_named_is_refused(host: str, is_loopback: bool) -> None:
    assert not allows(NAMED, host, is_loopback=is_loopback)


def test_no_named_host_refuses_every_request() -> None:
    assert not allows([], "example.com")


def test_hosts_may_be_any_iterable() -> None:
    policy = HostPolicy(name for name in ["a.example"])

    answers = [policy.refusal("a.example", is_loopback=False) for _ in range(2)]

    assert answers == [None, None]


@pytest.mark.parametrize(
    "host", ["", "*", "https://example.com", "example.com/", "::1", "a b", "a:b", "bücher.example"]
)
def test_malformed_host_cannot_be_named(host: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        HostPolicy(["example.com", host])


def test_one_string_is_no_sequence_of_hosts() -> None:
    one: Any = "example.com"

    with pytest.raises(ValueError, match="not one string"):
        HostPolicy(one)


@pytest.mark.parametrize("hosts", [None, ["example.com"]])
def test_refusal_says_how_to_allow_the_host(hosts: Hosts) -> None:
    why = HostPolicy(hosts).refusal("app.example", is_loopback=True)

    assert why is not None
    assert "'app.example'" in why
    assert "hosts=" in why


@pytest.mark.parametrize("hosts", [None, ["example.com"]])
def test_refusal_shows_little_of_a_long_host_and_escapes_it(hosts: Hosts) -> None:
    why = HostPolicy(hosts).refusal("\x1b[2J" * 1000, is_loopback=True)

    assert why is not None
    assert len(why) < 1500
    assert why.isprintable()
