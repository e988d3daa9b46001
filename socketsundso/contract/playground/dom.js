// Elements made from data. Strings become text nodes and nothing else, so that nothing a peer or a docstring says can
// become markup.

/** `h("p.note", { id: "x", onclick: f }, "text", other)`; attributes may be left out, null and false are skipped. */
export function h(tag, ...rest) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  if (isAttributes(rest[0])) setAttributes(element, rest.shift());
  element.append(...rest.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

const isAttributes = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Node);

function setAttributes(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value);
  }
}

let made = 0;
/** An id that no other element of the page has. */
export const newId = () => `i${++made}`;

/** A small button with a word on it. */
export const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

/** A form whose sending is `submit`'s; what is not valid is the server's to say. */
export function form(tag, attributes, submit, ...children) {
  const onsubmit = (event) => {
    event.preventDefault();
    submit();
  };
  return h(tag, { novalidate: true, ...attributes, onsubmit }, children);
}

/** Paragraphs of plain text; what stands between backticks is code. Any other markup is shown as it was written. */
export function prose(text) {
  const paragraphs = (text ?? "")
    .trim()
    .split(/\n\s*\n/)
    .filter(Boolean);
  return paragraphs.map((paragraph) => h("p.prose", codeIn(paragraph)));
}

export const codeIn = (text) => text.split(/`([^`\n]+)`/).map((part, n) => (n % 2 ? h("code", part) : part));

const status = () => document.getElementById("status");
let wanted = "";
/** Tell who does not see the page. Several within a moment are one: the last. */
export function announce(text) {
  if (!wanted)
    setTimeout(() => {
      status().textContent = wanted;
      wanted = "";
    }, 100);
  wanted = text;
}

/** Put `text` on the clipboard and say so on the button; browsers give the clipboard to secure pages only. */
export async function copy(text, pressed) {
  const label = pressed.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyThroughSelection(text);
    pressed.focus();
  }
  announce("copied");
  pressed.textContent = "copied";
  setTimeout(() => {
    pressed.textContent = label;
  }, 1200);
}

function copyThroughSelection(text) {
  const area = h("textarea", { readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
