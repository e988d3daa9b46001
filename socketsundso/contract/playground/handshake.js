// Where to connect and with what: the address from path parameters, query and tokens, and the subprotocols.

import { compact, digits, isNumber, objectOf } from "./json.js";
import { codeIn, h, newId } from "./dom.js";
import { Form } from "./form.js";

const PART = /\{([^{}:]+)(?::[^{}]*)?\}/g;

export class Handshake {
  /** `base` is the address that the application's paths begin at, from the page's own. */
  constructor(schemas, channel, api, base) {
    Object.assign(this, { channel, base });
    this.schemes = channel.security.map((name) => ({ ...api.security[name], key: api.security[name]?.name, name }));
    this.path = this.#formOf(schemas, "path");
    this.query = this.#formOf(schemas, "query");
    this.tokens = this.schemes
      .filter((scheme) => scheme.type === "httpApiKey" && scheme.in === "query")
      .map(tokenField);
    this.address = h("input.address", {
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      "aria-label": "Address",
      required: true,
    });
    this.subprotocols = h("input", {
      id: newId(),
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      placeholder: "chat.v1, token.…",
    });
    this.subprotocols.value = channel.subprotocols[0] ?? "";
    this.element = h(
      "div.handshake",
      { oninput: () => this.#update() },
      this.#group("Path", this.path),
      this.#group("Query", this.query),
      this.tokens.map(({ element }) => element),
      h(
        "div.row",
        h(
          "div.head",
          h("label.key", { for: this.subprotocols.id }, "Subprotocols"),
          h("span.hint", "with commas between them"),
        ),
        this.#known(),
        this.subprotocols,
      ),
      this.#cannot(),
    );
    this.#update();
  }

  get needsInput() {
    return (
      this.channel.parameters.some(({ place, required }) => required && (place === "path" || place === "query")) ||
      this.tokens.length > 0
    );
  }

  get protocols() {
    return this.subprotocols.value
      .split(",")
      .map((name) => name.trim())
      .filter(Boolean);
  }

  #formOf(schemas, place) {
    const parameters = this.channel.parameters.filter((parameter) => parameter.place === place);
    if (!parameters.length) return null;
    const properties = objectOf(
      parameters.map(({ name, schema, description }) => [
        name,
        description ? { description, allOf: [schema] } : schema,
      ]),
    );
    const required = parameters.filter((parameter) => parameter.required).map(({ name }) => name);
    return new Form(
      schemas,
      { type: "object", properties, required, additionalProperties: false },
      () => this.#update(),
      place,
    );
  }

  #group(title, form) {
    return form && h("fieldset", h("legend", title), form.element);
  }

  #known() {
    const { subprotocols } = this.channel;
    return (
      subprotocols.length > 0 &&
      h(
        "p.description",
        "The server speaks ",
        subprotocols.map((name, n) => [n > 0 && ", ", h("code", name)]),
        ".",
      )
    );
  }

  /** What a browser does not let a page send with a handshake. */
  #cannot() {
    const headers = this.channel.parameters.filter(({ place }) => place === "header").map(({ name }) => name);
    const cookies = this.channel.parameters.filter(({ place }) => place === "cookie").map(({ name }) => name);
    const schemes = this.schemes.filter((scheme) => !this.tokens.some(({ name }) => name === scheme.name));
    const notes = [
      headers.length > 0 &&
        `Headers (${listed(headers)}) cannot be sent: browsers do not let pages set them on a WebSocket.`,
      cookies.length > 0 && `Cookies (${listed(cookies)}) are sent by the browser itself, if this site has set them.`,
      ...schemes.map((scheme) => schemeNote(scheme)),
    ].filter(Boolean);
    return notes.map((note) => h("p.note", codeIn(note)));
  }

  #update() {
    const values = { ...this.path?.value };
    const path = this.channel.path.replace(PART, (whole, name) =>
      values[name] === undefined ? "" : encoded(values[name], whole),
    );
    const address = new URL(this.base + path.replace(/^\//, ""), document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = "";
    for (const [name, value] of Object.entries(this.query?.value ?? {})) {
      for (const each of [value].flat())
        if (each !== null && each !== "") address.searchParams.append(name, plain(each));
    }
    for (const { key, input } of this.tokens) if (input.value) address.searchParams.set(key, input.value);
    this.address.value = address.href;
  }
}

const listed = (names) => names.map((name) => `\`${name}\``).join(", ");

const plain = (value) => (isNumber(value) ? digits(value) : typeof value === "object" ? compact(value) : String(value));

/** `{name:path}` keeps its slashes, any other part has none. */
const encoded = (value, part) =>
  part.endsWith(":path}")
    ? plain(value).split("/").map(encodeURIComponent).join("/")
    : encodeURIComponent(plain(value));

function tokenField({ name, key, description: text }) {
  const input = h("input", { id: newId(), type: "text", autocomplete: "off", spellcheck: "false" });
  const description = text && h("p.description", codeIn(text));
  const element = h(
    "div.row",
    h("div.head", h("label.key", { for: input.id }, name), h("span.hint", `token, in the query as ${key}`)),
    description,
    input,
  );
  return { name, key, input, element };
}

function schemeNote({ name, key, in: place, description = "" }) {
  const isOffered = key?.toLowerCase() === "sec-websocket-protocol";
  const how = isOffered
    ? "is done with a subprotocol: offer it above."
    : place === "cookie"
      ? "takes a cookie: the browser sends it, if this site has set it."
      : "takes a header, which pages cannot set; if the server takes it as a subprotocol, too, offer it above.";
  return `Signing in with \`${name}\` ${how} ${description}`.trim();
}
