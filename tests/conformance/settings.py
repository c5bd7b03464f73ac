"""What the server and the client under test are told: the suite's messages are large."""

import math
from typing import Literal

import trio_ws

Side = Literal["server", "client"]
"""What of ours is tested."""

SIDES: tuple[Side, ...] = ("server", "client")

AGENT = "trio_ws"
"""Under which name the suite reports."""

LIMITS = trio_ws.Limits(max_message=16 * 1024 * 1024, max_fragments=math.inf)
"""9.* sends messages of up to 16 MiB, in frames of as little as 64 bytes."""

COMPRESSION = trio_ws.Deflate(min_size=1)
"""12.* and 13.* count on it that every message is compressed, the small ones too. Those cases that
have nothing to do with compression do not offer it."""

KEEPALIVE = trio_ws.Keepalive(interval=math.inf)
"""No pings of ours between the frames that the suite counts."""
