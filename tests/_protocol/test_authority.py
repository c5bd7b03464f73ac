"""Hosts and ports, and the wildcard that stands for what is below a host."""

import pytest

from trio_ws._protocol.authority import (
    HostPattern,
    is_address,
    parse_pattern,
    split_authority,
)


@pytest.mark.parametrize(
    ("authority", "parsed"),
    [
        ("example.com", ("example.com", 80)),
        ("eXample.COM:8080", ("example.com", 8080)),
        ("example.com:", ("example.com", 80)),
        ("example.com:65535", ("example.com", 65535)),
        ("example.com:0000000001", ("example.com", 1)),
        ("[::1]", ("::1", 80)),
        ("[0:0::1]:443", ("::1", 443)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
    ],
)
def test_authority_is_split_and_brought_into_one_form(
    authority: str, parsed: tuple[str, int]
) -> None:
    assert split_authority(authority, 80) == parsed


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "a:65536",
        "a:" + "9" * 5000,
        "a:-1",
        "a:²",
        "::1",
        "[::1",
        "[a]",
        "[fe80::1%eth0]",
        "[::1%\r\nX: y]",
        "a b",
        "*.a",
        "é",
    ],
)
def test_malformed_authority_is_none(authority: str) -> None:
    assert split_authority(authority, 80) is None


@pytest.mark.parametrize("host", ["a.example.com", "a.b.example.com", "xn--a.example.com"])
def test_wildcard_stands_for_one_label_or_more(host: str) -> None:
    assert HostPattern("example.com", below=True).matches(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        ".example.com",
        "evilexample.com",
        "example.com.evil.com",
        "a.example.com.",
        "a.example.org",
    ],
)
def test_wildcard_stands_for_nothing_else(host: str) -> None:
    assert not HostPattern("example.com", below=True).matches(host)


def test_host_without_a_wildcard_is_itself_alone() -> None:
    pattern = HostPattern("example.com", below=False)

    assert pattern.matches("example.com")
    assert not pattern.matches("a.example.com")


def test_pattern_is_split_from_its_port() -> None:
    assert parse_pattern("*.Example.com:81", 80) == (HostPattern("example.com", below=True), 81)
    assert parse_pattern("[::1]", 80) == (HostPattern("::1", below=False), 80)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.",
        "*.*",
        "*..a",
        "**.a",
        "*a.example.com",
        "a.*.example.com",
        "a.*",
        ".example.com",
        "*.0.0.1",
        "*.[::1]",
        "*.a:b",
    ],
)
def test_wildcard_anywhere_else_is_malformed(pattern: str) -> None:
    assert parse_pattern(pattern, 80) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", True), ("::1", True), ("1.2.3", False), ("127.0.0.1.a", False), ("a", False)],
)
def test_address_is_told_from_a_name(host: str, address: bool) -> None:
    assert is_address(host) is address
