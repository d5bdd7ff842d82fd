/** One message: all that is known of it, what it carries, what became of it, and what can be done with it. */

import { path, Problem } from "../lib/api.js";
import { age } from "../lib/clock.js";
import { button, el, replace } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { empty, failed, loading } from "../lib/views.js";
import { contentView } from "../parts/content-view.js";
import { copyButton } from "../parts/copy.js";
import { closeDialogs } from "../parts/dialog.js";
import { indented } from "../parts/json-text.js";
import { closeMenu } from "../parts/menu.js";
import { messageActions, NARROW } from "../parts/message-actions.js";
import { readMessage } from "../parts/message-text.js";
import { statusBadge } from "../parts/status-badge.js";
import { timeline } from "../parts/timeline.js";

/** @typedef {import("../parts/message-text.js").Message} Message */

/** A purge, a delete and the end of a retention are told by no event: how often the page asks. */
const EVERY_MS = 3_000;

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { params, api, feed, session }) {
  const id = String(params.id);
  const gone = new AbortController();
  const crumbs = el(
    "nav",
    { class: "crumbs", "aria-label": t("crumbs.label") },
    el("a", { href: "#/queues", text: t("queues.title") }),
  );
  const badge = el("span", {});
  const buttons = el("div", { class: "page-actions page-actions-many" });
  const copyId = copyButton(() => id, "message-copy-id");
  copyId.classList.add("button-fold");
  const place = el("div", {}, loading({ lines: 8 }));
  replace(
    root,
    crumbs,
    el(
      "header",
      { class: "page-head" },
      el("h1", { class: "mono", tabindex: -1, text: id }),
      badge,
      copyId,
      buttons,
    ),
    place,
  );
  const acting = { api, session, changed: () => void look(), gone: left };
  /** @type {string | null} what is shown, so that only news is drawn */
  let shown = null;
  /** The timeline that is shown. */
  let past = "";
  /** @type {(() => void) | null} */
  let unwatch = null;
  let queue = "";

  async function look() {
    try {
      const text = await api.text(path`/messages/${id}`, { signal: gone.signal });
      const steps = await stepsOf(api, id, gone.signal);
      if (!gone.signal.aborted) draw(text, steps);
    } catch (error) {
      if (!gone.signal.aborted) lost(error);
    }
  }

  /** @param {unknown} error */
  function lost(error) {
    const title = t(shown === null ? "message.gone" : "message.left");
    const missing = error instanceof Problem && error.status === 404;
    if (!missing && shown !== null && !refused(error)) return; // the frame says that the broker is away
    closeMenu();
    replace(buttons);
    replace(badge);
    shown = null;
    replace(place, missing ? empty({ title, hint: t("message.gone_hint") }) : failed(error, look));
  }

  /** Small: of a message that is there only its timeline is read. */
  async function check() {
    if (shown === null || document.hidden || feed.state !== "open") return;
    const steps = await stepsOf(api, id, gone.signal).catch(() => undefined);
    // Where there is no timeline there may be no message any more.
    const news = steps === null || (steps !== undefined && JSON.stringify(steps) !== past);
    if (news && !gone.signal.aborted) await look();
  }

  /** @param {string} text @param {import("../parts/timeline.js").Step[] | null} steps */
  function draw(text, steps) {
    const news = `${text}${JSON.stringify(steps)}`;
    if (news === shown) return;
    shown = news;
    past = JSON.stringify(steps);
    const message = readMessage(text);
    watch(message.fields.queue);
    replace(
      crumbs,
      el("a", { href: "#/queues", text: t("queues.title") }),
      el("a", { href: `#/queues/${encodeURIComponent(message.fields.queue)}`, text: message.fields.queue }),
      el("span", { "aria-current": "page", text: t("nav.message") }),
    );
    closeMenu();
    replace(badge, statusBadge(message.fields.status, message.fields.available_at));
    const again = button(t("action.refresh"), {
      kind: "quiet",
      icon: icon("refresh"),
      iconOnly: true,
      testid: "message-refresh",
      onClick: look,
    });
    replace(buttons, messageActions(acting, message), again);
    replace(
      place,
      el(
        "div",
        { class: "message-columns" },
        el("div", { class: "stack" }, contentView(message), headersPanel(message)),
        el("div", { class: "stack" }, factsPanel(message.fields), steps && historyPanel(steps)),
      ),
    );
  }

  /** @param {string} name */
  function watch(name) {
    if (name === queue) return;
    unwatch?.();
    queue = name;
    unwatch = feed.watch({ events: name });
  }

  /** @param {string | null} copy */
  function left(copy) {
    location.hash = copy ? `#/messages/${encodeURIComponent(copy)}` : `#/queues/${encodeURIComponent(queue)}`;
  }

  /** What concerns this message, or may: of many events some are only counted. @param {any} frame */
  function hear(frame) {
    const named = frame.items.some((/** @type {any} */ event) => event.message_id === id);
    if (frame.queue === queue && (named || frame.dropped > 0)) void look();
  }

  // What happened before the broker took the watch on was not told: hence a second look.
  const stops = [feed.on("events", hear), feed.on("ok", () => void look())];
  const timer = setInterval(() => void check(), EVERY_MS);
  const { signal } = gone;
  NARROW.addEventListener("change", () => ((shown &&= ""), void look()), { signal });
  void look();
  return () => {
    gone.abort();
    clearInterval(timer);
    unwatch?.();
    stops.forEach((stop) => stop());
    closeMenu();
    closeDialogs();
  };
}

