"""`SEEDS` and `WORDS`: inputs made by hand, where every target begins.

Each known hazard that can be written as an input is among them: what made other implementations
fall over, lose their place, or take long. What fuzzing found is in `corpus` beside this file.
"""

import zlib
from collections.abc import Mapping

from tests._protocol.proxy_headers import extra, proxy_header, tcp_addresses, unix_addresses
from tests.fakes import raw_frame
from tests.fuzz.frame_targets import CLIENT, CLOSING, COMPRESSED, NO_TAKEOVER, TIGHT
from tests.fuzz.head_targets import KEY, MAX_HEAD
from trio_ws._protocol.proxy_header import crc32c
from trio_ws._protocol.upgrade import accept_key

_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10

# With this key the payload is legible, and mutations of it mean something.
_NO_KEY = bytes(4)


def _frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved, key=_NO_KEY)


def _declared(first: int, second: int, length: bytes = b"") -> bytes:
    return bytes((first, second)) + length + _NO_KEY


_STREAMS = {
    "empty": b"",
    "text and binary": _frame(_TEXT, "Olá 🦜".encode()) + _frame(_BINARY, b"\0\xff"),
    "every kind": b"".join(
        (
            _frame(_TEXT, b"Ol", fin=False),
            _frame(_PING, b"1"),
            _frame(_CONT, "á".encode()),
            _frame(_PONG),
            _frame(_BINARY, bytes(126)),
            _frame(_CLOSE, b"\x03\xe8bye"),
        )
    ),
    "masked with a key": raw_frame(_TEXT, b"Hello", masked=True, key=b"\x37\xfa\x21\x3d") * 2,
    "lengths in two bytes": b"".join(_frame(_BINARY, bytes(size)) for size in (125, 126, 127, 300)),
    "length in eight bytes": _frame(_BINARY, bytes(0x10000)),
    "empty messages": _frame(_TEXT) + _frame(_BINARY),
    "empty fragments": _frame(_TEXT, fin=False) + _frame(_CONT, fin=False) * 20 + _frame(_CONT),
    "fragments of one byte": _frame(_BINARY, b"a", fin=False) + _frame(_CONT, b"b", fin=False) * 9,
    "message at the limit": _frame(_BINARY, bytes(300)) + _frame(_TEXT, b"a" * 300),
    "message above the limit": _frame(_BINARY, bytes(301)),
    "fragments at the limit": _frame(_BINARY, bytes(150), fin=False) + _frame(_CONT, bytes(150)),
    "fragments above the limit": _frame(_TEXT, b"a" * 150, fin=False) + _frame(_CONT, b"a" * 151),
    "as many fragments as may be": _frame(_TEXT, fin=False)
    + _frame(_CONT, fin=False) * 2
    + _frame(_CONT),
    "one fragment too many": _frame(_TEXT, fin=False) + _frame(_CONT, fin=False) * 4,
    "declared length without a payload": _declared(0x82, 0xFF, (2**62).to_bytes(8, "big")),
    "length with the top bit": _declared(0x82, 0xFF, (2**63).to_bytes(8, "big")),
    "length near overflow": _declared(0x82, 0xFF, (2**63 - 1).to_bytes(8, "big")),
    "two bytes for a short length": _declared(0x82, 0xFE, b"\0\x7d") + bytes(125),
    "eight bytes for a short length": _declared(0x82, 0xFF, (0xFFFF).to_bytes(8, "big")),
    "first reserved bit": _frame(_TEXT, b"a", reserved=4),
    "second reserved bit": _frame(_TEXT, b"a") + _frame(_BINARY, b"a", reserved=2),
    "third reserved bit": _frame(_PING, b"a", reserved=1),
    "reserved opcode": _frame(3),
    "reserved control opcode": _frame(11),
    "not masked": raw_frame(_TEXT, b"a", masked=False),
    "control frame that is too long": _declared(0x89, 0xFE, b"\0\x7e") + bytes(126),
    "control frame in fragments": _frame(_PING, fin=False),
    "continuation of nothing": _frame(_CONT, b"a"),
    "message inside of a message": _frame(_TEXT, b"a", fin=False) + _frame(_TEXT, b"b"),
    "text that is no text": _frame(_TEXT, b"\xc0\xaf"),
    "text cut inside of a character": _frame(_TEXT, b"\xf0\x9f\xa6", fin=False) + _frame(_CONT),
    "half a surrogate": _frame(_TEXT, b"\xed\xa0", fin=False),
    "text beyond the last character": _frame(_TEXT, b"\xf4\x90\x80\x80"),
    "invalid text and then a Close": _frame(_TEXT, b"\xff") + _frame(_CLOSE, b"\x03\xe8"),
    "ping after a Close": _frame(_CLOSE, b"\x03\xe8") + _frame(_PING, b"late"),
    "Close without a code": _frame(_CLOSE),
    "Close of one byte": _frame(_CLOSE, b"\x03"),
    "Close with a reserved code": _frame(_CLOSE, b"\x03\xed"),
    "Close with a reason that is no text": _frame(_CLOSE, b"\x03\xe8\xff"),
    "many pings": _frame(_PING) * 40,
    "frames inside of a payload": _frame(_BINARY, _frame(_PING) * 60) + _frame(_PING),
    "cut in a header": _frame(_BINARY, bytes(300))[:3],
    "cut in a payload": _frame(_TEXT, b"a" * 20)[:-5],
}

