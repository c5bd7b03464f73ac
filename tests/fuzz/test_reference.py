"""The reference itself, on streams whose meaning is obvious."""

import pytest
from wsproto.events import BytesMessage, Ping, Pong, TextMessage

from tests.fakes import raw_frame
from tests.fuzz.reference import Deflated, expected


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    return raw_frame(opcode, payload, masked=True, fin=fin, reserved=reserved)


def test_messages_and_control_frames_are_read_in_order() -> None:
    stream = frame(1, b"a", fin=False) + frame(9, b"1") + frame(0, b"b") + frame(10) + frame(2)

    found = expected(stream + frame(8, b"\x03\xe8bye") + frame(3), client=False)

    assert found.events == [
        Ping(payload=b"1"),
        TextMessage(data="ab"),
        Pong(),
        BytesMessage(data=b""),
    ]
    assert (found.close, found.faults) == ((1000, "bye"), set())
    assert (found.messages, found.control) == (["ab", b""], [Ping(payload=b"1"), Pong()])


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (frame(1, reserved=4), 1002),
        (frame(3), 1002),
        (frame(9, fin=False), 1002),
        (raw_frame(1, masked=False)[:2], 1002),
        (b"\x89\xfe", 1002),
        (b"\x82\xfe\x00\x7d", 1002),
        (b"\x82\xff" + (0xFFFF).to_bytes(8, "big"), 1002),
        (b"\x82\xff" + (2**63).to_bytes(8, "big"), 1002),
        (frame(0), 1002),
        (frame(1, fin=False) + frame(2), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, b"\x03\xed"), 1002),
        (frame(8, b"\x03\xe8\xff"), 1007),
        (frame(1, b"\xc0\x80"), 1007),
        (frame(1, b"\xe2\x82", fin=False) + frame(0), 1007),
        (frame(1, b"\xff" + bytes(9))[:7], 1007),
        (frame(2, bytes(11)), 1009),
        (frame(2, fin=False) + frame(0, fin=False) * 3, 1009),
    ],
)
def test_fault_is_found(stream: bytes, fault: int) -> None:
    assert expected(stream, client=False, max_message=10, max_fragments=3).faults == {fault}


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x81",
        b"\x82\xfe\x01",
        b"\x82\xff" + bytes(5) + b"\x01\0",
        frame(1, b"abc")[:-1],
        frame(9, b"abc")[:-1],
        frame(1, b"\xf0\x9f\xa6", fin=False),
    ],
)
def test_what_is_not_whole_means_nothing_yet(stream: bytes) -> None:
    found = expected(stream, client=False)

    assert (found.events, found.close, found.faults) == ([], None, set())


def test_ends_of_frames_are_told() -> None:
    assert expected(frame(1, b"abc") + frame(2), client=False).ends == [9, 15]


def test_compressed_messages_are_inflated_in_their_context() -> None:
    # RFC 7692 §7.2.3.2: the second message refers to the first.
    hello = bytes.fromhex("f248cdc9c90700")
    again = bytes.fromhex("f200110000")
    stream = frame(1, hello, reserved=4) + frame(1, again, reserved=4)

    assert expected(stream, client=False, deflated=Deflated()).messages == ["Hello", "Hello"]
    forgetful = expected(stream, client=False, deflated=Deflated(takeover=False))
    assert (forgetful.messages, forgetful.faults) == (["Hello"], {1007})
    assert expected(stream, client=False, max_message=4, deflated=Deflated()).faults == {1009}
    assert expected(stream, client=False).faults == {1002}
