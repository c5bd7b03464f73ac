"""HTTP and WebSocket on one port: a health check, a page, and a WebSocket that echoes.

    python examples/http_and_websocket.py [--port 8080]

Then open http://localhost:8080, or ask `curl http://localhost:8080/health`.
"""

import argparse
import signal
import sys

import trio

import trio_ws

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Echo</title>
<link rel="icon" href="data:,">
<form><input aria-label="Message" autofocus> <button>Send</button></form>
<p><output>connecting …</output>
<script>
  const socket = new WebSocket(location.href.replace("http", "ws") + "echo");
  const [form, output] = ["form", "output"].map((name) => document.querySelector(name));
  socket.onopen = () => output.textContent = "connected";
  socket.onmessage = (event) => output.textContent = event.data;
  socket.onclose = () => output.textContent = "disconnected";
  form.onsubmit = () => (socket.send(form[0].value), form.reset(), false);
</script>
"""


async def health(_request: trio_ws.Request) -> trio_ws.Response:
    """Tell a load balancer that the server is alive."""
    return trio_ws.Response(200, "ok\n")


async def page(_request: trio_ws.Request) -> trio_ws.Response:
    """Answer with the page."""
    return trio_ws.Response(200, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})


async def echo(request: trio_ws.Request) -> None:
    """Send every message back. A request that is no WebSocket is answered 426."""
    async with request.accept() as connection:
        async for message in connection:
            await connection.send(message)


async def main(port: int) -> str | None:
    """Serve until a signal comes; return what went wrong, if anything did."""
    router = trio_ws.Router()
    router.add("/", page)
    router.add("/health", health)
    router.add("/echo", echo)
    async with trio.open_nursery() as nursery:
        try:
            server: trio_ws.Server = await nursery.start(trio_ws.serve, router, port)
        except OSError as error:
            return f"cannot listen on port {port}: {error}"
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"Serving at http://localhost:{server.port}")
            await anext(signals)
        nursery.cancel_scope.cancel()
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A health check, a page and an echo on one port.")
    parser.add_argument("--port", type=int, default=8080, help="0 lets the system choose one")
    try:
        sys.exit(trio.run(main, parser.parse_args().port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C came a second time, during the goodbyes.
