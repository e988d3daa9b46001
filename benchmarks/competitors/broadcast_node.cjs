// Node's `ws`: a loop over its clients, as its documentation has it. `node ... PORT [deflate]`
const { WebSocketServer } = require("ws");
const { z } = require("zod");

const VALIDATES = "zod, input";

const Message = z.object({
  type: z.literal("message"),
  room: z.string(),
  msg: z.string(),
  sender: z.number().int().nullish(),
});

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: process.argv[3] === "deflate",
});
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    const text = JSON.stringify(Message.parse(JSON.parse(data)));
    for (const client of server.clients) client.send(text);
  });
});
