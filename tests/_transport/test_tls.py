"""`TlsSession` speaks TLS by bytes alone, with the standard library's on the other side."""

import contextlib
import itertools
import ssl
from collections.abc import Callable

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests._transport.fakes import Tls, with_certificate_later
from trio_ws._transport import tls as tls_module
from trio_ws._transport.tls import PIECE, RECORDS, TlsSession

_ROOM = 128 * 1024


class Peer:
    """The other side, made of nothing but the standard library.

    Args:
        context: Its certificates.
        server_hostname: Whose certificate it expects; None for a server.
    """

    def __init__(self, context: ssl.SSLContext, *, server_hostname: str | None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )

    def begin(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()

    def say(self, data: bytes) -> bytes:
        """Encrypt something."""
        self.object.write(data)
        return self.outgoing.read()

    def hear(self, sealed: bytes) -> bytes:
        """Decrypt something."""
        self.incoming.write(sealed)
        data = b""
        try:
            while piece := self.object.read(_ROOM):
                data += piece
        except ssl.SSLWantReadError:
            pass
        return data


def make_pair(tls: Tls, *, client: bool) -> tuple[TlsSession, Peer]:
    """Make a session and its peer, which have not shaken hands yet."""
    ours, theirs = (tls.client, tls.server) if client else (tls.server, tls.client)
    return (
        TlsSession(ours, server_hostname="localhost" if client else None),
        Peer(theirs, server_hostname=None if client else "localhost"),
    )


def shake_hands(session: TlsSession, peer: Peer) -> None:
    """Pass bytes to and fro until both are content."""
    done = False
    for _ in range(4):
        peer.begin()
        if data := peer.outgoing.read():
            session.feed(data)
        if not done:
            done = session.begin()
        peer.incoming.write(session.take_output())
    assert done


def agreed(tls: Tls, *, client: bool = False) -> tuple[TlsSession, Peer]:
    """Make a session and its peer that have shaken hands."""
    session, peer = make_pair(tls, client=client)
    shake_hands(session, peer)
    return session, peer


def read_all(session: TlsSession) -> bytes:
    """Return what is left to be read."""
    room = memoryview(bytearray(_ROOM))
    return bytes(room[: session.read(room)])


def seal(session: TlsSession, *buffers: bytes) -> bytes:
    """Return all that is to be sent, data and output."""
    sealed, count = session.encrypt(buffers, _ROOM)
    assert count == sum(map(len, buffers))
    return b"".join(sealed)


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 100_000])
def test_what_one_side_says_the_other_hears(client: bool, size: int, tls: Tls) -> None:
    session, peer = agreed(tls, client=client)
    data = (bytes(range(256)) * (size // 256 + 1))[:size]

    heard = peer.hear(seal(session, data))
    room = memoryview(bytearray(_ROOM))
    count = session.decrypt(peer.say(heard), room)

    assert heard == data
    assert room[:count] == data
    assert not session.pending


# Making a certificate for each example would take the test's time.
_tls = Tls()


@given(cuts=st.lists(st.integers(min_value=0, max_value=3 * PIECE), max_size=5))
def test_any_split_of_what_comes_in_gives_the_same_data(cuts: list[int]) -> None:
    session, peer = agreed(_tls)
    data = bytes(range(256)) * 160
    sealed = memoryview(peer.say(data))
    places = [0, *sorted(min(cut, len(sealed)) for cut in cuts), len(sealed)]
    room = memoryview(bytearray(_ROOM))
    heard = b""

    for start, end in itertools.pairwise(places):
        heard += room[: session.decrypt(sealed[start:end], room)]
        assert not session.pending

    assert heard == data
    assert not session.ended


def test_reading_ends_with_the_room_and_goes_on_later(tls: Tls) -> None:
    session, peer = agreed(tls)
    room = memoryview(bytearray(1000))

    heard = [bytes(room[: session.decrypt(peer.say(bytes(PIECE)), room)])]
    while session.pending:
        heard.append(bytes(room[: session.read(room)]))

    assert list(map(len, heard)) == [*(16 * [1000]), 384]
    assert session.read(room) == 0


def say_byte_by_byte(peer: Peer, data: bytes) -> bytes:
    """Encrypt each byte in a record of its own."""
    return b"".join(peer.say(bytes([byte])) for byte in data)


def test_a_step_ends_in_front_of_one_record_too_many(tls: Tls) -> None:
    session, peer = agreed(tls)
    room = memoryview(bytearray(_ROOM))
    enough = session.decrypt(say_byte_by_byte(peer, bytes(RECORDS)), room)
    waiting = session.waiting

    count = session.decrypt(say_byte_by_byte(peer, bytes(RECORDS + 1)), room)

    assert (enough, waiting) == (RECORDS, False)
    assert (count, session.waiting) == (RECORDS, True)
    assert session.decrypt(b"", room) == 1
    assert not session.waiting


def test_records_without_data_count_as_well(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls.server, "num_tickets", RECORDS + 1)
    session, peer = make_pair(tls, client=True)
    session.begin()
    peer.incoming.write(session.take_output())
    peer.begin()
    session.feed(peer.outgoing.read())
    session.begin()
    peer.incoming.write(session.take_output())
    peer.begin()
    room = memoryview(bytearray(_ROOM))

    count = session.decrypt(peer.outgoing.read() + peer.say(b"data"), room)

    assert (count, session.waiting) == (0, True)
    assert bytes(room[: session.decrypt(b"", room)]) == b"data"


def test_what_one_step_may_take_is_bounded_by_the_room_as_well(tls: Tls) -> None:
    session, peer = agreed(tls)
    room = memoryview(bytearray(PIECE))

    count = session.decrypt(peer.say(bytes(3 * PIECE)), room)

    assert count == PIECE
    assert not session.pending
    assert session.waiting
    assert [session.decrypt(b"", room) for _ in range(2)] == [PIECE, PIECE]
    assert not session.waiting


@given(cuts=st.lists(st.integers(min_value=0, max_value=150 * 23), max_size=9))
def test_any_split_of_many_records_gives_the_same_data(cuts: list[int]) -> None:
    session, peer = agreed(_tls)
    data = bytes(range(150))
    sealed = bytearray(say_byte_by_byte(peer, data) + peer.say(data * 100))
    places = [0, *sorted(cuts), len(sealed)]
    room = memoryview(bytearray(_ROOM))
    heard = b""

    for start, end in itertools.pairwise(places):
        lent = sealed[start:end]
        heard += room[: session.decrypt(lent, room)]
        # It is used for other things.
        lent[:] = bytes(len(lent))
        while session.waiting:
            heard += room[: session.decrypt(b"", room)]

    assert heard == data * 101


def test_a_record_that_comes_byte_by_byte_is_read_with_its_last_byte(tls: Tls) -> None:
    session, peer = agreed(tls)
    room = memoryview(bytearray(_ROOM))
    sealed = peer.say(b"four") + peer.say(b"five")

    counts = [session.decrypt(bytes([byte]), room) for byte in sealed]

    nothing = [0] * (len(sealed) // 2 - 1)
    assert counts == [*nothing, 4, *nothing, 4]


def test_feeding_goes_on_where_a_step_has_ended(tls: Tls) -> None:
    session, peer = agreed(tls)

    session.feed(say_byte_by_byte(peer, bytes(2 * RECORDS + 1)))
    heard = [read_all(session)]
    while session.waiting:
        session.go_on()
        heard.append(read_all(session))

    assert list(map(len, heard)) == [RECORDS, RECORDS, 1]


@pytest.mark.parametrize("client", [True, False])
def test_a_handshake_of_many_records_is_done(
    client: bool, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "RECORDS", 1)
    session, peer = agreed(tls, client=client)

    assert peer.hear(seal(session, b"data")) == b"data"


def test_nothing_waits_behind_the_end(tls: Tls) -> None:
    session, peer = agreed(tls)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.object.unwrap()

    end, junk = peer.outgoing.read(), b"\x17\x03\x03\0\0" * (RECORDS + 1)
    session.decrypt(end + junk, memoryview(bytearray(_ROOM)))

    assert session.ended
    assert not session.waiting


def test_a_server_keeps_its_tickets_until_it_has_data_to_send(tls: Tls) -> None:
    session, peer = agreed(tls)

    before = session.output
    nothing = session.encrypt((), _ROOM)
    first, _ = session.encrypt((b"one",), _ROOM)
    second, _ = session.encrypt((b"two",), _ROOM)

    assert (before, nothing) == (0, ([], 0))
    assert [len(first), len(second)] == [2, 1]
    assert peer.hear(b"".join(first + second)) == b"onetwo"


def take(session: TlsSession) -> bytes:
    return session.take_output()


def take_beside_data(session: TlsSession) -> bytes:
    return b"".join(session.encrypt((b"data",), _ROOM)[0])


@pytest.mark.parametrize("take_alert", [take, take_beside_data])
def test_an_alert_of_a_server_does_not_overtake_its_tickets(
    take_alert: Callable[[TlsSession], bytes], tls: Tls
) -> None:
    session, peer = agreed(tls)
    bad = bytearray(peer.say(b"bad"))
    bad[-1] ^= 1
    session.feed(bad)
    read_all(session)

    alert = take_alert(session)

    # A record that comes before its turn cannot be decrypted.
    with pytest.raises(ssl.SSLError, match="alert bad record mac"):
        peer.hear(alert)


def older(tls: Tls) -> ssl.SSLContext:
    """Make a client's context that knows no newer TLS."""
    context = ssl.create_default_context()
    tls.authority.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_older_tls_is_spoken_as_well(tls: Tls) -> None:
    session = TlsSession(tls.server, server_hostname=None)
    peer = Peer(older(tls), server_hostname="localhost")
    shake_hands(session, peer)

    assert peer.object.version() == "TLSv1.2"
    assert peer.hear(seal(session, b"data")) == b"data"


def test_encrypting_stops_after_enough_and_goes_on_with_the_rest(tls: Tls) -> None:
    session, peer = agreed(tls)
    header, payload = b"header", bytes(5 * PIECE)

    sealed, count = session.encrypt((header, payload), 2 * PIECE)
    rest, left = session.encrypt((memoryview(payload)[count - len(header) :],), _ROOM)

    assert count == len(header) + 2 * PIECE
    assert count + left == len(header) + len(payload)
    assert peer.hear(b"".join(sealed + rest)) == header + payload


def test_nothing_is_encrypted_while_something_else_has_to_be_read_first(tls: Tls) -> None:
    session, peer = make_pair(tls, client=True)
    # A handshake that the peer begins later looks the same to whoever wants to write.
    hello, taken = session.encrypt((b"data", b"more"), _ROOM)
    again = session.encrypt((b"data", b"more"), _ROOM)

    peer.incoming.write(b"".join(hello))
    peer.begin()
    session.feed(peer.outgoing.read())
    heard = read_all(session)
    peer.incoming.write(session.take_output())
    peer.begin()

    assert (taken, again, heard) == (0, ([], 0), b"")
    assert peer.hear(seal(session, b"data", b"more")) == b"datamore"


def agreed_with_certificate_later(tls: Tls) -> tuple[TlsSession, Peer]:
    """Make a client and a server that may ask for its certificate at any time."""
    client, server = with_certificate_later(tls)
    session = TlsSession(client, server_hostname="localhost")
    peer = Peer(server, server_hostname=None)
    shake_hands(session, peer)
    return session, peer


def test_reading_can_leave_something_to_be_sent(tls: Tls) -> None:
    session, peer = agreed_with_certificate_later(tls)
    peer.object.verify_client_post_handshake()

    session.feed(peer.say(b"who are you?"))
    heard = read_all(session)
    answer = session.take_output()
    peer.hear(answer)

    assert heard == b"who are you?"
    assert len(answer) > 500
    assert peer.object.getpeercert()
    assert session.output == 0


def test_what_reading_left_to_be_sent_goes_before_data(tls: Tls) -> None:
    session, peer = agreed_with_certificate_later(tls)
    peer.object.verify_client_post_handshake()
    session.feed(peer.say(b"?"))
    read_all(session)

    sealed = seal(session, b"data")

    assert session.output == 0
    assert peer.hear(sealed) == b"data"
    assert peer.object.getpeercert()


def test_a_peer_that_is_not_trusted_is_told_so(tls: Tls) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(stranger)
    session = TlsSession(tls.client, server_hostname="localhost")
    peer = Peer(stranger, server_hostname=None)
    session.begin()
    peer.incoming.write(session.take_output())
    peer.begin()
    session.feed(peer.outgoing.read())

    with pytest.raises(ssl.SSLCertVerificationError):
        session.begin()
    peer.incoming.write(session.take_output())

    with pytest.raises(ssl.SSLError, match="unknown ca"):
        peer.object.do_handshake()


def test_a_handshake_that_the_peer_ends_fails(tls: Tls) -> None:
    session, _ = make_pair(tls, client=True)
    session.begin()
    session.feed(b"")

    with pytest.raises(ssl.SSLEOFError):
        session.begin()


def test_an_announced_end_is_an_end(tls: Tls) -> None:
    session, peer = agreed(tls)
    sealed = peer.say(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        peer.object.unwrap()

    session.feed(sealed + peer.outgoing.read())

    assert read_all(session) == b"last"
    assert session.ended
    assert session.error is None
    assert peer.hear(seal(session, b"still heard")) == b"still heard"


def test_an_end_that_is_not_announced_is_an_end(tls: Tls) -> None:
    session, peer = agreed(tls)
    session.feed(peer.say(b"all of this")[:-1])

    heard = read_all(session)
    before = session.ended
    session.feed(b"")

    assert (heard, before) == (b"", False)
    assert (session.ended, session.error) == (True, None)
    assert not session.pending


def test_what_is_not_from_the_peer_ends_the_session_with_an_alert(tls: Tls) -> None:
    session, peer = agreed(tls)
    good, bad = peer.say(b"good"), bytearray(peer.say(b"bad"))
    bad[-1] ^= 1

    session.feed(good + bad + peer.say(b"too late"))
    heard = read_all(session)

    assert heard == b"good"
    assert session.ended
    assert session.error is not None
    # What versions of OpenSSL call it.
    names = {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"}
    assert session.error.reason in names
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        peer.hear(session.take_output())
    assert read_all(session) == b""


def test_a_failed_session_cannot_be_written_with_once_its_alert_was_taken(tls: Tls) -> None:
    session, peer = agreed(tls)
    bad = bytearray(peer.say(b"bad"))
    bad[-1] ^= 1
    session.feed(bad)
    read_all(session)

    _, count = session.encrypt((b"data",), _ROOM)

    assert count == 0
    with pytest.raises(ssl.SSLError):
        session.encrypt((b"data",), _ROOM)
