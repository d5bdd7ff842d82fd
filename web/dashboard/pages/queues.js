/** All queues, live: find one, see which is in trouble, act on it. */

import { button, el, replace, setText } from "../lib/dom.js";
import { compact, duration, number, rate } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { empty, failed, loading } from "../lib/views.js";
import { closeDialogs } from "../parts/dialog.js";
import { liveTable, says } from "../parts/live-table.js";
import { closeMenu, openMenu } from "../parts/menu.js";
import { askCreate, queueActions } from "../parts/queue-actions.js";
import { mayAnywhere } from "../parts/rights.js";
import { sparkline } from "../parts/sparkline.js";

/**
 * @typedef {{name: string, paused: boolean, pending: number, delayed: number, processing: number, processed: number,
 *   failed: number, oldest_pending_age_ms: number | null, consumers: number, published: number, delivered: number,
 *   settled: number, spark: number[]}} QueueLine
 */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { api, feed, t, session }) {
  const acting = { api, session };
  const filter = el("input", {
    class: "input",
    type: "search",
    testid: "queue-filter",
    placeholder: t("queues.filter"),
    "aria-label": t("queues.filter"),
    autocomplete: "off",
    spellcheck: "false",
    on: { input: draw },
  });
  const found = el("span", { class: "soft", testid: "queue-count", role: "status" });
  const create = () => askCreate(acting);
  const newQueue = (/** @type {string} */ testid) =>
    mayAnywhere(session, "manage")
      ? button(t("queue.create"), { kind: "primary", icon: icon("plus"), testid, onClick: create })
      : null;
  const table = liveTable({
    columns: columns(t, acting),
    key: (/** @type {QueueLine} */ line) => line.name,
    caption: t("queues.title"),
    testid: "queues-table",
    rowTestid: (line) => `queue-row-${line.name}`,
    sorted: { column: "name", descending: false },
  });
  const place = el("div", { class: "panel panel-flush" }, loading({ lines: 8 }));
  replace(
    root,
    el(
      "header",
      { class: "page-head" },
      el("h1", { tabindex: -1, text: t("queues.title") }),
      el("div", { class: "page-actions" }, newQueue("queue-create")),
    ),
    el("div", { class: "toolbar" }, filter, found),
    place,
  );
  let heard = false;

  /** @param {string} kind @param {() => Node} make */
  function fill(kind, make) {
    if (place.dataset.shows === kind) return;
    place.dataset.shows = kind;
    replace(place, make());
  }

  function draw() {
    if (!heard) return;
    const wanted = filter.value.trim().toLowerCase();
    const all = /** @type {QueueLine[]} */ ([...feed.queues.values()]);
    const lines = wanted === "" ? all : all.filter((line) => line.name.toLowerCase().includes(wanted));
    setText(found, t("queues.count", { count: all.length, shown: number(lines.length), all: number(all.length) }));
    if (all.length === 0) {
      fill("empty", () =>
        empty({
          title: t("queues.empty"),
          hint: emptyHint(t, session),
          action: newQueue("queue-create-first") ?? undefined,
        }),
      );
    } else if (lines.length === 0) {
      fill("none", () => empty({ title: t("queues.none_match") }));
    } else {
      fill("table", () => table.node);
      table.show(lines);
    }
  }

  function onState() {
    if (feed.state === "refused") fill("refused", () => failed({ code: "forbidden" }, () => feed.start()));
  }

  function hear() {
    heard = true;
    draw();
  }

  const stops = [feed.on("queues", hear), feed.on("state", onState), feed.watch({ topics: ["queues"] })];
  if (feed.queues.size > 0) hear();
  onState();
  return () => {
    stops.forEach((stop) => stop());
    table.stop();
    closeMenu();
    closeDialogs();
  };
}

/** What may be done about it. @param {(key: string) => string} t @param {any} session */
function emptyHint(t, session) {
  if (mayAnywhere(session, "manage") && mayAnywhere(session, "publish")) return t("queues.empty_hint");
  if (mayAnywhere(session, "manage")) return t("queues.empty_manage");
  return t(mayAnywhere(session, "publish") ? "queues.empty_publish" : "queues.empty_none");
}

/**
 * @param {(key: string, params?: any) => string} t
 * @param {any} acting
 * @returns {import("../parts/live-table.js").Column<QueueLine>[]}
 */
function columns(t, acting) {
  /**
   * @param {string} id
   * @param {string} look
   * @param {(line: QueueLine) => number | null} sort
   * @param {(value: any) => string} [text]
   */
  const figure = (id, look, sort, text = compact) => ({
    id,
    label: t(`queues.${id}`),
    class: `num ${look}`,
    sort,
    make: says((/** @type {QueueLine} */ line) => text(sort(line))),
  });
  return [
    { id: "name", label: t("queues.name"), class: "col-name", sort: (line) => line.name, make: name(t) },
    figure("pending", "col-figure", (line) => line.pending),
    { id: "spark", label: t("queues.depth"), class: "col-spark hide-narrow", make: depth(t) },
    figure("processing", "col-figure hide-narrow", (line) => line.processing),
    figure("failed", "col-figure", (line) => line.failed),
    figure("processed", "col-figure hide-wide", (line) => line.processed),
    figure("oldest", "col-age hide-narrow", (line) => line.oldest_pending_age_ms, duration),
    figure("consumers", "col-age hide-medium", (line) => line.consumers),
    figure("published", "col-rate hide-medium", (line) => line.published, rate),
    figure("delivered", "col-rate hide-medium", (line) => line.delivered, rate),
    figure("settled", "col-rate hide-wide", (line) => line.settled, rate),
    { id: "actions", label: t("table.actions"), hiddenLabel: true, class: "col-actions", make: actions(t, acting) },
  ];
}

/** @param {(key: string) => string} t */
function name(t) {
  return (/** @type {HTMLElement} */ cell, /** @type {QueueLine} */ first) => {
    const link = el("a", {
      class: "clip",
      href: `#/queues/${encodeURIComponent(first.name)}`,
      title: first.name,
      text: first.name,
    });
    const badge = el("span", { class: "badge badge-orange", testid: "paused", text: t("queue.is_paused") });
    cell.append(el("div", { class: "name-cell" }, link, badge));
    return (/** @type {QueueLine} */ line) => {
      badge.hidden = !line.paused;
    };
  };
}

/** @param {(key: string, params?: any) => string} t */
function depth(t) {
  return (/** @type {HTMLElement} */ cell) => {
    const line = sparkline();
    cell.append(/** @type {any} */ (line.node));
    return (/** @type {QueueLine} */ queue) => {
      const values = queue.spark ?? [];
      line.show(values, t("queues.depth_of", { from: values[0] ?? 0, to: values[values.length - 1] ?? 0 }));
    };
  };
}

/** @param {(key: string, params?: any) => string} t @param {any} acting */
function actions(t, acting) {
  return (/** @type {HTMLElement} */ cell, /** @type {QueueLine} */ first) => {
    let now = first;
    if (queueActions(acting, first).length > 0) {
      const open = (/** @type {any} */ event) => openMenu(event.currentTarget, queueActions(acting, now));
      const more = button(t("queues.actions_of", { name: first.name }), {
        kind: "quiet",
        small: true,
        iconOnly: true,
        icon: icon("more"),
        testid: `queue-actions-${first.name}`,
        onClick: open,
      });
      more.setAttribute("aria-haspopup", "menu");
      more.setAttribute("aria-expanded", "false");
      cell.append(more);
    }
    return (/** @type {QueueLine} */ line) => {
      now = line;
    };
  };
}
