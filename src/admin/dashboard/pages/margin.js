// Margin: where money is made and lost, plan by plan, and who causes it.

import { get } from "../api.js";
import { chart, shortDay, unix } from "../chart.js";
import { emptyState, figure, figures, fill, h, money, section, select, sentence, svg, table, unpriced } from "../dom.js";
import { PERIODS, amount, count, day, measure, percent, planPrice, usd, usdShort } from "../format.js";
import { range, rangeChoice } from "./range.js";

export const title = "Margin";

export async function show({ query }) {
  const span = range(query.range);
  const [plans, days, worst] = await Promise.all([
    get("margin", span),
    get("margin", { ...span, by: "day" }),
    get("margin", { ...span, by: "account", order: "margin", limit: 10 }),
  ]);
  return [
    h("div", { class: "title" },
      h("div", {}, h("h1", {}, "Margin"), h("p", {}, `${day(plans.since)} to ${day(lastDay(plans.until))}, by what is recognised so far`)),
      rangeChoice("margin", query)),
    unpriced(plans.total, plans.unpriced, plans),
    summary(plans.total),
    section("Plans", planTable(plans.rows)),
    advice(plans.rows, query.range),
    h("div", { class: "pair" },
      section("What accounts cost", distribution(plans.rows, span)),
      section("Revenue and cost over time", overTime(days.rows))),
    section("Accounts with the worst margin", worstTable(worst.rows)),
    plans.notes.length > 0 && section("Notes", h("ul", {}, plans.notes.map((note) => h("li", {}, note)))),
  ].filter(Boolean);
}

function lastDay(until) {
  return new Date(Date.parse(until) - 1).toISOString();
}

function summary(total) {
  const losing = Number(total.margin_usd) < 0;
  const { projected } = total;
  return figures(
    figure("Margin", money(total.margin_usd, { tone: true }), `${percent(total.margin_ratio, 1)} of revenue`, losing ? "bad" : null),
    figure("Revenue", money(total.revenue_usd)),
    figure("Cost", money(total.cost_usd), `${count(total.requests)} requests`),
    figure("Accounts at a loss", count(total.loss_making_accounts), `of ${count(total.accounts)}`),
    figure(`Margin on ${day(projected.until)}`, money(projected.margin_usd, { tone: true }),
      h("span", {}, "between ", money(projected.low_usd), " and ", money(projected.high_usd))),
  );
}

function planTable(rows) {
  const most = Math.max(...rows.map((row) => Math.max(Number(row.revenue_usd), Number(row.cost_usd))), 0);
  return table("Margin by plan", [
    { title: "Plan", cell: (row) => row.id },
    { title: "Accounts", wide: true, number: true, cell: (row) => count(row.accounts) },
    { title: "At a loss", wide: true, number: true, cell: (row) => count(row.loss_making_accounts) },
    { title: "Revenue", wide: true, number: true, cell: (row) => money(row.revenue_usd) },
    { title: "Cost", number: true, cell: (row) => money(row.cost_usd) },
    { title: h("span", { class: "unseen" }, "Revenue against cost"), wide: true, cell: (row) => bars(row, most) },
    { title: "Margin", number: true, cell: (row) => money(row.margin_usd, { tone: true }) },
    { title: "Revenue used up", cell: turnedOn },
    { title: "Of revenue", wide: true, number: true, cell: (row) => percent(row.margin_ratio, 1) },
    { title: "At month's end", wide: true, number: true, cell: (row) => money(row.projected.margin_usd, { tone: true }) },
    { title: "Top 5\u00a0% cost", wide: true, number: true, cell: (row) => percent(row.concentration?.top_5_percent) },
  ], rows, { empty: "No plans yet: make one under Plans and keys." });
}

/** Revenue above, cost below, on the scale of the largest. */
function bars(row, most) {
  const width = (text) => (most > 0 ? (Number(text) / most) * 144 : 0);
  return svg("svg", { class: "bars", viewBox: "0 0 144 16", preserveAspectRatio: "none", role: "img", "aria-label": `revenue ${usd(row.revenue_usd)}, cost ${usd(row.cost_usd)}` },
    svg("rect", { class: "revenue", y: 1, height: 6, width: width(row.revenue_usd), rx: 1 }),
    svg("rect", { class: "cost", y: 9, height: 6, width: width(row.cost_usd), rx: 1 }));
}

