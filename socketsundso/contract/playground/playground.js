// The playground of one channel: connect, fill in, send, and see what comes.

import { announce, button, form, h, newId } from "./dom.js";
import { Editor, RawEditor } from "./editor.js";
import { Handshake } from "./handshake.js";
import { attempt, compact, objectOf } from "./json.js";
import { Log } from "./log.js";
import { InFlight, isError, Question } from "./pending.js";
import { Session } from "./session.js";

const RAW = "raw text"; // the last choice among the events
const CONNECTOR = { closed: "Connect", connecting: "Stop", open: "Disconnect", closing: "Disconnect" };

export class Playground {
  constructor(api, schemas, channel, base) {
    Object.assign(this, { schemas, channel });
    this.log = new Log({
      again: (entries) => this.#again(entries),
      edit: (entry) => this.#edit(entry),
      told: (message) => this.#inALine(message),
    });
    this.session = new Session(channel, this.log, this);
    this.handshake = new Handshake(schemas, channel, api, base);
    this.editors = new Map();
    this.calls = h("div.calls");
    this.requests = h("ul.requests", { "aria-label": "In flight" });
    this.element = h(
      "div.console",
      h("div.upper", this.#connection(), this.calls, this.#composer()),
      this.requests,
      this.log.element,
    );
    this.choose(channel.receives[0]?.event ?? RAW);
    this.stateChanged("closed");
  }

  // --- the connection

  #connection() {
    this.state = h("span.state", { role: "status" });
    this.why = h("p.why", { role: "alert" });
    this.connector = h("button.primary", { type: "submit" });
    this.settings = h(
      "details.settings",
      { open: this.handshake.needsInput },
      h("summary", "Parameters"),
      this.handshake.element,
    );
    const line = h("div.line", this.handshake.address, this.connector);
    return form(
      "form.connection",
      { "aria-label": "Connection" },
      () => this.#toggle(),
      h("div.line", h("h2", this.channel.path), this.state),
      line,
      this.settings,
      this.why,
    );
  }

