"""Fuzz targets: hosts, origins and URLs, which are text."""

from ipaddress import IPv6Address

from tests.fuzz.bounds import counted
from trio_ws._protocol.authority import is_address, parse_pattern, split_authority
from trio_ws._protocol.hosts import HostPolicy
from trio_ws._protocol.origin import OriginPolicy
from trio_ws._transport.url import parse_url


def _pair(data: bytes) -> tuple[str, str]:
    """Make two texts of an input: its first line and the rest, as header values are decoded."""
    first, _, second = data.partition(b"\n")
    return first.decode("latin-1"), second.decode("latin-1")


def authority(data: bytes) -> None:
    """A host and a port: what comes out is the form in which two are compared."""
    text = data.decode("latin-1")
    with counted(limit=500 + 20 * len(data)):
        parsed = split_authority(text, 80)
        pattern = parse_pattern(text, 80)
        parse_pattern(f"*.{text}", 80)
    if parsed is None:
        assert pattern is None or text.startswith("*.")
        return
    host, port = parsed
    assert port in range(2**16)
    assert host == host.lower()
    assert host.isascii()
    assert host.isprintable()
    assert not set(" /?#@\\*[]") & set(host)
    # Written in this form it means the same.
    written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert split_authority(written, 443) == parsed
    if ":" in host:
        assert is_address(host)
        IPv6Address(host)
    if pattern is not None:
        assert pattern[0].matches(host) is not pattern[0].below


def hosts(data: bytes) -> None:
    """A host that is allowed, and one that is asked for: equal, or refused."""
    allowed, asked = _pair(data)
    with counted(limit=2000 + 40 * len(data)):
        for is_loopback in (True, False):
            refusal = HostPolicy(None).refusal(asked, is_loopback=is_loopback)
            assert refusal is None or (is_loopback and len(refusal) <= 1500)
        try:
            policy = HostPolicy([allowed])
        except ValueError:
            return
        refusal = policy.refusal(asked, is_loopback=True)
    if refusal is not None:
        assert refusal.isprintable()
        return
    # What is asked for is the host that is allowed, or ends with it behind a wildcard's dot.
    parsed, wanted = split_authority(asked, 0), split_authority(allowed.removeprefix("*."), 0)
    assert parsed is not None
    assert wanted is not None
    if allowed.startswith("*."):
        assert parsed[0].endswith(f".{wanted[0]}")
    else:
        assert parsed[0] == wanted[0]
    assert wanted[1] in {0, parsed[1]} or (parsed[1] == 0 and wanted[1] in {80, 443})


def origin(data: bytes) -> None:
    """An origin that is allowed, or a host, and the origin of a page: of one kind, or refused."""
    given, asked = _pair(data)
    with counted(limit=3000 + 60 * len(data)):
        same = OriginPolicy(None).refusal(asked, given)
        if same is None:
            _check_same(asked, given)
        try:
            policy = OriginPolicy([given])
        except ValueError:
            return
        refusal = policy.refusal(asked, "localhost")
    if refusal is not None:
        assert refusal.isprintable()
        assert len(refusal) <= 1500
        return
    scheme, _, rest = given.partition("://")
    asked_scheme, _, asked_rest = asked.partition("://")
    assert asked_scheme.lower() == scheme.lower()
    if rest.startswith("*."):
        wanted = split_authority(rest[2:], 0)
        parsed = split_authority(asked_rest, 0)
        assert wanted is not None
        assert parsed is not None
        assert parsed[0].endswith(f".{wanted[0]}")
    else:
        _check_same(asked, rest)


def _check_same(origin: str, host: str) -> None:
    scheme, separator, rest = origin.partition("://")
    default = {"http": 80, "https": 443}.get(scheme.lower(), 0)
    parsed = split_authority(rest, default)
    assert separator
    assert parsed is not None
    assert parsed == split_authority(host, default)


def url(data: bytes) -> None:
    """A URL: an error, or what may stand in a request and in a name for people."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        with counted(limit=5000 + 150 * len(data)):
            target = parse_url(text)
    except ValueError as error:
        assert not isinstance(error, UnicodeError), "the error says nothing of the URL"
        return
    for each in (target.authority, target.resource):
        assert each.isascii()
        assert each.isprintable()
        assert " " not in each
    assert target.resource.startswith("/")
    assert len(target.resource) <= 1 + 3 * len(data)
    if target.unix_path is None:
        assert target.port in range(1, 2**16)
        assert target.host
        assert split_authority(target.authority, 80) is not None
    else:
        assert (target.host, target.port, target.secure) == ("", 0, False)
        assert target.unix_path
    if target.credentials is not None:
        assert target.credentials.isascii()
        assert "@" not in target.name.partition("://")[2].partition("/")[0]