/** For each plan that loses: what would mend it, proved on recorded traffic. This month may be a day old: 30 days then. */
function advice(rows, chosen = "month") {
  const tried = chosen === "month" ? "30" : chosen;
  const losing = rows.filter((row) => Number(row.margin_usd) < 0 && Number(row.revenue_usd) > 0);
  if (losing.length === 0) return null;
  const place = h("div", {});
  fill(place, async () => Promise.all(losing.slice(0, 3).map(async (row) => {
    const found = await get("advise", { ...range(tried), plan: row.id, target_margin: 30 });
    const options = [];
    if (found.price) {
      options.push(h("li", {}, "a price of ", money(found.price.price_usd), `, which ${count(found.price.touched_accounts)} accounts would pay: margin `,
        money(found.price.whatif.margin_usd, { tone: true }), " ", tryIt({ plan: row.id, price: found.price.price_usd, range: tried })));
    }
    for (const limit of found.limits) {
      options.push(h("li", {}, `a limit of ${spokenLimit(limit.limit)}, which would have stopped ${count(limit.touched_accounts)} accounts and saved `,
        money(limit.saving_usd), ": margin ", money(limit.whatif.margin_usd, { tone: true }), " ", tryIt({ plan: row.id, limit: limit.limit, range: tried })));
    }
    return h("div", {},
      h("p", {}, h("strong", {}, row.id), " loses ", money(row.margin_usd.replace("-", "")), blame(row), " To reach a margin of 30\u00a0%:"),
      options.length > 0 ? h("ul", {}, options) : h("p", { class: "hint" }, "Neither a price nor a limit reaches it."),
      found.notes.map((note) => h("p", { class: "hint" }, sentence(note))),
      h("p", { class: "hint" }, `Tried on the requests from ${day(found.since)} to ${day(lastDay(found.until))}.`));
  })));
  const part = section("What would mend it", place);
  part.classList.add("advice");
  return part;
}

/** Who causes a loss. */
function blame(row) {
  const share = row.concentration?.top_5_percent;
  const heavy = Math.ceil(row.accounts / 20);
  return share ? `: 5\u00a0% of its accounts, ${count(heavy)} of ${count(row.accounts)}, cause ${percent(share)} of its cost.` : ".";
}

/** `pro:cost=150.00/period` in words. */
function spokenLimit(text) {
  const [, on, max, per] = /:(\w+)=([0-9.]+)\/(\w+)$/.exec(text) ?? [];
  return on ? `${amount(on, max)} ${measure(on, per)}` : text;
}

function tryIt(change) {
  return h("a", { href: `#/what-if?${new URLSearchParams(change)}` }, "Try it");
}

function distribution(rows, span) {
  const priced = rows.filter((row) => row.accounts > 0);
  if (priced.length === 0) return emptyState("No accounts yet.");
  const paying = priced.filter((row) => Number(row.revenue_usd) > 0);
  const [worst] = (paying.length > 0 ? paying : priced).toSorted((a, b) => Number(a.margin_ratio) - Number(b.margin_ratio));
  const choice = select(priced.map((row) => row.id), worst.id, { id: "spread-plan" });
  const place = h("div", {});
  const draw = () => fill(place, async () => spread(await get("margin/distribution", { ...span, plan: choice.value })));
  choice.addEventListener("change", draw);
  draw();
  return h("div", {}, h("div", { class: "pick" }, h("label", { for: "spread-plan" }, "Plan"), choice), place);
}

