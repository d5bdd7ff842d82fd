/** Who consumes now: subscriptions of WebSockets and parked polls, live; and a way to disconnect one. */

import { path } from "../lib/api.js";
import { now as brokerNow } from "../lib/clock.js";
import { button, el, replace, setText } from "../lib/dom.js";
import { dateTime, duration, number, rate } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { toast } from "../lib/toast.js";
import { empty, failed, loading } from "../lib/views.js";
import { ask, closeDialogs, concerned } from "../parts/dialog.js";
import { liveTable, says } from "../parts/live-table.js";
import { may } from "../parts/rights.js";

/**
 * @typedef {{id: string, kind: string, user: string, queue: string, sub: string | null, credit: number,
 *   in_flight: number, delivered_per_s: number, paused: boolean, address: string | null, since: string,
 *   lease_mode: string | null}} Consumer
 * @typedef {(key: string, params?: any) => string} T
 */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { api, feed, t, session }) {
  const filter = el("input", {
    class: "input",
    type: "search",
    testid: "consumer-filter",
    placeholder: t("consumers.filter"),
    "aria-label": t("consumers.filter"),
    autocomplete: "off",
    spellcheck: "false",
    on: { input: draw },
  });
  const found = el("span", { class: "soft", testid: "consumer-count", role: "status" });
  const table = liveTable({
    columns: columns(t, api, session),
    key: (/** @type {Consumer} */ consumer) => consumer.id,
    caption: t("consumers.title"),
    testid: "consumers-table",
    rowTestid: (consumer) => `consumer-row-${consumer.id}`,
    sorted: { column: "queue", descending: false },
  });
  const place = el("div", { class: "panel" }, loading({ lines: 6 }));
  replace(
    root,
    el("header", { class: "page-head" }, el("h1", { tabindex: -1, text: t("consumers.title") })),
    el("div", { class: "toolbar" }, filter, found),
    place,
  );

  /** @param {string} kind @param {() => Node} make */
  function fill(kind, make) {
    if (place.dataset.shows === kind) return;
    place.dataset.shows = kind;
    replace(place, make());
  }

  function draw() {
    if (feed.consumers === null) return;
    const all = /** @type {Consumer[]} */ (feed.consumers);
    const wanted = filter.value.trim().toLowerCase();
    const named = (/** @type {Consumer} */ one) =>
      [one.queue, one.user, one.sub, one.address].join(" ").toLowerCase().includes(wanted);
    const shown = wanted === "" ? all : all.filter(named);
    setText(found, t("consumers.count", { count: all.length, shown: number(shown.length), all: number(all.length) }));
    if (all.length === 0)
      return fill("empty", () => empty({ title: t("consumers.empty"), hint: t("consumers.empty_hint") }));
    if (shown.length === 0) return fill("none", () => empty({ title: t("consumers.none_match") }));
    fill("table", () => table.node);
    table.show(shown);
  }

  function onState() {
    if (feed.state === "refused") fill("refused", () => failed({ code: "forbidden" }, () => feed.start()));
  }

  const stops = [feed.on("consumers", draw), feed.on("state", onState), feed.watch({ topics: ["consumers"] })];
  draw();
  onState();
  return () => {
    stops.forEach((stop) => stop());
    table.stop();
    closeDialogs();
  };
}

/** @param {T} t @param {any} api @param {any} session @returns {import("../parts/live-table.js").Column<Consumer>[]} */
function columns(t, api, session) {
  /** @param {string} id @param {string} look @param {(one: Consumer) => string} text */
  const text = (id, look, text) => ({ id, label: t(`consumers.${id}`), class: look, sort: text, make: says(text) });
  /**
   * @param {string} id
   * @param {string} look
   * @param {(one: Consumer) => number} value
   * @param {(n: number) => string} written
   */
  const figure = (id, look, value, written) => ({
    id,
    label: t(`consumers.${id}`),
    class: `num ${look}`,
    sort: value,
    make: says((/** @type {Consumer} */ one) => written(value(one))),
  });
  return [
    { id: "queue", label: t("consumers.queue"), class: "col-name", sort: (one) => one.queue, make: queueCell(t) },
    text("user", "clip col-user", (one) => one.user),
    text("sub", "clip col-user hide-wide", (one) => one.sub ?? ""),
    text("kind", "col-kind hide-medium", (one) => t(`consumers.kind_${one.kind}`)),
    figure("in_flight", "col-figure", (one) => one.in_flight, number),
    figure("credit", "col-figure hide-narrow", (one) => one.credit, number),
    figure("delivered", "col-rate hide-narrow", (one) => one.delivered_per_s, rate),
    text("lease_mode", "col-kind hide-wide", (one) => (one.lease_mode ? t(`consumers.lease_${one.lease_mode}`) : "–")),
    text("address", "clip col-address hide-medium", (one) => one.address ?? "–"),
    {
      id: "since",
      label: t("consumers.since"),
      class: "col-age hide-narrow",
      sort: (one) => Date.parse(one.since),
      make: sinceCell,
    },
    {
      id: "actions",
      label: t("table.actions"),
      hiddenLabel: true,
      class: "col-actions",
      make: disconnectCell(t, api, session),
    },
  ];
}

/** @param {T} t */
function queueCell(t) {
  return (/** @type {HTMLElement} */ cell, /** @type {Consumer} */ first) => {
    const link = el("a", {
      class: "clip",
      href: `#/queues/${encodeURIComponent(first.queue)}`,
      title: first.queue,
      text: first.queue,
    });
    const badge = el("span", { class: "badge badge-orange", text: t("consumers.is_paused") });
    cell.append(el("div", { class: "name-cell" }, link, badge));
    return (/** @type {Consumer} */ one) => {
      badge.hidden = !one.paused;
    };
  };
}

/** @param {HTMLElement} cell @param {Consumer} first */
function sinceCell(cell, first) {
  cell.title = dateTime(first.since);
  return (/** @type {Consumer} */ one) => setText(cell, duration(Math.max(1_000, brokerNow() - Date.parse(one.since))));
}

/** @param {T} t @param {any} api @param {any} session */
function disconnectCell(t, api, session) {
  return (/** @type {HTMLElement} */ cell, /** @type {Consumer} */ first) => {
    let now = first;
    if (may(session, "manage", first.queue)) {
      cell.append(
        button(t("consumers.disconnect"), {
          kind: "quiet",
          small: true,
          iconOnly: true,
          icon: icon("unplug"),
          testid: `consumer-disconnect-${first.id}`,
          onClick: () => askDisconnect(t, api, now),
        }),
      );
    }
    return (/** @type {Consumer} */ one) => {
      now = one;
    };
  };
}

/** What disconnecting does, by the kind of a consumer. @type {Record<string, string>} */
const ENDS = { websocket: "socket", long_poll: "poll", webhook: "webhook", embedded: "embedded" };

/** @param {T} t @param {any} api @param {Consumer} consumer */
function askDisconnect(t, api, consumer) {
  const { id, user, queue, kind, in_flight } = consumer;
  ask({
    title: t("consumers.disconnect_title", { user, queue }),
    kind: "danger",
    content: [
      concerned(t("consumers.disconnect_count", { count: in_flight, n: number(in_flight) }), in_flight),
      el("p", { class: "soft", text: t(`consumers.disconnect_${ENDS[kind]}`) }),
    ],
    confirm: t("consumers.disconnect"),
    run: async () => {
      await api.delete(path`/consumers/${id}`);
      toast(t("consumers.disconnected", { user }));
    },
  });
}
