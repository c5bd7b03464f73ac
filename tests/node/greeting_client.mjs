// The tutorial's client: greets when the connection is open, and logs every message.
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2]);

socket.on("open", () => {
  console.log("Conectado ao servidor");
  socket.send("Olá, servidor!");
});

socket.on("message", (message) => {
  console.log(`Mensagem do servidor: ${message}`);
});

socket.on("close", (code) => {
  console.log(`Desconectado: ${code}`);
});
