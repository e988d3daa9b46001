// A yardstick outside Python: Node's `ws` with `zod`, a discriminated union parsed for every message. `node ... PORT [deflate]`
const { WebSocketServer } = require("ws");
const { z } = require("zod");

const VALIDATES = "zod, input";

const Message = z.object({
  type: z.literal("message"),
  room: z.string(),
  msg: z.string(),
  sender: z.number().int().nullish(),
});
const Ping = z.object({ type: z.literal("ping") });
const Any = z.discriminatedUnion("type", [Message, Ping]);

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: process.argv[3] === "deflate",
});
server.on("connection", (socket) => {
  socket.on("message", (data) => socket.send(JSON.stringify(Any.parse(JSON.parse(data)))));
});
