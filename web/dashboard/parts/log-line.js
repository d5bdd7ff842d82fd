/** A line of the broker's log: a JSON object, shown as time, level, event and what belongs to it. */

import { el } from "../lib/dom.js";
import { dateTime, time } from "../lib/format.js";
import { spoken, membersOf } from "./json-text.js";

export const LEVELS = ["debug", "info", "warning", "error", "critical"];

/** @typedef {{text: string, at: string, level: string, event: string, rest: [string, string][]}} LogLine */

const HEAD = new Set(["timestamp", "level", "event"]);

/**
 * A line that is no JSON object is its own event.
 * @param {string} text
 * @returns {LogLine}
 */
export function readLine(text) {
  try {
    const line = JSON.parse(text);
    const rest = membersOf(text, 0)
      .map(({ key, start, end }) => /** @type {[string, string]} */ ([spoken(key ?? ""), text.slice(start, end)]))
      .filter(([key]) => !HEAD.has(key))
      .map(([key, value]) => /** @type {[string, string]} */ ([key, value[0] === '"' ? spoken(value) : value]));
    return {
      text,
      at: String(line.timestamp ?? ""),
      level: String(line.level ?? "info"),
      event: String(line.event ?? ""),
      rest,
    };
  } catch {
    return { text, at: "", level: "info", event: text, rest: [] };
  }
}

/** @param {LogLine} line @returns {HTMLElement} */
export function logLine({ at, level, event, rest }) {
  return el(
    "li",
    { data: { level } },
    el("time", { class: "faint", datetime: at, title: dateTime(at), text: at ? time(at) : "" }),
    el("span", { class: "log-level", text: level }),
    el(
      "span",
      { class: "log-text" },
      el("strong", { text: event }),
      rest.map(([key, value]) => [" ", el("span", { class: "faint", text: `${key}=` }), value]),
    ),
  );
}
