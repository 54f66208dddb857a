// Plans and keys: create, change, revoke.

import { all, get, post, put } from "../api.js";
import { dialog, field, fill, h, money, notice, section, select, table } from "../dom.js";
import { PERIODS, amount, count, measure, planPrice } from "../format.js";
import { createKey, keyTable } from "./keys.js";

export const title = "Plans and keys";

export async function show({ query, who }) {
  const plans = await all("plans");
  const account = h("input", { type: "search", name: "account", value: query.account ?? "", autocomplete: "off" });
  const list = h("div", {});
  const pages = [undefined];
  const draw = () => fill(list, async () => {
    const found = await get("keys", { account: account.value.trim(), cursor: pages.at(-1), limit: 25 });
    return [
      keyTable(found.items, who, { accounts: true }),
      (found.next || pages.length > 1) && h("div", { class: "buttons" },
        h("button", { type: "button", disabled: pages.length === 1, onclick: () => { pages.pop(); draw(); } }, "Back"),
        h("button", { type: "button", disabled: !found.next, onclick: () => { pages.push(found.next); draw(); } }, "Next")),
    ];
  });
  account.addEventListener("change", () => {
    pages.splice(1);
    draw();
  });
  draw();
  const changes = who.role === "admin";
  return [
    h("div", { class: "title" }, h("h1", {}, "Plans and keys")),
    section("Plans", planTable(plans, changes),
      changes && h("div", { class: "buttons start" }, h("button", { type: "button", onclick: () => edit(null) }, "New plan"))),
    section("Keys",
      h("form", { class: "row", role: "search", onsubmit: (event) => event.preventDefault() },
        field("Of the account", account),
        who.role !== "viewer" && h("button", { type: "button", class: "primary", onclick: () => createKey(account.value.trim()) }, "New key")),
      list),
  ];
}

function planTable(plans, changes) {
  return table("Plans", [
    { title: "Plan", cell: (row) => row.id },
    { title: "Price", number: true, cell: (row) => [row.currency === "USD" ? money(row.price) : planPrice(row), ` ${PERIODS[row.period]}`] },
    { title: "Limits", cell: (row) => (row.limits.length === 0 ? "none" : h("span", { class: "wrap" }, row.limits.map(limitText).join(", "))) },
    { title: "Accounts", wide: true, number: true, cell: (row) => count(row.accounts) },
    { title: "From", wide: true, cell: (row) => h("span", { class: "tag" }, row.source === "file" ? "configuration file" : "made here") },
    changes && { title: h("span", { class: "unseen" }, "Changes"), number: true, cell: (row) => (row.source === "file" ? "" : h("button", { type: "button", class: "quiet", onclick: () => edit(row) }, "Change", h("span", { class: "unseen" }, ` ${row.id}`))) },
  ].filter(Boolean), plans, { empty: "No plans yet." });
}

function limitText(limit) {
  return `${amount(limit.on, limit.max)} ${measure(limit.on, limit.per)}`;
}

const LIMITS_EXAMPLE = '[\n  { "on": "cost", "max": "150.00", "per": "period", "warn_at": [0.8, 0.95] }\n]';

function edit(plan) {
  const limits = plan?.limits.map((limit) => Object.fromEntries(Object.entries(limit).filter(([, value]) => value !== null && (value.length ?? 1) > 0)));
  dialog(plan ? `Change ${plan.id}` : "New plan", [
    field("Id", h("input", { name: "id", required: true, value: plan?.id ?? "", readonly: Boolean(plan), pattern: "[A-Za-z0-9._:@\\-]{1,128}", autocomplete: "off" })),
    h("div", { class: "row" },
      field(`Price in ${!plan || plan.currency === "USD" ? "US dollars" : plan.currency}`, h("input", { name: "price", required: true, value: plan?.price ?? "", inputmode: "decimal", pattern: "[0-9]+(\\.[0-9]{1,6})?" })),
      field("For", select(Object.entries(PERIODS), plan?.period ?? "month", { name: "period" }))),
    field("Limits", h("textarea", { name: "limits", class: "code", spellcheck: "false", value: limits ? JSON.stringify(limits, null, 2) : "[]" }), `As in the configuration, as JSON: ${LIMITS_EXAMPLE.replaceAll(/\s+/g, " ")}`),
  ], {
    action: plan ? "Save" : "Create",
    submit: async (values) => {
      let parsed;
      try {
        parsed = JSON.parse(values.limits || "[]");
      } catch (error) {
        throw new Error(`limits: this is no JSON (${error.message})`);
      }
      const body = { ...(plan ?? {}), id: values.id, price: values.price, period: values.period, limits: parsed };
      if (plan) await put(`plans/${encodeURIComponent(plan.id)}`, body);
      else await post("plans", body);
      notice(`Plan ${values.id} is in force.`);
      dispatchEvent(new HashChangeEvent("hashchange"));
    },
  });
}
