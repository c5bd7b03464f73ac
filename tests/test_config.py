"""Limits and keepalive."""

import dataclasses
import math
from typing import Any

import pytest

from trio_ws._config import Deflate, Keepalive, Limits, Rate, TrustedProxies

COUNTS = [field.name for field in dataclasses.fields(Limits) if "_timeout" not in field.name]
TIMES = [field.name for field in dataclasses.fields(Limits) if "_timeout" in field.name]


def test_limits_have_the_documented_defaults() -> None:
    assert dataclasses.asdict(Limits()) == {
        "max_message": 1024 * 1024,
        "max_fragments": 1024,
        "inbox_messages": 1024,
        "inbox_bytes": 1024 * 1024,
        "outgoing_bytes": 64 * 1024,
        "max_head": 16 * 1024,
        "max_headers": 100,
        "open_timeout": 10,
        "close_timeout": 5,
        "write_timeout": 20,
        "max_connections": math.inf,
        "max_connections_per_address": math.inf,
    }


def test_keepalive_has_the_documented_defaults() -> None:
    assert dataclasses.asdict(Keepalive()) == {"interval": 20, "timeout": 20}


@pytest.mark.parametrize("name", [*COUNTS, *TIMES])
@pytest.mark.parametrize("value", [1, 1000, 3.0, math.inf])
def test_limit_takes_a_positive_number_or_none_at_all(name: str, value: float) -> None:
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", [*COUNTS, *TIMES])
@pytest.mark.parametrize("value", [0, -1, -math.inf, math.nan, 0.0])
def test_limit_that_is_not_positive_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Limits.{name} is greater than 0"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_count_that_is_not_whole_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"Limits.{name} counts whole things, not 1.5"):
        Limits(**{name: 1.5})


@pytest.mark.parametrize("name", TIMES)
def test_time_need_not_be_whole(name: str) -> None:
    assert getattr(Limits(**{name: 0.5}), name) == 0.5


@pytest.mark.parametrize("value", [None, "1", True, 1j])
def test_limit_that_is_no_number_is_refused(value: Any) -> None:  # noqa: ANN401 - anything
    with pytest.raises(TypeError, match=r"Limits\.max_message is a number or math\.inf"):
        Limits(max_message=value)


