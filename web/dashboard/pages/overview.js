/** The overview: eight figures, and how the last five minutes went. */

import { lineChart, partsChart } from "../lib/charts.js";
import { el, replace, setText, svg } from "../lib/dom.js";
import { compact, latency, mark, number, percent, rate, shortDateTime, time, uptime } from "../lib/format.js";
import { loading } from "../lib/views.js";

/**
 * @typedef {import("../lib/feed.js").Point} Point
 * @typedef {import("../lib/i18n.js").Translate} Translate
 * @typedef {Record<string, any>} Stats
 * @typedef {{title: string, tone: string, testid: string, value: (stats: Stats | null, point: Point) => string,
 *   whole?: (stats: Stats | null, point: Point) => string, trend?: (point: Point) => number,
 *   note: (points: Point[], stats: Stats | null) => string, ofProcess?: boolean}} CardSpec  `ofProcess`: not told to
 *   who may not view all queues
 */

const TREND_POINTS = 60;
const ROUTES_SHOWN = 8;
/** A figure of more digits than this is shortened; the whole one is its tooltip. */
const WHOLE_BELOW = 100_000_000;

/** The charts of the process: as its cards, they tell nothing to who may not view all queues. */
const OF_PROCESS = /** @type {const} */ (["requests", "performance", "latency", "routes", "codes"]);

/** By the code's first digit. @type {Record<string, string[]>} */
const CODE_TONES = { 2: ["green", "cyan"], 3: ["blue", "neutral"], 4: ["orange", "purple", "violet"], 5: ["red"] };

/**
 * @param {HTMLElement} root
 * @param {{feed: import("../lib/feed.js").Feed, t: Translate}} given
 */
export async function show(root, { feed, t }) {
  const asOf = el("p", { class: "page-lede", testid: "overview-as-of" });
  const head = el("div", { class: "page-head" }, el("h1", { text: t("overview.title") }), asOf, connectionsLine());
  const body = el("div", null, loading({ lines: 8 }));
  replace(root, head, body);
  const cards = cardSpecs(t).map(card);
  const charts = makeCharts(t);
  const grid = el(
    "div",
    { class: "charts" },
    Object.values(charts).map((one) => one.node),
  );
  let begun = false;

  function update() {
    const points = feed.history;
    if (points.length === 0) return;
    const whole = feed.welcome?.may_view_all !== false;
    for (const name of OF_PROCESS) charts[name].node.hidden = !whole;
    grid.classList.toggle("charts-few", !whole);
    if (!begun) replace(body, cardGrid(cards), grid);
    begun = true;
    for (const one of cards) one.update(points, feed.stats, whole);
    if (!document.hidden) updateCharts(charts, points, feed.stats, t);
    const partial = whole ? "" : ` · ${t("overview.partial")}`;
    setText(asOf, t("overview.asOf", { time: time(points[points.length - 1].at) }) + partial);
    showConnections(head, whole ? feed.stats : null, t);
  }

  const stops = [feed.on("history", update), feed.on("tick", update)];
  document.addEventListener("visibilitychange", update);
  update();
  return () => {
    for (const stop of stops) stop();
    document.removeEventListener("visibilitychange", update);
    for (const chart of Object.values(charts)) chart.stop();
  };
}

/** @param {Translate} t @returns {CardSpec[]} in their fixed order */
function cardSpecs(t) {
  /** A count of messages, with what it gained or lost in the last minute. */
  const count = (
    /** @type {"pending" | "processing" | "failed" | "processed"} */ name,
    /** @type {string} */ tone,
  ) => ({
    title: t(`card.${name}`),
    tone,
    testid: `card-${name}`,
    value: (/** @type {any} */ stats, /** @type {Point} */ point) => big(stats?.[name] ?? point[name]),
    whole: (/** @type {any} */ stats, /** @type {Point} */ point) => number(stats?.[name] ?? point[name]),
    trend: (/** @type {Point} */ point) => point[name],
    note: (/** @type {Point[]} */ points) => t("card.lastMinute", { change: change(points, name) }),
  });
  const peak = (/** @type {Point[]} */ points, /** @type {"cpu_percent" | "memory_mb"} */ name) =>
    t("card.peak", { value: number(Math.max(...points.map((point) => point[name])), 1) });
  return [
    count("pending", "orange"),
    count("processing", "blue"),
    count("failed", "red"),
    count("processed", "green"),
    {
      title: t("card.totalRequests"),
      tone: "purple",
      testid: "card-total-requests",
      ofProcess: true,
      value: (stats) => big(stats?.total_requests),
      whole: (stats) => number(stats?.total_requests),
      trend: (point) => point.requests,
      note: (points) => rate(points[points.length - 1].requests),
    },
    {
      title: t("card.cpu"),
      tone: "violet",
      testid: "card-cpu",
      ofProcess: true,
      value: (_stats, point) => number(point.cpu_percent, 1),
      trend: (point) => point.cpu_percent,
      note: (points) => peak(points, "cpu_percent"),
    },
    {
      title: t("card.memory"),
      tone: "cyan",
      testid: "card-memory",
      ofProcess: true,
      value: (_stats, point) => number(point.memory_mb, 1),
      trend: (point) => point.memory_mb,
      note: (points) => peak(points, "memory_mb"),
    },
    {
      title: t("card.uptime"),
      tone: "neutral",
      testid: "card-uptime",
      value: (stats) => uptime(stats?.uptime_seconds),
      note: (points, stats) => (stats ? t("card.since", { time: startedAt(points, stats) }) : ""),
    },
  ];
}

