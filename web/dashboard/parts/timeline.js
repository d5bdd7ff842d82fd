/** What became of a message: each delivery, who had it, for how long, and how it ended. */

import { el } from "../lib/dom.js";
import { dateTime, duration } from "../lib/format.js";
import { known, t } from "../lib/i18n.js";

/**
 * @typedef {{at: string, event: string, attempt: number | null, consumer: string | null,
 *   lease_expires_at: string | null, error: string | null}} Step
 */

/** @type {Record<string, string>} */
const TONES = {
  published: "orange",
  delivered: "blue",
  extended: "blue",
  processed: "green",
  failed: "red",
  dead_lettered: "red",
  expired: "red",
  lost: "red",
  requeued: "purple",
  redriven: "purple",
  released: "neutral",
};

/** @param {Step[]} steps @returns {HTMLElement} */
export function timeline(steps) {
  return el(
    "ol",
    { class: "timeline", testid: "timeline" },
    steps.map((step, at) => line(step, steps[at - 1])),
  );
}

/** @param {Step} step @param {Step | undefined} before @returns {HTMLElement} */
function line(step, before) {
  const key = `timeline.${step.event}`;
  const tone = TONES[step.event] ?? "neutral";
  const since = before ? Date.parse(step.at) - Date.parse(before.at) : 0;
  const facts = [
    step.attempt ? t("timeline.attempt", { n: step.attempt }) : null,
    step.consumer ? t("timeline.consumer", { name: step.consumer }) : null,
    step.lease_expires_at ? t("timeline.lease", { at: dateTime(step.lease_expires_at) }) : null,
  ].filter(Boolean);
  return el(
    "li",
    { class: `tone-${tone}`, testid: `timeline-${step.event}` },
    el(
      "div",
      { class: "row row-wrap" },
      el("strong", { text: known(key) ? t(key) : step.event }),
      el("time", { class: "soft", datetime: step.at, text: dateTime(step.at) }),
      before && since >= 0 ? el("span", { class: "faint", text: `+${duration(since)}` }) : null,
    ),
    facts.length > 0 ? el("p", { class: "soft", text: facts.join(" · ") }) : null,
    step.error ? el("p", { class: "row-error", text: step.error }) : null,
  );
}
