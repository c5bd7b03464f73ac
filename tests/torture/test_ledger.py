"""`Ledger` tells what is lost from what is late, out of order, or never sent."""

import math

import trio
from trio.testing import MockClock

from tests.torture.ledger import Ledger, Tally


def ledger_of(*messages: str) -> Ledger:
    """Make a ledger of messages that were sent."""
    ledger = Ledger(Tally())
    for message in messages:
        ledger.sent(message)
    return ledger


def received(ledger: Ledger, *messages: str | bytes) -> list[str]:
    """Receive messages, and return what was wrong with them."""
    for message in messages:
        ledger.received(message)
    ledger.settle()
    return ledger.faults


async def test_messages_that_come_back_in_order_are_right() -> None:
    assert received(ledger_of("0", "1", "2"), "0", "1", "2") == []


async def test_a_message_that_does_not_come_back_is_lost() -> None:
    assert received(ledger_of("0", "1", "2"), "0", "2") == ["1 of 3 messages were lost: 1"]


async def test_the_last_messages_can_be_lost_as_well() -> None:
    assert received(ledger_of("0", "1", "2"), "0") == ["2 of 3 messages were lost: 1, 2"]


async def test_a_message_that_was_overtaken_is_out_of_order_and_not_lost() -> None:
    assert received(ledger_of("0", "1", "2"), "1", "0", "2") == ["message 0 came back out of order"]


async def test_a_message_that_comes_back_twice_was_not_sent() -> None:
    (fault,) = received(ledger_of("0", "1"), "0", "0", "1")

    assert "not sent" in fault


async def test_text_is_not_taken_for_bytes() -> None:
    assert len(received(ledger_of("0"), b"0")) == 2


async def test_what_ended_a_connection_is_told_with_what_was_lost_by_it() -> None:
    ledger = ledger_of("0")

    ledger.settle("it broke")

    assert ledger.faults == ["it broke", "1 of 1 messages were lost: 0"]


async def test_round_trips_are_counted_from_the_sending(autojump_clock: MockClock) -> None:
    tally = Tally()
    ledger = Ledger(tally)

    ledger.sent("0")
    await trio.sleep(2)
    ledger.sent("1")
    await trio.sleep(1)
    received(ledger, "0", "1")

    assert tally.messages == 2
    assert list(tally.round_trips) == [3, 1]


async def test_the_oldest_outstanding_message_is_known(autojump_clock: MockClock) -> None:
    ledger = ledger_of("0")
    await trio.sleep(1)
    ledger.sent("1")

    ledger.received("0")
    sent = ledger.oldest
    ledger.received("1")

    assert sent == 1
    assert ledger.oldest == math.inf
