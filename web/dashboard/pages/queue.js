/** One queue: how it is, what is in it, what happens in it now. */

import { path } from "../lib/api.js";
import { button, el, replace, setText } from "../lib/dom.js";
import { compact, dateTime, duration, number, rate } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { failed, loading } from "../lib/views.js";
import { closeDialogs } from "../parts/dialog.js";
import { writeDuration } from "../parts/duration.js";
import { eventsTail } from "../parts/events-tail.js";
import { closeMenu, openMenu } from "../parts/menu.js";
import { messageSearch } from "../parts/message-search.js";
import { askPublish } from "../parts/publish.js";
import { queueActions } from "../parts/queue-actions.js";
import { may } from "../parts/rights.js";
import { sparkline } from "../parts/sparkline.js";

/** @typedef {import("./queues.js").QueueLine} QueueLine */
/** @typedef {(key: string, params?: any) => string} T */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { params, api, feed, t, session }) {
  const name = String(params.name);
  const gone = new AbortController();
  const figures = tiles(t);
  const paused = el("span", {
    class: "badge badge-orange",
    testid: "paused",
    hidden: true,
    text: t("queue.is_paused"),
  });
  const configuration = el("div", { class: "panel-body" });
  const search = messageSearch(api, name);
  const tail = eventsTail(feed, name);
  let queue = { name, paused: false };
  /** Whether the feed has told of it: it is gone, or not to be seen any more, once it tells of it no longer. */
  let told = false;

  const acting = { api, session, done: reload, gone: () => (location.hash = "#/queues") };
  const more = button(t("table.actions"), { icon: icon("more"), testid: `queue-actions-${name}`, onClick: onMore });
  more.classList.add("button-fold");
  more.setAttribute("aria-haspopup", "menu");
  more.setAttribute("aria-expanded", "false");
  more.hidden = queueActions(acting, queue).length === 0;
  const publish = button(t("publish.open"), {
    kind: "primary",
    icon: icon("send"),
    testid: "publish-open",
    onClick: onPublish,
  });
  publish.hidden = !may(session, "publish", name);
  const content = el("div", {}, loading({ lines: 8 }));
  const hooks = may(session, "manage", name)
    ? el("a", {
        class: "button button-plain",
        href: `#/webhooks?${new URLSearchParams({ queue: name })}`,
        testid: "queue-webhooks",
        text: t("webhooks.title"),
      })
    : null;
  replace(
    root,
    el(
      "div",
      {},
      crumbs(t, name),
      el(
        "header",
        { class: "page-head" },
        el("h1", { tabindex: -1, text: name }),
        paused,
        el("div", { class: "page-actions page-actions-many" }, publish, hooks, more),
      ),
      content,
    ),
  );
  const whole = el(
    "div",
    { class: "stack" },
    figures.node,
    el(
      "div",
      { class: "queue-columns" },
      search.node,
      el(
        "div",
        { class: "stack" },
        tail.node,
        el(
          "section",
          { class: "panel", testid: "queue-config" },
          el("div", { class: "panel-head" }, el("h2", { text: t("queue.configuration") })),
          configuration,
        ),
      ),
    ),
  );

  function onMore() {
    openMenu(more, queueActions(acting, queue));
  }
  function onPublish() {
    askPublish(api, name, reload);
  }

  async function reload() {
    search.reload();
    await look();
  }

  async function look() {
    try {
      take(await api.get(path`/queues/${name}`, { signal: gone.signal }));
    } catch (error) {
      if (gone.signal.aborted) return;
      if ([403, 404].includes(/** @type {any} */ (error)?.status)) lost(/** @type {any} */ (error).status);
      replace(content, failed(error, look));
    }
  }

  /** Nothing is offered of a queue that is not there; one that may not be seen may still be published to.
   * @param {number} status */
  function lost(status) {
    told = false;
    paused.hidden = true;
    more.hidden = true;
    if (hooks) hooks.hidden = true;
    publish.hidden ||= status === 404;
  }

  /** @param {any} answer */
  function take(answer) {
    if (!whole.isConnected) replace(content, whole);
    more.hidden = queueActions(acting, queue).length === 0;
    publish.hidden = !may(session, "publish", name);
    if (hooks) hooks.hidden = false;
    const { counts, rates, oldest_pending_age_ms, consumers } = answer;
    put({ name, paused: answer.paused, ...counts, ...rates, oldest_pending_age_ms, consumers, spark: [] });
    replace(configuration, facts(t, answer));
  }

  /** @param {QueueLine} line */
  function put(line) {
    queue = line;
    paused.hidden = !line.paused;
    figures.show(line);
  }

  function onQueues() {
    const line = feed.queues.get(name);
    if (line) {
      // One that was made anew under the same name.
      if (!told && !whole.isConnected) void look();
      told = true;
      put(line);
    } else if (told) {
      told = false;
      void look();
    }
  }

  const stops = [feed.on("queues", onQueues), feed.watch({ topics: ["queues"] })];
  void look();
  return () => {
    gone.abort();
    stops.forEach((stop) => stop());
    tail.stop();
    search.stop();
    closeMenu();
    closeDialogs();
  };
}