/** Whether it was said that one may not see it. @param {unknown} error */
function refused(error) {
  return error instanceof Problem && error.status === 403;
}

/**
 * Null where this broker keeps none.
 * @param {import("../lib/api.js").Api} api @param {string} id @param {AbortSignal} signal
 */
async function stepsOf(api, id, signal) {
  try {
    return (await api.get(path`/messages/${id}/timeline`, { signal })).items;
  } catch (problem) {
    if (problem instanceof Problem && [404, 405].includes(problem.status)) return null;
    throw problem;
  }
}

/** @param {import("../parts/timeline.js").Step[]} steps */
function historyPanel(steps) {
  const body = steps.length > 0 ? timeline(steps) : el("p", { class: "soft", text: t("timeline.empty") });
  return panel(t("timeline.title"), body);
}

/** @param {string} title @param {Node} body @param {string} [testid] */
function panel(title, body, testid) {
  return el(
    "section",
    { class: "panel", testid },
    el("div", { class: "panel-head" }, el("h2", { text: title })),
    el("div", { class: "panel-body" }, body),
  );
}

/** @param {Message} message */
function headersPanel(message) {
  if (message.headers === null) return null;
  return panel(
    t("message.headers"),
    el("pre", { class: "code-block", testid: "message-headers", tabindex: 0, text: indented(message.headers) }),
  );
}

const TIMES = ["created_at", "updated_at", "available_at", "expires_at"];
const TEXTS = ["key", "dedup_id", "correlation_id", "reply_to", "traceparent", "content_type"];

/** @param {any} fields @returns {HTMLElement} */
function factsPanel(fields) {
  /** @type {[string, import("../lib/dom.js").Child][]} */
  const rows = [
    ["message_id", el("span", { class: "mono", text: fields.message_id })],
    ["queue", el("a", { href: `#/queues/${encodeURIComponent(fields.queue)}`, text: fields.queue })],
    ["status", statusBadge(fields.status, fields.available_at)],
    ["priority", number(fields.priority)],
    [
      "attempt",
      fields.max_attempts
        ? t("message.attempt_of", { n: fields.attempt, most: fields.max_attempts })
        : number(fields.attempt),
    ],
    ["error", fields.error ? el("span", { class: "row-error", text: fields.error }) : null],
    ...TIMES.map((name) => /** @type {[string, any]} */ ([name, when(fields[name])])),
    ...TEXTS.map(
      (name) =>
        /** @type {[string, any]} */ ([name, fields[name] ? el("span", { class: "mono", text: fields[name] }) : null]),
    ),
    ...deadLetter(fields.dead_letter),
  ];
  const list = rows.map(([name, value]) => [
    el("dt", { text: t(`field.${name}`) }),
    el("dd", { testid: `field-${name}` }, value ?? el("span", { class: "faint", text: "–" })),
  ]);
  return panel(t("message.facts"), el("dl", { class: "facts" }, list), "message-facts");
}

/** @param {string | null} at */
function when(at) {
  return at
    ? [el("time", { datetime: at, title: at, text: dateTime(at) }), " ", age(at, "faint")]
    : null;
}

/** @param {any} note @returns {[string, import("../lib/dom.js").Child][]} */
function deadLetter(note) {
  if (!note) return [];
  return [
    ["dead_letter_queue", el("a", { href: `#/queues/${encodeURIComponent(note.queue)}`, text: note.queue })],
    ["dead_letter_reason", t(`reason.${note.reason}`)],
    ["dead_letter_error", note.error],
    ["dead_letter_attempts", number(note.attempts)],
    ["dead_letter_at", when(note.at)],
  ];
}
