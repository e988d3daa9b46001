// Forms made from schemas. A field shows one value: it gives what has been filled in (`value`, undefined for nothing),
// takes a value (`set`, false where it cannot show it) and finds the field that an error is about (`find`). What no
// field can show is shown as JSON, so that nothing is lost between the form and the text beside it.

import { button, h, newId } from "./dom.js";
import { attempt, digits, has, isInteger, isNumber, isObject, numberOf, objectOf, pretty } from "./json.js";
import { hintOf, valuesOf } from "./schema.js";

const MANY = 200; // rows of a list or a record; what has more is shown as JSON

/** A form for values of `schema`; `changed` is called whenever what it gives may be another value. */
export class Form {
  constructor(schemas, schema, changed, name = "value") {
    this.schemas = schemas;
    this.changed = changed;
    this.root = new Slot(this, schema, { name, refs: [] });
    this.element = h("div.form", { oninput: () => changed() }, this.root.element);
    this.failed = new Set();
  }

  get value() {
    return this.root.value;
  }

  set(value) {
    this.root.set(value);
  }

  focus() {
    (this.element.querySelector("input, select, textarea, button") ?? this.element).focus();
  }

  /** Show pydantic's errors at their fields, and return those that are about none; `focus` goes to the first. */
  fail(errors, focus) {
    this.clear();
    const elsewhere = [];
    for (const error of errors) {
      const { field, depth } = this.root.find(error.loc);
      if (depth === 0 && field === this.root.field) elsewhere.push(error);
      else this.#mark(field, error.msg);
    }
    const [first] = this.failed;
    if (focus && first) first.control.focus();
    return elsewhere;
  }

  #mark(field, text) {
    field.fail(text);
    this.failed.add(field);
  }

  clear() {
    for (const field of this.failed) field.fail(null);
    this.failed.clear();
  }
}

/** What all fields share: their element, the control that has the focus, and the line that says what is wrong. */
class Field {
  constructor(form, schema, about) {
    Object.assign(this, { form, schema, about });
  }

  /** Called once by each, with what the person fills in. */
  built(control, ...others) {
    this.control = control;
    this.control.id ||= newId();
    this.error = h("p.wrong", { id: newId(), hidden: true });
    this.element = h("div.field", control, others, this.error);
    this.control.addEventListener("input", (event) => {
      if (event.target === this.control) this.fail(null);
    });
  }

  fail(text) {
    this.error.textContent = text && !this.error.hidden ? `${this.error.textContent}; ${text}` : (text ?? "");
    this.error.hidden = !text;
    if (text) {
      this.control.setAttribute("aria-invalid", "true");
      this.control.setAttribute("aria-describedby", this.error.id);
    } else {
      this.control.removeAttribute("aria-invalid");
      this.control.removeAttribute("aria-describedby");
    }
  }

  /** The innermost field that `loc` leads to, and how many of its parts led there. */
  find(loc) {
    const inner = loc.length ? this.within(loc[0]) : null;
    if (!inner) return { field: this, depth: 0 };
    const { field, depth } = inner.find(loc.slice(1));
    return { field, depth: depth + 1 };
  }

  within() {
    return null;
  }

  labelBy(label) {
    label.htmlFor = this.control.id;
  }
}

/** A group is named by its label, since it has no control that a label could point at. */
class Group extends Field {
  built(...children) {
    super.built(h("div.group", { role: "group", tabindex: -1 }, children));
  }

  labelBy(label) {
    label.id ||= newId();
    this.control.setAttribute("aria-labelledby", label.id);
  }
}

class Text extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    const hints = { placeholder: hintOf(schema) || null, autocomplete: "off", spellcheck: "false" };
    const short = schema.format || schema.pattern || schema.maxLength <= 80;
    this.built(short ? h("input", { type: "text", ...hints }) : h("textarea", { rows: 1, ...hints }));
  }

  get value() {
    return this.control.value;
  }

  set(value) {
    if (typeof value !== "string") return false;
    this.control.value = value;
    return this.control.value === value; // an input leaves out line breaks
  }
}

class NumberField extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    const { minimum, maximum, multipleOf } = schema;
    const bounds = {
      min: boundOf(minimum),
      max: boundOf(maximum),
      step: boundOf(multipleOf) ?? (schema.type === "integer" ? 1 : "any"),
    };
    this.built(h("input", { type: "number", autocomplete: "off", ...bounds }));
  }

  get value() {
    return numberOf(this.control.value);
  }

  set(value) {
    if (!isNumber(value) || (this.schema.type === "integer" && !isInteger(value))) return false;
    this.control.value = digits(value);
    return true;
  }
}

const boundOf = (bound) => (bound === undefined ? null : digits(bound));