  #toggle() {
    if (this.session.state === "closed") this.connect();
    else this.session.close();
  }

  /** Whether an attempt began; what the browser refuses is told. */
  connect() {
    this.why.textContent = "";
    try {
      this.session.open(this.handshake.address.value, this.handshake.protocols);
      return true;
    } catch (refused) {
      this.why.textContent = refused.message;
      this.handshake.address.focus();
      return false;
    }
  }

  stateChanged(state) {
    this.state.textContent = state;
    this.state.className = `state ${state}`;
    this.connector.textContent = CONNECTOR[state];
    this.connector.disabled = state === "closing";
    this.sender.textContent = state === "closed" ? "Connect and send" : "Send";
    this.handshake.address.readOnly = state !== "closed";
    if (state === "open") this.settings.open = false;
    if (state === "closed" && this.session.ended) this.why.textContent = `Closed with ${this.session.ended}`;
    if (state === "open" && this.waiting) this.waiting();
    this.waiting = state === "connecting" ? this.waiting : undefined;
  }

  // --- what is sent

  #composer() {
    const id = newId();
    const optionOf = ({ event, deprecated }) =>
      h("option", { value: event }, deprecated ? `${event} (deprecated)` : event);
    const controls = this.channel.controls.map(optionOf);
    const options = [
      this.channel.receives.map(optionOf),
      controls.length > 0 && h("optgroup", { label: "Protocol" }, controls),
      h("option", { value: RAW }, "raw text…"),
    ];
    const oninput = () => this.choose(this.event.value);
    this.event = h("select", { id, oninput }, options);
    this.sender = h("button.primary", { type: "submit" });
    this.told = h("div.problems", { role: "alert" });
    this.holder = h("div.holder");
    const example = button("Example", () => this.#fillIn(), { class: "small" });
    const reset = button("Reset", () => this.#reset(), { class: "small" });
    return form(
      "form.composer",
      { "aria-label": "Message" },
      () => this.#submit(),
      h("div.line", h("label", { for: id }, "Event"), this.event, example, reset, this.sender),
      this.holder,
      this.told,
    );
  }

  /** Show the form of an event, as it was left. */
  choose(event) {
    if (!this.editors.has(event)) this.editors.set(event, event === RAW ? new RawEditor() : this.#editorFor(event));
    this.event.value = event;
    this.editor = this.editors.get(event);
    this.holder.replaceChildren(this.editor.element);
    this.told.replaceChildren();
  }

  focus() {
    this.editor.form.focus();
  }

  /** A message without the envelope's keys. */
  fieldsOf(message) {
    return this.channel.wire.dataOf(message);
  }

  #inALine(frame) {
    const { wire } = this.channel;
    const { typeKey } = wire;
    const message = wire.read(frame);
    if (!message) return compact(frame);
    if (message[typeKey] !== "error" || typeof message.code !== "string") return compact(this.fieldsOf(message));
    const [first, ...others] = textsOf(message);
    return [message.code, first, others.length > 0 && `and ${others.length} more`].filter(Boolean).join(" · ");
  }

  #fillIn() {
    const event = this.event.value;
    const sample = event === RAW ? {} : this.schemas.sample(this.#schemaOf(event));
    const { wire } = this.channel;
    this.editor.value = wire.frame(wire.message(event === RAW ? "" : event, sample));
  }

  #reset() {
    this.editors.delete(this.event.value);
    this.choose(this.event.value);
  }

  #schemaOf(event) {
    return this.session.receives.get(event).schema;
  }

  #editorFor(event) {
    const { wire } = this.channel;
    const fieldsOf = (message) => (message?.[wire.typeKey] === event ? wire.dataOf(message) : undefined);
    return new Editor(this.schemas, this.#schemaOf(event), {
      name: event,
      wrap: (value) => wire.frame(wire.message(event, value)),
      unwrap: (value) => fieldsOf(wire.read(value)) ?? value,
    });
  }

  #submit() {
    const { editor } = this;
    if (editor.value === undefined) return editor.text.focus();
    if (this.session.state === "open") return this.#send(editor);
    this.waiting = () => this.#send(editor);
    if (this.session.state === "closed" && !this.connect()) this.waiting = undefined;
    return undefined;
  }

  #send(editor) {
    editor.form.clear();
    this.told.replaceChildren();
    const message = editor instanceof RawEditor ? undefined : this.channel.wire.read(editor.value);
    if (message) this.session.request(message).editor = editor;
    else this.session.raw(editor.text.value);
  }

  #again(entries) {
    if (this.session.state !== "open") return this.#problem("Not connected.");
    for (const { text } of entries) this.session.raw(this.#renumbered(text));
    return announce(`${entries.length} sent again`);
  }

  /** A ref that was counted here is counted anew. */
  #renumbered(text) {
    const { wire } = this.channel;
    const { typeKey, refKey } = wire;
    const message = wire.read(attempt(text));
    const isRequest = message && this.session.receives.has(message[typeKey]);
    return isRequest && typeof message[refKey] === "number"
      ? compact(wire.frame({ ...message, [refKey]: this.session.nextRef() }))
      : text;
  }

  #edit({ text }) {
    const { wire } = this.channel;
    const { typeKey, refKey } = wire;
    const message = wire.read(attempt(text));
    const isRequest = message && this.session.receives.has(message[typeKey]);
    const isCounted = isRequest && typeof message[refKey] === "number";
    this.choose(isRequest ? message[typeKey] : RAW);
    if (isRequest) {
      const kept = Object.entries(message).filter(([name]) => name !== refKey || !isCounted);
      this.editor.value = wire.frame(objectOf(kept));
    } else {
      this.editor.text.value = text;
    }
    this.focus();
  }

  // --- what is told by the session

  answered(request, type, took) {
    announce(`${type} answers ${request.event} after ${Math.round(took)} ms`);
  }

  /** Several within a second are told in one sentence. */
  pushed(type) {
    const isFirst = !this.heard;
    this.heard = { count: (this.heard?.count ?? 0) + 1, type };
    if (!isFirst) return;
    setTimeout(() => {
      announce(`${this.heard.count} received, the last is ${this.heard.type}`);
      this.heard = undefined;
    }, 1000);
  }

  /** Errors go to the fields that they are about, if the form still shows what was sent. */
  failed(request, message) {
    const { code } = message;
    const errors = (message.errors ?? []).filter(isError);
    const isShown = request?.editor && request.editor === this.editor;
    const within = errors.map((error) => ({ ...error, loc: this.channel.wire.within(error.loc) }));
    const rest = isShown ? this.editor.form.fail(within, this.#mayFocus()) : errors;
    const texts = textsOf({ ...message, errors: rest });
    if (texts.length || !errors.length) this.#problem(texts.join("; "), String(code), request);
    announce(`error ${code}: ${textsOf(message).join("; ")}`);
  }

  #mayFocus() {
    const { activeElement } = document;
    return (
      activeElement === document.body ||
      (this.element.contains(activeElement) && !this.log.element.contains(activeElement))
    );
  }

  #problem(text, code, request) {
    const about = request && request.editor !== this.editor ? ` (${request.event})` : "";
    this.told.replaceChildren(h("p.wrong", code && h("code", code), about, " ", text));
  }

  requestsChanged() {
    if (this.drawing) return;
    this.drawing = setTimeout(() => {
      this.drawing = 0;
      this.#drawRequests();
    }, 50);
  }

  #drawRequests() {
    const waiting = [...this.session.requests.values()].filter((request) => request.isAwaited);
    const rows = waiting.map((request) => (request.row ??= new InFlight(this, request)));
    const gone = [...this.requests.children].filter((element) => !rows.some((row) => row.element === element));
    for (const element of gone) element.remove();
    for (const row of rows) {
      row.draw();
      if (!row.element.isConnected) this.requests.append(row.element);
    }
  }

  callsChanged() {
    const open = [...this.session.calls.values()].filter((call) => !call.isAnswered || call.problem);
    const rows = open.map((call) => (call.row ??= new Question(this, call)).element);
    for (const element of [...this.calls.children]) if (!rows.includes(element)) element.remove();
    for (const element of rows) if (!element.isConnected) this.calls.append(element);
  }

  answerRefused(call, message) {
    call.problem = message;
    call.row?.refused(message);
    this.callsChanged();
  }
}

/** What an error frame says, for people. */
function textsOf({ errors, retry_after_s: wait }) {
  const texts = (errors ?? []).filter(isError).map(({ loc, msg }) => (loc.length ? `${loc.join(".")}: ${msg}` : msg));
  return wait === undefined ? texts : [...texts, `again in ${wait} s`];
}
