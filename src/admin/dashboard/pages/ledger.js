// Ledger: search, page, look into an entry, export.

import { get, search } from "../api.js";
import { field, fill, h, money, section, select, table } from "../dom.js";
import { moment, seconds, short } from "../format.js";

export const title = "Ledger";

const OUTCOMES = [["", "Any"], ["completed", "Completed"], ["client_closed", "Client left"], ["upstream_failed", "Upstream failed"], ["interrupted", "Interrupted"], ["rejected", "Refused"]];

export async function show({ query }) {
  const form = h("form", { class: "row", role: "search" },
    field("Account", h("input", { name: "account", value: query.account ?? "", autocomplete: "off" })),
    field("Key", h("input", { name: "key", value: query.key ?? "", autocomplete: "off" })),
    field("Model", h("input", { name: "model", value: query.model ?? "", autocomplete: "off" })),
    field("Outcome", select(OUTCOMES, query.outcome ?? "", { name: "outcome" })),
    field("From", h("input", { name: "since", type: "date", value: query.since ?? "" })),
    field("Before", h("input", { name: "until", type: "date", value: query.until ?? "" })),
    h("button", { type: "submit", class: "primary" }, "Search"));
  const place = h("div", {});
  const exports = h("p", { class: "hint" });
  const pages = [undefined];

  const wanted = () => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  const draw = () => {
    const links = [["jsonl", "JSON lines"], ["csv", "CSV"], ["focus", "FOCUS"]].map(([format, name]) =>
      [" · ", h("a", { href: `/api/v1/export${search({ ...wanted(), format })}`, download: "" }, name)]);
    exports.replaceChildren("Export what is found, oldest first", ...links.flat());
    return fill(place, async () => {
      const found = await get("ledger", { ...wanted(), cursor: pages.at(-1), limit: 50 });
      return [
        entryTable(found.items),
        h("div", { class: "buttons" },
          h("button", { type: "button", disabled: pages.length === 1, onclick: () => { pages.pop(); draw(); } }, "Newer"),
          h("button", { type: "button", disabled: !found.next, onclick: () => { pages.push(found.next); draw(); } }, "Older")),
      ];
    });
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = Object.fromEntries(Object.entries(wanted()).filter(([, value]) => value));
    history.replaceState(null, "", `#/ledger?${new URLSearchParams(given)}`);
    pages.splice(1);
    draw();
  });
  draw();
  return [
    h("div", { class: "title" }, h("div", {}, h("h1", {}, "Ledger"), h("p", {}, "One entry for each request; times are UTC"))),
    section("Search", form, exports),
    section("Entries", place),
  ];
}

function entryTable(entries) {
  return table("Entries of the ledger", [
    { title: "Started", cell: (row) => h("button", { type: "button", class: "quiet link", onclick: () => look(row), "aria-label": `Entry of ${moment(row.started_at)}` }, moment(row.started_at)) },
    { title: "Account", wide: true, cell: (row) => (row.account ? h("a", { href: `#/account/${encodeURIComponent(row.account)}` }, row.account) : "–") },
    { title: "Model", cell: (row) => row.served_model ?? row.model ?? "–" },
    { title: "Outcome", wide: true, cell: (row) => h("span", { class: row.outcome === "completed" ? "tag" : "tag bad" }, OUTCOMES.find(([name]) => name === row.outcome)?.[1] ?? row.outcome) },
    { title: "Tokens in", wide: true, number: true, cell: (row) => short(row.usage.input_tokens ?? 0) },
    { title: "Tokens out", wide: true, number: true, cell: (row) => short(row.usage.output_tokens ?? 0) },
    { title: "Took", wide: true, number: true, cell: (row) => seconds(row.duration_ms / 1000) },
    { title: "Cost", number: true, cell: (row) => (row.priced_by || row.usage_source === "none" ? money(row.cost_usd) : h("span", { class: "tag bad" }, "unpriced")) },
  ], entries, { empty: "No entry fits." });
}

function look(entry) {
  const dialog = h("dialog", { "aria-labelledby": "entry-title" },
    h("h2", { id: "entry-title" }, "Entry ", h("code", {}, entry.id)),
    h("pre", { tabindex: "0" }, JSON.stringify(entry, null, 2)),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
