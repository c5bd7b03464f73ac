// A peer that the other side commands: `peer.mjs client URL`, or `peer.mjs server`.
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

const [role, url] = process.argv.slice(2);
if (role === "client") {
  obey(new WebSocket(url));
} else {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", obey);
  server.on("listening", () => report("listening", server.address().port));
}
