// One account: what it uses and pays, by model and class, what its limits leave, and the day it turned.

import { all, get, patch, post, remove } from "../api.js";
import { chart, shortDay, unix } from "../chart.js";
import { dialog, emptyState, field, figure, figures, h, money, notice, section, select, svg, table, unpriced } from "../dom.js";
import { amount, count, day, measure, minute, percent, short, usd, usdShort } from "../format.js";
import { keyTable } from "./keys.js";
import { turned } from "./margin.js";
import { range, rangeChoice } from "./range.js";

export const title = "Account";

export async function show({ subject: id, query, who }) {
  const span = range(query.range);
  const path = encodeURIComponent(id);
  const [account, margin, days, models, limits, keys] = await Promise.all([
    get(`accounts/${path}`),
    get("margin", { ...span, by: "account", id }),
    all("usage", { ...span, by: "day", account: id }),
    all("usage", { ...span, by: "model", account: id }),
    all("limits", { account: id }),
    all("keys", { account: id }),
  ]);
  const row = margin.rows[0];
  return [
    h("div", { class: "title" },
      h("div", {},
        h("h1", {}, account.name ?? account.id),
        h("p", {}, account.name && h("code", {}, account.id), account.name && " · ", `plan ${account.plan}, since ${day(account.since)}`,
          account.parent && [", below ", h("a", { href: `#/account/${encodeURIComponent(account.parent)}` }, account.parent)],
          account.until && `, closed ${day(account.until)}`)),
      h("div", { class: "row" }, rangeChoice(`account/${path}`, query), actions(account, who))),
    unpriced(row, lacking(models), { ...margin, account: id }),
    row ? summary(row) : emptyState("Nothing was paid or used in this range."),
    section("Cost so far", overTime(days, row)),
    section("Cost by model and class", modelTable(models)),
    h("div", { class: "pair" },
      section("Limits", limitTable(limits)),
      section("Keys", keyTable(keys, who), h("p", {}, h("a", { href: `#/plans?account=${path}` }, "Make a key"), " · ", h("a", { href: `#/ledger?account=${path}` }, "Its entries in the ledger")))),
  ].filter(Boolean);
}

/** The models of which some requests have no price. */
function lacking(models) {
  return models.filter((one) => one.unpriced_requests > 0).map((one) => ({ model: one.id, requests: one.unpriced_requests }));
}

function summary(row) {
  return figures(
    figure("Margin", money(row.margin_usd, { tone: true }), row.margin_ratio && `${percent(row.margin_ratio, 1)} of revenue`),
    figure("Revenue", money(row.revenue_usd)),
    figure("Cost", money(row.cost_usd), `${count(row.requests)} requests`),
    figure("Used up what it pays", turned(row), row.break_even.tokens > 0 && `which is worth ${short(row.break_even.tokens)} tokens`),
    figure(`Margin on ${day(row.projected.until)}`, money(row.projected.margin_usd, { tone: true }),
      h("span", {}, "between ", money(row.projected.low_usd), " and ", money(row.projected.high_usd))),
  );
}

function overTime(days, row) {
  if (days.length === 0) return emptyState("No use in this range.");
  let sum = 0;
  const running = days.map((one) => (sum += Number(one.cost_usd)));
  const { date, reached, cost_usd: bearable = "0" } = row?.break_even ?? {};
  const level = Number(bearable);
  return chart({
    text: `Running cost up to ${usd(sum)}, against ${usd(level)} at which it breaks even`,
    x: days.map((one) => unix(one.id)),
    time: true,
    series: [
      { label: "Cost so far", values: running, tone: "cost", fill: true },
    ],
    levels: level > 0 ? [{ at: level, label: `breaks even at ${usd(level)}`, tone: "revenue" }] : [],
    marks: date && reached && level > 0 ? [{ at: unix(date), label: `turned ${shortDay(unix(date))}`, tone: "loss" }] : [],
    max: level * 1.12,
    format: usd,
    axisFormat: usdShort,
    xFormat: shortDay,
  });
}

