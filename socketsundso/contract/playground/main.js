// The page: reads the document, shows what there is, and lets it be tried.

import { announce, h, prose } from "./dom.js";
import { read } from "./document.js";
import { parse } from "./json.js";
import { Playground } from "./playground.js";
import { addressOf, Reference } from "./reference.js";
import { Schemas } from "./schema.js";

const $ = (id) => document.getElementById(id);
const base = $("page").dataset.base;

async function begin() {
  const answer = await fetch("asyncapi.json");
  if (!answer.ok) throw new Error(await answer.text());
  show(read(parse(await answer.text())));
}

function show(api) {
  document.title = api.title;
  const schemas = new Schemas(api.components);
  const playgrounds = new Map();
  const chooser = h(
    "select",
    { id: "channel", oninput: () => select(api.channels[chooser.value]) },
    api.channels.map(({ name, path }, n) => h("option", { value: n }, `${name}  ${path}`)),
  );

  /** The playground of a channel; another channel's goes on behind it. */
  function select(channel) {
    if (!playgrounds.has(channel)) playgrounds.set(channel, new Playground(api, schemas, channel, base));
    chooser.value = api.channels.indexOf(channel);
    $("playground").replaceChildren(
      ...[
        api.channels.length > 1 && h("div.line.which", h("label", { for: "channel" }, "Channel"), chooser),
        playgrounds.get(channel).element,
      ].filter(Boolean),
    );
    return playgrounds.get(channel);
  }

  function attempt(channel, event) {
    const playground = select(channel);
    playground.choose(event);
    view("playground");
    playground.focus();
  }

  const reference = new Reference(api, schemas, attempt);
  $("title").replaceChildren(api.title, " ", h("small", api.version));
  $("reference").replaceChildren(
    h("div.about", prose(api.description)),
    reference.element,
    h("p.nothing", { hidden: api.channels.length > 0 }, api.channels.length ? "Nothing is found." : "No endpoints."),
  );
  const contents = contentsOf(api, reference);
  $("contents").replaceChildren(contents.element);
  searching(reference, contents);
  linking(reference);
  addEventListener("beforeprint", () => reference.unfold());
  if (api.channels.length) select(api.channels[0]);
  $("page").removeAttribute("aria-busy");
  performance.mark("shown");
}

// --- what is where

function contentsOf(api, reference) {
  const links = new Map(
    reference.cards.map((card) => [
      card,
      h("li", h("a", { href: `#${card.address}` }, h(`span.dot.${card.kind}`, { "aria-hidden": "true" }), card.name)),
    ]),
  );
  const groups = api.channels.map((channel) => {
    const inside = reference.cards.filter((card) => card.channel === channel).map((card) => links.get(card));
    return h(
      "li",
      h("a.channel", { href: `#${addressOf(channel.name)}` }, channel.name),
      h(
        "ul",
        inside,
        channel.errors.length > 0 && h("li", h("a", { href: `#${addressOf(channel.name, "errors")}` }, "Errors")),
      ),
    );
  });
  return { element: h("ul", groups), links };
}

/** A link to a card opens it. */
function linking(reference) {
  const follow = () => {
    const address = location.hash.slice(1);
    const card = reference.cards.find((each) => each.address === address);
    if (card) {
      card.build();
      card.element.open = true;
    }
    const target = $(address);
    if (!target) return;
    view("reference");
    target.scrollIntoView();
    (target.querySelector("summary") ?? target).focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);
  if (location.hash) follow();
}

function searching(reference, contents) {
  const field = $("search");
  const nothing = document.querySelector(".nothing");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const card of reference.cards) {
      const matches = words.every((word) => card.words.includes(word));
      card.element.hidden = contents.links.get(card).hidden = !matches;
      found += matches;
    }
    nothing.hidden = found > 0;
    announce(words.length ? `${found} found` : "");
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      field.dispatchEvent(new Event("input"));
    }
    const [first] = reference.cards.filter((card) => !card.element.hidden);
    if (event.key === "Enter" && first) location.hash = first.address;
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      view("reference");
      first.element.querySelector("summary").focus();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

// --- narrow screens show one of the two; the theme

function view(name) {
  document.body.dataset.view = name;
  for (const tab of document.querySelectorAll("#views button"))
    tab.setAttribute("aria-pressed", String(tab.value === name));
}

for (const tab of document.querySelectorAll("#views button")) tab.addEventListener("click", () => view(tab.value));

const THEMES = { auto: "light", light: "dark", dark: "auto" }; // each with the one that follows it

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = `◐ ${name}`;
}

const stored = {
  get: () => attempted(() => localStorage.getItem("socketsundso-theme")),
  set: (name) => attempted(() => localStorage.setItem("socketsundso-theme", name)),
};

function attempted(access) {
  try {
    return access();
  } catch {
    return null; // storage may be forbidden
  }
}

theme(stored.get() in THEMES ? stored.get() : "auto");
$("theme").addEventListener("click", () => {
  theme(THEMES[document.documentElement.dataset.theme]);
  stored.set(document.documentElement.dataset.theme);
});

begin().catch((failed) => {
  $("reference").replaceChildren(
    h("p.wrong", { role: "alert" }, "The document could not be read."),
    h("pre", String(failed.message)),
  );
  throw failed;
});
