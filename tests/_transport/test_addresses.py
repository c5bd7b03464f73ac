"""How many streams each address has."""

from math import inf

import pytest

from trio_ws._transport.addresses import Addresses
from trio_ws._transport.endpoint import Endpoint


def at(address: str) -> Endpoint:
    return Endpoint(address, 1, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    ],
)
def test_one_customer_has_one_address(first: str, second: str) -> None:
    addresses = Addresses(2)

    assert [addresses.enter(at(each)) for each in (first, second, first)] == [True, True, False]
    assert len(addresses) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("203.0.113.9", "203.0.113.10"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("0.0.0.9", "0:0:0:9::"),
    ],
)
def test_others_are_not_counted_together(first: str, second: str) -> None:
    addresses = Addresses(1)

    assert addresses.enter(at(first))
    assert addresses.enter(at(second))
    assert not addresses.enter(at(first))


def test_who_leaves_makes_room_and_is_forgotten() -> None:
    addresses = Addresses(2)
    for _ in range(2):
        addresses.enter(at("::1"))
    addresses.leave(at("::1"))

    assert addresses.enter(at("::1"))
    addresses.leave(at("::1"))
    addresses.leave(at("::1"))
    assert not len(addresses)


def test_who_was_not_let_in_is_not_counted() -> None:
    addresses = Addresses(1)
    addresses.enter(at("::1"))
    for _ in range(10):
        addresses.enter(at("::1"))
    addresses.leave(at("::1"))

    assert not len(addresses)


def test_what_has_no_address_always_enters() -> None:
    addresses = Addresses(1)

    assert all(addresses.enter("unix:") for _ in range(5))
    addresses.leave("unix:")
    assert not len(addresses)
    assert Addresses(inf).enter(at("::1"))
