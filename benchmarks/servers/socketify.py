"""socketify, which is uWebSockets with a face of Python, without compression."""

from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode, WebSocket

from benchmarks.servers.options import HOST, MAX_MESSAGE, Options, announce, free_port


def echo(connection: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send a message back."""
    connection.send(message, opcode)


def subscribe(connection: WebSocket) -> None:
    """Let a connection hear what is broadcast."""
    connection.subscribe("all")


def broadcast(connection: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send a message to all connections."""
    connection.publish("all", message, opcode)


def main() -> None:
    """Serve until killed."""
    options = Options.parse()
    secure = None
    if options.certificate is not None:
        secure = AppOptions(
            key_file_name=str(options.certificate / "key.pem"),
            cert_file_name=str(options.certificate / "chain.pem"),
        )
    app = App(secure)
    behaviour = {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": MAX_MESSAGE,
        # Past this uWebSockets drops messages; 16 of the largest are in flight.
        "max_backpressure": MAX_MESSAGE,
        "message": broadcast if options.broadcast else echo,
    }
    if options.broadcast:
        behaviour["open"] = subscribe
    app.ws("/*", behaviour)
    port = free_port()
    app.listen(AppListenOptions(port=port, host=HOST), lambda _: announce(port))
    app.run()


if __name__ == "__main__":
    main()