@pytest.mark.parametrize("name", ["interval", "timeout"])
@pytest.mark.parametrize("value", [0.001, 5, math.inf])
def test_keepalive_takes_a_positive_number_or_infinity(name: str, value: float) -> None:
    assert getattr(Keepalive(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_keepalive_that_is_not_positive_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Keepalive.{name} is greater than 0"):
        Keepalive(**{name: value})


def test_keepalive_that_is_no_number_is_refused() -> None:
    nothing: Any = None

    with pytest.raises(TypeError, match=r"Keepalive\.interval is a number"):
        Keepalive(interval=nothing)


@pytest.mark.parametrize("kind", [Limits, Keepalive])
def test_settings_are_given_by_name(kind: Any) -> None:  # noqa: ANN401 - either class
    with pytest.raises(TypeError):
        kind(1)


def test_settings_cannot_be_changed() -> None:
    settings: tuple[Any, Any] = Limits(), Keepalive()

    with pytest.raises(AttributeError):
        settings[0].max_message = 1
    with pytest.raises(AttributeError):
        settings[1].timeout = 1


def test_settings_can_be_replaced_and_are_checked_again() -> None:
    limits = dataclasses.replace(Limits(), max_message=5)

    assert limits.max_message == 5
    with pytest.raises(ValueError, match="max_head"):
        dataclasses.replace(limits, max_head=0)


def test_proxies_have_the_documented_defaults() -> None:
    proxies = TrustedProxies(["10.0.0.1"])

    assert proxies == TrustedProxies(("10.0.0.1",), protocol="x-forwarded", max_hops=4)
    assert hash(proxies)


@pytest.mark.parametrize(
    "trusted", [[], ["127.0.0.1"], ["10.1.0.0/16", "::1", "fd00::/8"], ["unix"]]
)
def test_proxies_take_addresses_networks_and_unix(trusted: list[str]) -> None:
    assert TrustedProxies(trusted).trusted == tuple(trusted)


@pytest.mark.parametrize(
    "trusted", ["", "localhost", "*", "10.0.0.1/8", "10.0.0.0/33", "[::1]", "127.0.0.1:80", "Unix"]
)
def test_proxies_refuse_what_is_neither(trusted: str) -> None:
    with pytest.raises(ValueError, match="holds IP addresses, networks and 'unix'") as caught:
        TrustedProxies(["127.0.0.1", trusted])

    assert repr(trusted) in str(caught.value)


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_proxies_cannot_be_everybody(everybody: str) -> None:
    with pytest.raises(ValueError, match="believe what anybody says"):
        TrustedProxies([everybody])


def test_proxies_are_no_single_string() -> None:
    with pytest.raises(TypeError, match="not one string"):
        TrustedProxies("127.0.0.1")


def test_proxies_speak_a_known_protocol() -> None:
    protocol: Any = "proxy-v1"

    with pytest.raises(ValueError, match="not 'proxy-v1'"):
        TrustedProxies([], protocol=protocol)


@pytest.mark.parametrize("hops", [0, -1])
def test_hops_that_are_not_positive_are_refused(hops: int) -> None:
    with pytest.raises(ValueError, match="max_hops is greater than 0"):
        TrustedProxies([], max_hops=hops)


@pytest.mark.parametrize("hops", [1.5, math.inf, True, None, "1"])
def test_hops_that_are_no_whole_number_are_refused(hops: Any) -> None:  # noqa: ANN401 - anything
    with pytest.raises(TypeError, match="max_hops is a whole number"):
        TrustedProxies([], max_hops=hops)


def test_rate_has_the_documented_defaults() -> None:
    assert dataclasses.asdict(Rate(messages=5)) == {
        "messages": 5,
        "bytes": math.inf,
        "burst": 10,
        "excess": "slow_down",
    }


@pytest.mark.parametrize("name", ["messages", "bytes", "burst"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_rate_that_is_not_positive_is_refused(name: str, value: float) -> None:
    values: dict[str, Any] = {"messages": 1, name: value}

    with pytest.raises(ValueError, match=f"Rate.{name} is greater than 0"):
        Rate(**values)


@pytest.mark.parametrize("value", [None, "1", True])
def test_rate_that_is_no_number_is_refused(value: Any) -> None:  # noqa: ANN401 - anything
    with pytest.raises(TypeError, match=r"Rate\.messages is a number"):
        Rate(messages=value)


def test_rate_that_limits_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="limits messages=, bytes=, or both"):
        Rate()
    with pytest.raises(ValueError, match="an infinite one would limit nothing"):
        Rate(messages=1, burst=math.inf)


@pytest.mark.parametrize("rate", [{"messages": 0.5}, {"bytes": 0.5}])
def test_rate_that_lets_nothing_through_is_refused(rate: dict[str, Any]) -> None:
    Rate(**rate, burst=2)

    with pytest.raises(ValueError, match="at least one message and one byte"):
        Rate(**rate, burst=1.9)


def test_rate_knows_what_to_do_with_excess() -> None:
    excess: Any = "drop"

    with pytest.raises(ValueError, match="not 'drop'"):
        Rate(messages=1, excess=excess)


def test_deflate_has_the_documented_defaults() -> None:
    assert dataclasses.asdict(Deflate()) == {
        "send_window_bits": 12,
        "receive_window_bits": 12,
        "send_context_takeover": True,
        "receive_context_takeover": True,
        "level": 1,
        "memory_level": 5,
        "min_size": 128,
        "max_size": 1024 * 1024,
    }


RANGES = {
    "send_window_bits": (9, 15),
    "receive_window_bits": (9, 15),
    "level": (1, 9),
    "memory_level": (1, 9),
}


@pytest.mark.parametrize(("name", "ends"), RANGES.items())
def test_deflate_takes_what_zlib_takes(name: str, ends: tuple[int, int]) -> None:
    for value in ends:
        settings: Any = {name: value}
        assert getattr(Deflate(**settings), name) == value
    for value in (ends[0] - 1, ends[1] + 1):
        settings = {name: value}
        with pytest.raises(ValueError, match=f"Deflate.{name} is {ends[0]} to {ends[1]}, not"):
            Deflate(**settings)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [None, "9", 9.0, True])
def test_deflate_takes_whole_numbers(name: str, value: object) -> None:
    settings: Any = {name: value}

    with pytest.raises(TypeError, match=f"Deflate.{name} is a whole number, not {value!r}"):
        Deflate(**settings)


@pytest.mark.parametrize("name", ["send_context_takeover", "receive_context_takeover"])
def test_context_takeover_is_true_or_false(name: str) -> None:
    settings: Any = {name: 1}

    with pytest.raises(TypeError, match=f"Deflate.{name} is True or False, not 1"):
        Deflate(**settings)


@pytest.mark.parametrize(("name", "smallest"), [("min_size", 0), ("max_size", 1)])
def test_size_of_what_is_compressed_is_not_negative(name: str, smallest: int) -> None:
    settings: Any = {name: smallest - 1}

    with pytest.raises(ValueError, match=f"Deflate.{name} is greater than 0, not {smallest - 1}"):
        Deflate(**settings)
    for value in (smallest, math.inf):
        settings = {name: value}
        assert getattr(Deflate(**settings), name) == value


@pytest.mark.parametrize("name", ["min_size", "max_size"])
@pytest.mark.parametrize("value", [None, "9", False])
def test_size_of_what_is_compressed_is_a_number(name: str, value: object) -> None:
    settings: Any = {name: value}

    with pytest.raises(TypeError, match=f"Deflate.{name} is a number or math.inf, not {value!r}"):
        Deflate(**settings)
