// Node's ws, without compression (its default for servers). Same options as in servers/options.py.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { parseArgs } = require("node:util");
const { WebSocketServer } = require("ws");

const { values } = parseArgs({
  options: { broadcast: { type: "boolean" }, certificate: { type: "string" } },
});
const maxPayload = 64 * 1024 * 1024;
const server = values.certificate
  ? https.createServer({
      cert: fs.readFileSync(`${values.certificate}/chain.pem`),
      key: fs.readFileSync(`${values.certificate}/key.pem`),
    })
  : http.createServer();
const sockets = new WebSocketServer({ server, maxPayload, perMessageDeflate: false });

sockets.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, binary) => {
    if (!values.broadcast) {
      socket.send(data, { binary });
      return;
    }
    for (const other of sockets.clients) other.send(data, { binary });
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
setTimeout(() => process.exit(), 3600 * 1000).unref();
