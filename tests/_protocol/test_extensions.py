"""Agreeing on permessage-deflate: offers and answers, the right ones and the odd ones."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName

from trio_ws._config import Deflate
from trio_ws._protocol.extensions import Agreement, answer_offers, make_offer, read_answer
from trio_ws._protocol.upgrade import UpgradeError

PMD = "permessage-deflate"

WIDE = Deflate(send_window_bits=15, receive_window_bits=15)

SETTINGS = [
    Deflate(
        send_window_bits=send,
        receive_window_bits=receive,
        send_context_takeover=keep,
        receive_context_takeover=kept,
    )
    for send, receive, keep, kept in itertools.product(
        (9, 15), (10, 15), (True, False), (True, False)
    )
]


def answer(*offers: str, settings: Deflate = WIDE) -> str | None:
    agreement = answer_offers(offers, settings)
    return None if agreement is None else agreement.text


def agree(*offers: str, settings: Deflate = WIDE) -> Agreement:
    agreement = answer_offers(offers, settings)
    assert agreement is not None
    return agreement


def read(text: str, settings: Deflate = WIDE) -> Agreement:
    agreement = read_answer([text], settings)
    assert agreement is not None
    return agreement


def test_plain_offer_is_accepted_as_it_is() -> None:
    agreement = agree(PMD)

    assert agreement == Agreement(15, True, 15, True, PMD, WIDE)


def test_no_offer_is_no_agreement() -> None:
    assert answer() is None
    assert answer("") is None
    assert answer(", ,") is None


def test_other_extensions_are_passed_over() -> None:
    assert answer(f"x-webkit-deflate-frame, foo; a=1; b, {PMD}") == PMD


def test_first_acceptable_offer_is_chosen() -> None:
    offers = f"{PMD}; server_max_window_bits=8, {PMD}; server_max_window_bits=10, {PMD}"

    assert answer(offers) == f"{PMD}; server_max_window_bits=10"


def test_offers_in_several_headers_are_one_list() -> None:
    assert (
        answer("foo", f"{PMD}; server_no_context_takeover") == f"{PMD}; server_no_context_takeover"
    )


@pytest.mark.parametrize("bits", range(9, 16))
def test_server_keeps_to_the_window_it_is_asked_for(bits: int) -> None:
    agreement = agree(f"{PMD}; server_max_window_bits={bits}")

    assert agreement.text == f"{PMD}; server_max_window_bits={bits}"
    assert agreement.send_window_bits == bits


def test_server_wants_no_larger_window_than_its_settings() -> None:
    settings = Deflate(send_window_bits=10, receive_window_bits=11)

    agreement = agree(
        f"{PMD}; server_max_window_bits=12; client_max_window_bits", settings=settings
    )

    assert agreement.text == f"{PMD}; server_max_window_bits=10; client_max_window_bits=11"
    assert (agreement.send_window_bits, agreement.receive_window_bits) == (10, 11)


def test_server_tells_its_window_to_a_client_that_did_not_ask() -> None:
    assert answer(PMD, settings=Deflate(send_window_bits=9)) == f"{PMD}; server_max_window_bits=9"


def test_window_of_8_bits_is_declined_for_compressing() -> None:
    assert answer(f"{PMD}; server_max_window_bits=8") is None


def test_window_of_8_bits_is_accepted_from_the_client() -> None:
    agreement = agree(f"{PMD}; client_max_window_bits=8")

    assert agreement.text == f"{PMD}; client_max_window_bits=8"
    assert agreement.receive_window_bits == 9


@pytest.mark.parametrize(("offered", "settled"), [("", 12), ("=15", 12), ("=12", 12), ("=10", 10)])
def test_client_is_asked_for_a_window_within_its_offer(offered: str, settled: int) -> None:
    agreement = agree(f"{PMD}; client_max_window_bits{offered}", settings=Deflate())

    assert agreement.text.endswith(f"; client_max_window_bits={settled}")
    assert agreement.receive_window_bits == settled


def test_client_that_cannot_limit_its_window_is_served_with_the_largest() -> None:
    agreement = agree(PMD, settings=Deflate(receive_window_bits=9))

    assert "client_max_window_bits" not in agreement.text
    assert agreement.receive_window_bits == 15


def test_server_gives_up_context_takeover_when_asked() -> None:
    agreement = agree(f"{PMD}; server_no_context_takeover")

    assert agreement.text == f"{PMD}; server_no_context_takeover"
    assert not agreement.send_context_takeover
    assert agreement.receive_context_takeover


def test_server_holds_the_client_to_the_notice_it_gave() -> None:
    agreement = agree(f"{PMD}; client_no_context_takeover")

    assert agreement.text == f"{PMD}; client_no_context_takeover"
    assert agreement.send_context_takeover
    assert not agreement.receive_context_takeover


def test_server_without_context_takeover_says_so_unasked() -> None:
    settings = Deflate(
        send_window_bits=15, send_context_takeover=False, receive_context_takeover=False
    )

    assert answer(PMD, settings=settings) == (
        f"{PMD}; server_no_context_takeover; client_no_context_takeover"
    )


ODD_PARAMETERS = [
    "server_max_window_bits",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=08",
    "server_max_window_bits=+9",
    "server_max_window_bits=9.0",
    "client_max_window_bits=7",
    "client_max_window_bits=16",
    "client_max_window_bits=1e1",
    "client_max_window_bits=999999999999999999999999",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits; client_max_window_bits=10",
    "unknown",
    "unknown=1",
    "Server_No_Context_Takeover",
]


@pytest.mark.parametrize("odd", ODD_PARAMETERS)
def test_odd_offer_is_declined(odd: str) -> None:
    assert answer(f"{PMD}; {odd}") is None


@pytest.mark.parametrize("odd", ODD_PARAMETERS)
def test_offer_behind_an_odd_one_is_accepted(odd: str) -> None:
    assert answer(f"{PMD}; {odd}, {PMD}") == PMD


MALFORMED = [
    f"{PMD}; server_max_window_bits=\uff11\uff10",
    f'{PMD}; server_max_window_bits=""',
    ";",
    f"{PMD};",
    f"{PMD}; ;server_no_context_takeover",
    f"{PMD}; =",
    f"{PMD}; =10",
    f"{PMD}; server_max_window_bits=",
    f"{PMD}; server_max_window_bits= =10",
    f"{PMD}; server_max_window_bits=1 0",
    f"{PMD} {PMD}",
    f"{PMD}; a b",
    f'{PMD}; a="',
    f'{PMD}; a="b',
    f'{PMD}; a=b"',
    f'{PMD}; a="b"c',
    f'{PMD}; a="b\\"',
    f'{PMD}; a="b\\"c"',
    f'{PMD}; a="b c"',
    "perméssage-deflate",
    "a/b",
    f'foo; a="x, {PMD}, y"',
    f'foo; a="x; {PMD}"',
]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_header_is_declined_with_all_that_is_in_it(malformed: str) -> None:
    assert answer(f"{PMD}, {malformed}") is None
    assert answer(malformed, PMD) is None


@pytest.mark.parametrize(
    "quoted",
    ['"10"', '"1\\0"', '"\\1\\0"', '  "10"\t'],
    ids=["plain", "escape", "escapes", "space"],
)
def test_quoted_value_is_read_as_the_token_in_it(quoted: str) -> None:
    assert answer(f"{PMD};server_max_window_bits={quoted}") == f"{PMD}; server_max_window_bits=10"


def test_space_around_everything_is_allowed() -> None:
    offer = f"\t{PMD} ;\tserver_max_window_bits = 10 ; client_no_context_takeover\t, foo"

    assert answer(offer) == f"{PMD}; client_no_context_takeover; server_max_window_bits=10"


def test_offer_of_the_defaults_asks_for_small_windows_and_falls_back() -> None:
    assert make_offer(Deflate()) == (
        f"{PMD}; client_max_window_bits=12; server_max_window_bits=12, "
        f"{PMD}; client_max_window_bits=12"
    )


def test_offer_without_wishes_is_a_single_one() -> None:
    assert make_offer(WIDE) == f"{PMD}; client_max_window_bits"


def test_offer_without_context_takeover_asks_and_gives_notice() -> None:
    settings = Deflate(
        send_window_bits=15,
        receive_window_bits=15,
        send_context_takeover=False,
        receive_context_takeover=False,
    )

    assert make_offer(settings) == (
        f"{PMD}; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    )


def test_plain_answer_is_the_largest_window_and_context_takeover() -> None:
    assert read(PMD, Deflate()) == Agreement(12, True, 15, True, PMD, Deflate())


def test_answer_with_everything_is_kept_to() -> None:
    text = (
        f"{PMD}; server_no_context_takeover; client_no_context_takeover; "
        "server_max_window_bits=10; client_max_window_bits=11"
    )

    assert read(text) == Agreement(11, False, 10, False, text, WIDE)


def test_declined_offer_is_no_agreement() -> None:
    assert read_answer([], WIDE) is None
    assert read_answer([""], WIDE) is None


def test_answer_of_8_bits_means_to_inflate_with_9_and_to_compress_nothing() -> None:
    agreement = read(f"{PMD}; server_max_window_bits=8; client_max_window_bits=8")

    assert (agreement.send_window_bits, agreement.receive_window_bits) == (8, 9)


@pytest.mark.parametrize("odd", [*ODD_PARAMETERS, "client_max_window_bits"])
def test_odd_answer_is_refused(odd: str) -> None:
    with pytest.raises(UpgradeError, match=r"Extensions|unknown or malformed"):
        read_answer([f"{PMD}; {odd}"], WIDE)


@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_answer_is_refused(malformed: str) -> None:
    with pytest.raises(UpgradeError, match="its Sec-WebSocket-Extensions header is malformed"):
        read_answer([malformed], WIDE)


def test_answer_of_an_extension_that_was_not_offered_is_refused() -> None:
    with pytest.raises(UpgradeError, match="chose the extension 'foo', which was not offered"):
        read_answer(["foo; a=1"], WIDE)


def test_answer_to_no_offer_is_refused() -> None:
    with pytest.raises(UpgradeError, match=f"chose the extension '{PMD}', which was not offered"):
        read_answer([PMD], None)


def test_endless_name_in_an_answer_is_cut() -> None:
    with pytest.raises(UpgradeError) as caught:
        read_answer(["x" * 10_000], WIDE)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("more", [PMD, "foo"])
def test_answer_of_two_extensions_is_refused(more: str) -> None:
    with pytest.raises(UpgradeError, match="more than one extension"):
        read_answer([PMD, more], WIDE)


def test_answer_that_keeps_the_context_although_asked_is_refused() -> None:
    with pytest.raises(UpgradeError, match="without the server_no_context_takeover asked for"):
        read_answer([PMD], Deflate(receive_context_takeover=False))


def test_answer_with_a_larger_window_than_offered_changes_nothing() -> None:
    settings = Deflate(send_window_bits=10)

    for bits, settled in ((9, 9), (10, 10), (11, 10), (15, 10)):
        agreement = read(f"{PMD}; client_max_window_bits={bits}", settings)
        assert agreement.send_window_bits == settled


@pytest.mark.parametrize("client", SETTINGS, ids=repr)
@pytest.mark.parametrize("server", SETTINGS, ids=repr)
def test_both_sides_understand_an_agreement_the_same_way(client: Deflate, server: Deflate) -> None:
    ours = agree(make_offer(client), settings=server)
    theirs = read(ours.text, client)

    assert theirs.receive_window_bits >= ours.send_window_bits
    assert ours.receive_window_bits >= theirs.send_window_bits
    assert theirs.receive_context_takeover == ours.send_context_takeover
    assert ours.receive_context_takeover == theirs.send_context_takeover
    assert ours.send_window_bits <= min(server.send_window_bits, client.receive_window_bits)
    assert theirs.send_window_bits <= min(client.send_window_bits, server.receive_window_bits)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("bits", [9, 12, 15, None])
@pytest.mark.parametrize("takeover", [True, False])
def test_websockets_accepts_our_offers_and_we_read_its_answers(
    settings: Deflate, bits: int | None, takeover: bool
) -> None:
    factory = ServerPerMessageDeflateFactory(not takeover, False, bits, bits)
    offers = parse_extension(make_offer(settings))

    parameters, theirs = factory.process_request_params(offers[0][1], [])
    ours = read(build_extension([(ExtensionName(PMD), parameters)]), settings)

    assert theirs.local_max_window_bits <= ours.receive_window_bits
    assert ours.send_window_bits <= theirs.remote_max_window_bits
    assert theirs.local_no_context_takeover is not ours.receive_context_takeover
    assert ours.send_context_takeover is not theirs.remote_no_context_takeover


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("asked", [9, 12, 15, None])
@pytest.mark.parametrize("offered", [9, 12, 15, True, None])
@pytest.mark.parametrize("takeover", [True, False])
def test_websockets_offers_are_answered_to_its_content(
    settings: Deflate, asked: int | None, offered: int | bool | None, takeover: bool
) -> None:
    factory = ClientPerMessageDeflateFactory(not takeover, not takeover, asked, offered)

    ours = agree(
        build_extension([(ExtensionName(PMD), factory.get_request_params())]), settings=settings
    )
    theirs = factory.process_response_params(parse_extension(ours.text)[0][1], [])

    assert theirs.local_max_window_bits <= ours.receive_window_bits
    assert ours.send_window_bits <= theirs.remote_max_window_bits
    assert theirs.local_no_context_takeover is not ours.receive_context_takeover
    assert ours.send_context_takeover is not theirs.remote_no_context_takeover


@given(st.lists(st.text(st.characters(codec="latin-1")), max_size=3))
def test_no_header_raises_anything_at_a_server(values: list[str]) -> None:
    answer_offers(values, WIDE)


PIECES = st.sampled_from(
    [PMD, ";", ",", "=", '"', "\\", " ", "server_max_window_bits", "10", "client_max_window_bits"]
)


@given(st.lists(PIECES, max_size=12))
def test_whatever_a_server_agrees_to_is_an_answer_a_client_can_read(pieces: list[str]) -> None:
    agreement = answer_offers(["".join(pieces)], WIDE)

    assert agreement is None or read(agreement.text).text == agreement.text
