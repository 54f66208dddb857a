// What-if: recorded traffic under other prices, limits, models and cache hits; the answer follows the sliders.

import { all, get } from "../api.js";
import { field, figure, figures, fill, h, money, section, select, sentence, table, unpriced } from "../dom.js";
import { PERIODS, count, day, moment, percent, planPrice, usd } from "../format.js";
import { range, RANGES } from "./range.js";

export const title = "What-if";

/** So many months has a billing period. */
const MONTHS = { day: 1 / 30, week: 7 / 30, month: 1, year: 12 };

export async function show({ query }) {
  const [plans, margins, used, prices] = await Promise.all([
    all("plans"),
    get("margin"),
    get("margin", { by: "model", order: "cost", limit: 50 }),
    all("prices"),
  ]);
  const form = h("form", { onsubmit: (event) => event.preventDefault() });
  const answer = h("div", {});
  const worst = margins.rows.toSorted((a, b) => Number(a.margin_usd) - Number(b.margin_usd));
  const state = controls(plans, worst, used.rows.map((row) => row.id), prices.map((price) => price.model), query);
  form.append(...state.fields);

  const ask = () => fill(answer, async () => result(await get("whatif", state.query()), state.plan()));
  let timer;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 200);
  });
  ask();
  return [
    h("div", { class: "title" }, h("div", {}, h("h1", {}, "What-if"), h("p", {}, "The recorded traffic, priced again under other terms. Nothing is changed by asking."))),
    h("div", { class: "ask" }, section("What would be different", form), section("What it would have brought", answer)),
  ];
}

function controls(plans, worst, used, models, query) {
  const byMargin = worst.map((row) => plans.find((plan) => plan.id === row.id)).filter(Boolean);
  const start = plans.find((plan) => plan.id === query.plan) ?? byMargin.find((plan) => Number(plan.price) > 0) ?? plans[0];
  const spokenLimit = /:cost=([0-9.]+)\/period/.exec(query.limit ?? "");
  const otherLimit = query.limit && !spokenLimit ? query.limit : null;
  const rangeInput = select(RANGES, query.range ?? "month", { name: "range" });
  const plan = select(plans.map((one) => one.id), start?.id, { name: "plan" });
  const price = slider("Price of the plan", (value) => {
    const period = PERIODS[current()?.period ?? "month"];
    if (!foreign()) return `${usd(value)} ${period}`;
    return Number(value) < 0 ? `${planPrice(current())} ${period}, unchanged` : `${usd(value)} ${period} instead of ${planPrice(current())}`;
  });
  const inDollars = h("p", { class: "hint" });
  const limit = slider("Cost that a billing period may hold", (value) => (Number(value) > 0 ? usd(value) : "no limit"));
  const cache = slider("Input read from the cache", (value) => (Number(value) < 0 ? "as it was" : `${value}\u00a0%`), { min: -1, max: 100, step: 1, value: -1 });
  const from = select([["", "No other model"], ...used], "", { name: "from" });
  const to = h("input", { name: "to", list: "models", autocomplete: "off", placeholder: "a model of the price table" });
  const list = h("datalist", { id: "models" }, models.map((model) => h("option", { value: model })));
  const current = () => plans.find((one) => one.id === plan.value);
  const foreign = () => (current()?.currency ?? "USD") !== "USD";
  const scale = () => {
    const at = paid(current(), worst);
    const most = Math.max(Math.ceil(at * 3), 50);
    // A step on which the price stands: a slider moves to the next one by itself, and would ask for another price.
    const step = [most > 150 ? 1 : 0.5, 0.5].find((one) => foreign() || at % one === 0) ?? 0.01;
    // A price in another currency cannot be shown on a slider of dollars: below nothing stands for it.
    price.set(foreign() ? { min: -step, max: most, step, value: -step } : { min: 0, max: most, step, value: at });
    limit.set({ min: 0, max: most * 2, step, value: 0 });
    inDollars.textContent = foreign() ? `The plan is priced in ${current().currency}; another price is tried in US dollars.` : "";
  };
  scale();
  if (query.price) price.set({ max: Math.max(price.max(), Number(query.price)), step: 0.01, value: query.price });
  if (spokenLimit) limit.set({ max: Math.max(limit.max(), Number(spokenLimit[1])), step: 0.01, value: spokenLimit[1] });
  plan.addEventListener("change", scale);

  return {
    fields: [
      field("Traffic of", rangeInput),
      field("Plan", plan),
      price.element,
      inDollars,
      limit.element,
      otherLimit && h("p", { class: "hint" }, "and the limit ", h("code", {}, otherLimit)),
      field("Instead of the model", from),
      field("as if served by", to),
      list,
      cache.element,
    ].filter(Boolean),
    plan: () => plan.value,
    query() {
      const asked = { ...range(rangeInput.value), price: [], limit: otherLimit ? [otherLimit] : [], map: [] };
      const chosen = current();
      const unchanged = foreign() ? Number(price.value()) < 0 : Number(price.value()) === Number(chosen?.price);
      if (chosen && !unchanged) asked.price.push(`${chosen.id}=${price.value()}`);
      if (chosen && Number(limit.value()) > 0) asked.limit.push(`${chosen.id}:cost=${limit.value()}/period`);
      if (from.value && models.includes(to.value)) asked.map.push(`${from.value}=${to.value}`);
      if (Number(cache.value()) >= 0) asked.cache_hit = `${cache.value()}%`;
      return asked;
    },
  };
}

