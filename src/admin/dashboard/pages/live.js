// Live: what this gateway does just now, second by second.

import { get } from "../api.js";
import { chart, clock, unix } from "../chart.js";
import { figure, figures, h, section } from "../dom.js";
import { count, percent, seconds, short, usd } from "../format.js";

export const title = "Live";
const SECONDS = 120;

export async function show({ signal }) {
  const first = await get("live", { seconds: SECONDS });
  const numbers = h("div", {});
  const charts = {
    requests: make("Requests per second", [["Finished", "accent"], ["Failed or refused", "loss"]], (value) => short(value), 1),
    tokens: make("Tokens per second", [["Input", "calm"], ["Output", "accent"]], (value) => short(value), 100),
    dollars: make("Dollars per second", [["Cost", "cost"]], (value) => usd(value), 0.01),
    latency: make("Latency", [["Half of the requests within", "accent"], ["95 % within", "cost"]], seconds, 0.1),
    firstToken: make("Time to the first token", [["Half of the requests within", "accent"], ["95 % within", "cost"]], seconds, 0.1),
  };
  const quiet = h("p", { class: "hint", role: "status" });
  const problem = h("p", { class: "problem", role: "alert" });
  const draw = (live) => {
    numbers.replaceChildren(summary(live));
    quiet.textContent = live.whole?.requests > 0 ? "" : "No request has ended in the last two minutes.";
    const x = live.samples.map((sample) => unix(sample.at));
    const rate = (pick) => live.samples.map((sample) => pick(sample) / Math.max(sample.seconds, 0.001));
    const value = (pick) => live.samples.map(pick);
    charts.requests.update(x, [rate((s) => s.requests), rate((s) => s.failed + s.rejected)]);
    charts.tokens.update(x, [rate((s) => s.input_tokens), rate((s) => s.output_tokens)]);
    charts.dollars.update(x, [rate((s) => Number(s.cost_usd))]);
    charts.latency.update(x, [value((s) => s.duration_p50_seconds), value((s) => s.duration_p95_seconds)]);
    charts.firstToken.update(x, [value((s) => s.first_token_p50_seconds), value((s) => s.first_token_p95_seconds)]);
  };
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      draw(await get("live", { seconds: SECONDS }));
      problem.textContent = "";
    } catch (error) {
      problem.textContent = `The figures stand still: ${error.message}.`;
    }
  }, 1_000);
  if (signal.aborted) clearInterval(timer);
  signal.addEventListener("abort", () => clearInterval(timer));
  queueMicrotask(() => draw(first));
  return [
    h("div", { class: "title" }, h("div", {}, h("h1", {}, "Live"), h("p", {}, "The last two minutes of this gateway"))),
    problem,
    quiet,
    numbers,
    h("div", { class: "pair" },
      section("Requests per second", charts.requests),
      section("Dollars per second", charts.dollars),
      section("Tokens per second", charts.tokens),
      section("Latency", charts.latency),
      section("Time to the first token", charts.firstToken)),
  ];
}

function make(text, series, format, max) {
  return chart({
    text: `${text} over the last two minutes`,
    x: [],
    time: true,
    step: 1,
    height: 200,
    series: series.map(([label, tone]) => ({ label, tone, values: [] })),
    format,
    max,
    xFormat: clock,
  });
}

function summary(live) {
  const whole = live.whole ?? {};
  const rate = (value) => (whole.seconds > 0 ? value / whole.seconds : 0);
  const failed = whole.requests > 0 ? (whole.failed + whole.rejected) / whole.requests : 0;
  return figures(
    figure("In flight", count(live.in_flight_requests), live.ready ? "taking requests" : "not taking requests"),
    figure("Requests a second", short(rate(whole.requests ?? 0)), `${percent(failed, 1)} failed or refused`),
    figure("Dollars an hour", usd(rate(Number(whole.cost_usd ?? 0)) * 3600), "at this rate"),
    figure("Tokens a second", short(rate((whole.input_tokens ?? 0) + (whole.output_tokens ?? 0)))),
    figure("Latency", seconds(whole.duration_p50_seconds), `95\u00a0% within ${seconds(whole.duration_p95_seconds)}`),
    figure("First token", seconds(whole.first_token_p50_seconds), `95\u00a0% within ${seconds(whole.first_token_p95_seconds)}`),
  );
}
