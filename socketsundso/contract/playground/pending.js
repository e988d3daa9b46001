// What is open between the two sides: requests that wait for their end, with their uploads, and what the server asks.

import { announce, button, form, h, newId } from "./dom.js";
import { Editor } from "./editor.js";
import { isObject, pretty } from "./json.js";

/** Whether it is one of pydantic's errors, as they are told. */
export const isError = (error) => isObject(error) && Array.isArray(error.loc) && typeof error.msg === "string";

/** A request whose end is still to come: how far it is, its upload, and what ends it. */
export class InFlight {
  constructor(playground, request) {
    Object.assign(this, { playground, request });
    const { session } = playground;
    const { receive, event, ref } = request;
    const canCancel = receive.stream || receive.uploads || receive.cancellable;
    this.count = h("span.count");
    const ender = canCancel
      ? button("Cancel", () => session.cancel(request), {
          class: "small cancel",
          "aria-label": `cancel ${event} ${JSON.stringify(ref)}`,
        })
      : button("Dismiss", () => session.dismiss(request), { class: "small", title: "wait for it no more" });
    this.element = h(
      "li",
      h("div.line", h("b", event), h("span.ref", `ref ${JSON.stringify(ref)}`), this.count, ender),
      receive.uploads && this.#upload(),
    );
  }

  #upload() {
    const { request, playground } = this;
    this.editor = new Editor(playground.schemas, request.receive.uploads, { name: "item" });
    this.sender = h("button", { type: "submit" }, "Send item");
    this.completer = button("Complete", () => playground.session.complete(request));
    this.form = form(
      "form.feeding",
      { "aria-label": `items of ${request.event}` },
      () => this.#item(),
      this.editor.element,
      h("div.bar", this.sender, this.completer),
    );
    return this.form;
  }

  #item() {
    const { value } = this.editor;
    if (value === undefined) this.editor.text.focus();
    else this.playground.session.item(this.request, value);
  }

  draw() {
    const { items, sent, credit, isWhole, receive } = this.request;
    const words = [
      receive.stream && `${items} ${items === 1 ? "item" : "items"} received`,
      receive.uploads && `${sent} sent, ${isWhole ? "complete" : `${credit} more may come`}`,
    ].filter(Boolean);
    this.count.textContent = words.join(" · ") || "waiting for the reply";
    if (!this.form) return;
    this.form.hidden = Boolean(isWhole);
    this.sender.disabled = credit <= 0;
  }
}

/** What the server asks, with a form for the answer. */
export class Question {
  constructor(playground, call) {
    Object.assign(this, { playground, call });
    this.editor = new Editor(playground.schemas, call.answer, { name: "answer" });
    this.told = h("div.problems", { role: "alert" });
    this.bar = h(
      "div.bar",
      h("button.primary", { type: "submit" }, "Answer"),
      button("Decline", () => playground.session.refuse(call, "declined")),
    );
    const title = newId();
    this.element = form(
      "form.question",
      { "aria-labelledby": title },
      () => this.#answer(),
      h("h3", { id: title }, "The server asks ", h("code", call.message.type)),
      call.message.summary && h("p.description", call.message.summary),
      h("pre", pretty(playground.fieldsOf(call.question))),
      this.editor.element,
      this.told,
      this.bar,
    );
    announce(`the server asks ${call.message.type}`);
  }

  #answer() {
    const { value } = this.editor;
    if (value === undefined) this.editor.text.focus();
    else this.playground.session.answer(this.call, value);
  }

  /** It waits no more: what was wrong is shown, and can only be read. */
  refused({ code, errors = [] }) {
    const rest = this.editor.form.fail(errors.filter(isError), false);
    this.told.replaceChildren(
      h("p.wrong", h("code", String(code)), " ", rest.map(({ msg }) => msg).join("; "), " The server waits no more."),
    );
    this.bar.replaceChildren(
      button("Dismiss", () => {
        this.call.problem = undefined;
        this.playground.callsChanged();
      }),
    );
  }
}
