// One connection as the protocol has it: refs, which reply answers which request, streams, uploads, the server's calls.
// Knows no element of the page; what happens is told to `view` and written into `log`.

import { attempt, compact, has } from "./json.js";

const CREDIT = 16; // items of an upload that may be ahead of the server before it has said anything
const REMEMBERED = 200; // requests without a reply, and answered calls, whose error may still come

/** What a close code means here; browsers give no more than the code and the reason. */
export const CLOSE_CODES = {
  1000: "ended normally",
  1001: "the server is going away",
  1002: "protocol error",
  1003: "what was sent is not JSON",
  1005: "ended without a code",
  1006: "no close frame: the handshake was refused, or the network ended it; browsers do not tell which",
  1007: "what was sent is not UTF-8",
  1008: "refused by a rule of the server",
  1009: "the message was too big",
  1011: "the server failed",
  1012: "the server restarts",
  1013: "try again later: the server is too busy, or this page read too slowly",
  4401: "not signed in, or not any more",
  4403: "forbidden",
  4408: "the server waited too long for a message",
  4429: "too many messages",
};

export class Session {
  state = "closed";
  requests = new Map(); // by ref: those whose end is still to come, and the latest of those that have none
  calls = new Map(); // by ref: what the server asked

  constructor(channel, log, view) {
    Object.assign(this, { channel, log, view });
    this.receives = new Map([...channel.receives, ...channel.controls].map((receive) => [receive.event, receive]));
    this.questions = new Map(channel.calls.map((call) => [call.message.type, call]));
    this.lastRef = 0;
  }

  // --- the connection

  /** Connect; raises a SyntaxError for what is no address or no subprotocol. */
  open(url, protocols) {
    const socket = new WebSocket(url, protocols);
    this.socket = socket;
    this.#change("connecting");
    socket.onopen = () => this.#opened(url, protocols);
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = (event) => this.#closed(event);
  }

  close() {
    this.#change("closing");
    this.socket.close(1000);
  }

  #opened(url) {
    this.log.add({
      direction: "info",
      text: `connected to ${url.replace(/\?.*/, "?…")}${this.socket.protocol ? ` with ${this.socket.protocol}` : ""}`,
    });
    this.#change("open");
  }

  #closed({ code, reason }) {
    const meaning = CLOSE_CODES[code] ?? "a code of the application";
    this.ended = `${code}: ${reason ? `${reason} (${meaning})` : meaning}`;
    this.log.add({ direction: "info", text: `closed with ${this.ended}`, failed: code !== 1000 });
    this.requests.clear();
    this.calls.clear();
    this.#change("closed");
    this.view.requestsChanged();
    this.view.callsChanged();
  }

  #change(state) {
    this.state = state;
    this.view.stateChanged(state);
  }

  // --- what goes out

  /** Send a message; it gets a ref where it has none. */
  request(message) {
    const { wire } = this.channel;
    const { typeKey, refKey } = wire;
    const ref = has(message, refKey) ? message[refKey] : this.nextRef();
    const text = compact(wire.frame(has(message, refKey) ? message : { ...message, [refKey]: ref }));
    const receive = this.receives.get(message[typeKey]);
    const entry = this.#write(text, message[typeKey], ref);
    const isAwaited = Boolean(
      receive && (receive.replies.length || receive.acknowledged || receive.stream || receive.uploads),
    );
    const request = {
      ref,
      receive,
      entry,
      isAwaited,
      event: message[typeKey],
      at: performance.now(),
      items: 0,
      sent: 0,
      credit: CREDIT,
    };
    this.requests.set(keyOf(ref), request);
    this.#forget(this.requests, (each) => !each.isAwaited);
    this.view.requestsChanged();
    return request;
  }

  nextRef() {
    this.lastRef += 1;
    return this.requests.has(keyOf(this.lastRef)) ? this.nextRef() : this.lastRef; // a message may have chosen it
  }

  /** Send a text as it is, whether it is a message or not. */
  raw(text) {
    const { wire } = this.channel;
    const { typeKey, refKey } = wire;
    const message = wire.read(attempt(text));
    return message && this.receives.has(message[typeKey]) && has(message, refKey)
      ? this.request(message)
      : this.#write(text, message?.[typeKey]);
  }

  cancel(request) {
    this.#control("cancel", request.ref);
  }

  item(request, item) {
    this.#control("item", request.ref, { item });
    request.sent += 1;
    request.credit -= 1;
    this.view.requestsChanged();
  }

  complete(request) {
    this.#control("complete", request.ref);
    request.isWhole = true;
    this.view.requestsChanged();
  }

  answer(call, answer) {
    this.#control("reply", call.ref, { answer });
    this.#answered(call);
  }

  refuse(call, message) {
    this.#control("reply", call.ref, { error: { code: "declined", message } });
    this.#answered(call);
  }

  /** No end of it is expected any more; what still comes is a message like any other. */
  dismiss(request) {
    this.requests.delete(keyOf(request.ref));
    this.view.requestsChanged();
  }

  #answered(call) {
    call.isAnswered = true;
    this.#forget(this.calls, (each) => each.isAnswered);
    this.view.callsChanged();
  }

  #control(type, ref, fields = {}) {
    const { wire } = this.channel;
    this.#write(compact(wire.frame(wire.message(type, fields, ref))), type, ref);
  }

  #write(text, type, ref) {
    this.socket.send(text);
    return this.log.add({ direction: "out", text, type, ref });
  }

  #forget(map, isOld) {
    const old = [...map].filter(([, each]) => isOld(each));
    for (const [key] of old.slice(0, -REMEMBERED)) map.delete(key);
  }

  // --- what comes in

  #received(data) {
    if (typeof data !== "string") return this.log.add({ direction: "in", text: `${data.size} bytes, not text` });
    const { wire } = this.channel;
    const { typeKey, refKey } = wire;
    const message = wire.read(attempt(data));
    if (!message) return this.log.add({ direction: "in", text: data });
    const type = message[typeKey],
      ref = message[refKey];
    const request = ref === undefined ? undefined : this.requests.get(keyOf(ref));
    const entry = this.log.add({
      direction: "in",
      text: data,
      type,
      ref,
      about: request?.entry,
      failed: type === "error",
    });
    if (request) return this.#about(request, type, message, entry);
    return this.#unasked(type, ref, message);
  }

  #about(request, type, message, entry) {
    if (type === "more") {
      request.credit += Number(message.items) || 0;
      return this.view.requestsChanged();
    }
    entry.took = performance.now() - request.at;
    const isEnd = type === "error" || type === "complete" || !request.receive?.stream;
    if (isEnd) this.requests.delete(keyOf(request.ref));
    else entry.item = ++request.items;
    if (type === "error") this.view.failed(request, message);
    else if (isEnd) this.view.answered(request, type, entry.took);
    return this.view.requestsChanged();
  }

  #unasked(type, ref, message) {
    const call = ref === undefined ? undefined : this.calls.get(keyOf(ref));
    if (call && type === "cancel") this.calls.delete(keyOf(ref));
    else if (call && type === "error") this.view.answerRefused(call, message);
    else if (this.questions.has(type) && ref !== undefined)
      this.calls.set(keyOf(ref), { ref, message, ...this.questions.get(type), question: message });
    else return type === "error" ? this.view.failed(null, message) : this.view.pushed(type);
    return this.view.callsChanged();
  }
}

const keyOf = (ref) => compact(ref);