function spread(found) {
  const used = found.buckets.filter((bucket) => bucket.accounts > 0);
  if (used.length === 0) return emptyState("Nobody has this plan in this range.");
  const x = found.buckets.map((bucket) => Number(bucket.from_usd));
  const last = found.buckets.at(-1);
  const step = x.length > 1 ? x[1] - x[0] : 1;
  const losing = found.buckets.map((bucket) => bucket.loss_making_accounts || null);
  const all = found.buckets.map((bucket) => bucket.accounts || null);
  const pays = Number(found.typical_revenue_usd);
  const lossmakers = found.buckets.reduce((sum, bucket) => sum + bucket.loss_making_accounts, 0);
  const text = `${count(found.accounts)} accounts of ${found.plan} by cost. A line stands at what they pay so far, ${usd(pays)}: ${count(lossmakers)} accounts cost more than they pay.`;
  return [
    chart({
      text,
      x: [...x, x.at(-1) + step],
      series: [
        { label: "Accounts", values: [...all, null], tone: "calm", bars: true },
        { label: "At a loss", values: [...losing, null], tone: "loss", bars: true },
      ],
      marks: [{ at: pays, label: `pays ${usd(pays)} so far`, tone: "revenue" }],
      whole: true,
      format: count,
      xFormat: usdShort,
    }),
    h("p", { class: "hint" }, `Whoever stands right of the line loses money. The price is ${planPrice(found)} ${PERIODS[found.period]}; what is paid is recognised evenly.`,
      last.to_usd === null && last.accounts > 0 && found.buckets.length > 1 ? ` The last bar holds all above ${usd(last.from_usd)}.` : ""),
  ];
}

function overTime(rows) {
  if (rows.length === 0) return emptyState("Nothing in this range.");
  const running = (pick) => {
    let sum = 0;
    return rows.map((row) => (sum += Number(row[pick])));
  };
  const revenue = running("revenue_usd");
  const cost = running("cost_usd");
  const loses = rows.map((_, index) => cost[index] > revenue[index]);
  return [
    chart({
      text: `Running revenue up to ${usd(revenue.at(-1))} and cost up to ${usd(cost.at(-1))}`,
      x: rows.map((row) => unix(row.id)),
      time: true,
      series: [
        { label: "Revenue so far", values: revenue, tone: "revenue" },
        { label: "Cost so far", values: cost, tone: "cost", fill: true },
      ],
      format: usd,
      axisFormat: usdShort,
      xFormat: shortDay,
    }),
    h("p", { class: "hint" }, crossed(rows, loses)),
  ];
}

/** The crossing that lasts: the two may have passed each other before. */
function crossed(rows, loses) {
  const last = loses.lastIndexOf(!loses.at(-1)) + 1;
  if (last === 0) return loses[0] ? "Cost was above revenue from the first day." : "Revenue stayed above cost.";
  const on = day(rows[last].id);
  return loses.at(-1) ? `Cost passed revenue on ${on}.` : `Revenue is above cost again since ${on}.`;
}

export function worstTable(rows) {
  return table("Accounts with the worst margin", [
    { title: "Account", cell: (row) => h("a", { href: `#/account/${encodeURIComponent(row.id)}` }, row.id) },
    { title: "Plan", wide: true, cell: (row) => row.plan ?? "–" },
    { title: "Requests", wide: true, number: true, cell: (row) => count(row.requests) },
    { title: "Revenue", wide: true, number: true, cell: (row) => money(row.revenue_usd) },
    { title: "Cost", number: true, cell: (row) => money(row.cost_usd) },
    { title: "Margin", number: true, cell: (row) => money(row.margin_usd, { tone: true }) },
    { title: "Used up what it pays", cell: turnedOn },
  ], rows, { empty: "No accounts yet." });
}

/** The same in a table's cell, which has room for a day and not for a year. */
function turnedOn(row) {
  return h("span", { class: "turned" }, turned(row, (date) => shortDay(unix(date))));
}

/** The day on which an account cost as much as it pays until the month's end, or will. */
export function turned(row, show = day) {
  const { date, reached, cost_usd: bearable } = row.break_even;
  if (!date) return "–";
  if (Number(bearable) <= 0) return revenueGone(row);
  return reached ? show(date) : `${show(date)}, at this rate`;
}

/** Why there is nothing that could be used up. */
function revenueGone(row) {
  const revenue = Number(row.revenue_usd);
  if (revenue < 0) return "refunded";
  return revenue === 0 ? "brought nothing" : "costs take it all";
}
