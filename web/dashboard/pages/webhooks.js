/** Webhooks: those of all queues, or of one, and one with what it sent. It asks again every few seconds. */

import { path } from "../lib/api.js";
import { button, el, replace } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { empty, failed, loading } from "../lib/views.js";
import { closeDialogs } from "../parts/dialog.js";
import { writeDuration } from "../parts/duration.js";
import { closeMenu } from "../parts/menu.js";
import { pager, plainTable } from "../parts/plain-table.js";
import { may, mayAnywhere } from "../parts/rights.js";
import { lastOutcome, outcome, standing, webhookMenu } from "../parts/webhook-actions.js";
import { askCreateWebhook } from "../parts/webhook-form.js";
import { deliveriesTable } from "../parts/webhook-log.js";

/** @typedef {import("../parts/webhook-form.js").Webhook} Webhook */

const EVERY_MS = 3_000;
/** How long "8 seconds ago" may stand. */
const REDRAWN_MS = 15_000;

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, page) {
  const queue = page.query.get("queue");
  const id = page.query.get("id");
  if (!mayAnywhere(page.session, "manage")) {
    replace(root, el("h1", { class: "visually-hidden", text: t("webhooks.title") }), failed({ code: "forbidden" }));
    return () => {};
  }
  const stop = queue !== null && id !== null ? showOne(root, page, queue, id) : showList(root, page, queue);
  return () => {
    stop();
    closeMenu();
    closeDialogs();
  };
}

/** @param {HTMLElement} root @param {any} page @param {string | null} queue */
function showList(root, { api, session }, queue) {
  const place = el("div", {});
  const pages = pager(() => void view.reload(), "webhook");
  const create = (/** @type {string} */ testid) =>
    button(t("webhooks.create"), {
      kind: "primary",
      icon: icon("plus"),
      testid,
      onClick: () => askCreateWebhook(api, session, queue ?? "", view.refresh),
    });
  const making = queue === null ? mayAnywhere(session, "consume") : mayAll(session, queue);

  /** @param {AbortSignal} signal */
  function load(signal) {
    return api.get("/webhooks", { query: { limit: 100, cursor: pages.at(), queue }, signal });
  }

  /** @param {{items: Webhook[], next_cursor: string | null}} found */
  function draw(found) {
    pages.found(found.next_cursor);
    if (found.items.length > 0) return table(api, session, found.items, view.refresh);
    const action = making ? create("webhook-create-first") : undefined;
    if (queue !== null) return empty({ title: t("webhooks.none_here"), action });
    return empty({ title: t("webhooks.empty"), hint: t(making ? "webhooks.empty_hint" : "webhooks.empty_none"), action });
  }

  const view = kept(place, load, draw);
  const title = queue === null ? t("webhooks.title") : t("webhooks.of_queue", { name: queue });
  const all = queue === null ? null : el("p", {}, el("a", { href: "#/webhooks", text: t("webhooks.all") }));
  replace(
    root,
    el(
      "header",
      { class: "page-head" },
      el(
        "div",
        { class: "page-title" },
        el("h1", { tabindex: -1, text: title }),
        el("p", { class: "page-lede", text: t("webhooks.lede") }),
        all,
      ),
      making ? el("div", { class: "page-actions" }, create("webhook-create")) : null,
    ),
    el("section", { class: "panel" }, place, pages.node),
  );
  return view.stop;
}

/** What it takes to make one of this queue. @param {any} session @param {string} queue */
function mayAll(session, queue) {
  return may(session, "manage", queue) && may(session, "consume", queue);
}

/** @param {any} api @param {any} session @param {Webhook[]} webhooks @param {() => void} changed */
function table(api, session, webhooks, changed) {
  /** @type {import("../parts/plain-table.js").PlainColumn<Webhook>[]} */
  const columns = [
    { label: t("webhooks.url"), class: "wrap webhook-url", cell: targetCell },
    { label: t("webhooks.queue"), class: "clip webhook-queue hide-narrow", cell: queueLink },
    { label: t("webhooks.status"), class: "wrap", cell: standingCell },
    { label: t("webhooks.last"), class: "wrap hide-narrow", cell: (one) => lastOutcome(one.last_delivery) },
    { label: t("webhooks.failures"), class: "num hide-medium", cell: failuresCell },
    { label: t("webhooks.user"), class: "wrap hide-medium", cell: (one) => one.username },
    {
      label: t("table.actions"),
      hiddenLabel: true,
      class: "col-buttons",
      cell: (one) => webhookMenu(api, session, one, { changed, log: true }),
    },
  ];
  return plainTable({
    columns,
    rows: webhooks,
    caption: t("webhooks.title"),
    testid: "webhooks-table",
    rowTestid: (one) => `webhook-row-${one.id}`,
  });
}

/** @param {Webhook} one */
function targetCell(one) {
  const href = `#/webhooks?${new URLSearchParams({ queue: one.queue, id: one.id })}`;
  const note = one.description === null ? null : el("div", { class: "soft", text: one.description });
  const queue = el("div", { class: "only-narrow" }, queueLink(one));
  return [el("a", { href, testid: `webhook-open-${one.id}`, text: one.url }), queue, note];
}

/** @param {Webhook} one */
function queueLink({ queue }) {
  return el("a", { href: `#/queues/${encodeURIComponent(queue)}`, title: queue, text: queue });
}

/** With what came of the last request, where that has no column. @param {Webhook} one */
function standingCell(one) {
  const last = one.last_delivery ? outcome(one.last_delivery) : null;
  return [standing(one), last && el("div", { class: "only-narrow webhook-last" }, last)];
}