/** @param {number | undefined} value */
function big(value) {
  return value !== undefined && value >= WHOLE_BELOW ? compact(value) : number(value);
}

/** @param {Point[]} points @param {"pending" | "processing" | "failed" | "processed"} name @returns {string} */
function change(points, name) {
  const by = points[points.length - 1][name] - points[Math.max(0, points.length - TREND_POINTS - 1)][name];
  return by > 0 ? `+${compact(by)}` : by < 0 ? `−${compact(-by)}` : "±0";
}

/** By the broker's clock, rounded, so that it does not flicker. @param {Point[]} points @param {Stats} stats */
function startedAt(points, stats) {
  const at = Date.parse(points[points.length - 1].at) - stats.uptime_seconds * 1_000;
  return shortDateTime(Math.round(at / 10_000) * 10_000);
}

/** @param {CardSpec} spec */
function card(spec) {
  const value = el("p", { class: "card-value", testid: `${spec.testid}-value` });
  const note = el("p", { class: "card-note" });
  const area = svg("path", { class: "area" });
  const line = svg("path", { "vector-effect": "non-scaling-stroke" });
  const trend = svg(
    "svg",
    { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" },
    area,
    line,
  );
  const node = el(
    "article",
    { class: `card tone-${spec.tone}`, testid: spec.testid },
    el("h2", { class: "card-title", text: spec.title }),
    value,
    note,
    spec.trend ? trend : null,
  );
  return {
    node,
    /** @param {Point[]} points @param {Stats | null} stats @param {boolean} whole */
    update(points, stats, whole) {
      if (spec.ofProcess && !whole) {
        setText(value, number(undefined));
        return;
      }
      const point = points[points.length - 1];
      setText(value, spec.value(stats, point));
      setText(note, spec.note(points, stats));
      if (spec.whole) value.title = spec.whole(stats, point);
      if (!spec.trend) return;
      const path = trendPath(points.slice(-TREND_POINTS).map(spec.trend));
      line.setAttribute("d", path);
      area.setAttribute("d", path === "" ? "" : `${path}L100 30L${startOf(points)} 30Z`);
    },
  };
}

/** Where a trend begins that has not all its points yet. @param {Point[]} points */
function startOf(points) {
  return (100 - ((Math.min(points.length, TREND_POINTS) - 1) * 100) / (TREND_POINTS - 1)).toFixed(1);
}

/** @param {number[]} values @returns {string} path data in a box of 100 × 30 */
function trendPath(values) {
  if (values.length < 2) return "";
  const least = Math.min(...values);
  const reach = Math.max(...values) - least || 1;
  const step = 100 / (TREND_POINTS - 1);
  const begin = 100 - (values.length - 1) * step;
  const flat = reach === 1 && Math.max(...values) === least;
  const spot = (/** @type {number} */ value, /** @type {number} */ at) =>
    `${(begin + at * step).toFixed(1)} ${(flat ? 27 : 27 - ((value - least) / reach) * 23).toFixed(1)}`;
  return `M${values.map(spot).join("L")}`;
}

/** @param {{node: HTMLElement}[]} cards */
function cardGrid(cards) {
  return el(
    "div",
    { class: "cards", testid: "cards" },
    cards.map((one) => one.node),
  );
}

/** @param {Translate} t */
function makeCharts(t) {
  const status = (
    /** @type {"pending" | "processing" | "failed" | "processed"} */ name,
    /** @type {string} */ tone,
  ) => ({
    name: t(`status.${name}`),
    tone,
    value: (/** @type {Point} */ point) => point[name],
    format: compact,
  });
  const speed = (/** @type {"published" | "delivered" | "settled"} */ name, /** @type {string} */ tone) => ({
    name: t(`chart.${name}`),
    tone,
    value: (/** @type {Point} */ point) => point[name],
    format: (/** @type {any} */ v) => rate(v),
  });
  const share = (/** @type {"p50" | "p95" | "p99"} */ name, /** @type {string} */ tone) => ({
    name,
    tone,
    value: (/** @type {Point} */ point) => point.delivery_ms?.[name],
    format: latency,
  });
  const requests = {
    name: t("chart.requestsPer"),
    tone: "purple",
    value: (/** @type {Point} */ point) => point.requests,
    format: compact,
    area: true,
  };
  const cpu = {
    name: t("chart.cpu"),
    tone: "violet",
    value: (/** @type {Point} */ point) => point.cpu_percent,
    format: percent,
  };
  const memory = {
    name: t("chart.memory"),
    tone: "cyan",
    right: true,
    value: (/** @type {Point} */ point) => point.memory_mb,
    format: (/** @type {any} */ v) => number(v, 1),
  };
  return {
    requests: lineChart({
      title: t("chart.requests"),
      testid: "chart-requests",
      span: "span-4",
      unit: t("chart.perInterval"),
      lines: [requests],
      axis: mark,
    }),
    status: lineChart({
      title: t("chart.status"),
      testid: "chart-status",
      span: "span-4",
      axis: mark,
      lines: [
        status("pending", "orange"),
        status("processing", "blue"),
        status("failed", "red"),
        status("processed", "green"),
      ],
    }),
    performance: lineChart({
      title: t("chart.performance"),
      testid: "chart-performance",
      span: "span-4",
      lines: [cpu, memory],
      axis: (value) => `${mark(value)}%`,
      rightAxis: mark,
    }),
    rates: lineChart({
      title: t("chart.rates"),
      testid: "chart-rates",
      span: "span-6",
      unit: t("chart.perSecond"),
      axis: mark,
      lines: [speed("published", "orange"), speed("delivered", "blue"), speed("settled", "green")],
    }),
    latency: lineChart({
      title: t("chart.latency"),
      testid: "chart-latency",
      span: "span-6",
      axis: markLatency,
      none: t("chart.noDeliveries"),
      lines: [share("p50", "green"), share("p95", "orange"), share("p99", "red")],
    }),
    routes: partsChart({
      title: t("chart.routes"),
      testid: "chart-routes",
      span: "span-8",
      kind: "bar",
      none: t("chart.noRequests"),
      format: compact,
      toneOf: () => "accent",
    }),
    codes: partsChart({
      title: t("chart.codes"),
      testid: "chart-codes",
      span: "span-4",
      kind: "doughnut",
      none: t("chart.noRequests"),
      format: compact,
      toneOf: codeTone,
    }),
  };
}

/** @param {number} ms */
function markLatency(ms) {
  return ms >= 1_000 ? `${mark(ms / 1_000)} s` : `${mark(ms)} ms`;
}

/**
 * @param {ReturnType<typeof makeCharts>} charts @param {Point[]} points @param {Stats | null} stats
 * @param {Translate} t
 */
function updateCharts(charts, points, stats, t) {
  for (const chart of [charts.requests, charts.status, charts.performance, charts.rates, charts.latency])
    chart.show(points);
  if (stats === null) return;
  charts.routes.show(mostUsed(stats.requests_by_route, t));
  charts.codes.show(Object.entries(stats.requests_by_status ?? {}).sort(([a], [b]) => a.localeCompare(b)));
}

/** The routes used most; the rest in one. @param {Record<string, number>} routes @param {Translate} t */
function mostUsed(routes, t) {
  const ranked = Object.entries(routes ?? {}).sort(([, a], [, b]) => b - a);
  if (ranked.length <= ROUTES_SHOWN) return ranked;
  const rest = ranked.slice(ROUTES_SHOWN - 1);
  /** @type {[string, number]} */
  const others = [t("chart.others", { count: rest.length }), rest.reduce((sum, [, n]) => sum + n, 0)];
  return [...ranked.slice(0, ROUTES_SHOWN - 1), others];
}

/** A code's class gives its colours; neighbours differ. @param {string} code @param {number} at @returns {string} */
function codeTone(code, at) {
  const tones = CODE_TONES[code[0]] ?? ["neutral"];
  return tones[at % tones.length];
}

function connectionsLine() {
  return el("dl", { class: "page-actions page-actions-many connections", testid: "connections" });
}

/** @param {HTMLElement} head @param {Stats | null} stats @param {Translate} t */
function showConnections(head, stats, t) {
  const list = /** @type {HTMLElement} */ (head.querySelector(".connections"));
  const kinds = Object.entries(stats?.connections ?? {});
  if (list.childElementCount !== kinds.length) {
    replace(
      list,
      kinds.map(([kind]) => el("div", null, el("dt", { text: t(`connections.${kind}`) }), el("dd"))),
    );
  }
  kinds.forEach(([, value], at) => setText(/** @type {Element} */ (list.children[at].lastElementChild), number(value)));
}