_PLAIN = {
    "what a server sends": raw_frame(_TEXT, b"a", masked=False)
    + raw_frame(_BINARY, bytes(200), masked=False)
    + raw_frame(_TEXT, b"b", masked=False, fin=False)
    + raw_frame(_PING, b"1", masked=False)
    + raw_frame(_CONT, "ü".encode(), masked=False)
    + raw_frame(_CLOSE, b"\x03\xe9", masked=False),
    "masked by a server": _frame(_TEXT, b"a"),
}

_CLOSES = {
    "no code": b"",
    "one byte": b"\x03",
    "normal": b"\x03\xe8",
    "with a reason": b"\x03\xe8" + "até logo".encode(),
    "longest reason": b"\x0f\xa0" + b"r" * 123,
    "a reason that is too long": b"\x0f\xa0" + b"r" * 124,
    "no text": b"\x03\xe8\xed\xa0\x80",
    **{f"code {code}": code.to_bytes(2, "big") for code in (999, 1004, 1005, 1006, 1014, 1015)},
    **{f"code {code}": code.to_bytes(2, "big") for code in (1016, 2999, 3000, 4999, 5000)},
}

_HANDSHAKE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat.v2, chat.v1\r\n"
    b"Origin: http://example.com\r\n\r\n"
)

_REQUESTS = {
    "handshake": _HANDSHAKE,
    "handshake with frames behind it": _HANDSHAKE + _frame(_TEXT, b"a"),
    "plain": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "line feeds alone": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "empty lines first": b"\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "absolute target": b"GET http://example.com/a?b HTTP/1.1\r\nHost: other\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "escapes": b"GET /%C3%A9/%2e%2e/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "broken escape": b"GET /%4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "length that is long": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: "
    + b"9" * 99
    + b"\r\n\r\n",
    "space before a colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "carriage return in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    "spaces before a control character": b"GET / HTTP/1.1\r\nX: a" + b" " * 999 + b"\x0b\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: b\r\n" * 50 + b"\r\n",
    "head without end": b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD,
    "line without end": b"GET /" + b"a" * MAX_HEAD,
    "later version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "user in a host": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
}

_ANSWERS = {
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x01a",
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2 + b"HTTP/1.1 200 OK\r\n\r\nbody",
    "interim without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
    "length": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    "length that is not reached": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nno",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    "chunk extension of spaces": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;"
    + b" " * 900
    + b"\r\nabc\r\n",
    "body without end": b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 2000,
    "no body": b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half of a status line": b"HTTP/1.1 20",
    "status that is none": b"HTTP/1.1 999 No\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\n\r\n",
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: b\r\n" * 50 + b"\r\n",
    "head without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD,
}

_UPGRADES = {
    "plain": b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "of a browser": b"Connection: keep-alive, Upgrade\nUpgrade: websocket\n"
    b"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n"
    b"Sec-WebSocket-Protocol: a, b\nSec-WebSocket-Protocol: c\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "older version": b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 8\n",
    "two keys": b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n" * 2,
    "commas": b"Upgrade: websocket" + b"," * 500 + b"\nConnection:" + b" ," * 500 + b"Upgrade",
    "same subprotocol twice": b"Upgrade: websocket\nConnection: Upgrade\n"
    b"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"
    b"Sec-WebSocket-Protocol: a, a",
}