/** @param {Webhook} one */
function failuresCell({ failures = 0 }) {
  return el("span", { testid: "webhook-failures", text: failures >= 100 ? `≥ ${number(100)}` : number(failures) });
}

/** @param {HTMLElement} root @param {any} page @param {string} queue @param {string} id */
function showOne(root, { api, session }, queue, id) {
  const place = el("div", { class: "stack" });
  const one = path`/queues/${queue}/webhooks/${id}`;
  const pages = pager(() => void view.reload(), "delivery");

  /** @param {AbortSignal} signal */
  async function load(signal) {
    const query = { limit: 25, cursor: pages.at() };
    const [webhook, log] = await Promise.all([
      api.get(one, { signal }),
      api.get(`${one}/deliveries`, { query, signal }),
    ]);
    return { webhook, log };
  }

  /** @param {{webhook: Webhook, log: any}} found */
  function draw({ webhook, log }) {
    pages.found(log.next_cursor);
    const deleted = () => {
      location.hash = "#/webhooks";
    };
    return [
      el(
        "section",
        { class: "panel" },
        el(
          "header",
          { class: "panel-head" },
          el("h2", { class: "wrap", text: webhook.url }),
          el("div", { class: "panel-tools" }, webhookMenu(api, session, webhook, { changed: view.refresh, deleted })),
        ),
        el("div", { class: "panel-body" }, facts(webhook)),
      ),
      el(
        "section",
        { class: "panel" },
        el(
          "header",
          { class: "panel-head" },
          el("h2", { text: t("webhooks.log") }),
          el("span", { class: "soft", text: t("webhooks.log_note") }),
        ),
        deliveriesTable(api, webhook, log.items, view.refresh),
        pages.node,
      ),
    ];
  }

  const view = kept(place, load, draw, {
    code: "not_found",
    shown: () => empty({ title: t("webhooks.gone"), hint: t("webhooks.gone_hint") }),
  });
  replace(
    root,
    el(
      "header",
      { class: "page-head" },
      el(
        "div",
        { class: "page-title" },
        el("nav", { class: "crumbs" }, el("a", { href: "#/webhooks", text: t("webhooks.title") }), el("span", { text: queue })),
        el("h1", { tabindex: -1, text: t("webhooks.log_of", { queue }) }),
      ),
    ),
    place,
  );
  return view.stop;
}

/** @param {Webhook} webhook */
function facts(webhook) {
  /** @type {[string, import("../lib/dom.js").Child][]} */
  const known = [
    [t("webhooks.status"), standing(webhook)],
    [t("webhooks.description"), webhook.description ?? "–"],
    [t("webhooks.user"), webhook.username],
    [t("webhooks.in_flight"), number(webhook.in_flight)],
    [t("webhooks.concurrency"), number(webhook.concurrency)],
    [t("webhooks.timeout"), writeDuration(webhook.timeout_ms)],
    [t("webhooks.give_up"), writeDuration(webhook.disable_after_ms)],
    [t("webhooks.headers"), Object.keys(webhook.headers).join(", ") || "–"],
    [t("keys.created_at"), dateTime(webhook.created_at)],
  ];
  const lines = known.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { class: "wrap" }, value)]);
  return el("dl", { class: "facts facts-pairs", testid: "webhook-facts" }, ...lines);
}

/**
 * Loads, shows, and asks again every few seconds; what did not change is left alone, and the focus stays where it was.
 * A refresh that fails keeps what is there: the frame says that the broker is away.
 * @template T
 * @param {HTMLElement} place @param {(signal: AbortSignal) => Promise<T>} load
 * @param {(answer: T) => HTMLElement | HTMLElement[]} draw
 * @param {{code: string, shown: () => HTMLElement}} [expected]  an error that has a state of its own
 */
function kept(place, load, draw, expected) {
  let aborter = new AbortController();
  let seen = "";
  let drawn = 0;
  const timer = setInterval(() => seen !== "" && !document.hidden && !asking() && void ask(true), EVERY_MS);

  /** @param {boolean} quiet */
  async function ask(quiet) {
    aborter.abort();
    aborter = new AbortController();
    const { signal } = aborter;
    try {
      const answer = await load(signal);
      const now = JSON.stringify(answer);
      const fresh = now === seen && Date.now() - drawn < REDRAWN_MS;
      if (signal.aborted || (quiet && (fresh || place.querySelector("[aria-expanded=true]")))) return;
      seen = now;
      drawn = Date.now();
      put(draw(answer));
    } catch (error) {
      const own = expected !== undefined && /** @type {any} */ (error)?.code === expected.code;
      if (!signal.aborted && own) put(expected.shown());
      else if (!signal.aborted && !quiet) replace(place, failed(error, reload));
    }
  }

  /** A question is open, and the focus goes back to where it was asked. */
  function asking() {
    return document.querySelector("dialog[open]") !== null;
  }

  /** @param {HTMLElement | HTMLElement[]} nodes */
  function put(nodes) {
    const held = place.contains(document.activeElement)
      ? /** @type {HTMLElement} */ (document.activeElement).dataset.testid
      : undefined;
    replace(place, ...[nodes].flat());
    if (held) /** @type {HTMLElement | null} */ (place.querySelector(`[data-testid="${CSS.escape(held)}"]`))?.focus();
  }

  function reload() {
    seen = "";
    replace(place, loading({ lines: 4 }));
    return ask(false);
  }
  void reload();
  return {
    reload,
    refresh: () => void ask(true),
    stop() {
      clearInterval(timer);
      aborter.abort();
    },
  };
}
