// The tutorial's server: greets every client, and logs every message.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });

server.on("listening", () => {
  console.log(`Servidor escutando em ws://127.0.0.1:${server.address().port}`);
});

server.on("connection", (socket) => {
  console.log("Cliente conectado");
  socket.send("Olá, cliente!");

  socket.on("message", (message) => {
    console.log(`Mensagem recebida: ${message}`);
  });

  socket.on("close", (code) => {
    console.log(`Cliente desconectado: ${code}`);
  });
});
