// What a JSON Schema says: in words, as a sample, and which kind of field it is filled in with. Knows the keywords that
// our documents have; of any other schema it says "any".

import { digits, has, isInteger, isNumber, isObject, objectOf } from "./json.js";

const PREFIX = "#/components/schemas/";

export class Schemas {
  constructor(components) {
    this.components = new Map(Object.entries(components));
  }

  /** The schema without `$ref` and `allOf` at its top; `refs` are the names of the components that were on the way. */
  resolve(schema) {
    return this.#resolved(schema, []);
  }

  #resolved(schema, refs) {
    if (schema === true || schema === undefined) return { refs };
    if (schema === false) return { refs, not: {} };
    const { $ref, allOf, ...rest } = asIn2020(schema);
    const parts = [...(allOf ?? [])];
    if (typeof $ref === "string") {
      const name = nameOf($ref);
      if (refs.includes(name) || !this.components.has(name)) return { ...rest, refs };
      parts.unshift(this.components.get(name));
      refs = [...refs, name];
    }
    return parts
      .map((part) => this.#resolved(part, refs))
      .concat([rest])
      .reduce(merged, { refs });
  }

  /** How it is filled in: const, enum, union, object, record, list, tuple, or a type of JSON Schema; else any. */
  kind(schema) {
    if (has(schema, "const")) return "const";
    if (schema.enum) return "enum";
    if (this.branches(schema).length > 1) return "union";
    const type = [schema.type].flat()[0];
    if (type === "array") return schema.prefixItems ? "tuple" : "list";
    if (type === "object" || schema.properties) return isRecord(schema) ? "record" : "object";
    return type ?? "any";
  }

  /** The schemas of a union; of any other schema itself alone. */
  branches(schema) {
    const union = schema.anyOf ?? schema.oneOf;
    if (union) return union;
    if (Array.isArray(schema.type) && schema.type.length > 1) return schema.type.map((type) => ({ ...schema, type }));
    return [schema];
  }

  /** What stands in a table's column "type": `list of Line`, `"buy" | "sell"`, `string | null`. */
  label(given) {
    const schema = this.resolve(given);
    const name = schema.refs.at(-1);
    switch (this.kind(schema)) {
      case "const":
        return JSON.stringify(schema.const);
      case "enum":
        return name ?? schema.enum.map((each) => JSON.stringify(each)).join(" | ");
      case "union":
        return name ?? [...new Set(this.branches(schema).map((branch) => this.label(branch)))].join(" | ");
      case "list":
        return name ?? `list of ${this.#inside(schema.items)}`;
      case "tuple":
        return name ?? `[${schema.prefixItems.map((item) => this.label(item)).join(", ")}]`;
      case "record":
        return name ?? `map of ${this.#inside(valuesOf(schema))}`;
      case "object":
        return name ?? schema.title ?? "object";
      case "string":
        return schema.format ?? (schema.contentEncoding ? `string (${schema.contentEncoding})` : "string");
      default:
        return name ?? this.kind(schema);
    }
  }

