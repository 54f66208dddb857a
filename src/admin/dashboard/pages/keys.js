// Keys: the table, and what can be done with one. A new secret is shown once.

import { post, remove } from "../api.js";
import { dialog, field, h, notice, select, table } from "../dom.js";
import { moment } from "../format.js";

/** A table of keys. */
export function keyTable(keys, who, { accounts = false } = {}) {
  const changes = who.role !== "viewer";
  return table("Keys", [
    { title: "Key", cell: (row) => row.id },
    accounts && { title: "Account", cell: (row) => h("a", { href: `#/account/${encodeURIComponent(row.account)}` }, row.account) },
    { title: "State", cell: (row) => h("span", { class: row.state === "active" ? "tag" : "tag bad" }, row.state) },
    { title: "Models", wide: true, cell: (row) => row.models.join(", ") || "all" },
    { title: "Ends", wide: true, cell: (row) => (row.revoked_at ? moment(row.revoked_at) : row.expires_at ? moment(row.expires_at) : "–") },
    changes && { title: h("span", { class: "unseen" }, "Changes"), number: true, cell: buttons },
  ].filter(Boolean), keys, { empty: "No keys yet." });
}

function buttons(key) {
  if (key.state !== "active") return "";
  return [
    key.source === "store" && h("button", { type: "button", class: "quiet", onclick: () => rotate(key) }, "Rotate", h("span", { class: "unseen" }, ` ${key.id}`)),
    h("button", { type: "button", class: "quiet", onclick: () => revoke(key) }, "Revoke", h("span", { class: "unseen" }, ` ${key.id}`)),
  ].filter(Boolean);
}

/** Asks for what a new key needs, and shows its secret. */
export function createKey(account) {
  dialog("New key", [
    field("Account", h("input", { name: "account", required: true, value: account ?? "", autocomplete: "off" })),
    field("Id", h("input", { name: "id", pattern: "[A-Za-z0-9._:@\\-]{1,128}", autocomplete: "off" }), "Empty: a name is made up"),
    field("Models", h("input", { name: "models", autocomplete: "off" }), "Names or globs, with commas between; empty: all"),
    field("Ends", h("input", { name: "expires", type: "date" }), "Empty: never"),
  ], {
    action: "Create",
    submit: async (values) => {
      const models = values.models.split(",").map((model) => model.trim()).filter(Boolean);
      const made = await post("keys", {
        account: values.account, id: values.id || null, models, expires_at: values.expires || null,
      });
      showSecret(made);
    },
  });
}

function rotate(key) {
  dialog(`Rotate ${key.id}?`, [
    h("p", {}, "A successor is made; the old key goes on working for a while, so that clients can change over."),
    field("Hours that the old key still works", select(["0", "1", "24", "168"], "24", { name: "hours" })),
  ], {
    action: "Rotate",
    submit: async ({ hours }) => showSecret(await post(`keys/${encodeURIComponent(key.id)}/rotate`, { overlap_hours: Number(hours) })),
  });
}

function revoke(key) {
  dialog(`Revoke ${key.id}?`, [
    h("p", {}, "It stops working at once, on every gateway, and cannot be brought back."),
  ], {
    action: "Revoke",
    danger: true,
    submit: async () => {
      await remove(`keys/${encodeURIComponent(key.id)}`);
      notice(`Key ${key.id} is revoked.`);
      again();
    },
  });
}

function showSecret(made) {
  const secret = h("code", { class: "secret", id: "secret", tabindex: "0" }, made.secret);
  const copy = h("button", {
    type: "button",
    onclick: async () => {
      await navigator.clipboard.writeText(made.secret);
      copy.textContent = "Copied";
    },
  }, "Copy");
  const shown = dialog(`Key ${made.id}`, [
    h("p", {}, "This is its secret. It is shown this once and kept nowhere: copy it now."),
    secret,
    h("div", { class: "buttons start" }, copy),
  ], { action: "I have it", submit: async () => {} });
  shown.addEventListener("close", again);
}

function again() {
  dispatchEvent(new HashChangeEvent("hashchange"));
}
