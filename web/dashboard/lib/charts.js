/**
 * The charts of a page, each a panel with a title, a legend that shows the newest values and hides lines, the canvas,
 * and the same in words for who cannot see it. Chart.js draws; it is loaded with the first chart.
 */

import { el, replace, setText } from "./dom.js";
import {
  barConfig,
  doughnutConfig,
  fitTime,
  lineConfig,
  paintLine,
  paintScales,
  paintTooltip,
} from "./chart-config.js";
import { t } from "./i18n.js";
import { onTheme, token } from "./theme.js";

/**
 * @typedef {import("./feed.js").Point} Point
 * @typedef {object} Line
 * @property {string} name
 * @property {string} tone a colour token's name without its dashes, such as `blue`
 * @property {(point: Point) => number | null | undefined} value
 * @property {(value: number | null | undefined) => string} format
 * @property {boolean} [right] measured on the axis at the right
 * @property {boolean} [area] filled below
 *
 * @typedef {object} ChartPanel
 * @property {HTMLElement} node
 * @property {() => void} stop
 */

const AGAIN_MS = 2_000;
/** @type {Promise<any> | null} */
let library = null;

/** Tries until it is there: the broker may go away while it is fetched. @returns {Promise<any>} the constructor */
async function fetchLibrary() {
  for (let turn = 0; ; turn += 1) {
    try {
      // Written for script tags: it leaves its constructor on the global object. An address that could not be fetched
      // is not fetched again by a browser, hence another one.
      await import(`../vendor/chart-4.6.1.js${turn > 0 ? `?turn=${turn}` : ""}`);
      return /** @type {any} */ (globalThis).Chart;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

/**
 * Lines over the last five minutes.
 * @param {{title: string, testid: string, span: string, unit?: string, lines: Line[], none?: string,
 *   axis: (value: number) => string, rightAxis?: (value: number) => string}} given
 * @returns {ChartPanel & {show: (points: Point[]) => void}}
 */
export function lineChart({ title, testid, span, unit, lines, none, axis, rightAxis }) {
  const legend = lines.map(legendEntry);
  const frame = chartFrame({
    title,
    testid,
    span,
    unit,
    above: el(
      "div",
      { class: "legend" },
      legend.map((one) => one.node),
    ),
  });
  const drawn = drawing(
    frame,
    (Chart) => new Chart(frame.canvas, lineConfig(lines, axis, rightAxis)),
    (chart) => {
      chart.data.datasets.forEach((/** @type {any} */ set, /** @type {number} */ at) => paintLine(set, lines[at]));
      paintScales(chart);
    },
  );
  legend.forEach((entry, at) => {
    entry.node.addEventListener("click", () => {
      const hide = entry.node.getAttribute("aria-pressed") === "true";
      entry.node.setAttribute("aria-pressed", String(!hide));
      drawn.change((chart) => chart.setDatasetVisibility(at, !hide));
    });
  });
  return {
    node: frame.node,
    stop: drawn.stop,
    show(points) {
      const newest = points.length > 0 ? Date.parse(points[points.length - 1].at) : 0;
      const series = lines.map((line) =>
        points.map((point) => ({ x: (Date.parse(point.at) - newest) / 1_000, y: line.value(point) ?? null })),
      );
      lines.forEach((line, at) => setText(legend[at].value, line.format(series[at].at(-1)?.y)));
      const nothing = series.every((one) => one.every((spot) => spot.y === null));
      frame.sayNone(nothing ? (none ?? t("overview.noData")) : null);
      frame.describe(() =>
        lines
          .map((line, at) =>
            inWords(
              line,
              series[at].map((spot) => spot.y),
            ),
          )
          .join(". "),
      );
      drawn.change((chart) => {
        series.forEach((data, at) => (chart.data.datasets[at].data = data));
        fitTime(chart.options.scales.x, series[0][0]?.x ?? 0);
      });
    },
  };
}

/**
 * Parts of a whole or of a ranking: bars that lie, or a ring with its list.
 * @param {{title: string, testid: string, span: string, unit?: string, kind: "bar" | "doughnut", none: string,
 *   format: (value: number) => string, toneOf: (name: string, at: number) => string}} given
 * @returns {ChartPanel & {show: (parts: [string, number][]) => void}}
 */
export function partsChart({ title, testid, span, unit, kind, none, format, toneOf }) {
  const list = el("ul", { class: "codes-list" });
  const frame = chartFrame({ title, testid, span, unit, beside: kind === "doughnut" ? list : null });
  /** @type {[string, number][]} */
  let shown = [];
  const paint = (/** @type {any} */ chart) => {
    const set = chart.data.datasets[0];
    set.backgroundColor = shown.map(([name], at) => token(`--${toneOf(name, at)}`));
    set.borderColor = token("--surface");
    if (kind === "bar") paintScales(chart);
    else paintTooltip(chart);
  };
  const config = kind === "bar" ? barConfig(format) : doughnutConfig(format);
  const drawn = drawing(frame, (Chart) => new Chart(frame.canvas, config), paint);
  return {
    node: frame.node,
    stop: drawn.stop,
    show(parts) {
      shown = parts;
      frame.sayNone(parts.length === 0 ? none : null);
      frame.describe(() => parts.map(([name, value]) => t("chart.part", { name, value: format(value) })).join(", "));
      if (kind === "doughnut")
        replace(
          list,
          parts.map(([name, value], at) => partEntry(name, format(value), toneOf(name, at))),
        );
      drawn.change((chart) => {
        chart.data.labels = parts.map(([name]) => name);
        chart.data.datasets[0].data = parts.map(([, value]) => value);
        paint(chart);
      });
    },
  };
}

/** @param {{title: string, testid: string, span: string, unit?: string, above?: Node, beside?: Node | null}} given */
function chartFrame({ title, testid, span, unit, above, beside }) {
  const canvas = /** @type {any} */ (el("canvas", { role: "img", "aria-label": title }));
  const none = el("p", { class: "chart-none", hidden: true });
  const space = el("div", { class: "chart-space" }, canvas, none);
  const node = el(
    "section",
    { class: `panel chart ${span}`, testid, "aria-label": title },
    el(
      "div",
      { class: "panel-head" },
      el("h2", { text: title }),
      unit ? el("span", { class: "chart-unit panel-tools", text: unit }) : null,
    ),
    el("div", { class: "panel-body" }, above, beside ? el("div", { class: "codes" }, space, beside) : space),
  );
  let toldAt = 0;
  return {
    node,
    canvas,
    sayNone(/** @type {string | null} */ text) {
      none.hidden = text === null;
      setText(none, text ?? "");
      canvas.hidden = text !== null;
    },
    /** In words; every ten seconds, for nobody reads it faster and it is not free. */
    describe(/** @type {() => string} */ words) {
      if (Date.now() - toldAt < 10_000) return;
      toldAt = Date.now();
      canvas.setAttribute("aria-label", `${title}. ${words()}`);
    },
  };
}

/**
 * Draws once the library is there, and only while the canvas is on the screen; what changed meanwhile is drawn then.
 * @param {{canvas: HTMLCanvasElement}} frame @param {(Chart: any) => any} make @param {(chart: any) => void} paint
 */
function drawing({ canvas }, make, paint) {
  /** @type {any} */
  let chart = null;
  let seen = false;
  let stopped = false;
  /** @type {Set<(chart: any) => void>} what a chart that is not made yet has missed: a load's worth of ticks */
  const waiting = new Set();
  const draw = () => seen && chart?.update("none");
  const watcher = new IntersectionObserver(
    (entries) => {
      seen = entries[entries.length - 1].isIntersecting;
      draw();
    },
    { rootMargin: "100% 0px" },
  );
  watcher.observe(/** @type {Element} */ (canvas.parentElement));
  const offTheme = onTheme(() => chart && (paint(chart), draw()));
  library ??= fetchLibrary();
  void library.then((Chart) => {
    if (stopped) return;
    chart = make(Chart);
    paint(chart);
    for (const change of waiting) change(chart);
    waiting.clear();
    draw();
  });
  return {
    change(/** @type {(chart: any) => void} */ apply) {
      if (chart === null) waiting.add(apply);
      else (apply(chart), draw());
    },
    stop() {
      stopped = true;
      watcher.disconnect();
      offTheme();
      chart?.destroy();
    },
  };
}

/** @param {Line} line */
function legendEntry(line) {
  const value = el("strong");
  const node = el(
    "button",
    { type: "button", class: `tone-${line.tone}`, "aria-pressed": "true" },
    line.name,
    " ",
    value,
  );
  return { node, value };
}

/** @param {string} name @param {string} value @param {string} tone */
function partEntry(name, value, tone) {
  return el("li", { class: `tone-${tone}` }, el("strong", { text: name }), el("span", { text: value }));
}

/** @param {Line} line @param {(number | null)[]} values @returns {string} */
function inWords(line, values) {
  const known = /** @type {number[]} */ (values.filter((value) => value !== null));
  if (known.length === 0) return t("chart.summaryNone", { name: line.name });
  const [least, most] = [Math.min(...known), Math.max(...known)].map(line.format);
  return t("chart.summary", { name: line.name, now: line.format(known[known.length - 1]), least, most });
}
