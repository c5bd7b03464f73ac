"""picows on uvloop: its core interface, the echo server of its documentation."""

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce

_transports: set[WSTransport] = set()


class Echo(WSListener):
    """Sends every frame back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer one frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Broadcast(WSListener):
    """Sends every frame to all connections."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Remember the connection."""
        _transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget the connection."""
        _transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass one frame on."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        for other in _transports:
            other.send(frame.msg_type, payload)


def echo(_: WSUpgradeRequest) -> WSListener:
    """Make the listener of a connection."""
    return Echo()


def broadcast(_: WSUpgradeRequest) -> WSListener:
    """Make the listener of a connection."""
    return Broadcast()


async def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    server = await ws_create_server(
        broadcast if options.broadcast else echo,
        HOST,
        0,
        ssl=options.ssl_context(),
        max_frame_size=MAX_MESSAGE,
    )
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
