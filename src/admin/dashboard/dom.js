// Elements in few words, and the states that every page has: waiting, empty, failed.

import { count, usd } from "./format.js";

/** An element: h("a", { href, class }, "text", child, …). Functions become listeners; null and false are left out. */
export function h(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.replace(/^on/, ""), value);
    else if (key === "value" && "value" in element && name !== "data") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element of a drawing. */
export function svg(name, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(props)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Money: rounded for the eye, exact in the element's value and in its title. Losses say so by more than their colour. */
export function money(text, options = {}) {
  if (text === null || text === undefined) return h("span", {}, "–");
  const loses = options.tone && Number(text) < 0;
  return h("data", { value: text, title: `$${text}`, class: loses ? "money loss" : "money" }, usd(text, options));
}

/** A table: columns are { title, cell, number, wide }, and `caption` names it for who cannot see it. A phone leaves out what is `wide`. */
export function table(caption, columns, rows, { empty = "Nothing here yet.", row: props = () => ({}) } = {}) {
  if (rows.length === 0) return emptyState(empty);
  const kind = (column) => [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.title)))),
      h("tbody", {}, rows.map((row) => h("tr", props(row), columns.map((column, index) =>
        h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: kind(column) }, column.cell(row))))))));
}

/** One figure with its name. */
export function figure(name, value, note = null, tone = null) {
  return h("div", { class: `figure ${tone ?? ""}` }, h("dt", {}, name), h("dd", {}, value, note && h("span", { class: "note" }, note)));
}

export function figures(...items) {
  return h("dl", { class: "figures" }, ...items);
}

/**
 * Says that figures lack the cost of requests without a price, and leads to them in the ledger; nothing where all have one.
 * row: what the figures are of; models: [{ model, requests }]; about: what the ledger is searched by beside the model.
 */
export function unpriced(row, models, { since, until, account } = {}) {
  const requests = row?.unpriced_requests ?? 0;
  if (requests === 0) return null;
  const about = Object.entries({ account, since: since?.slice(0, 10), until: dayAfter(until) }).filter(([, value]) => value);
  const links = models.slice(0, 5).map(({ model, requests: one }, index) => [index > 0 && ", ",
    h("a", { href: `#/ledger?${new URLSearchParams([["model", model], ...about])}` }, model), ` (${count(one)})`]);
  return h("p", { class: "lacks", role: "note" },
    `${count(requests)} ${requests === 1 ? "request" : "requests"} had no price: their cost is not in these figures. `,
    ...links.flat(), models.length > 5 && " and others", models.length > 0 && ". ", "Add a price to prices.toml, then ", h("code", {}, "weir reprice"), " corrects them.");
}

/** The first day that is wholly beyond a moment. */
function dayAfter(moment) {
  return moment && new Date(Math.ceil(Date.parse(moment) / 86_400_000) * 86_400_000).toISOString().slice(0, 10);
}

/** A part of a page with a heading. */
export function section(title, ...children) {
  const id = `part-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

/** A note of the API as a sentence. */
export function sentence(note) {
  return `${note[0].toUpperCase()}${note.slice(1)}.`;
}

export function emptyState(text) {
  return h("p", { class: "state" }, text);
}

/** What each place is being filled with: where two come for one place, the later wish holds, whichever comes first. */
const wishes = new WeakMap();

/** Fills a place when something has come: says that it is waited for, and what went wrong. */
export async function fill(place, make) {
  const wish = {};
  wishes.set(place, wish);
  const holds = () => wishes.get(place) === wish;
  const waiting = h("p", { class: "state", role: "status" }, "Loading …");
  // What is quick shows no flicker.
  const timer = setTimeout(() => holds() && place.replaceChildren(waiting), 150);
  place.setAttribute("aria-busy", "true");
  try {
    const made = await make();
    if (holds()) place.replaceChildren(...[made].flat().filter(Boolean));
  } catch (error) {
    if (holds()) place.replaceChildren(failed(error, () => fill(place, make)));
  } finally {
    clearTimeout(timer);
    if (holds()) place.removeAttribute("aria-busy");
  }
}

function failed(error, again) {
  if (!("status" in error)) console.error(error);
  return h("div", { class: "state failed", role: "alert" },
    h("p", {}, `This could not be shown: ${error.message}.`),
    h("button", { type: "button", onclick: again }, "Try again"));
}

/** A field with its label. */
export function field(label, input, hint = null) {
  input.id ||= `field-${Math.random().toString(36).slice(2)}`;
  const note = hint && h("span", { class: "hint", id: `${input.id}-hint` }, hint);
  if (note) input.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, note);
}

export function select(options, chosen, props = {}) {
  const element = h("select", props, options.map((option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value, selected: value === chosen }, text);
  }));
  return element;
}

/** Says something that the reader should know and that is over soon. */
export function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => { place.textContent = ""; }, 6_000);
}

/** A dialog with a form. `submit` makes the change; what it refuses is shown in the dialog. */
export function dialog(title, children, { action = "Save", danger = false, submit }) {
  const problem = h("p", { class: "problem", role: "alert" });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), children, problem,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => element.close() }, "Cancel"), go));
  const element = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    go.disabled = true;
    try {
      await submit(Object.fromEntries(new FormData(form)));
      element.close();
    } catch (error) {
      problem.textContent = `${error.where ? `${error.where}: ` : ""}${error.message}`;
    } finally {
      go.disabled = false;
    }
  });
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}
