/** Figures and times as a person reads them, in the chosen language. What is missing reads as a dash. */

import { language } from "./i18n.js";

const DASH = "–";

/** Made once: they are slow to make. @type {Map<string, unknown>} */
const made = new Map();

/** @template T @param {string} name @param {(tag: string) => T} make @returns {T} */
function once(name, make) {
  const key = `${language()} ${name}`;
  if (!made.has(key)) made.set(key, /** @type {any} */ (make(language())));
  return /** @type {any} */ (made.get(key));
}

/** @param {unknown} value @returns {value is number} */
function isFigure(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A count, whole: `12,345`. @param {number | null | undefined} value @param {number} [digits] after the point */
export function number(value, digits = 0) {
  if (!isFigure(value)) return DASH;
  return once(`n${digits}`, (tag) => {
    return new Intl.NumberFormat(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }).format(value);
}

/** A count, short: `12.3K`; whole below 10,000. @param {number | null | undefined} value */
export function compact(value) {
  if (!isFigure(value) || Math.abs(value) < 10_000) return number(value);
  return once("compact", (tag) => {
    return new Intl.NumberFormat(tag, { notation: "compact", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  }).format(value);
}

/** For the marks of an axis: no more digits than they need: `2.5`, `40K`. @param {number} value */
export function mark(value) {
  return once("mark", (tag) => new Intl.NumberFormat(tag, { notation: "compact", maximumSignificantDigits: 3 })).format(
    value,
  );
}

/** Per second: one digit below 10, none above: `0.4/s`, `1,250/s`. @param {number | null | undefined} value */
export function rate(value) {
  if (!isFigure(value)) return DASH;
  return `${number(value, value > 0 && value < 10 ? 1 : 0)}/s`;
}

/** @param {number | null | undefined} value of a hundred: `12.5%` */
export function percent(value) {
  return isFigure(value) ? `${number(value, 1)}%` : DASH;
}

/** Milliseconds as a latency: `0.85 ms`, `12 ms`, `1.20 s`. @param {number | null | undefined} ms */
export function latency(ms) {
  if (!isFigure(ms)) return DASH;
  if (ms >= 1_000) return `${number(ms / 1_000, 2)} s`;
  return `${number(ms, ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** @type {[number, string][]} */
const SPANS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
];

/** A duration by its two largest units: `3 d 4 h`, `2 min 5 s`, `250 ms`. @param {number | null | undefined} ms */
export function duration(ms) {
  if (!isFigure(ms)) return DASH;
  if (ms < 1_000) return `${number(Math.round(ms))} ms`;
  const first = SPANS.findIndex(([size]) => ms >= size);
  const [size, unit] = SPANS[first];
  const whole = Math.floor(ms / size);
  const next = SPANS[first + 1];
  const rest = next ? Math.floor((ms - whole * size) / next[0]) : 0;
  return rest > 0 ? `${number(whole)} ${unit} ${rest} ${next[1]}` : `${number(whole)} ${unit}`;
}

/** How long the broker has run, always three places: `3d 04:05:06`. @param {number | null | undefined} seconds */
export function uptime(seconds) {
  if (!isFigure(seconds)) return DASH;
  const whole = Math.floor(seconds);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const days = Math.floor(whole / 86_400);
  const clock = `${two(Math.floor(whole / 3_600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return days > 0 ? `${number(days)}d ${clock}` : clock;
}

/** Bytes: `512 B`, `1.5 KiB`, `20.0 MiB`. @param {number | null | undefined} value */
export function bytes(value) {
  if (!isFigure(value)) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (Math.abs(value) >= 1_024 && at < units.length - 1) {
    value /= 1_024;
    at += 1;
  }
  return `${number(value, at === 0 ? 0 : 1)} ${units[at]}`;
}

/** The time of day here: `10:13:00`. @param {string | number | null | undefined} at RFC 3339 or epoch ms */
export function time(at) {
  const date = dateOf(at);
  if (!date) return DASH;
  return once("time", (tag) => new Intl.DateTimeFormat(tag, { timeStyle: "medium", hourCycle: "h23" })).format(date);
}

/** Date and time here, to the second. @param {string | number | null | undefined} at */
export function dateTime(at) {
  const date = dateOf(at);
  if (!date) return DASH;
  return once("dateTime", (tag) => {
    return new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
  }).format(date);
}

/** Date and time here, short: `11/19/26, 12:59`. @param {string | number | null | undefined} at */
export function shortDateTime(at) {
  const date = dateOf(at);
  if (!date) return DASH;
  return once("shortDateTime", (tag) => {
    return new Intl.DateTimeFormat(tag, { dateStyle: "short", timeStyle: "short", hourCycle: "h23" });
  }).format(date);
}

/**
 * How long ago, or until: `5 minutes ago`, `in 2 hours`.
 * @param {string | number | null | undefined} at @param {number} now  by the clock that `at` is from: see `clock.js`
 */
export function ago(at, now) {
  const date = dateOf(at);
  if (!date) return DASH;
  const seconds = Math.round((date.getTime() - now) / 1_000);
  const words = once("ago", (tag) => new Intl.RelativeTimeFormat(tag, { numeric: "auto" }));
  const far = Math.abs(seconds);
  if (far < 60) return words.format(seconds, "second");
  if (far < 3_600) return words.format(Math.round(seconds / 60), "minute");
  if (far < 86_400) return words.format(Math.round(seconds / 3_600), "hour");
  return words.format(Math.round(seconds / 86_400), "day");
}

/** @param {string | number | null | undefined} at @returns {Date | null} */
function dateOf(at) {
  if (at === null || at === undefined || at === "") return null;
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}
