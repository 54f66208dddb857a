// The time ranges that pages offer.

import { select } from "../dom.js";

export const RANGES = [
  ["month", "This month"],
  ["last-month", "Last month"],
  ["30", "Last 30 days"],
  ["90", "Last 90 days"],
];

/** The range's `since` and `until` for the API; this month up to now needs neither. */
export function range(name) {
  const now = new Date();
  const month = (back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1));
  const text = (date) => date.toISOString().slice(0, 10);
  if (name === "last-month") return { since: text(month(1)), until: text(month(0)) };
  if (name === "30" || name === "90") return { since: text(new Date(now - Number(name) * 86_400_000)) };
  return {};
}

/** A choice of range that goes to the same page with another query. */
export function rangeChoice(page, query) {
  const choice = select(RANGES, query.range ?? "month", { "aria-label": "Time range" });
  choice.addEventListener("change", () => {
    location.hash = `#/${page}?${new URLSearchParams({ ...query, range: choice.value })}`;
  });
  return choice;
}
