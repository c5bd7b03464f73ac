"""`TARGETS`: what is fuzzed, each a function of bytes that returns, or raises if there is a fault.

A target gives its input to a parser, in several pieces and by several ways, and asserts what has to
be true of whatever a stranger sends: no exception but the documented ones, nothing kept beyond the
limits, no more work than is linear in the input, and a meaning that does not depend on the pieces.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from tests.fuzz.frame_targets import close_payload, deflate, frames
from tests.fuzz.head_targets import (
    answer,
    extensions,
    forwarded,
    proxy_header,
    request_head,
    response_head,
    upgrade,
)
from tests.fuzz.text_targets import authority, hosts, origin, url

Target: TypeAlias = Callable[[bytes], None]

TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        answer,
        authority,
        close_payload,
        deflate,
        extensions,
        forwarded,
        frames,
        hosts,
        origin,
        proxy_header,
        request_head,
        response_head,
        upgrade,
        url,
    )
}
"""The targets by name."""
