/** What happens in a queue, as it happens: the newest on top, no more than some hundred. */

import { button, el, replace, setText } from "../lib/dom.js";
import { number, time } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { known, t } from "../lib/i18n.js";

const MOST = 300;

/**
 * @typedef {{event: string, message_id: string, queue: string, status: string, attempt: number, at: string}} QueueEvent
 */

/**
 * @param {any} feed
 * @param {string} queue
 * @returns {{node: HTMLElement, stop: () => void}}
 */
export function eventsTail(feed, queue) {
  const list = el("ol", { class: "events", testid: "events-list", tabindex: 0, "aria-label": t("events.title") });
  const nothing = el("p", { class: "soft events-none", testid: "events-none", text: t("events.none") });
  const missed = el("span", { class: "soft", testid: "events-dropped", hidden: true });
  const pause = button(t("action.pause"), {
    small: true,
    icon: icon("pause"),
    testid: "events-pause",
    onClick: onPause,
  });
  const clear = button(t("events.clear"), { small: true, kind: "quiet", testid: "events-clear", onClick: onClear });
  let paused = false;
  let dropped = 0;

  /** @param {{queue: string, items: QueueEvent[], dropped: number}} frame */
  function hear(frame) {
    if (frame.queue !== queue || paused) return;
    miss(frame.dropped ?? 0);
    const newest = frame.items.slice(-MOST).reverse().map(line);
    list.prepend(...newest);
    while (list.children.length > MOST) list.lastElementChild?.remove();
    nothing.hidden = list.children.length > 0;
  }

  /** @param {number} more */
  function miss(more) {
    dropped += more;
    missed.hidden = dropped === 0;
    setText(missed, t("events.dropped", { count: dropped, n: number(dropped) }));
  }

  function onPause() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    replace(pause, icon(paused ? "play" : "pause"), el("span", { text: t(paused ? "action.resume" : "action.pause") }));
  }

  function onClear() {
    list.replaceChildren();
    nothing.hidden = false;
    dropped = 0;
    miss(0);
  }

  const stops = [feed.on("events", hear), feed.watch({ events: queue })];
  const node = el(
    "section",
    { class: "panel", testid: "events" },
    el(
      "div",
      { class: "panel-head" },
      el("h2", { text: t("events.title") }),
      el("div", { class: "panel-tools" }, missed, pause, clear),
    ),
    nothing,
    list,
  );
  return { node, stop: () => stops.forEach((stop) => stop()) };
}

const TONES = {
  new_message: "orange",
  message_delivered: "blue",
  message_processed: "green",
  message_failed: "red",
  message_requeued: "purple",
};

/** @param {QueueEvent} event @returns {HTMLElement} */
function line(event) {
  const key = `events.${event.event}`;
  const tone = /** @type {any} */ (TONES)[event.event] ?? "neutral";
  return el(
    "li",
    {},
    el("time", { class: "faint mono", datetime: event.at, text: time(event.at) }),
    el("span", { class: `badge badge-${tone}`, text: known(key) ? t(key) : event.event }),
    el("a", { class: "mono clip", href: `#/messages/${encodeURIComponent(event.message_id)}`, text: event.message_id }),
    el("span", { class: "soft", text: event.attempt > 0 ? t("events.attempt", { n: event.attempt }) : "" }),
  );
}
