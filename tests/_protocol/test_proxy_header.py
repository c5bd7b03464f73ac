"""The PROXY header, version 2."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests._protocol.proxy_headers import (
    SIGNATURE,
    extra,
    proxy_header,
    tcp_addresses,
    unix_addresses,
)
from trio_ws._protocol.proxy_header import (
    PREFIX_SIZE,
    ProxyHeaderError,
    Source,
    crc32c,
    read_length,
    read_source,
)

TCP4 = tcp_addresses("203.0.113.9", 4711)
TCP6 = tcp_addresses("2001:db8::9", 65535)


def read(header: bytes) -> Source | None:
    prefix, body = header[:PREFIX_SIZE], header[PREFIX_SIZE:]
    assert read_length(prefix) == len(body)
    return read_source(prefix, body)


def with_checksum(addresses: bytes, *, wrong: int = 0) -> bytes:
    blank = proxy_header(addresses, extras=extra(3, bytes(4)) + extra(4, b"pad"))
    checksum = crc32c(blank) ^ wrong
    extras = extra(3, checksum.to_bytes(4, "big")) + extra(4, b"pad")
    return proxy_header(addresses, extras=extras)


def test_tcp_over_ipv4_tells_address_and_port() -> None:
    assert read(proxy_header(TCP4)) == (ip_address("203.0.113.9"), 4711)


def test_tcp_over_ipv6_tells_address_and_port() -> None:
    assert read(proxy_header(TCP6, family=0x21)) == (ip_address("2001:db8::9"), 65535)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/run/app.sock", "unix:/run/app.sock"),
        (b"", "unix:"),
        (b"\0abstract", "unix:\\x00abstract"),
        (b"/a\x1b[2J\n\xff\xe2\x80\xae", "unix:/a\\x1b[2J\\n\\\\xff\\u202e"),
        (b"x" * 108, "unix:" + "x" * 108),
    ],
)
def test_unix_socket_tells_its_path_escaped(path: bytes, shown: str) -> None:
    assert read(proxy_header(unix_addresses(path), family=0x31)) == shown


@pytest.mark.parametrize("family", [0x00, 0x11, 0x12, 0xFF])
@pytest.mark.parametrize("body", [b"", TCP4, b"\xff" * 300])
def test_proxy_that_speaks_for_itself_is_believed_nothing_else(family: int, body: bytes) -> None:
    assert read(proxy_header(body, command=0x20, family=family)) is None


def test_unspecified_family_tells_nothing() -> None:
    assert read(proxy_header(family=0x00)) is None
    assert read(proxy_header(family=0x00, extras=extra(4, b"x"))) is None


@pytest.mark.parametrize("family", [0x01, 0x12, 0x22, 0x32, 0x41, 0xFF])
def test_family_that_is_no_stream_is_refused(family: int) -> None:
    with pytest.raises(ProxyHeaderError, match=f"the family is {family:#04x}"):
        read(proxy_header(TCP6 * 10, family=family))


@pytest.mark.parametrize(
    ("family", "size"), [(0x11, 12), (0x21, 36), (0x31, 216)], ids=["TCP4", "TCP6", "Unix"]
)
def test_addresses_that_are_too_short_are_refused(family: int, size: int) -> None:
    read(proxy_header(b"\x01" * size, family=family))

    with pytest.raises(ProxyHeaderError, match="too few for its addresses"):
        read(proxy_header(b"\x01" * (size - 1), family=family))


def test_extras_are_skipped() -> None:
    extras = extra(1, b"h2") + extra(0x20, b"\x01" * 500) + extra(0xEE, b"")

    assert read(proxy_header(TCP4, extras=extras)) == (ip_address("203.0.113.9"), 4711)


@pytest.mark.parametrize("extras", [b"\x04", b"\x04\0", b"\x04\0\x01", b"\x04\xff\xff" + b"x" * 99])
def test_extra_that_is_cut_off_is_refused(extras: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="an extra is"):
        read(proxy_header(TCP4, extras=extras))


def test_checksum_is_the_one_of_the_rfc() -> None:
    # RFC 3720, appendix B.4, and the check value of every catalogue.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


def test_header_with_the_right_checksum_is_read() -> None:
    assert read(with_checksum(TCP4)) == (ip_address("203.0.113.9"), 4711)


@pytest.mark.parametrize("wrong", [1, 0x80000000])
def test_header_with_a_wrong_checksum_is_refused(wrong: int) -> None:
    with pytest.raises(ProxyHeaderError, match="checksum"):
        read(with_checksum(TCP4, wrong=wrong))


@pytest.mark.parametrize("size", [0, 3, 5])
def test_checksum_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ProxyHeaderError, match="checksum"):
        read(proxy_header(TCP4, extras=extra(3, bytes(size))))


def test_header_with_two_checksums_is_refused_before_the_second_is_computed() -> None:
    # The first fits, with the second in place.
    unsummed = proxy_header(TCP4, extras=extra(3, bytes(4)) * 2)
    fitting = crc32c(unsummed).to_bytes(4, "big")

    with pytest.raises(ProxyHeaderError, match="two checksums"):
        read(proxy_header(TCP4, extras=extra(3, fitting) + extra(3, bytes(4))))


@pytest.mark.parametrize(
    "prefix",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.",
        b"\x16\x03\x01" + bytes(13),
        SIGNATURE[:11] + b"\r\x21\x11\0\0",
        bytes(16),
    ],
)
def test_what_does_not_begin_with_the_signature_is_refused(prefix: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="signature of version 2"):
        read_length(prefix)


@pytest.mark.parametrize("command", [0x00, 0x11, 0x22, 0x2F, 0x31, 0xFF])
def test_other_versions_and_commands_are_refused(command: int) -> None:
    with pytest.raises(ProxyHeaderError, match=f"version and command are {command:#04x}"):
        read_length(proxy_header(TCP4, command=command)[:PREFIX_SIZE])


@given(st.sampled_from([0x20, 0x21]), st.integers(0, 255), st.binary(max_size=300))
def test_any_body_is_read_or_refused(command: int, family: int, body: bytes) -> None:
    header = proxy_header(body, command=command, family=family)

    try:
        source = read(header)
    except ProxyHeaderError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is right
    else:
        assert source is None or not isinstance(source, str) or source.isprintable()