def _deflated(*messages: bytes, final: bool = False) -> list[bytes]:
    """Compress messages that refer to each other; or each ends with a block that is the last."""
    compressor = zlib.compressobj(wbits=-15)
    if final:
        return [zlib.compress(each, wbits=-15) for each in messages]
    return [
        (compressor.compress(each) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for each in messages
    ]


_COMPRESSED = {
    "messages that refer to each other": b"".join(
        _frame(_TEXT, each, reserved=4) for each in _deflated(b"Hello, hello", b"Hello, hello")
    ),
    "compressed and not": _frame(_TEXT, _deflated(b"a")[0], reserved=4) + _frame(_TEXT, b"b"),
    "in fragments": _frame(_TEXT, _deflated(b"Hello")[0][:3], fin=False, reserved=4)
    + _frame(_PING)
    + _frame(_CONT, _deflated(b"Hello")[0][3:]),
    "bit in a continuation": _frame(_TEXT, fin=False, reserved=4) + _frame(_CONT, reserved=4),
    "bit in a control frame": _frame(_PING, reserved=4),
    "empty": _frame(_TEXT, b"\0", reserved=4) + _frame(_BINARY, reserved=4),
    "final block": _frame(_BINARY, _deflated(b"Hello", final=True)[0], reserved=4) * 2,
    "bomb": _frame(_BINARY, _deflated(bytes(500_000))[0], reserved=4),
    "what cannot be inflated": _frame(_BINARY, b"\xff", reserved=4),
    "compressed text that is no text": _frame(_TEXT, _deflated(b"\xff")[0], reserved=4),
    "much larger than what comes out": _frame(_BINARY, b"\0\0\0\xff\xff" * 320, reserved=4),
    "as large as may be": _frame(_BINARY, bytes(1624), reserved=4),
    "larger than may be": _frame(_BINARY, bytes(1625), reserved=4),
}

_DEFLATES = {
    "hello": bytes((0,)) + _deflated(b"Hello, hello")[0],
    "text": bytes((CLIENT,)) + _deflated("até logo".encode() * 9)[0],
    "two messages": bytes((CLOSING,)) + b"".join(_deflated(b"Hello", b"Jello")),
    "two that refer to nothing": bytes((CLOSING | NO_TAKEOVER,)) + _deflated(b"abcd" * 300)[0] * 2,
    "fragments": bytes((32,)) + _deflated(b"Hello, hello")[0],
    "final blocks": bytes((0,)) + b"".join(_deflated(b"a", b"b", b"", final=True)),
    "nothing but final blocks": bytes((0,)) + b"\x03\0" * 300,
    "stored": bytes((0,)) + b"\0\x05\0\xfa\xffHello\0",
    "stored that is cut": bytes((0,)) + b"\0\xff\0\0\xff",
    "bomb": bytes((0,)) + _deflated(bytes(500_000))[0],
    "bomb, tight": bytes((TIGHT,)) + _deflated(bytes(5000))[0],
    "as large as it may be": bytes((0,)) + _deflated(bytes(70_000))[0],
    "one byte too large": bytes((0,)) + _deflated(bytes(70_001))[0],
    "as large as it may be, tight": bytes((TIGHT | 32,)) + _deflated(bytes(300))[0],
    "one byte too large, tight": bytes((TIGHT | 32,)) + _deflated(bytes(301))[0],
    "in several pieces": bytes((0,)) + _deflated(bytes(range(256)) * 200)[0],
    "final block and another": bytes((0,))
    + _deflated(b"Hello", final=True)[0]
    + _deflated(b"Jello")[0],
    "far back": bytes((NO_TAKEOVER,)) + _deflated(b"Hello" + bytes(2000) + b"Hello")[0],
}

_OFFERS = {
    each: each.encode()
    for each in (
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8; server_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        'permessage-deflate; server_max_window_bits="10"',
        "permessage-deflate; server_max_window_bits=010, permessage-deflate",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; unknown, x-webkit-deflate-frame",
        'a; b="c\\"d, permessage-deflate"',
        "permessage-deflate;;",
        "permessage-deflate\npermessage-deflate; server_no_context_takeover=1",
    )
} | {"commas": b"," * 1000, "semicolons": b"a" + b";a" * 700, "backslashes": b'a;b="' + b"\\" * 999}

_ACCEPTS = {
    name: b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: "
    + accept_key(KEY).encode()
    + more
    for name, more in {
        "plain": b"",
        "with a subprotocol": b"\nSec-WebSocket-Protocol: chat.v1",
        "with a subprotocol not offered": b"\nSec-WebSocket-Protocol: chat.v3",
        "with two subprotocols": b"\nSec-WebSocket-Protocol: chat.v1, chat.v2",
        "with an extension": b"\nSec-WebSocket-Extensions: permessage-deflate",
        "twice": b"\nSec-WebSocket-Accept: " + accept_key(KEY).encode(),
    }.items()
}


def _summed(addresses: bytes) -> bytes:
    without = proxy_header(addresses, extras=extra(3, bytes(4)))
    return proxy_header(addresses, extras=extra(3, crc32c(without).to_bytes(4, "big")))


_PROXIES = {
    "version 4": proxy_header(tcp_addresses("192.0.2.1", 5000)),
    "version 6": proxy_header(tcp_addresses("2001:db8::1", 5000), family=0x21),
    "Unix": proxy_header(unix_addresses(b"/run/app.sock"), family=0x31),
    "abstract Unix": proxy_header(unix_addresses(b"\0\x1b[2Jname"), family=0x31),
    "local": proxy_header(command=0x20, family=0),
    "unknown": proxy_header(family=0),
    "extras": proxy_header(tcp_addresses("192.0.2.1", 1), extras=extra(4, b"") + extra(2, b"a")),
    "checksum": _summed(tcp_addresses("192.0.2.1", 1)),
    "two checksums": proxy_header(tcp_addresses("192.0.2.1", 1), extras=extra(3, bytes(4)) * 2),
    "extra that is cut off": proxy_header(tcp_addresses("192.0.2.1", 1), extras=b"\x04\0"),
    "extra that is too long": proxy_header(tcp_addresses("192.0.2.1", 1), extras=b"\x04\xff\xffa"),
    "addresses that are cut off": proxy_header(bytes(11)),
    "version 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
}

_FORWARDED = {
    "one": b"X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https",
    "behind a trusted proxy": b"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1",
    "with ports": b"X-Forwarded-For: [2001:db8::1]:5000, 10.0.0.1:80",
    "in several fields": b"X-Forwarded-For: 192.0.2.1\nX-Forwarded-For: 10.0.0.1, , 10.0.0.2",
    "too many": b"X-Forwarded-For: 192.0.2.1" + b", 10.0.0.1" * 9,
    "mapped": b"X-Forwarded-For: ::ffff:10.0.0.1",
    "zone": b"X-Forwarded-For: fe80::1%eth0",
    "commas": b"X-Forwarded-For: 192.0.2.1" + b" ," * 900,
    "long": b"X-Forwarded-For: " + b"1" * 2000,
    "not closed": b"X-Forwarded-For: [::1",
    "schemes": b"X-Forwarded-Proto: http, WSS",
    "no scheme": b"X-Forwarded-Proto: gopher",
}

_AUTHORITIES = {
    each.decode("latin-1"): each
    for each in (
        b"example.com",
        b"EXAMPLE.com:8080",
        b"[::1]:80",
        b"[::ffff:1.2.3.4]",
        b"[fe80::1%eth0]",
        b"[::1%\r\nX: y]",
        b"*.example.com:443",
        b"*.1.2.3.4",
        b"127.0.0.1:0080",
        b"a:99999999999999999999",
        b"a:",
        b":80",
        b"a@b",
        b"\xe9.example",
        b"a.:80",
    )
} | {"long": b"1." * 1000, "colons": b"[" + b":" * 1000 + b"]"}

_HOSTS = {
    "same": b"example.com\nexample.com",
    "with a port": b"example.com:8080\nEXAMPLE.com:8080",
    "below": b"*.example.com\na.b.example.com:443",
    "not below": b"*.example.com\nevilexample.com",
    "loopback": b"localhost\na.localhost:1",
    "rebound": b"localhost\nevil.example",
    "address": b"[::1]\n[0:0::1]:80",
    "unnamed port": b"example.com:443\nexample.com",
}

_ORIGINS = {
    "same": b"example.com\nhttps://example.com",
    "allowed": b"https://example.com\nhttps://example.com:443",
    "below": b"https://*.example.com\nhttps://a.example.com",
    "null": b"example.com\nnull",
    "extension": b"chrome-extension://abc\nchrome-extension://abc",
    "path": b"https://example.com/\nhttps://example.com",
    "suffix": b"https://example.com\nhttps://example.com.evil.example",
}

_URLS = {
    each: each.encode()
    for each in (
        "ws://localhost:8080/chat?room=1",
        "wss://user:p%40ss@example.com/",
        "ws://[::1]:80/",
        "ws://[fe80::1%25eth0]/",
        "ws://[v1.é:]/",
        "ws://exämple.com/ü?ä",
        "ws+unix:/run/app.sock:/chat?x",
        "ws+unix:///run/app.sock",
        "ws://a#b",
        "ws://a:0/",
        "ws://a:99999",
        "ws://a b/",
        "ws://[",
        "ws:",
        "http://a/",
        "ws://a:b:c@d/",
        "ws://xn--.com/",
        "//a",
    )
} | {"not UTF-8": b"ws://a/\xff?\xff", "not UTF-8 in a password": b"ws://u:\xff@a/"}

SEEDS: Mapping[str, Mapping[str, bytes]] = {
    "answer": _ACCEPTS,
    "authority": _AUTHORITIES,
    "close_payload": _CLOSES,
    "deflate": _DEFLATES,
    "extensions": _OFFERS,
    "forwarded": _FORWARDED,
    "frames": {
        **{name: bytes((0,)) + stream for name, stream in _STREAMS.items()},
        **{f"{name}, tight": bytes((TIGHT,)) + stream for name, stream in _STREAMS.items()},
        **{f"{name}, closing": bytes((CLOSING,)) + stream for name, stream in _STREAMS.items()},
        **{name: bytes((CLIENT,)) + stream for name, stream in _PLAIN.items()},
        **{name: bytes((COMPRESSED,)) + stream for name, stream in _COMPRESSED.items()},
        **{
            f"{name}, tight": bytes((COMPRESSED | NO_TAKEOVER | TIGHT,)) + stream
            for name, stream in _COMPRESSED.items()
        },
    },
    "hosts": _HOSTS,
    "origin": _ORIGINS,
    "proxy_header": _PROXIES,
    "request_head": _REQUESTS,
    "response_head": _ANSWERS,
    "upgrade": _UPGRADES,
    "url": _URLS,
}
"""Inputs by target, each with a name."""

_TOKENS = (
    b"websocket",
    b"Upgrade: ",
    b"Connection: ",
    b"Host: ",
    b"Sec-WebSocket-Key: ",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Protocol: ",
    b"Sec-WebSocket-Accept: ",
    b"Sec-WebSocket-Extensions: ",
    b"\r\n\r\n",
)
_HTTP = (
    *_TOKENS,
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"HTTP/1.1 200 \r\n",
    b"HTTP/1.1 101 \r\n",
    b"\r\n ",
    b"http://",
    b"%2F",
)
_NAMES = (b"[::1]", b"127.0.0.1", b"*.", b".localhost", b":443", b"https://", b"ws://", b"ws+unix:")

WORDS: Mapping[str, tuple[bytes, ...]] = {
    "answer": _TOKENS,
    "authority": _NAMES,
    "close_payload": (b"\x03\xe8", b"\x0f\xa0", b"\xf0\x9f\xa6\x9c"),
    "deflate": (b"\0\0\xff\xff", b"\x03\0", b"\0\x01\0\xfe\xffa", b"\xf0\x9f\xa6\x9c"),
    "extensions": (
        b"permessage-deflate",
        b"; client_max_window_bits",
        b"; server_max_window_bits=",
        b"; client_no_context_takeover",
        b"; server_no_context_takeover",
        b'="15"',
        b"=8",
    ),
    "forwarded": (b"X-Forwarded-For: ", b"X-Forwarded-Proto: ", b"10.0.0.1", b"::ffff:", b"https"),
    "frames": (
        b"\x81\x80\0\0\0\0",
        b"\x01\x81\0\0\0\0a",
        b"\x80\x80\0\0\0\0",
        b"\x89\x80\0\0\0\0",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x82\xfe\0\x7e\0\0\0\0",
        b"\x82\x7f\0\0\0\0\0\x01\0\0",
        b"\xf0\x9f\xa6\x9c",
    ),
    "hosts": _NAMES,
    "origin": _NAMES,
    "proxy_header": (proxy_header(), extra(3, bytes(4)), b"\x21\x11\0\x0c", b"\x21\x31\0\xd8"),
    "request_head": _HTTP,
    "response_head": _HTTP,
    "upgrade": _TOKENS,
    "url": (*_NAMES, b"%25", b"wss://", b"@", "ü".encode(), b"xn--"),
}
"""What the fuzzer puts together, by target."""
