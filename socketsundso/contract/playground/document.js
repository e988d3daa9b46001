// The published document as what the page shows: AsyncAPI 3.0 as this package writes it, with `x-socketsundso`.

import { has, objectOf } from "./json.js";
import { Wire } from "./wire.js";

const EXTENSION = "x-socketsundso";

/** `{title, components, security, channels: [{name, path, receives, pushes, calls, protocol, ...}], ...}` */
export function read(document) {
  const { info, components = {} } = document;
  return {
    title: info.title,
    version: info.version,
    description: info.description ?? "",
    components: components.schemas ?? {},
    security: components.securitySchemes ?? {},
    channels: Object.entries(document.channels ?? {}).map(([name, channel]) => channelOf(document, name, channel)),
  };
}

function channelOf(document, name, channel) {
  const facts = channel[EXTENSION] ?? {};
  const wire = new Wire(facts);
  const known = new Map();
  /** A message is read once, so that what refers to the same one has the same one. */
  const message = (reference) => {
    if (!known.has(reference.$ref)) known.set(reference.$ref, messageOf(document, reference, wire));
    return known.get(reference.$ref);
  };
  const operations = Object.values(document.operations ?? {})
    .filter((operation) => at(document, operation.channel.$ref) === channel)
    .map((operation) => ({
      ...operation,
      facts: operation[EXTENSION] ?? {},
      told: (operation.messages ?? []).map(message),
      answers: (operation.reply?.messages ?? []).map(message),
    }));
  const own = operations.filter(({ facts: { protocol }, told: [message] }) => !protocol && !message?.isBinary);
  return {
    name,
    wire,
    path: channel.address ?? "/",
    summary: channel.summary ?? "",
    description: channel.description ?? "",
    ...handshakeOf(channel, facts),
    security: facts.security ?? [],
    errors: facts.errors ?? [],
    receives: own.filter(({ action }) => action === "receive").map(receiveOf),
    pushes: own
      .filter(({ action, facts: { answer } }) => action === "send" && answer === undefined)
      .flatMap(({ told }) => told),
    calls: own
      .filter(({ action, facts: { answer } }) => action === "send" && answer !== undefined)
      .map(({ told, facts: { answer } }) => ({ message: told[0], answer })),
    binary: operations.filter(({ told: [message] }) => message?.isBinary).map(binaryOf),
    protocol: protocolOf(operations),
    controls: controlsOf(operations),
  };
}

function receiveOf({ told: [message], answers, facts, summary, description, tags }) {
  return {
    ...message,
    event: message.type,
    replies: answers.filter(({ isProtocol }) => !isProtocol),
    stream: facts.stream ?? false,
    acknowledged: facts.acknowledged ?? false,
    cancellable: facts.cancellable ?? false,
    uploads: facts.uploads,
    errors: facts.errors ?? [],
    scopes: facts.scopes ?? [],
    tags: (tags ?? []).map((tag) => tag.name),
    summary: summary ?? "",
    description: description ?? "",
  };
}

/** Binary frames of one side, `receive` or `send` as the server sees them. */
function binaryOf({ action, facts, summary, description, tags }) {
  return {
    action,
    type: facts.binary ?? "binary",
    errors: facts.errors ?? [],
    scopes: facts.scopes ?? [],
    tags: (tags ?? []).map((tag) => tag.name),
    deprecated: facts.deprecated ?? false,
    summary: summary ?? "",
    description: description ?? "",
  };
}

/** What clients may ask in the protocol's own words: `resume`. */
function controlsOf(operations) {
  return operations
    .filter(({ action, facts, answers }) => action === "receive" && facts.protocol && answers.length > 0)
    .map((operation) => ({
      ...receiveOf(operation),
      replies: operation.answers.filter(({ type }) => type !== "error"),
    }));
}

/** Messages of the protocol, save errors, which have a table of their own, and what the page says and counts itself. */
function protocolOf(operations) {
  const isShown = ({ type }) => !["error", "item", "complete", "more", "reply"].includes(type);
  const found = new Map();
  const add = (message, sender) => {
    if (!found.has(message.type)) found.set(message.type, { ...message, senders: new Set() });
    found.get(message.type).senders.add(sender);
  };
  for (const { action, told, answers } of operations.filter(({ facts }) => facts.protocol)) {
    for (const message of told.filter(isShown)) add(message, action === "receive" ? "clients" : "the server");
    for (const message of answers.filter(isShown)) add(message, "the server");
  }
  return [...found.values()];
}

function messageOf(document, { $ref }, wire) {
  const message = at(document, $ref);
  const facts = message[EXTENSION] ?? {};
  if (message.contentType === "application/octet-stream") return { isBinary: true, type: "", isProtocol: false };
  const payload = resolved(document, message.payload ?? {});
  const objects = payload.anyOf ?? [payload];
  const inRoom = wire.isFlat && has(objects[0].properties ?? {}, "seq") && has(objects[0].properties, "room");
  const { type, data } = wire.schemas(objects[0]);
  return {
    type: resolved(document, type).const ?? message.name ?? "",
    schema:
      facts.schema !== undefined && !inRoom
        ? facts.schema
        : data
          ? resolved(document, data)
          : without(payload, [wire.typeKey, wire.refKey]),
    summary: message.summary ?? "",
    description: message.description ?? "",
    deprecated: message[EXTENSION]?.deprecated ?? message.deprecated ?? false,
    isProtocol: facts.protocol ?? false,
  };
}

/** The fields of a flat object: it without the keys of the envelope. */
function without(schema, keys) {
  if (schema.anyOf) return { ...schema, anyOf: schema.anyOf.map((each) => without(each, keys)) };
  const properties = objectOf(Object.entries(schema.properties ?? {}).filter(([name]) => !keys.includes(name)));
  return { ...schema, properties, required: (schema.required ?? []).filter((name) => !keys.includes(name)) };
}

function handshakeOf(channel, facts) {
  const { query = {}, headers = {} } = channel.bindings?.ws ?? {};
  const { "Sec-WebSocket-Protocol": subprotocol, ...others } = headers.properties ?? {};
  const placed = (place, properties, required = []) =>
    Object.entries(properties ?? {}).map(([name, schema]) => ({
      name,
      place,
      schema,
      required: required.includes(name),
      description: "",
    }));
  const inPath = Object.entries(channel.parameters ?? {}).map(
    ([name, { description = "", enum: values, default: value, examples }]) => ({
      name,
      place: "path",
      schema: defined({ type: "string", enum: values, default: value, examples }),
      required: true,
      description,
    }),
  );
  const exact = facts.parameters?.map(({ name, in: place, schema, required = false, description = "" }) => ({
    name,
    place,
    schema,
    required,
    description,
  }));
  return {
    subprotocols: subprotocol?.enum ?? [],
    parameters: exact ?? [
      ...inPath,
      ...placed("query", query.properties, query.required),
      ...placed("header", others, headers.required),
    ],
  };
}

const defined = (object) => objectOf(Object.entries(object).filter(([, value]) => value !== undefined));

/** What a reference within the document is to (a JSON pointer, RFC 6901). */
function at(document, reference) {
  return reference
    .slice(2)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .reduce((whole, key) => whole[key], document);
}

const resolved = (document, schema) => (schema.$ref ? at(document, schema.$ref) : schema);
