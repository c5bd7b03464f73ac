"""`Addresses`: how many streams each remote address has at a time."""

from typing import TypeAlias

from trio_ws._protocol.forwarded import plain_address
from trio_ws._transport.endpoint import Endpoint

_Key: TypeAlias = object


class Addresses:
    """Counts streams by address, an IPv6 one by its first 64 bits, which are one customer's.

    It holds as many numbers as there are addresses with streams, so no more than there are streams.

    Args:
        limit: Streams that one address may have.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._counts: dict[_Key, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, remote: Endpoint | str) -> bool:
        """Count one more, unless there are as many as may be; what is no IP address always enters.

        Returns:
            Whether it was counted, so that `leave` has to follow.
        """
        if isinstance(remote, str):
            return True
        key = _key(remote)
        count = self._counts.get(key, 0)
        if count >= self._limit:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, remote: Endpoint | str) -> None:
        """Count one less."""
        if isinstance(remote, str):
            return
        key = _key(remote)
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]


def _key(remote: Endpoint) -> _Key:
    address = plain_address(remote.address)
    return address if address.version == 4 else int(address) >> 64
