// A yardstick outside Python: Bun's own WebSocket server with `zod`. `bun ... PORT [deflate]`
import { z } from "zod";

const VALIDATES = "zod, input";

const Message = z.object({
  type: z.literal("message"),
  room: z.string(),
  msg: z.string(),
  sender: z.number().int().nullish(),
});
const Ping = z.object({ type: z.literal("ping") });
const Any = z.discriminatedUnion("type", [Message, Ping]);
const compress = process.argv[3] === "deflate";

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 400 })),
  websocket: {
    perMessageDeflate: compress,
    message: (socket, data) => socket.send(JSON.stringify(Any.parse(JSON.parse(data))), compress),
  },
});
