// Accounts: find one, make one.

import { get, post } from "../api.js";
import { dialog, field, fill, h, notice, section, select, table } from "../dom.js";
import { day } from "../format.js";

export const title = "Accounts";

export async function show({ query, who }) {
  const plans = (await get("plans", { limit: 1000 })).items;
  const search = h("input", { type: "search", name: "search", value: query.search ?? "", autocomplete: "off" });
  const plan = select([["", "Any"], ...plans.map((one) => one.id)], query.plan ?? "", { name: "plan" });
  const list = h("div", {});
  const pages = [undefined];
  const draw = () => fill(list, async () => {
    const found = await get("accounts", { search: search.value.trim(), plan: plan.value, cursor: pages.at(-1), limit: 50 });
    return [
      accountTable(found.items),
      h("div", { class: "buttons" },
        h("button", { type: "button", disabled: pages.length === 1, onclick: () => { pages.pop(); draw(); } }, "Back"),
        h("button", { type: "button", disabled: !found.next, onclick: () => { pages.push(found.next); draw(); } }, "Next")),
    ];
  });
  const again = () => {
    pages.splice(1);
    draw();
  };
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(again, 200);
  });
  plan.addEventListener("change", again);
  draw();
  return [
    h("div", { class: "title" }, h("h1", {}, "Accounts"),
      who.role !== "viewer" && h("button", { type: "button", class: "primary", onclick: () => create(plans) }, "New account")),
    section("Find an account",
      h("form", { class: "row", role: "search", onsubmit: (event) => event.preventDefault() },
        field("Id or name", search), field("Plan", plan)),
      list),
  ];
}

function accountTable(items) {
  return table("Accounts", [
    { title: "Account", cell: (row) => h("a", { href: `#/account/${encodeURIComponent(row.id)}` }, row.id) },
    { title: "Name", cell: (row) => row.name ?? "–" },
    { title: "Plan", cell: (row) => row.plan },
    { title: "Below", wide: true, cell: (row) => row.parent ?? "–" },
    { title: "Since", wide: true, cell: (row) => day(row.since) },
    { title: "Until", wide: true, cell: (row) => (row.until ? day(row.until) : "–") },
  ], items, { empty: "No account fits." });
}

function create(plans) {
  dialog("New account", [
    field("Id", h("input", { name: "id", required: true, pattern: "[A-Za-z0-9._:@\\-]{1,128}", autocomplete: "off" }), "Letters, digits and . _ : @ -"),
    field("Name", h("input", { name: "name", maxlength: 200, autocomplete: "off" })),
    field("Plan", select(plans.map((plan) => plan.id), plans[0]?.id, { name: "plan", required: true })),
    field("Below the account", h("input", { name: "parent", autocomplete: "off" }), "Empty: at the top"),
  ], {
    action: "Create",
    submit: async (values) => {
      const account = await post("accounts", {
        id: values.id, plan: values.plan, name: values.name || null, parent: values.parent || null,
      });
      notice(`Account ${account.id} is there.`);
      location.hash = `#/account/${encodeURIComponent(account.id)}`;
    },
  });
}
