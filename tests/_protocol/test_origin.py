"""Which web pages may open a WebSocket."""

from typing import Any

import pytest

from trio_ws._protocol.origin import OriginPolicy, Origins


def allows(origins: Origins, origin: str | None, host: str = "example.com") -> bool:
    return OriginPolicy(origins).refusal(origin, host) is None


@pytest.mark.parametrize("origins", [None, "*", [], ["https://example.com"]])
def test_request_without_an_origin_comes_from_no_browser_and_passes(origins: Origins) -> None:
    assert allows(origins, None)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("https://example.com", "example.com"),
        ("http://example.com:80", "example.com"),
        ("http://example.com", "example.com:80"),
        ("https://example.com", "example.com:443"),
        ("https://example.com", "example.com:"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://localhost:0000008080", "localhost:8080"),
        ("HTTP://Example.COM", "eXample.com"),
        ("http://127.0.0.1:1", "127.0.0.1:1"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]"),
        ("https://[::1]", "[::1]:443"),
        ("http://[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("http://a_b.example", "a_b.example"),
    ],
)
def test_same_origin_is_allowed(origin: str, host: str) -> None:
    assert allows(None, origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.com", "example.com"),
        ("http://example.com.evil.com", "example.com"),
        ("http://sub.example.com", "example.com"),
        ("http://example.com.", "example.com"),
        ("http://example.com:8080", "example.com"),
        ("http://example.com", "example.com:8080"),
        ("http://example.com", "example.com:443"),
        ("https://example.com", "example.com:80"),
        ("http://example.com:0", "example.com"),
        ("http://[::1]:8080", "[::2]:8080"),
        ("http://[::1]", "::1"),
        ("http://localhost", "127.0.0.1"),
        ("http://example.com", ""),
        ("http://example.com", "example.com, evil.com"),
    ],
)
def test_another_origin_is_refused(origin: str, host: str) -> None:
    assert not allows(None, origin, host)


@pytest.mark.parametrize("scheme", ["capacitor", "chrome-extension", "ws", "wss", "file"])
def test_page_of_another_scheme_is_never_of_the_same_origin(scheme: str) -> None:
    assert not allows(None, f"{scheme}://localhost", "localhost")
    assert not allows(None, f"{scheme}://localhost:8080", "localhost:8080")


MALFORMED = [
    "",
    "null",
    "example.com",
    "//example.com",
    "://example.com",
    "http:example.com",
    "http://",
    "http://:80",
    "http:// example.com",
    "http://example.com/",
    "http://example.com/path",
    "http://example.com?query",
    "http://example.com#fragment",
    "http://user@example.com",
    "http://example.com\\",
    "http://example.com%2f",
    "http://example.com:port",
    "http://example.com:-1",
    "http://example.com:²",
    "http://example.com:65536",
    "http://example.com:" + "9" * 5000,
    "http://example.com:80:80",
    "http://::1",
    "http://[::1",
    "http://::1]",
    "http://[::1]x",
    "http://[example.com]",
    "http://[]",
    "http://bücher.example",
    "http://exam\x00ple.com",
    "ht tp://example.com",
    "http://example.com http://example.com",
    "http://example.com, http://example.com",
]


@pytest.mark.parametrize("origin", MALFORMED)
def test_malformed_origin_is_refused(origin: str) -> None:
    assert not allows(None, origin)
    assert not allows(["http://example.com"], origin)


@pytest.mark.parametrize("origin", ["null", *MALFORMED, "http://evil.com"])
def test_malformed_host_is_never_of_the_same_origin(origin: str) -> None:
    assert not allows(None, origin, origin)


@pytest.mark.parametrize("origin", MALFORMED)
def test_malformed_origin_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        OriginPolicy(["http://example.com", origin])


@pytest.mark.parametrize("origin", ["https://example.com", "null", "", "nonsense"])
def test_star_allows_everything(origin: str) -> None:
    assert allows("*", origin)


@pytest.mark.parametrize(
    "origin",
    ["https://app.example", "HTTPS://APP.example:443", "http://[0::1]:81", "tauri://localhost"],
)
def test_named_origin_is_allowed(origin: str) -> None:
    named = ["https://app.example", "http://[::1]:81", "tauri://localhost"]

    assert allows(named, origin, "api.example")


@pytest.mark.parametrize(
    "origin",
    ["http://app.example", "https://app.example:8443", "https://x.app.example", "https://evil.com"],
)
def test_origin_that_is_not_named_is_refused(origin: str) -> None:
    assert not allows(["https://app.example"], origin)


WILD = ["https://*.app.example", "http://*.app.example:8080", "tauri://*.localhost"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.app.example",
        "https://a.b.APP.example:443",
        "http://a.app.example:8080",
        "tauri://a.localhost",
    ],
)
def test_origin_below_a_wildcard_is_allowed(origin: str) -> None:
    assert allows(WILD, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "https://.app.example",
        "https://*.app.example",
        "https://evilapp.example",
        "https://app.example.evil.com",
        "https://a.app.example:8443",
        "https://a.app.example.",
        "http://a.app.example",
        "https://a.app.example@evil.com",
    ],
)
def test_origin_that_is_not_below_a_wildcard_is_refused(origin: str) -> None:
    assert not allows(WILD, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "*://app.example",
        "https://*",
        "https://*.",
        "https://*app.example",
        "https://a.*.example",
        "https://*.0.0.1",
        "https://.app.example",
    ],
)
def test_wildcard_in_another_place_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        OriginPolicy([origin])


def test_same_origin_is_refused_when_others_are_named() -> None:
    assert not allows(["https://app.example"], "https://example.com")


def test_no_named_origin_refuses_every_page() -> None:
    assert not allows([], "https://example.com")


def test_origins_may_be_any_iterable() -> None:
    policy = OriginPolicy(name for name in ["https://a.example"])

    answers = [policy.refusal("https://a.example", "x") for _ in range(2)]

    assert answers == [None, None]


def test_one_string_is_no_sequence_of_origins() -> None:
    one: Any = "https://example.com"

    with pytest.raises(ValueError, match="not one string"):
        OriginPolicy(one)


def test_refusal_says_how_to_allow_the_origin() -> None:
    why = OriginPolicy(None).refusal("https://app.example", "example.com")

    assert why is not None
    assert "'https://app.example'" in why
    assert "origins=" in why


def test_refusal_shows_little_of_a_long_origin_and_escapes_it() -> None:
    why = OriginPolicy(None).refusal("\x1b[2J" * 1000, "example.com")

    assert why is not None
    assert len(why) < 1500
    assert why.isprintable()
