// Figures as people read them. Money comes as exact decimal strings and becomes a number for showing only.

const MINUS = "\u2212";

/** US dollars: cents, or as many decimals as a small amount needs; large ones without cents. */
export function usd(text, { sign = false } = {}) {
  const value = Number(text);
  const size = Math.abs(value);
  let digits = 2;
  if (size >= 100_000) digits = 0;
  else if (size > 0 && size < 0.0995) digits = Math.min(6, 1 - Math.floor(Math.log10(size)));
  const shown = size.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const before = value < 0 ? MINUS : sign && value > 0 ? "+" : "";
  return `${before}$${shown}`;
}

/** US dollars on an axis: no cents where they say nothing. */
export function usdShort(value) {
  return Math.abs(value) >= 10 || value === 0 ? usd(Math.round(value)).replace(/\.00$/, "") : usd(value);
}

/** A plan's price: in dollars like all figures, else in its own currency, which is named: no rate is at hand here. */
export function planPrice(plan) {
  if (plan.currency === "USD") return usd(plan.price);
  const value = Number(plan.price);
  const digits = Number.isInteger(value) ? 0 : 2;
  return `${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: 6 })}\u00a0${plan.currency}`;
}

/** A share of one as a percentage. */
export function percent(share, digits = 0) {
  if (share === null || share === undefined || Number.isNaN(Number(share))) return "–";
  const value = Number(share) * 100;
  const shown = Math.abs(value).toLocaleString("en-US", { maximumFractionDigits: digits });
  return `${value < 0 && shown !== "0" ? MINUS : ""}${shown}\u00a0%`;
}

/** A whole number, grouped. */
export function count(value) {
  return Number(value).toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** A large number in few characters: 12.3 K, 4.56 M. */
export function short(value) {
  const number = Number(value);
  const units = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
  for (const [unit, name] of units) {
    // What three digits round up to the unit is written in it: 1 M, never 1,000 K.
    if (Math.abs(number) >= unit * 0.9995) {
      return `${(number / unit).toLocaleString("en-US", { maximumSignificantDigits: 3 })}\u00a0${name}`;
    }
  }
  return number.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** Seconds in the unit that fits. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)}\u00a0ms`;
  return `${value.toLocaleString("en-US", { maximumFractionDigits: 1 })}\u00a0s`;
}

/** A day: 3 Nov 2026. */
export function day(text) {
  if (!text) return "–";
  const at = new Date(text.length === 10 ? `${text}T00:00:00Z` : text);
  return at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

/** A moment in UTC: 3 Nov, 14:05:09. */
export function moment(text) {
  if (!text) return "–";
  const at = new Date(text);
  const date = at.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  const time = at.toLocaleTimeString("en-GB", { timeZone: "UTC" });
  return `${date}, ${time}`;
}

/** A moment in UTC to the minute: 3 Nov, 14:05. */
export function minute(text) {
  return moment(text).replace(/:\d\d$/, "");
}

/** An amount of a limit: money or a count. */
export function amount(on, value) {
  return on === "cost" ? usd(value) : short(value);
}

export const PERIODS = { day: "a day", week: "a week", month: "a month", year: "a year" };
const UNITS = { s: "second", m: "minute", h: "hour", d: "day" };
const ON = {
  cost: "cost", tokens: "tokens", input_tokens: "input tokens", output_tokens: "output tokens",
  requests: "requests", concurrent: "requests at once",
};

/** What a limit measures. */
export function measure(on, per) {
  const name = ON[on] ?? on;
  if (!per) return name;
  const [, length, unit] = /^(\d+)([smhd])$/.exec(per) ?? [];
  if (length) return `${name} in ${length}\u00a0${UNITS[unit]}${length === "1" ? "" : "s"}`;
  return `${name} per ${per === "period" ? "billing period" : per}`;
}
