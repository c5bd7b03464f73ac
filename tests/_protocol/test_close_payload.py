"""What a Close frame carries is made and read as RFC 6455 §5.5.1 and §7.4 say."""

import pytest
from wsproto.utilities import LocalProtocolError

from trio_ws._protocol.close_payload import make_close, read_close
from trio_ws._protocol.frames import FrameError


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (1000, None, b"\x03\xe8"),
        (1001, "até logo", b"\x03\xe9at\xc3\xa9 logo"),
        (4999, "", b"\x13\x87"),
        (1005, None, b""),
        (1005, "of no code", b""),
    ],
)
def test_payload_is_code_and_reason(code: int, reason: str | None, payload: bytes) -> None:
    assert make_close(code, reason) == payload


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_code_that_is_not_for_the_wire_is_refused(code: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"close code {code} may not be sent"):
        make_close(code, None)


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [(b"", 1005, ""), (b"\x03\xe8", 1000, ""), (b"\x0f\xa0at\xc3\xa9", 4000, "até")],
)
def test_code_and_reason_are_read(payload: bytes, code: int, reason: str) -> None:
    assert read_close(payload) == (code, reason)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xe7", 1002), (b"\x03\xee", 1002), (b"\x03\xe8\xff", 1007)],
)
def test_payload_that_is_wrong_is_a_fault(payload: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        read_close(payload)
    assert caught.value.code == code
