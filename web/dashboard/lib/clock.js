/**
 * The broker's clock, as far as the feed tells it. Whoever looks may have a clock that is wrong; what is said of a
 * message's age must not be. Until the first tick came the browser's clock has to do.
 */

import { el, setText } from "./dom.js";
import { ago, dateTime } from "./format.js";

/** What a tick may be late; a difference that is larger comes from a clock that was set. */
const LATE_MS = 2_000;
/** How long an age may stand while the page is left alone. */
const STANDS_MS = 15_000;

/** @type {number | null} the broker's time less the browser's; null before the first tick */
let ahead = null;
let written = 0;

/** The time now by the broker's clock, in milliseconds since 1970. */
export function now() {
  return Date.now() + (ahead ?? 0);
}

/** Whether that time is yet to come, by more than this clock may be slow. @param {string} at RFC 3339 */
export function isToCome(at) {
  return Date.parse(at) > now() + LATE_MS;
}

/** The broker says what time it is; the ages on the page follow now and then. @param {string} at RFC 3339 */
export function heardTime(at) {
  const said = Date.parse(at) - Date.now();
  if (Number.isNaN(said)) return;
  const was = ahead ?? 0;
  // A tick is heard late, never early.
  ahead = ahead === null || said < ahead - LATE_MS ? said : Math.max(ahead, said);
  if (Math.abs(ahead - was) > LATE_MS || Math.abs(Date.now() - written) > STANDS_MS) writeAges();
}

function writeAges() {
  written = Date.now();
  for (const node of document.querySelectorAll("time[data-age]")) {
    setText(node, ago(node.getAttribute("datetime"), now()));
  }
}

/** How long ago that is, in words that keep up with the time. @param {string} at RFC 3339 @param {string} [look] */
export function age(at, look) {
  return el("time", { class: look, datetime: at, title: dateTime(at), data: { age: "" }, text: ago(at, now()) });
}
