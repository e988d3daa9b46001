// How the messages of a channel stand in frames. The page has them flat, whatever they are on the wire:
// `["say", 7, {"msg": "hi"}]` is `{[typeKey]: "say", [refKey]: 7, msg: "hi"}`.

import { has, isObject, objectOf } from "./json.js";

// keys that no field has, where the fields are apart and may be called as the envelope's keys
const APART = { type: "\0type", ref: "\0ref", value: "\0value" };

export class Wire {
  /** From the facts of a channel; `place` is where the fields stand in a frame. */
  constructor({ typeKey = "type", refKey = "ref", dataKey, parts }) {
    this.isFlat = !dataKey && !parts;
    this.parts = parts;
    this.keys = { type: typeKey, ref: refKey, data: dataKey };
    this.typeKey = this.isFlat ? typeKey : APART.type;
    this.refKey = this.isFlat ? refKey : APART.ref;
    this.place = parts ? [parts.indexOf("data")] : dataKey ? [dataKey] : [];
  }

  /** A message of these fields; what is no object, where they are apart, is its value. */
  message(type, data = {}, ref = undefined) {
    const fields = isObject(data) ? Object.entries(data) : this.isFlat ? [] : [[APART.value, data]];
    return objectOf([[this.typeKey, type], ...fields, ...(ref === undefined ? [] : [[this.refKey, ref]])]);
  }

  /** What a message has beside its type and ref. */
  dataOf(message) {
    if (has(message, APART.value)) return message[APART.value];
    return objectOf(Object.entries(message).filter(([key]) => key !== this.typeKey && key !== this.refKey));
  }

  frame(message) {
    if (this.isFlat) return message;
    const given = { type: message[APART.type], ref: message[APART.ref], data: this.dataOf(message) };
    if (this.parts) return this.parts.map((part) => given[part] ?? null);
    const entries = Object.entries(given).filter(([, value]) => value !== undefined);
    return objectOf(entries.map(([part, value]) => [this.keys[part], value]));
  }

  /** The message in a frame; undefined where it is none. */
  read(frame) {
    if (this.isFlat) return isObject(frame) ? frame : undefined;
    if (this.parts ? !Array.isArray(frame) : !isObject(frame)) return undefined;
    const at = (part) => frame[this.parts ? this.parts.indexOf(part) : this.keys[part]];
    const beside = this.parts ? [] : ["room", "seq"].filter((key) => has(frame, key)).map((key) => [key, frame[key]]);
    const message = this.message(at("type"), at("data"), at("ref") ?? undefined);
    return { ...objectOf(beside), ...message };
  }

  /** The schemas of a frame's type and of its fields, from that of the whole frame; of fields that are beside them, none. */
  schemas({ properties = {}, items = [] }) {
    const at = (part) => (this.parts ? items[this.parts.indexOf(part)] : properties[this.keys[part]]);
    return { type: at("type") ?? {}, data: this.isFlat ? undefined : (at("data") ?? {}) };
  }

  /** Where an error is, within the fields. */
  within(loc) {
    return this.place.every((part, index) => loc[index] === part) ? loc.slice(this.place.length) : loc;
  }
}