function modelTable(models) {
  const rows = [...models].sort((a, b) => Number(b.cost_usd) - Number(a.cost_usd));
  const zero = (text) => (Number(text) === 0 ? "–" : money(text));
  return table("Cost by model and class", [
    { title: "Model", cell: (row) => row.id || "none" },
    { title: "Requests", wide: true, number: true, cell: (row) => count(row.requests) },
    { title: "Tokens in", wide: true, number: true, cell: (row) => short(row.usage.input_tokens) },
    { title: "Tokens out", number: true, cell: (row) => short(row.usage.output_tokens) },
    { title: "Input", wide: true, number: true, cell: (row) => zero(row.cost.input) },
    { title: "Cached", wide: true, number: true, cell: (row) => zero(row.cost.cache_read_input) },
    { title: "Cache writes", wide: true, number: true, cell: (row) => zero(row.cost.cache_write_input) },
    { title: "Output", wide: true, number: true, cell: (row) => zero(row.cost.output) },
    { title: "Reasoning", wide: true, number: true, cell: (row) => zero(row.cost.reasoning_output) },
    { title: "Cost", number: true, cell: cost },
  ], rows, { empty: "No use in this range." });
}

/** What a model cost. What has no price cost something all the same, and that is not known. */
function cost(row) {
  if (row.unpriced_requests === 0) return money(row.cost_usd);
  const tag = (text) => h("span", { class: "tag bad" }, text);
  return Number(row.cost_usd) === 0 ? tag("unpriced") : [money(row.cost_usd), " ", tag(`${count(row.unpriced_requests)} unpriced`)];
}

function limitTable(limits) {
  return table("Limits", [
    { title: "Limit", cell: (row) => h("span", { class: "wrap" }, measure(row.on, row.per), row.models.length > 0 && h("span", { class: "hint" }, ` of ${row.models.join(", ")}`)) },
    { title: h("span", { class: "unseen" }, "Share used"), wide: true, cell: meter },
    { title: "Left", number: true, cell: (row) => [amount(row.on, Math.max(0, Number(row.max) - Number(row.used) - Number(row.reserved))), h("span", { class: "wide" }, ` of ${amount(row.on, row.max)}`)] },
    { title: "Resets", cell: (row) => minute(row.resets_at) },
  ], limits, { empty: "No limit holds for this account." });
}

function meter(row) {
  const share = Number(row.max) > 0 ? Math.min(1, (Number(row.used) + Number(row.reserved)) / Number(row.max)) : 1;
  return svg("svg", { class: "bars narrow", viewBox: "0 0 56 16", role: "img", "aria-label": percent(share) + " used" },
    svg("rect", { class: "rest", y: 4, height: 8, width: 56, rx: 4 }),
    svg("rect", { class: share >= 0.95 ? "full" : "used", y: 4, height: 8, width: share * 56, rx: 4 }));
}

function actions(account, who) {
  if (who.role === "viewer" || account.source === "file") return null;
  const path = encodeURIComponent(account.id);
  const again = (text) => {
    notice(text);
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const change = async () => {
    const plans = (await get("plans", { limit: 1000 })).items.map((plan) => plan.id);
    dialog(`Change ${account.id}`, [
      field("Plan", select(plans, account.plan, { name: "plan" }), "Another plan holds from now on; what was is kept."),
      field("Name", h("input", { name: "name", value: account.name ?? "", maxlength: 200 })),
    ], {
      submit: async ({ plan, name }) => {
        await patch(`accounts/${path}`, { plan, name: name || null });
        again("The account is changed.");
      },
    });
  };
  const refund = () => dialog(`Pay back ${account.id}`, [
    field("Amount in US dollars", h("input", { name: "amount", required: true, inputmode: "decimal", pattern: "[0-9]+(\\.[0-9]{1,6})?" }), "It lowers the account's revenue from now on."),
  ], {
    action: "Record",
    submit: async ({ amount: usdAmount }) => {
      await post(`accounts/${path}/refunds`, { amount_usd: usdAmount });
      again("The refund is recorded.");
    },
  });
  const close = () => dialog(`Close ${account.id}?`, [
    h("p", {}, "It no longer pays from today, and its keys no longer work. What it used stays in the ledger."),
  ], {
    action: "Close the account",
    danger: true,
    submit: async () => {
      await remove(`accounts/${path}`);
      again("The account is closed.");
    },
  });
  return [
    h("button", { type: "button", onclick: change }, "Change"),
    who.role === "admin" && h("button", { type: "button", onclick: refund }, "Refund"),
    !account.until && h("button", { type: "button", class: "danger", onclick: close }, "Close"),
  ];
}
