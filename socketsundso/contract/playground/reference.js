// What there is to read: a card for each event, push and call of a channel, with tables of fields and samples.

import { button, codeIn, copy, h, prose } from "./dom.js";
import { highlighted, pretty } from "./json.js";

/** Where a card is linked to: `chat/event/say`. */
export const addressOf = (...parts) => parts.map(encodeURIComponent).join("/");

export class Reference {
  /** `attempt(channel, event)` opens the playground with that event. */
  constructor(api, schemas, attempt) {
    Object.assign(this, { api, schemas, attempt });
    this.cards = [];
    this.sections = api.channels.map((channel) => this.#channel(channel));
    this.element = h("div.reference", this.sections);
  }

  #channel(channel) {
    const card = (kind, name, message, body) => this.#card(channel, kind, name, message, body);
    const receives = channel.receives.map((receive) =>
      card(kindOf(receive), receive.event, receive, () => this.#receive(channel, receive)),
    );
    const pushes = channel.pushes.map((push) => card("push", push.type, push, () => this.#message(channel, push)));
    const calls = channel.calls.map((call) =>
      card("call", call.message.type, call.message, () => this.#call(channel, call)),
    );
    const binary = channel.binary.map((each) =>
      card("binary", `${each.action} ${each.type}`, { ...each, schema: {} }, () => this.#binary(each)),
    );
    const protocol = channel.protocol.map((message) =>
      card("protocol", message.type, message, () => [
        h("p.note", `Sent by ${[...message.senders].join(" and ")}.`),
        this.#message(channel, message),
      ]),
    );
    const list = (title, cards, note) =>
      cards.length > 0 && [h("h3", title, " ", h("span.amount", cards.length)), note && h("p.note", note), cards];
    return h(
      "section.channel",
      { id: addressOf(channel.name), "aria-label": channel.name },
      h(
        "header",
        h("h2", h("span.title", channel.name), " ", h("code", channel.path)),
        channel.summary && h("p.lead", codeIn(channel.summary)),
        prose(channel.description),
      ),
      this.#handshake(channel),
      list("Events", receives, "What clients send."),
      list("Pushes", pushes, "What the server sends by itself."),
      list("Calls", calls, "What the server asks, and clients answer."),
      list("Binary frames", binary, "Beside messages: what is in them has no schema, and no ref."),
      list("Protocol", protocol, "What connections, streams and rooms say beside the application's own messages."),
      this.#errors(channel),
    );
  }

  /** Open everything, at once; models within themselves three times. */
  unfold() {
    for (const card of this.cards) {
      card.build();
      card.element.open = true;
    }
    for (let depth = 0; depth < 3; depth++) {
      for (const nested of this.element.querySelectorAll("details.nested:not([open])")) {
        nested.open = true;
        nested.dispatchEvent(new Event("toggle")); // the browser's own comes when the paper is printed already
      }
    }
  }

  // --- what is needed to connect

  #handshake({ parameters, subprotocols, security }) {
    const rows = parameters.map(({ name, place, schema, required, description }) =>
      this.#row({ name, required, schema: description ? { description, allOf: [schema] } : schema }, [], place),
    );
    const facts = [
      subprotocols.length > 0 && ["Subprotocols", subprotocols.map((name) => h("code", name))],
      security.length > 0 && ["Signing in with", security.map((name) => this.#scheme(name))],
    ].filter(Boolean);
    if (!rows.length && !facts.length) return null;
    return h(
      "div.facts",
      rows.length > 0 && tableOf("Parameters of the handshake", rows),
      h(
        "dl",
        facts.map(([term, values]) => [
          h("dt", term),
          h(
            "dd",
            values.map((value, n) => [n > 0 && " or ", value]),
          ),
        ]),
      ),
    );
  }

  #scheme(name) {
    const scheme = this.api.security[name] ?? {};
    const how = [scheme.type, scheme.scheme, scheme.in && `in ${scheme.in}`, scheme.name].filter(Boolean).join(" ");
    return h("span", h("code", name), how && ` (${how})`);
  }

  #errors({ errors, name }) {
    if (!errors.length) return null;
    return h(
      "div.errors",
      { id: addressOf(name, "errors") },
      h("h3", "Errors ", h("span.amount", errors.length)),
      h("p.note", "What any answer may be instead of a reply."),
      this.#errorTable(errors),
    );
  }

  #errorTable(errors) {
    const rows = errors.map(({ code, description, details }) =>
      h(
        "tr",
        { role: "row" },
        h("td", { role: "cell" }, h("code", code)),
        h(
          "td",
          { role: "cell" },
          description && h("p.description", codeIn(description)),
          details && [h("p.note", "Its ", h("code", "ctx"), ":"), this.#fieldsOf(details, [])],
        ),
      ),
    );
    return h(
      "table.fields",
      { role: "table" },
      h("caption", "Codes of errors"),
      h("tbody", { role: "rowgroup" }, rows),
    );
  }

  // --- cards

  #card(channel, kind, name, message, body) {
    const place = ["push", "call", "protocol", "binary"].includes(kind) ? kind : "event";
    const address = addressOf(channel.name, place, name);
    const inside = h("div.inside");
    const head = h(
      "summary",
      h(`span.badge.${kind}`, kind),
      h("span.name", name),
      message.deprecated && h("span.badge.deprecated", "deprecated"),
      h("span.brief", codeIn(message.summary || firstLine(message.description))),
    );
    const element = h(
      `details.card.${kind}`,
      {
        id: address,
        ontoggle: () => {
          if (element.open) card.build();
        },
      },
      head,
      inside,
    );
    const card = {
      element,
      address,
      kind,
      name,
      channel,
      words: wordsOf(message, name, this.schemas),
      build: () => {
        if (!inside.firstChild) inside.append(...body().flat(Infinity).filter(Boolean));
      },
    };
    this.cards.push(card);
    return element;
  }

  #receive(channel, receive) {
    const { wire } = channel;
    const frame = wire.frame(wire.message(receive.event, this.schemas.sample(receive.schema), 1));
    const tags = receive.tags.map((tag) => h("span.tag", tag));
    const scopes =
      receive.scopes.length > 0 &&
      h(
        "p.note",
        "Asks for ",
        receive.scopes.map((scope, n) => [n > 0 && ", ", h("code", scope)]),
        ".",
      );
    return [
      h(
        "div.actions",
        button("Try it", () => this.attempt(channel, receive.event), { class: "primary" }),
        tags,
      ),
      prose(receive.description),
      scopes,
      this.#pair(this.#fields(receive.schema), sampleOf(frame)),
      receive.uploads && [
        h("h4", "Then items"),
        h(
          "p.note",
          "The client sends ",
          h("code", "item"),
          " until ",
          h("code", "complete"),
          "; up to 16 ahead of the server.",
        ),
        this.#pair(
          this.#value(receive.uploads),
          sampleOf(wire.frame(wire.message("item", { item: this.schemas.sample(receive.uploads) }, 1))),
        ),
      ],
      this.#replies(channel, receive),
      receive.errors.length > 0 && [h("h4", "Its own errors"), this.#errorTable(receive.errors)],
    ];
  }

  #binary({ action, description, scopes, tags, errors }) {
    return [
      tags.length > 0 && h("div.actions", tags.map((tag) => h("span.tag", tag))),
      prose(description),
      h("p.note", `Sent by ${action === "receive" ? "clients" : "the server"}, as they are.`),
      scopes.length > 0 && h("p.note", `Asks for ${scopes.join(", ")}.`),
      errors.length > 0 && [h("h4", "Its own errors"), this.#errorTable(errors)],
    ];
  }

  #replies(channel, { replies, stream, acknowledged, event }) {
    const { wire } = channel;
    const title = stream ? "Items, until complete" : replies.length > 1 ? "Replies, one of" : "Reply";
    if (replies.length)
      return [
        h("h4", title),
        replies.map((reply) =>
          h(
            "div.reply",
            h("p", h("code.name", reply.type), " ", codeIn(reply.summary)),
            this.#message(channel, reply, 1),
          ),
        ),
      ];
    if (!acknowledged) return h("p.note", "No reply.");
    return [h("h4", "Reply"), h("p.note", "An acknowledgement."), sampleOf(wire.frame(wire.message(event, {}, 1)))];
  }

  #message(channel, message, ref = undefined) {
    const { wire } = channel;
    const frame = wire.frame(wire.message(message.type, this.schemas.sample(message.schema), ref));
    const table = wire.isFlat ? this.#fields(message.schema) : this.#value(message.schema);
    return [prose(message.description), this.#pair(table, sampleOf(frame))];
  }

  #call(channel, { message, answer }) {
    const { wire } = channel;
    return [
      this.#message(channel, message, "s:1"),
      h("h4", "Answer"),
      this.#pair(
        this.#value(answer),
        sampleOf(wire.frame(wire.message("reply", { answer: this.schemas.sample(answer) }, "s:1"))),
      ),
    ];
  }

  #pair(table, sample) {
    return h("div.pair", h("div", table), sample);
  }

  // --- tables of fields

  #fields(schema) {
    return this.#fieldsOf(schema, []);
  }

  /** A value that need not be an object: a table of its one row. */
  #value(schema) {
    return this.schemas.kind(this.schemas.resolve(schema)) === "object"
      ? this.#fields(schema)
      : tableOf("Value", [this.#row({ name: "", required: true, schema }, [])]);
  }

  #fieldsOf(given, above) {
    const schema = this.schemas.resolve(given);
    const fields = this.schemas.fields(schema);
    if (!fields.length) return h("p.note", this.schemas.kind(schema) === "record" ? "Any fields." : "No fields.");
    return tableOf(
      "Fields",
      fields.map((field) => this.#row(field, [...above, ...schema.refs])),
    );
  }

  #row({ name, required, schema: given }, above, place) {
    const schema = this.schemas.resolve(given);
    const hints = this.schemas.constraints(given).map((each) => h("span.hint", each));
    const nested = this.#nested(given, above);
    const row = h(
      nested.length ? "tr.outer" : "tr",
      { role: "row" },
      h("td.name", { role: "cell" }, h("code", name)),
      h(
        "td.type",
        { role: "cell" },
        h("span.type", this.schemas.label(given)),
        required ? h("span.required", "required") : h("span.optional", "optional"),
        place && h("span.hint", `in ${place}`),
      ),
      h(
        "td",
        { role: "cell" },
        schema.description && h("p.description", codeIn(schema.description)),
        hints.length > 0 && h("p.hints", hints),
      ),
    );
    return nested.length ? [row, h("tr.within", { role: "row" }, h("td", { role: "cell", colspan: 3 }, nested))] : row;
  }

  /** The models within, opened one by one: a recursive one has no end. */
  #nested(given, above) {
    return this.schemas.nested(given).map((inner) => {
      const label = this.schemas.branchLabel(inner);
      const details = h(
        "details.nested",
        {
          ontoggle: () => {
            if (details.open && details.children.length < 2) details.append(this.#fieldsOf(inner, above));
          },
        },
        h(
          "summary",
          inner.refs?.at(-1) ?? this.schemas.label(inner),
          label !== this.schemas.label(inner) && ` (${label})`,
        ),
      );
      return details;
    });
  }
}

const firstLine = (text) => (text ?? "").trim().split("\n")[0];

const kindOf = ({ stream, uploads }) => (uploads ? "upload" : stream ? "stream" : "event");

function wordsOf({ summary, description, tags = [], schema, replies = [] }, name, schemas) {
  const parts = [schema, ...replies.map((reply) => reply.schema)].flatMap((each) => [...schemas.namesIn(each)]);
  return [name, summary, description, ...tags, ...parts, ...replies.map((reply) => reply.type)].join(" ").toLowerCase();
}

function tableOf(caption, rows) {
  const head = ["Field", "Type", "What it is"].map((title) => h("th", { role: "columnheader", scope: "col" }, title));
  return h(
    "table.fields",
    { role: "table" },
    h("caption", caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, rows),
  );
}

function sampleOf(value) {
  const text = pretty(value);
  return h(
    "figure.sample",
    h("pre", { tabindex: 0, "aria-label": "sample" }, highlighted(text)),
    button("Copy", (event) => copy(text, event.target), { class: "small" }),
  );
}
