"""`make_close` and `read_close`: what a Close frame carries (RFC 6455 §5.5.1)."""

from wsproto.utilities import LocalProtocolError

from trio_ws._protocol.frames import FrameError
from trio_ws._types import CloseCode, is_wire_code


def make_close(code: int, reason: str | None) -> bytes:
    """Make the payload of a Close frame.

    Args:
        code: The close code; 1005 makes a frame without one.
        reason: Why, for people.

    Raises:
        wsproto.utilities.LocalProtocolError: The code may not be sent.
    """
    # RFC 6455 §7.4.1: 1005 stands for "no code", and is never sent.
    if code == CloseCode.NO_STATUS:
        return b""
    if not is_wire_code(code):
        raise LocalProtocolError(f"close code {code} may not be sent")
    return int(code).to_bytes(2, "big") + (reason or "").encode()


def read_close(payload: bytes) -> tuple[int, str]:
    """Read the payload of a Close frame.

    Returns:
        The close code, 1005 if there is none, and the reason.

    Raises:
        FrameError: 1002: the code is missing or not allowed. 1007: the reason is no text.
    """
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not is_wire_code(code):
        raise FrameError(1002, "close code is missing or not allowed")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(1007, "close reason is not valid UTF-8") from None