  #inside(schema) {
    const label = this.label(schema);
    return label.includes(" | ") ? `(${label})` : label;
  }

  /** What else is asked of a value, each in a few words; of a value or null, what is asked of the value. */
  constraints(given) {
    const schema = this.resolve(given);
    const values = this.branches(schema).filter((branch) => branch.type !== "null");
    const bounds = values.length === 1 ? boundsOf(this.resolve(values[0])) : [];
    return [
      ...bounds,
      has(schema, "default") && `default ${JSON.stringify(schema.default)}`,
      schema.enum && schema.refs.length > 0 && schema.enum.map((each) => JSON.stringify(each)).join(", "),
    ].filter(Boolean);
  }

  /** Pairs of name and schema of an object's fields, those that are required first. */
  fields(given) {
    const schema = this.resolve(given);
    const required = new Set(schema.required ?? []);
    return Object.entries(schema.properties ?? {})
      .map(([name, field]) => ({ name, schema: field, required: required.has(name) }))
      .sort((one, other) => other.required - one.required);
  }

  /** The objects within: what a table of fields shows when a row is opened. */
  nested(given) {
    const schema = this.resolve(given);
    switch (this.kind(schema)) {
      case "object":
        return this.fields(schema).length ? [schema] : [];
      case "list":
        return this.nested(schema.items);
      case "record":
        return this.nested(valuesOf(schema));
      case "tuple":
        return schema.prefixItems.flatMap((item) => this.nested(item));
      case "union":
        return this.branches(schema).flatMap((branch) => this.nested(branch));
      default:
        return [];
    }
  }

  /** The names of all fields, at any depth, and of the components that they are of. */
  namesIn(given, found = new Set()) {
    for (const schema of this.nested(given)) {
      const { refs = [] } = this.resolve(schema);
      if (refs.length && refs.every((name) => found.has(name))) continue;
      refs.forEach((name) => found.add(name));
      for (const field of this.fields(schema)) {
        found.add(field.name);
        this.namesIn(field.schema, found);
      }
    }
    return found;
  }

  /** A value that the schema describes, for readers: its own example, else what its keywords suggest. */
  sample(given, above = []) {
    const schema = this.resolve(given);
    if (schema.examples?.length) return schema.examples[0];
    if (has(schema, "default") && schema.default !== null) return schema.default;
    const within = [...above, ...schema.refs];
    const goOn = (inner) => this.sample(inner, within);
    const recursive = (inner) => this.resolve(inner).refs.some((name) => within.includes(name));
    switch (this.kind(schema)) {
      case "const":
        return schema.const;
      case "enum":
        return schema.enum[0];
      case "union":
        return goOn(this.branches(schema).find((branch) => !recursive(branch)) ?? { type: "null" });
      case "object":
        return objectOf(
          this.fields(schema)
            .filter((field) => field.required || !this.#recurs(field.schema, within))
            .filter((field) => field.required || above.length < 3)
            .map((field) => [field.name, goOn(field.schema)]),
        );
      case "record":
        return objectOf([[keyOf(schema), goOn(valuesOf(schema))]]);
      case "list":
        return this.#recurs(schema.items, within) && !schema.minItems ? [] : [goOn(schema.items)];
      case "tuple":
        return schema.prefixItems.map(goOn);
      case "string":
        return sampleText(schema);
      case "integer":
        return sampleNumber(schema, 1);
      case "number":
        return sampleNumber(schema, 0.5);
      case "boolean":
        return true;
      case "null":
        return null;
      default:
        return {};
    }
  }

  #recurs(given, names) {
    const schema = this.resolve(given);
    if (schema.refs.some((name) => names.includes(name))) return true;
    const kind = this.kind(schema);
    if (kind === "list") return this.#recurs(schema.items, names);
    if (kind === "union")
      return this.branches(schema).every((branch) => this.#recurs(branch, names) || branch.type === "null");
    return false;
  }

  /** Whether a value can be shown in the field of this schema: its type, and the tags of its first level. */
  fits(given, value) {
    const schema = this.resolve(given);
    switch (this.kind(schema)) {
      case "const":
        return same(schema.const, value);
      case "enum":
        return schema.enum.some((each) => same(each, value));
      case "union":
        return this.branches(schema).some((branch) => this.fits(branch, value));
      case "object":
        return isObject(value) && this.#fitsObject(schema, value);
      case "record":
        return isObject(value);
      case "list":
        return Array.isArray(value);
      case "tuple":
        return Array.isArray(value) && value.length === schema.prefixItems.length;
      case "string":
        return typeof value === "string";
      case "integer":
        return isInteger(value);
      case "number":
        return isNumber(value);
      case "boolean":
        return typeof value === "boolean";
      case "null":
        return value === null;
      default:
        return true;
    }
  }

  #fitsObject(schema, value) {
    const fields = this.fields(schema);
    const tagged = (field) =>
      !has(value, field.name) ||
      !has(this.resolve(field.schema), "const") ||
      this.fits(field.schema, value[field.name]);
    return fields.every((field) => tagged(field) && (!field.required || has(value, field.name)));
  }

  /** The branch of a union that a value is meant for: the first that it fits, else the first whose tags it has. */
  branchOf(branches, value) {
    const index = branches.findIndex((branch) => this.fits(branch, value));
    return index >= 0 || !isObject(value)
      ? index
      : branches.findIndex((branch) => this.kind(this.resolve(branch)) === "object" && this.#tagged(branch, value));
  }

  #tagged(branch, value) {
    const tags = this.fields(branch).filter((field) => has(this.resolve(field.schema), "const"));
    return tags.every((field) => same(this.resolve(field.schema).const, value[field.name]));
  }

  /** What a chooser calls a branch: its tag, else its type. */
  branchLabel(branch) {
    const tag = this.fields(branch)
      .map((field) => this.resolve(field.schema))
      .find((schema) => has(schema, "const"));
    return tag ? String(tag.const) : this.label(branch);
  }
}

export const nameOf = (ref) =>
  decoded(ref.startsWith(PREFIX) ? ref.slice(PREFIX.length) : ref)
    .replaceAll("~1", "/")
    .replaceAll("~0", "~");

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a name with a % of its own
  }
}

