// Charts. uPlot draws; the colours are the style sheet's, so that they follow light and dark.

import uPlot from "/dashboard/uplot-1.6.32.js";
import { h } from "./dom.js";

/** Steps of an axis that counts things. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

const DAY = 86_400;
/** Steps of an axis of days: a finer one would write the same day several times. */
const DAYS = [1, 2, 3, 4, 5, 7, 10, 14, 30, 60, 90, 180, 365].map((days) => days * DAY);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function font() {
  return `12px ${getComputedStyle(document.body).fontFamily}`;
}

function axis(format, extra = {}) {
  return {
    stroke: colour("muted"),
    font: font(),
    grid: { stroke: colour("hairline"), width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map((value) => (value === null ? "" : format(value))),
    ...extra,
  };
}

/**
 * A chart in a figure. `text` says what it shows, for who cannot see it.
 * series: [{ label, values, tone, fill, dash, bars }], x: numbers (seconds since 1970 where `time`).
 * `axisFormat` may be shorter than `format`; `whole` is for counts. `step`: how far points in time are from each other.
 * marks: [{ at, label, tone }] are vertical lines, levels: [{ at, label, tone }] horizontal ones.
 */
export function chart({ text, x, series, format, xFormat, time = false, height = 260, marks = [], levels = [], max, axisFormat, whole = false, step = DAY }) {
  const holder = h("div", { class: "chart", role: "img", "aria-label": text });
  const legend = h("ul", { class: "legend", "aria-hidden": "true" }, series.filter((one) => one.label).map((one) => {
    const swatch = h("i", { class: `swatch ${one.tone} ${one.dash ? "dashed" : ""}` });
    return h("li", {}, swatch, one.label);
  }));
  const element = h("figure", {}, holder, legend);
  let plot = null;

  // A single point has no neighbour to give the axis its length, and no line: it stands in its own step's middle, as a dot.
  const alone = () => x.length === 1;
  const ends = (least, most) => {
    if (time && alone()) return [x[0] - step / 2, x[0] + step / 2];
    return [least, most === least ? least + 1 : most];
  };

  const data = () => [x, ...series.map((one) => one.values)];

  function options(width) {
    return {
      width,
      height,
      // Days are UTC's, wherever the reader is.
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      scales: {
        x: { time, range: (_, least, most) => ends(least, most) },
        y: { range: (_, least, most) => [Math.min(0, least), Math.max(most * 1.06, max ?? 0, 1e-9)] },
      },
      axes: [
        axis(xFormat, { grid: { show: false }, space: 70, size: 28, ...(time && step >= DAY ? { incrs: DAYS } : {}) }),
        axis(axisFormat ?? format, { size: 62, ...(whole ? { incrs: WHOLE } : {}) }),
      ],
      series: [{}, ...series.map((one) => ({
        label: one.label,
        stroke: colour(one.tone),
        width: one.bars ? 0 : 2,
        dash: one.dash ? [5, 5] : undefined,
        fill: one.fill || one.bars ? colour(one.bars ? one.tone : `${one.tone}-soft`) : undefined,
        paths: one.bars ? uPlot.paths.bars({ size: [0.86], align: 1 }) : undefined,
        points: { show: () => !one.bars && alone(), size: 10, fill: colour(one.tone) },
      }))],
      hooks: { draw: [(u) => lines(u)], setCursor: [(u) => tip(u)] },
    };
  }

  function lines(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.font = font().replace("12px", `${12 * devicePixelRatio}px`);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const mark of marks) {
      const at = Math.round(u.valToPos(mark.at, "x", true));
      if (at < bbox.left - 1 || at > bbox.left + bbox.width + 1) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(mark.tone ?? "ink");
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      const room = bbox.left + bbox.width - at > ctx.measureText(mark.label).width + 12;
      ctx.textAlign = room ? "left" : "right";
      ctx.textBaseline = "top";
      ctx.fillText(mark.label, at + (room ? 6 : -6) * devicePixelRatio, bbox.top + 2);
    }
    for (const level of levels) {
      const at = Math.round(u.valToPos(level.at, "y", true));
      ctx.strokeStyle = ctx.fillStyle = colour(level.tone ?? "ink");
      ctx.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, at);
      ctx.lineTo(bbox.left + bbox.width, at);
      ctx.stroke();
      ctx.textAlign = "left";
      ctx.textBaseline = "bottom";
      ctx.fillText(level.label, bbox.left + 4, at - 3);
    }
    ctx.restore();
  }

  const bubble = h("div", { class: "tip", hidden: true });
  holder.append(bubble);
  function tip(u) {
    const index = u.cursor.idx;
    const inside = index !== null && index !== undefined && u.cursor.left >= 0;
    bubble.hidden = !inside;
    if (!inside) return;
    const shown = series.filter((one) => one.label && one.values[index] !== null && one.values[index] !== undefined);
    bubble.replaceChildren(h("b", {}, xFormat(x[index])), ...shown.map((one) =>
      h("span", {}, `${one.label} ${format(one.values[index])}`)));
    const left = Math.min(u.cursor.left + 70, holder.clientWidth - 150);
    bubble.style.transform = `translate(${Math.max(0, left)}px, 8px)`;
  }

  const draw = () => {
    if (!holder.clientWidth) return;
    plot?.destroy();
    plot = new uPlot(options(holder.clientWidth), data(), holder);
  };
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(holder.clientWidth - width) < 2) return;
    width = holder.clientWidth;
    draw();
  }).observe(holder);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const again = () => (element.isConnected ? draw() : dark.removeEventListener("change", again));
  dark.addEventListener("change", again);

  /** New figures in the same drawing. */
  element.update = (newX, values) => {
    x = newX;
    series = series.map((one, index) => ({ ...one, values: values[index] }));
    plot?.setData(data());
  };
  return element;
}

/** Unix seconds of a day or moment. */
export function unix(text) {
  return Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text) / 1000;
}

export function shortDay(value) {
  return new Date(value * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

export function clock(value) {
  return new Date(value * 1000).toLocaleTimeString("en-GB", { timeZone: "UTC" });
}
