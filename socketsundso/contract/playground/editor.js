// A form and the JSON of what it gives, side by side; a change of one is a change of the other.

import { h, newId } from "./dom.js";
import { Form } from "./form.js";
import { attempt, pretty } from "./json.js";

const same = (value) => value;

export class Editor {
  /** `wrap` makes of a form's value the JSON that is shown and sent, `unwrap` the reverse. */
  constructor(schemas, schema, { name, wrap = same, unwrap = same }) {
    Object.assign(this, { wrap, unwrap });
    this.form = new Form(schemas, schema, () => this.#formChanged(), name);
    const id = newId();
    this.text = h("textarea.code", {
      id,
      rows: 6,
      spellcheck: "false",
      autocomplete: "off",
      oninput: () => this.#textChanged(),
    });
    this.wrong = h("p.wrong", { id: newId(), role: "alert", hidden: true });
    this.element = h(
      "div.editor",
      { onkeydown: submitOnEnter },
      this.form.element,
      h("div.json", h("label", { for: id }, "JSON"), this.text, this.wrong),
    );
    this.#formChanged();
  }

  /** What is to be sent; undefined while the text is no JSON. */
  get value() {
    return attempt(this.text.value);
  }

  set value(value) {
    this.text.value = pretty(value);
    this.#grow();
    this.#textChanged();
  }

  #formChanged() {
    this.#say("");
    this.text.value = pretty(this.wrap(this.form.value) ?? null);
    this.#grow();
  }

  #textChanged() {
    const { value } = this;
    if (value === undefined) return this.#say("This is no JSON yet.");
    this.#say("");
    this.form.clear();
    return this.form.set(this.unwrap(value));
  }

  #grow() {
    this.text.rows = Math.min(Math.max(this.text.value.split("\n").length, 4), 24);
  }

  #say(text) {
    this.wrong.textContent = text;
    this.wrong.hidden = !text;
    for (const [name, value] of [
      ["aria-invalid", "true"],
      ["aria-describedby", this.wrong.id],
    ]) {
      if (text) this.text.setAttribute(name, value);
      else this.text.removeAttribute(name);
    }
  }
}

/** Enter sends, as in a field of one line; Shift+Enter begins a new line. Where JSON is written it is Ctrl+Enter. */
function submitOnEnter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName !== "TEXTAREA") return;
  if (event.target.classList.contains("code") && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  event.target.closest("form").requestSubmit();
}

/** Any text, to see what the server says to it. */
export class RawEditor {
  constructor() {
    this.text = h("textarea.code", { rows: 6, spellcheck: "false", "aria-label": "Text to send" });
    this.text.value = pretty({ type: "" });
    this.element = h("div.editor", this.text);
    this.form = { clear() {}, fail: (errors) => errors, focus: () => this.text.focus() };
  }

  get value() {
    return this.text.value;
  }

  set value(value) {
    this.text.value = pretty(value);
  }
}
