// What was sent and received, the newest last: bounded, filtered, paused, copied, sent again.

import { button, copy, h } from "./dom.js";
import { attempt, highlighted, parse, pretty } from "./json.js";

const KEPT = 1000; // entries
const KEPT_CHARACTERS = 8_000_000; // of all entries together
const SHOWN_CHARACTERS = 20_000; // of one entry that is opened
const PREVIEW_CHARACTERS = 300;

export class Log {
  #entries = [];
  #characters = 0;
  #dropped = 0;
  #added = []; // since the list was drawn last
  #missed = 0; // while it is paused
  #count = 0;
  #isPaused = false;

  /**
   * `again(entries)` sends what these entries sent, `edit(entry)` puts it into the form; `told(message)` is what one
   * line tells of a message.
   */
  constructor({ again, edit, told }) {
    Object.assign(this, { again, edit, told });
    this.words = h("input", {
      type: "search",
      placeholder: "Filter: text, type:name or ref:7",
      "aria-label": "Filter the log",
      oninput: () => this.#redraw(),
    });
    const directions = [
      ["", "all"],
      ["out", "sent"],
      ["in", "received"],
      ["failed", "errors"],
    ];
    this.direction = h(
      "select",
      { "aria-label": "Show of the log", oninput: () => this.#redraw() },
      directions.map(([value, text]) => h("option", { value }, text)),
    );
    this.pauser = button("Pause", () => this.#pause(), { class: "small", "aria-pressed": "false" });
    this.notice = h("p.told");
    this.list = h("ol.entries", { role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: 0 });
    this.list.append(h("li.none", "Nothing yet. Connect, and send a message."));
    const bar = h(
      "div.bar",
      this.words,
      this.direction,
      this.pauser,
      button("Copy", (event) => copy(this.#lines(), event.target), {
        class: "small",
        title: "what is shown, a message a line",
      }),
      button("Replay", () => this.again(this.#shown().filter((entry) => entry.direction === "out")), {
        class: "small",
        title: "everything shown that was sent, in order",
      }),
      button("Clear", () => this.clear(), { class: "small" }),
    );
    this.element = h("section.log", { "aria-label": "Log" }, bar, this.notice, this.list);
  }

  add(given) {
    const entry = { number: ++this.#count, at: new Date(), characters: given.text.length, ...given };
    this.#entries.push(entry);
    this.#characters += entry.characters;
    this.#added.push(entry);
    this.#bound();
    this.#schedule();
    return entry;
  }

  clear() {
    this.#entries = [];
    this.#added = [];
    this.#characters = this.#dropped = this.#missed = 0;
    this.#redraw();
  }

  /** The oldest go first; the text of one that is too large for all is cut. */
  #bound() {
    while (this.#entries.length > KEPT || (this.#characters > KEPT_CHARACTERS && this.#entries.length > 1)) {
      const gone = this.#entries.shift();
      this.#characters -= gone.text.length;
      gone.row?.remove();
      gone.isGone = true;
      this.#dropped += 1;
    }
    const [entry] = this.#entries;
    if (entry.text.length <= KEPT_CHARACTERS) return;
    this.#characters -= entry.text.length - KEPT_CHARACTERS;
    entry.text = entry.text.slice(0, KEPT_CHARACTERS);
  }

  // --- drawing

  #schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      this.#draw();
    }, 16);
  }

  #draw() {
    const added = this.#added.splice(0);
    if (this.#isPaused) this.#missed += added.length;
    else this.#append(added.filter((entry) => !entry.isGone && this.#matches(entry)));
    this.#tell();
  }

  #append(entries) {
    const { list } = this;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    if (entries.length) list.querySelector(".none")?.remove();
    list.append(...entries.map((entry) => this.#row(entry)));
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  #redraw() {
    this.#added = [];
    for (const entry of this.#entries) entry.row = undefined;
    const shown = this.#shown();
    this.list.replaceChildren(
      ...(shown.length ? [] : [h("li.none", this.#entries.length ? "Nothing matches the filter." : "Nothing yet.")]),
    );
    this.#append(shown);
    this.#tell();
  }

  #pause() {
    this.#isPaused = !this.#isPaused;
    this.pauser.setAttribute("aria-pressed", String(this.#isPaused));
    this.pauser.textContent = this.#isPaused ? "Go on" : "Pause";
    if (!this.#isPaused) {
      this.#missed = 0;
      this.#redraw();
    }
    this.#tell();
  }

  #tell() {
    const parts = [
      this.#isPaused && `paused, ${this.#missed} new`,
      this.#dropped &&
        `${this.#dropped} older ${this.#dropped === 1 ? "entry" : "entries"} dropped: the log keeps ${KEPT}`,
    ];
    this.notice.textContent = parts.filter(Boolean).join(" · ");
  }

  #shown() {
    return this.#entries.filter((entry) => this.#matches(entry));
  }

  #matches(entry) {
    const direction = this.direction.value;
    if (direction === "failed" ? !entry.failed : direction && entry.direction !== direction) return false;
    return this.words.value
      .trim()
      .split(/\s+/)
      .filter(Boolean)
      .every((word) => {
        const [, key, wanted] = word.match(/^(type|ref):(.+)$/) ?? [];
        return key ? String(entry[key]) === wanted : entry.text.toLowerCase().includes(word.toLowerCase());
      });
  }

  #lines() {
    return this.#shown()
      .map((entry) => `${entry.at.toISOString()} ${ARROWS[entry.direction]} ${entry.text}`)
      .join("\n");
  }

  // --- one entry

  #row(entry) {
    const { direction, type, ref, about, took, item } = entry;
    const body = h("div.whole");
    const said = direction === "info" ? entry.text : this.#preview(entry);
    const notes = [
      item && h("span.note", `item ${item}`),
      about && took !== undefined && h("span.note", durationOf(took)),
      entry.characters > SHOWN_CHARACTERS && h("span.note", sizeOf(entry.characters)),
    ];
    const head = h(
      "summary",
      h("time", { datetime: entry.at.toISOString() }, entry.at.toTimeString().slice(0, 8)),
      h("span.arrow", { "aria-label": SPOKEN[direction] }, ARROWS[direction]),
      type !== undefined && h("b", String(type)),
      ref !== undefined && h("span.ref", `ref ${JSON.stringify(ref)}`),
      notes,
      h("span.preview", said),
    );
    const details = h(
      "details",
      {
        ontoggle: () => {
          if (details.open && !body.firstChild) body.append(...this.#whole(entry));
        },
      },
      head,
      body,
    );
    entry.row = h(`li.entry.${direction}${entry.failed ? ".failed" : ""}`, details);
    return entry.row;
  }

  #preview(entry) {
    const text =
      entry.type === undefined || entry.text.length > SHOWN_CHARACTERS ? entry.text : this.told(parse(entry.text));
    return text.length > PREVIEW_CHARACTERS ? `${text.slice(0, PREVIEW_CHARACTERS)}…` : text;
  }

  #whole(entry) {
    const shown = shortened(formatted(entry.text));
    const mine = entry.direction === "out" && [
      button("Send again", () => this.again([entry]), { class: "small" }),
      button("Edit", () => this.edit(entry), { class: "small" }),
    ];
    const same =
      entry.ref !== undefined &&
      button(`Show ref ${JSON.stringify(entry.ref)} only`, () => this.#only(entry), { class: "small" });
    return [
      h("pre", { tabindex: 0 }, shown.isCut ? shown.text : highlighted(shown.text)),
      shown.isCut && h("p.told", `shortened: ${sizeOf(entry.characters)} in all; Copy has the whole`),
      h(
        "div.bar",
        button("Copy", (event) => copy(entry.text, event.target), { class: "small" }),
        mine,
        same,
      ),
    ].filter(Boolean);
  }

  #only({ ref }) {
    this.words.value = `ref:${ref}`;
    this.#redraw();
    this.words.focus();
  }
}

const ARROWS = { out: "↑", in: "↓", info: "·" };
const SPOKEN = { out: "sent", in: "received", info: "connection" };

const durationOf = (ms) => (ms < 1000 ? `${Math.round(ms * 10) / 10} ms` : `${(ms / 1000).toFixed(1)} s`);

const sizeOf = (characters) =>
  characters < 1_000_000 ? `${Math.round(characters / 1000)} kB` : `${(characters / 1_000_000).toFixed(1)} MB`;

function formatted(text) {
  if (text.length > 1_000_000) return text;
  const value = attempt(text);
  return value === undefined ? text : pretty(value);
}

const shortened = (text) =>
  text.length > SHOWN_CHARACTERS
    ? { text: `${text.slice(0, SHOWN_CHARACTERS)}…`, isCut: true }
    : { text, isCut: false };