/** What an account pays for a period of a plan, in US dollars; of a price in another currency, as the month's revenue says. */
function paid(plan, rows) {
  if (!plan || plan.currency === "USD") return Number(plan?.price ?? 0);
  const row = rows.find((one) => one.id === plan.id);
  return row?.accounts > 0 ? (Number(row.projected.revenue_usd) / row.accounts) * MONTHS[plan.period] : 0;
}

/** A slider that says what it stands at. */
function slider(label, format, props = {}) {
  const input = h("input", { type: "range", id: `slider-${label.replaceAll(/[^a-z]+/gi, "-").toLowerCase()}`, ...props });
  const output = h("output", { for: input.id });
  const say = () => {
    output.textContent = format(input.value);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", say);
  const element = h("div", { class: "field slider" }, h("label", { for: input.id }, label), output, input);
  queueMicrotask(say);
  return {
    element,
    value: () => input.value,
    max: () => Number(input.max),
    set({ min, max, step, value }) {
      if (min !== undefined) input.min = min;
      if (max !== undefined) input.max = max;
      if (step !== undefined) input.step = step;
      input.value = value;
      say();
    },
  };
}

function result(found, plan) {
  const { actual, whatif, difference } = found;
  const gain = Number(found.difference_usd);
  const rows = actual.rows.map((row) => ({ was: row, would: whatif.rows.find((other) => other.id === row.id) ?? row }));
  const margin = (name, would, was) =>
    figure(name, money(would.margin_usd, { tone: true }), h("span", {}, "was ", money(was.margin_usd, { tone: true })));
  const lacking = whatif.total.unpriced_requests > 0 ? whatif : actual;
  const chosen = rows.find(({ was }) => was.id === plan);
  return [
    unpriced(lacking.total, lacking.unpriced, found),
    figures(
      chosen && margin(`Margin of ${plan}`, chosen.would, chosen.was),
      margin("Margin of all plans", whatif.total, actual.total),
      figure("Difference", h("span", { class: gain < 0 ? "loss" : gain > 0 ? "good" : "" }, money(found.difference_usd, { sign: true })),
        h("span", {}, "revenue ", money(difference.revenue_usd, { sign: true }), ", cost ", money(difference.cost_usd, { sign: true }))),
      figure("Accounts at a loss", count(whatif.total.loss_making_accounts), `was ${count(actual.total.loss_making_accounts)}`),
      figure("Accounts touched", count(found.touched_accounts), `${count(found.touched_paying_accounts)} of them pay`)),
    h("h3", {}, "Plan by plan"),
    table("What happened and what would have", [
      { title: "Plan", cell: ({ was }) => was.id },
      { title: "Revenue", wide: true, number: true, cell: ({ would }) => money(would.revenue_usd) },
      { title: "Cost", wide: true, number: true, cell: ({ would }) => money(would.cost_usd) },
      { title: "Margin", number: true, cell: ({ would }) => money(would.margin_usd, { tone: true }) },
      { title: "It was", number: true, cell: ({ was }) => money(was.margin_usd, { tone: true }) },
      { title: "Of revenue", wide: true, number: true, cell: ({ would }) => percent(would.margin_ratio, 1) },
      { title: "At a loss", wide: true, number: true, cell: ({ was, would }) => `${count(would.loss_making_accounts)} (was ${count(was.loss_making_accounts)})` },
    ], rows, { empty: "No plans yet." }),
    found.stopped_accounts > 0 && h("h3", {}, `${count(found.stopped_accounts)} accounts would have been stopped`),
    found.stopped_accounts > 0 && table("Accounts that the limit would have stopped", [
      { title: "Account", cell: (row) => h("a", { href: `#/account/${encodeURIComponent(row.account)}` }, row.account) },
      { title: "First stopped", cell: (row) => moment(row.first) },
      { title: "Saved", number: true, cell: (row) => money(row.saving_usd) },
      { title: "It paid", number: true, cell: (row) => money(row.revenue_usd) },
    ], found.stopped.slice(0, 10)),
    h("p", { class: "hint" }, `${day(found.since)} to ${day(new Date(Date.parse(found.until) - 1).toISOString())}. ${sentence(found.method)}`),
    ...found.notes.map((note) => h("p", { class: "hint" }, sentence(note))),
  ].filter(Boolean);
}
