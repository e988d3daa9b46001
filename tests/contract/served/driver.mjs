// What the tests of the TypeScript client run, in one process: each line of the input is a snippet, each line of the
// output its value. `node driver.mjs CLIENT FOLDER SOCKET`: the compiled client, where the packages are, whose WebSocket.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [, , path, folder, socket] = process.argv;
const client = await import(path);
const load = createRequire(`${folder}/`);
const sockets = { ws: () => load("ws"), undici: () => load("undici").WebSocket, global: () => globalThis.WebSocket };
const WebSocket = sockets[socket]();

const unhandled = [];
process.on("unhandledRejection", error => unhandled.push(String(error)));
process.on("uncaughtException", error => unhandled.push(String(error)));
console.error = () => {};

const servers = new Set();
const opened = new Set();
const world = {};
const tools = {
  ...client,
  WebSocket,
  world,
  reported: [],
  // A client that is closed at the end of the snippet, unless it is kept in `world`. Its states are in `states`.
  open(Client, url, options = {}) {
    const made = new Client(url, { WebSocket, minDelayMs: 20, maxDelayMs: 100, ...options });
    made.states = [];
    made.onState(status => made.states.push(status));
    opened.add(made);
    return made;
  },
  // The first value that is true, asked for again and again.
  async until(condition, within = 10000) {
    const end = Date.now() + within;
    for (;;) {
      const value = await condition();
      if (value) return value;
      if (Date.now() > end) throw new Error(`never came true: ${condition}`);
      await new Promise(resolve => setTimeout(resolve, 2));
    }
  },
  // What a promise is rejected with.
  async failure(promise) {
    try {
      return { resolved: await promise };
    } catch (error) {
      return { name: error.constructor.name, code: error.code, message: error.message, errors: error.errors };
    }
  },
  // A server that does what it is told: `talk` gets each socket, and what it receives as JSON.
  async serve(talk) {
    const server = new (load("ws").WebSocketServer)({ port: 0, host: "127.0.0.1" });
    await new Promise(resolve => server.on("listening", resolve));
    server.on("connection", (socket, request) => {
      const said = [];
      socket.on("message", data => said.push(JSON.parse(data)));
      socket.say = message => socket.send(JSON.stringify(message));
      socket.on("error", () => {});
      talk(socket, said, request);
    });
    servers.add(server);
    return `ws://127.0.0.1:${server.address().port}`;
  },
  next: (client, type) => new Promise(resolve => client.once(type, resolve)),
};
globalThis.reportError = error => tools.reported.push(error.code ?? String(error));

const Snippet = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  const { code, values } = JSON.parse(line);
  let told;
  tools.reported.length = 0;
  try {
    const names = { ...tools, ...values };
    const value = await new Snippet(...Object.keys(names), code)(...Object.values(names));
    told = { value: value ?? null };
  } catch (error) {
    told = { error: error.stack ?? String(error) };
  }
  for (const each of opened) if (!Object.values(world).includes(each)) each.close(), opened.delete(each);
  for (const each of servers) each.clients.forEach(socket => socket.terminate()), each.close(), servers.delete(each);
  await new Promise(resolve => setTimeout(resolve, 0));
  if (unhandled.length) told = { error: `unhandled: ${unhandled.splice(0).join("; ")}` };
  console.log(JSON.stringify(told));
}
process.exit();
