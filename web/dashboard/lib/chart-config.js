/** How Chart.js is to draw each kind of chart, and the theme's colours on it. */

import { mark } from "./format.js";
import { t } from "./i18n.js";
import { token } from "./theme.js";

/** @typedef {import("./charts.js").Line} Line */

/** A broker that has just started shows its first minute wide rather than five minutes empty. */
const SPANS_S = [60, 120, 180, 240, 300];

/**
 * @param {Line[]} lines @param {(value: number) => string} axis
 * @param {((value: number) => string) | undefined} rightAxis
 */
export function lineConfig(lines, axis, rightAxis) {
  const datasets = lines.map((line) => ({
    label: line.name,
    data: [],
    yAxisID: line.right ? "right" : "y",
    borderWidth: 1.5,
    pointRadius: 0,
    pointHitRadius: 0,
    tension: 0.2,
    fill: line.area ? "origin" : false,
    spanGaps: 3,
    cubicInterpolationMode: "monotone",
  }));
  const scale = (/** @type {(value: number) => string} */ format, /** @type {string} */ position) => ({
    position,
    beginAtZero: true,
    grace: "5%",
    border: { display: false },
    // Where whole things are counted, no mark stands between them.
    ticks: { maxTicksLimit: 5, callback: format, padding: 6, precision: format === mark ? 0 : undefined },
    grid: { drawOnChartArea: position === "left", drawTicks: false },
  });
  /** @type {Record<string, any>} */
  const scales = { x: timeScale(), y: scale(axis, "left") };
  if (rightAxis) scales.right = scale(rightAxis, "right");
  const label = (/** @type {any} */ item) =>
    ` ${item.dataset.label}: ${lines[item.datasetIndex].format(item.parsed.y)}`;
  const title = (/** @type {any[]} */ items) => (items.length > 0 ? secondsAgo(items[0].parsed.x) : "");
  return {
    type: "line",
    data: { datasets },
    options: {
      ...common({ title, label }),
      parsing: false,
      normalized: true,
      scales,
      interaction: { mode: "index", intersect: false },
    },
  };
}

/** @param {any} scale @param {number} oldest seconds from the newest point, below zero */
export function fitTime(scale, oldest) {
  const span = SPANS_S.find((one) => one >= -oldest - 1) ?? SPANS_S[SPANS_S.length - 1];
  scale.min = -span;
  scale.ticks.stepSize = span > 120 ? 60 : span / 4;
}

function timeScale() {
  return {
    type: "linear",
    min: -SPANS_S[0],
    max: 0,
    border: { display: false },
    grid: { display: false },
    ticks: { stepSize: 60, maxRotation: 0, autoSkip: true, callback: secondsAgo, padding: 4 },
  };
}

/** @param {number} x seconds from the newest point, below zero @returns {string} */
function secondsAgo(x) {
  if (x > -0.5) return t("overview.now");
  const s = Math.round(-x);
  return s % 60 === 0
    ? `−${s / 60} min`
    : s < 60
      ? `−${s} s`
      : `−${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
}

/** @param {(value: number) => string} format */
export function barConfig(format) {
  const label = (/** @type {any} */ item) => ` ${format(item.parsed.x)}`;
  return {
    type: "bar",
    data: { labels: [], datasets: [{ data: [], borderRadius: 3, maxBarThickness: 18, minBarLength: 2 }] },
    options: {
      ...common({ label }),
      indexAxis: "y",
      scales: {
        x: {
          beginAtZero: true,
          border: { display: false },
          grid: { drawTicks: false },
          ticks: { maxTicksLimit: 5, callback: mark, padding: 6 },
        },
        y: {
          border: { display: false },
          grid: { display: false },
          ticks: { autoSkip: false, padding: 6, callback: shortLabel },
        },
      },
    },
  };
}

/** A route's label that leaves room for its bar; the tooltip has all of it. @this {any} @param {number} at */
function shortLabel(at) {
  const label = String(this.getLabelForValue(at));
  const most = Math.max(16, Math.floor(this.chart.width / 15));
  return label.length > most ? `${label.slice(0, most - 1)}…` : label;
}

/** @param {(value: number) => string} format */
export function doughnutConfig(format) {
  const label = (/** @type {any} */ item) => ` ${item.label}: ${format(item.parsed)}`;
  return {
    type: "doughnut",
    data: { labels: [], datasets: [{ data: [], borderWidth: 2 }] },
    options: { ...common({ label }), cutout: "68%" },
  };
}

/** @param {Record<string, any>} callbacks of the tooltip */
function common(callbacks) {
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    events: ["mousemove", "mouseout", "touchstart", "touchmove"],
    plugins: {
      legend: { display: false },
      tooltip: { callbacks, padding: 10, cornerRadius: 6, boxWidth: 8, boxHeight: 8 },
    },
  };
}

/** @param {any} set @param {Line} line */
export function paintLine(set, line) {
  set.borderColor = token(`--${line.tone}`);
  set.backgroundColor = token(`--${line.tone}-soft`);
}

/** @param {any} chart */
export function paintScales(chart) {
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.7857;
  const font = { family: getComputedStyle(document.body).fontFamily, size };
  for (const scale of Object.values(chart.options.scales)) {
    Object.assign(/** @type {any} */ (scale).ticks, { color: token("--text-faint"), font });
    /** @type {any} */ (scale).grid.color = token("--line");
  }
  paintTooltip(chart);
}

/** @param {any} chart */
export function paintTooltip(chart) {
  const family = getComputedStyle(document.body).fontFamily;
  Object.assign(chart.options.plugins.tooltip, {
    backgroundColor: token("--raised"),
    titleColor: token("--text"),
    bodyColor: token("--text"),
    borderColor: token("--line-strong"),
    borderWidth: 1,
    titleFont: { family },
    bodyFont: { family },
  });
}