/** @param {T} t @param {string} name */
function crumbs(t, name) {
  return el(
    "nav",
    { class: "crumbs", "aria-label": t("crumbs.label") },
    el("a", { href: "#/queues", text: t("queues.title") }),
    el("span", { "aria-current": "page", text: name }),
  );
}

/** The figures at the top. @param {T} t */
function tiles(t) {
  const spark = sparkline();
  /** @type {[string, string, (line: QueueLine) => string][]} */
  const all = [
    ["pending", "orange", (line) => compact(line.pending)],
    ["processing", "blue", (line) => compact(line.processing)],
    ["failed", "red", (line) => compact(line.failed)],
    ["processed", "green", (line) => compact(line.processed)],
    ["oldest", "neutral", (line) => duration(line.oldest_pending_age_ms)],
    ["consumers", "neutral", (line) => number(line.consumers)],
    ["published", "neutral", (line) => rate(line.published)],
    ["delivered", "neutral", (line) => rate(line.delivered)],
    ["settled", "neutral", (line) => rate(line.settled)],
  ];
  const made = all.map(([id, tone, text]) => {
    const value = el("span", { class: "tile-value", testid: `queue-figure-${id}` });
    const extra =
      id === "pending" ? [el("span", { class: "faint tile-note", testid: "queue-figure-delayed" }), spark.node] : [];
    const node = el(
      "div",
      { class: `tile tile-${id} tone-${tone}` },
      el("dt", { text: t(`queues.${id}`) }),
      el("dd", {}, value, extra),
    );
    return { node, value, note: extra[0], text };
  });
  return {
    node: el(
      "dl",
      { class: "tiles", testid: "queue-figures" },
      made.map((one) => one.node),
    ),
    /** @param {QueueLine} line */
    show(line) {
      for (const one of made) {
        setText(one.value, one.text(line));
        if (one.note)
          setText(
            one.note,
            line.delayed > 0 ? t("queue.delayed", { count: line.delayed, n: number(line.delayed) }) : "",
          );
      }
      const values = line.spark ?? [];
      if (values.length > 0)
        spark.show(values, t("queues.depth_of", { from: values[0], to: values[values.length - 1] }));
    },
  };
}

/** @param {T} t @param {any} queue @returns {HTMLElement} */
function facts(t, queue) {
  const { backoff, ...rest } = queue.config;
  const inner = Object.entries(backoff).map(([key, value]) => [`backoff.${key}`, value]);
  const rows = [...Object.entries(rest), ...inner].map(([key, value]) => [
    t(`queue.field.${key}`),
    written(t, key, value),
  ]);
  rows.push([t("queue.created_at"), dateTime(queue.created_at)]);
  return el(
    "dl",
    { class: "facts" },
    rows.map(([label, value]) => [el("dt", { text: label }), el("dd", {}, value)]),
  );
}

/** @param {T} t @param {string} key @param {any} value @returns {import("../lib/dom.js").Child} */
function written(t, key, value) {
  if (key === "dead_letter_queue" && value !== null) {
    return el("a", { href: `#/queues/${encodeURIComponent(value)}`, text: value });
  }
  if (value === null) return t("queue.none");
  if (typeof value === "boolean") return t(value ? "form.yes" : "form.no");
  if (key.endsWith("_ms")) return value === 0 && key === "message_ttl_ms" ? t("queue.no_limit") : writeDuration(value);
  if (value === 0) return t("queue.no_limit");
  return typeof value === "string" ? t(`queue.choice.${value}`) : number(value);
}
