"""picows on uvloop as a client: its core interface."""

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.clients.options import MAX_MESSAGE, parse


class Echo(WSListener):
    """Sends every frame back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer one frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def echo(url: str) -> None:
    """Send every message back, until the server closes."""
    transport, _ = await ws_connect(Echo, url, max_frame_size=MAX_MESSAGE)
    await transport.wait_disconnected()


async def main() -> None:
    """Open the connections."""
    url, connections = parse()
    await asyncio.gather(*(echo(url) for _ in range(connections)))


if __name__ == "__main__":
    uvloop.run(main())
