// A peer that the other side commands: `peer.mjs client URL [COMPRESSION]`, or
// `peer.mjs server [COMPRESSION]`, where COMPRESSION is ws's `perMessageDeflate` in JSON.
//
// A text of JSON such as ["close", 4001, "reason"] calls that method of the socket; every other
// message is sent back as it came. What happens is printed, one line of JSON for each event.
import WebSocket, { WebSocketServer } from "ws";

function report(...event) {
  console.log(JSON.stringify(event));
}

function obey(socket) {
  socket.on("message", (data, isBinary) => {
    if (!isBinary && String(data).startsWith("[")) {
      const [method, ...parameters] = JSON.parse(data);
      socket[method](...parameters);
    } else {
      socket.send(data, { binary: isBinary });
    }
  });
  socket.on("ping", (data) => report("ping", String(data)));
  socket.on("pong", (data) => report("pong", String(data)));
  socket.on("close", (code, reason) => report("close", code, String(reason)));
  socket.on("error", (error) => report("error", error.code ?? error.message));
}

const [role, ...options] = process.argv.slice(2);
if (role === "client") {
  const [url, compression] = options;
  obey(new WebSocket(url, { perMessageDeflate: compression ? JSON.parse(compression) : true }));
} else {
  const perMessageDeflate = options[0] ? JSON.parse(options[0]) : false;
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
  server.on("connection", obey);
  server.on("listening", () => report("listening", server.address().port));
}
