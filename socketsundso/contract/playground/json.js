// JSON that keeps what JavaScript's numbers cannot: integers beyond 2^53 stay the digits that they were.

import { h } from "./dom.js";

const MANY_DIGITS = /\d{16}/;
const canKeep = typeof JSON.rawJSON === "function";

export function parse(text) {
  if (!canKeep || !MANY_DIGITS.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) =>
    typeof value === "number" && !keeps(context?.source, value) ? JSON.rawJSON(context.source) : value,
  );
}

const keeps = (source, value) => source === undefined || !MANY_DIGITS.test(source) || String(value) === source;

export const pretty = (value) => JSON.stringify(value, null, 2);
export const compact = (value) => JSON.stringify(value);

/** The value of a JSON text; undefined where it is none. */
export function attempt(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/** The value of what was typed as a number; undefined where it is none. */
export function numberOf(text) {
  if (text.trim() === "") return undefined;
  const value = attempt(text.trim()) ?? Number(text); // "007" and "+1" are no JSON
  return isKept(value) || Number.isFinite(value) ? value : undefined;
}

const isKept = (value) => canKeep && JSON.isRawJSON(value);
export const isNumber = (value) => typeof value === "number" || isKept(value);
export const isInteger = (value) => Number.isInteger(value) || (isKept(value) && /^-?\d+$/.test(value.rawJSON));
export const isObject = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value) && !isKept(value);
export const digits = (value) => (isKept(value) ? value.rawJSON : String(value));

/** An object of these entries; `__proto__` is a key like any other. */
export const objectOf = (entries) => Object.fromEntries(entries);
export const has = (object, key) => Object.hasOwn(object, key);

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Nodes of a JSON text, its parts marked for the style sheet. */
export function highlighted(text) {
  const nodes = [];
  let done = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [whole, string, colon, word] = match;
    nodes.push(text.slice(done, match.index));
    nodes.push(
      h(string ? (colon ? "span.j-key" : "span.j-string") : word ? "span.j-word" : "span.j-number", string ?? whole),
    );
    nodes.push(colon);
    done = match.index + whole.length;
  }
  nodes.push(text.slice(done));
  return nodes.filter(Boolean);
}
