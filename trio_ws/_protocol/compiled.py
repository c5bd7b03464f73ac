"""`speedups`: the compiled half of the protocol layer, or None where Python does its work.

It is built from ``speedups.c`` where there is a compiler, and ``TRIO_WS_NO_SPEEDUPS=1`` turns it
off. Either way the same functions are there, in `masking`, `frames` and `messages`.
"""

import logging
import os

__all__ = ["speedups"]

_logger = logging.getLogger("trio_ws.protocol")

try:
    if os.environ.get("TRIO_WS_NO_SPEEDUPS") == "1":
        # Being turned off is one way of being absent.
        raise ImportError("TRIO_WS_NO_SPEEDUPS=1")  # noqa: TRY301
    from trio_ws._protocol import speedups
except ImportError as error:
    # mypy: the name of a module is a module and nothing else.
    speedups = None  # type: ignore[assignment]
    _logger.debug("frames are made and parsed in Python: %s", error)
