// Bun's own WebSocket server: `publish` to a topic, compressed once for all. `bun ... PORT [deflate]`
import { z } from "zod";

const VALIDATES = "zod, input";

const Message = z.object({
  type: z.literal("message"),
  room: z.string(),
  msg: z.string(),
  sender: z.number().int().nullish(),
});
const compress = process.argv[3] === "deflate";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 400 })),
  websocket: {
    perMessageDeflate: compress ? { compress: "dedicated", decompress: "dedicated" } : false,
    open: (socket) => socket.subscribe("lobby"),
    message: (socket, data) => server.publish("lobby", JSON.stringify(Message.parse(JSON.parse(data))), compress),
  },
});