class Switch extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.word = h("span.word", { "aria-hidden": "true" }, "false");
    this.built(h("input", { type: "checkbox", role: "switch" }), this.word);
    this.element.classList.add("switch");
    this.control.addEventListener("input", () => this.#tell());
  }

  #tell() {
    this.word.textContent = String(this.control.checked);
  }

  get value() {
    return this.control.checked;
  }

  set(value) {
    this.control.checked = value === true;
    this.#tell();
    return typeof value === "boolean";
  }
}

class Choice extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.built(
      h(
        "select",
        schema.enum.map((each, n) => h("option", { value: n }, typeof each === "string" ? each : JSON.stringify(each))),
      ),
    );
  }

  get value() {
    return this.schema.enum[this.control.value];
  }

  set(value) {
    const index = this.schema.enum.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
    if (index >= 0) this.control.value = index;
    return index >= 0;
  }
}

/** A value that is always the same: nothing to fill in. */
class Fixed extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.value = schema.const ?? null;
    this.built(h("output", { tabindex: -1 }, JSON.stringify(this.value)));
  }

  set(value) {
    return JSON.stringify(value) === JSON.stringify(this.value);
  }
}

/** A moment, a day or a time of day, in the browser's own control; what is not touched stays the text that it was. */
class Moment extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    const type = { "date-time": "datetime-local", date: "date", time: "time" }[schema.format];
    const note = schema.format === "date-time" ? h("small", "your local time, sent as UTC") : null;
    this.built(h("input", { type, step: schema.format === "date" ? null : 1 }), note);
    this.control.addEventListener("input", () => {
      this.text = this.#written();
    });
  }

  get value() {
    return this.text;
  }

  set(value) {
    if (typeof value !== "string") return false;
    this.control.value = this.schema.format === "date-time" ? localTime(value) : value;
    this.text = value;
    return this.control.value !== "";
  }

  #written() {
    const shown = this.control.value;
    if (!shown) return undefined;
    if (this.schema.format === "time") return shown.length === 5 ? `${shown}:00` : shown;
    return this.schema.format === "date" ? shown : new Date(shown).toISOString().replace(".000Z", "Z");
  }
}

function localTime(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return "";
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** Any value as JSON: where the schema says nothing, and where a value is not what the schema says. */
class AnyJson extends Field {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.built(h("textarea.code", { rows: 2, spellcheck: "false", autocomplete: "off", placeholder: "JSON" }));
    this.control.addEventListener("input", () => {
      if (this.value === undefined && this.control.value.trim()) this.fail("not JSON yet");
    });
  }

  get value() {
    return attempt(this.control.value);
  }

  set(value) {
    this.control.value = pretty(value);
    return true;
  }
}

class ObjectField extends Group {
  constructor(form, schema, about) {
    super(form, schema, about);
    const refs = [...about.refs, ...schema.refs];
    this.rows = new Map(form.schemas.fields(schema).map((field) => [field.name, new Row(form, field, refs)]));
    this.extra = h("div.extra");
    const none = this.rows.size ? null : h("p.none", "no fields");
    this.built(
      [...this.rows.values()].map((row) => row.element),
      this.extra,
      none,
    );
  }

  get value() {
    return objectOf([...this.rows].map(([name, row]) => [name, row.value]).filter(([, value]) => value !== undefined));
  }

  set(value) {
    if (!isObject(value)) return false;
    const unknown = Object.keys(value).filter((key) => !this.rows.has(key));
    for (const [key, each] of Object.entries(value)) this.rows.get(key)?.set(each);
    for (const [name, row] of this.rows) if (!has(value, name)) row.set(undefined);
    this.#keep(unknown, value);
    return true;
  }

  /** Keys that the schema does not know have rows of JSON as long as they are there. */
  #keep(keys, value) {
    for (const [name, row] of this.rows) if (row.isExtra && !keys.includes(name)) this.#drop(name);
    for (const key of keys) {
      const row = new Row(
        this.form,
        { name: key, schema: valuesOf(this.schema), required: false, isExtra: true },
        this.about.refs,
      );
      this.rows.set(key, row);
      this.extra.append(row.element);
      row.set(value[key]);
    }
  }

  #drop(name) {
    this.rows.get(name).element.remove();
    this.rows.delete(name);
  }

  within(part) {
    return this.rows.get(String(part)) ?? null;
  }
}