function boundsOf(schema) {
  const keys = schema.propertyNames?.pattern;
  return [
    bound("≥", schema.minimum),
    bound(">", schema.exclusiveMinimum),
    bound("≤", schema.maximum),
    bound("<", schema.exclusiveMaximum),
    bound("multiple of", schema.multipleOf),
    range(schema.minLength, schema.maxLength, "character"),
    schema.pattern !== undefined && `matches ${schema.pattern}`,
    range(schema.minItems, schema.maxItems, "item"),
    schema.uniqueItems && "no repeats",
    range(schema.minProperties, schema.maxProperties, "key"),
    keys !== undefined && `keys match ${keys}`,
  ];
}

const bound = (sign, value) => value !== undefined && `${sign} ${digits(value)}`;

function range(least = 0, most, unit) {
  if (least === most) return counted(least, unit);
  if (most === undefined) return least > 0 && `≥ ${counted(least, unit)}`;
  return least > 0 ? `${least}–${counted(most, unit)}` : `≤ ${counted(most, unit)}`;
}

const counted = (count, unit) => `${count} ${unit}${count === 1 ? "" : "s"}`;

const same = (one, other) => one === other || JSON.stringify(one) === JSON.stringify(other);

/** AsyncAPI writes tuples as draft-07 does. */
function asIn2020(schema) {
  if (!Array.isArray(schema.items)) return schema;
  const { items: prefixItems, additionalItems: items, ...rest } = schema;
  return { ...rest, prefixItems, items };
}

function merged(one, other) {
  const both = { ...one, ...other, refs: [...new Set([...(one.refs ?? []), ...(other.refs ?? [])])] };
  if (one.properties && other.properties) both.properties = { ...one.properties, ...other.properties };
  if (one.required && other.required) both.required = [...one.required, ...other.required];
  return both;
}

/** Whether its keys are the sender's choice: nothing names them. */
const isRecord = ({ properties, additionalProperties, patternProperties }) =>
  !Object.keys(properties ?? {}).length &&
  Boolean(patternProperties || (properties ? additionalProperties : additionalProperties !== false));

/** The schema of a record's values. */
export const valuesOf = (schema) =>
  isObject(schema.additionalProperties)
    ? schema.additionalProperties
    : (Object.values(schema.patternProperties ?? {})[0] ?? {});

const keyOf = (schema) => schema.propertyNames?.enum?.[0] ?? "key";

const SAMPLES = {
  "date-time": "2026-01-31T12:00:00Z",
  date: "2026-01-31",
  time: "12:00:00",
  duration: "PT1H30M",
  email: "ada@example.com",
  uri: "https://example.com/",
  uuid: "123e4567-e89b-42d3-a456-426614174000",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
};

export const hintOf = (schema) => SAMPLES[schema.format] ?? "";

function sampleText(schema) {
  if (SAMPLES[schema.format]) return SAMPLES[schema.format];
  if (schema.pattern !== undefined) return sampleOfPattern(schema.pattern) ?? "string";
  if (schema.contentEncoding) return "AAEC";
  const text = "string".slice(0, schema.maxLength ?? 6);
  return text.padEnd(Math.min(schema.minLength ?? 0, 200), "x");
}

const PIECE = /(\\[dws.\-/]|\[(?!\^)((?:\\.|[^\]\\])+)\]|[^\\^$.|?*+()[\]{}])(?:\{(\d+)(?:,\d*)?\}|([*+?]))?/y;
const CLASSES = { "\\d": "0", "\\w": "a", "\\s": " " };

/** A text of a pattern that is characters and classes in a row; undefined for any other, and where it is wrong. */
function sampleOfPattern(pattern) {
  const inside = pattern.replace(/^\^/, "").replace(/\$$/, "");
  let text = "";
  PIECE.lastIndex = 0;
  while (PIECE.lastIndex < inside.length) {
    const piece = PIECE.exec(inside);
    if (!piece) return undefined;
    const [, one, members, count, sign] = piece;
    const character = members
      ? (CLASSES[members.slice(0, 2)] ?? members.replace(/^\\/, "")[0])
      : (CLASSES[one] ?? one.at(-1));
    text += character.repeat(Math.min(count ?? (sign === "*" || sign === "?" ? 0 : 1), 100));
  }
  return matches(pattern, text) ? text : undefined;
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return false; // a pattern of another language
  }
}

function sampleNumber(schema, step) {
  const least =
    schema.minimum ??
    (schema.exclusiveMinimum === undefined ? undefined : Number(digits(schema.exclusiveMinimum)) + step);
  const most =
    schema.maximum ??
    (schema.exclusiveMaximum === undefined ? undefined : Number(digits(schema.exclusiveMaximum)) - step);
  if (least !== undefined)
    return schema.multipleOf ? Math.ceil(Number(digits(least)) / schema.multipleOf) * schema.multipleOf : least;
  return most !== undefined && Number(digits(most)) < 1 ? most : (schema.multipleOf ?? 1);
}