/** A field of an object with its name; an optional one is there when its box is ticked. */
class Row {
  constructor(form, { name, schema, required, isExtra }, refs) {
    Object.assign(this, { form, schema, name, refs, required, isExtra });
    const resolved = form.schemas.resolve(schema);
    this.label = h("label.key", name === "" ? "(empty name)" : name);
    this.holder = h("div.holder");
    const notes = form.schemas.constraints(schema).map((each) => h("span.hint", each));
    const about = h("span.about", h("span.type", isExtra ? "not in the schema" : form.schemas.label(schema)), notes);
    const description = resolved.description ? h("p.description", resolved.description) : null;
    if (!required)
      this.box = h("input", { type: "checkbox", "aria-label": `include ${name}`, oninput: () => this.#toggle() });
    this.element = h("div.row", h("div.head", this.box, this.label, about), description, this.holder);
    if (has(resolved, "const")) this.element.classList.add("fixed");
    if (required) this.#fill();
    else this.#leaveOut();
  }

  #leaveOut() {
    this.slot = undefined;
    this.label.htmlFor = this.box.id ||= newId();
    this.holder.replaceChildren();
    this.element.classList.add("left-out");
  }

  #fill() {
    this.slot = new Slot(this.form, this.schema, { name: this.name, refs: this.refs, label: this.label });
    this.holder.replaceChildren(this.slot.element);
    this.element.classList.remove("left-out");
  }

  #toggle() {
    if (this.box.checked) this.#fill();
    else this.#leaveOut();
  }

  get value() {
    return this.slot?.value;
  }

  set(value) {
    if (this.box && this.box.checked !== (value !== undefined)) {
      this.box.checked = value !== undefined;
      this.#toggle();
    }
    if (this.slot && value === undefined) this.#fill();
    if (value !== undefined) this.slot.set(value);
  }

  find(loc) {
    if (!this.slot && this.box) {
      this.box.checked = true;
      this.#toggle();
      this.form.changed();
    }
    return this.slot.find(loc);
  }
}

/** Fields one below the other, with a number or a name, that can be added and removed. */
class Rows extends Group {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.items = [];
    this.list = h("div.items");
    this.adder = button("Add", () => this.#added(), { "aria-label": `add to ${about.name}`, class: "small add" });
    this.built(this.list, this.adder);
  }

  #added() {
    this.add();
    this.form.changed();
    this.list.lastElementChild.querySelector("input, select, textarea, button").focus();
  }

  add(...given) {
    const item = this.make(...given);
    const remove = button("×", () => this.#removed(item), {
      class: "small remove",
      "aria-label": `remove from ${this.about.name}`,
    });
    item.element = h("div.item", item.key ?? h("span.index"), item.slot.element, remove);
    this.items.push(item);
    this.list.append(item.element);
    return item;
  }

  #removed(item) {
    const next = item.element.nextElementSibling ?? item.element.previousElementSibling;
    item.element.remove();
    this.items.splice(this.items.indexOf(item), 1);
    this.form.changed();
    (next?.querySelector(".remove") ?? this.adder).focus();
  }

  empty() {
    this.items = [];
    this.list.replaceChildren();
  }

  slotFor(schema) {
    const slot = new Slot(this.form, schema, {
      name: `item of ${this.about.name}`,
      refs: [...this.about.refs, ...this.schema.refs],
    });
    slot.field.control.setAttribute("aria-label", `item of ${this.about.name}`);
    return slot;
  }
}

class List extends Rows {
  constructor(form, schema, about) {
    super(form, schema, about);
    for (let n = 0; n < Math.min(schema.minItems ?? 0, 10); n++) this.add();
  }

  make() {
    return { slot: this.slotFor(this.schema.items) };
  }

  get value() {
    return this.items.map((item) => item.slot.value ?? null);
  }

  set(value) {
    if (!Array.isArray(value) || value.length > MANY) return false;
    this.empty();
    for (const each of value) this.add().slot.set(each);
    return true;
  }

  within(part) {
    return this.items[part]?.slot ?? null;
  }
}

class RecordField extends Rows {
  make(name = "") {
    const key = h("input.name", {
      type: "text",
      "aria-label": `key in ${this.about.name}`,
      placeholder: "key",
      autocomplete: "off",
    });
    key.value = name;
    return { key, slot: this.slotFor(valuesOf(this.schema)) };
  }

  get value() {
    return objectOf(this.items.map((item) => [item.key.value, item.slot.value ?? null]));
  }

  set(value) {
    if (!isObject(value) || Object.keys(value).length > MANY) return false;
    this.empty();
    for (const [key, each] of Object.entries(value)) this.add(key).slot.set(each);
    return true;
  }

  within(part) {
    return this.items.find((item) => item.key.value === String(part))?.slot ?? null;
  }
}

class Tuple extends Group {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.slots = schema.prefixItems.map((item, n) => {
      const slot = new Slot(form, item, { name: `${about.name} ${n}`, refs: [...about.refs, ...schema.refs] });
      slot.field.control.setAttribute("aria-label", `${about.name}, part ${n + 1}`);
      return slot;
    });
    this.built(
      h(
        "div.items",
        this.slots.map((slot) => h("div.item", h("span.index"), slot.element)),
      ),
    );
  }

  get value() {
    return this.slots.map((slot) => slot.value ?? null);
  }

  set(value) {
    if (!Array.isArray(value) || value.length !== this.slots.length) return false;
    this.slots.forEach((slot, n) => slot.set(value[n]));
    return true;
  }

  within(part) {
    return this.slots[part] ?? null;
  }
}

/** One of several schemas; the chooser says which. */
class Union extends Group {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.branches = form.schemas.branches(schema);
    const options = this.branches.map((branch, n) => h("option", { value: n }, form.schemas.branchLabel(branch)));
    this.chooser = h(
      "select.chooser",
      { "aria-label": `kind of ${about.name}`, oninput: () => this.#choose(Number(this.chooser.value)) },
      options,
    );
    this.body = h("div.branch");
    this.built(this.chooser, this.body);
    this.#choose(0);
  }

  #choose(index) {
    this.chooser.value = index;
    const refs = [...this.about.refs, ...this.schema.refs];
    this.slot = new Slot(this.form, this.branches[index], { name: this.about.name, refs });
    if (!(this.slot.field instanceof Group)) this.slot.field.control.setAttribute("aria-label", this.about.name);
    this.body.replaceChildren(this.slot.element);
    this.body.hidden = this.slot.field.schema.type === "null";
  }

  get value() {
    return this.slot.value;
  }

  set(value) {
    const index = this.form.schemas.branchOf(this.branches, value);
    if (index < 0) return false;
    if (index !== Number(this.chooser.value)) this.#choose(index);
    this.slot.set(value);
    return true;
  }

  /** pydantic names the branch in between, by its tag or its type; which one it is has been chosen here. */
  find(loc) {
    const direct = this.slot.find(loc);
    const behind = loc.length ? this.slot.find(loc.slice(1)) : direct;
    const { field, depth } = behind.depth >= direct.depth ? behind : direct;
    return field === this.slot.field && field instanceof Fixed
      ? { field: this, depth: 0 }
      : { field, depth: depth + 1 };
  }
}

/** What is within itself is built when it is asked for: there is no end to it. */
class Deeper extends Group {
  constructor(form, schema, about) {
    super(form, schema, about);
    this.opener = button(`Fill in ${form.schemas.label(schema)}`, () => this.#opened(), { class: "small" });
    this.built(this.opener);
  }

  #opened() {
    this.#build();
    this.form.changed();
    this.slot.element.querySelector("input, select, textarea, button")?.focus();
  }

  #build() {
    this.slot = new Slot(this.form, this.schema, { name: this.about.name, refs: [] });
    this.control.replaceChildren(this.slot.element);
  }

  get value() {
    return this.slot?.value;
  }

  set(value) {
    if (!this.slot) this.#build();
    return this.slot.set(value);
  }

  find(loc) {
    return this.slot ? this.slot.find(loc) : super.find(loc);
  }
}

/** The place of a field: the one that its schema asks for, or JSON while the value is nothing that one could show. */
class Slot {
  constructor(form, schema, about) {
    Object.assign(this, { form, schema: form.schemas.resolve(schema), about });
    this.element = h("div.slot");
    this.#show(this.#made());
    if (has(this.schema, "default")) this.set(this.schema.default);
  }

  #made() {
    const { form, schema, about } = this;
    const recurs = schema.refs.some((name) => about.refs.includes(name));
    return new (recurs ? Deeper : classOf(form.schemas.kind(schema), schema))(form, schema, about);
  }

  #show(field) {
    this.field = field;
    this.element.replaceChildren(field.element);
    if (this.about.label) field.labelBy(this.about.label);
    else field.control.setAttribute("aria-label", this.about.name);
  }

  get value() {
    return this.field.value;
  }

  set(value) {
    if (this.field instanceof AnyJson && this.form.schemas.fits(this.schema, value)) this.#show(this.#made());
    if (this.field.set(value)) return true;
    this.#show(new AnyJson(this.form, this.schema, this.about));
    return this.field.set(value);
  }

  find(loc) {
    return this.field.find(loc);
  }
}

const CLASSES = {
  const: Fixed,
  null: Fixed,
  enum: Choice,
  union: Union,
  object: ObjectField,
  record: RecordField,
  list: List,
  tuple: Tuple,
  integer: NumberField,
  number: NumberField,
  boolean: Switch,
  any: AnyJson,
};

function classOf(kind, schema) {
  if (kind !== "string") return CLASSES[kind] ?? AnyJson;
  return ["date-time", "date", "time"].includes(schema.format) ? Moment : Text;
}
