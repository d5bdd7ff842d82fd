/** Bytes as they are: offset, sixteen in hexadecimal, the same as ASCII. A few kilobytes at a time. */

import { button, el } from "../lib/dom.js";
import { t } from "../lib/i18n.js";

const ROW = 16;
const PAGE = 4096;

/**
 * @param {Uint8Array} bytes
 * @returns {HTMLElement}
 */
export function hexView(bytes) {
  const text = el("pre", {
    class: "code-block hex",
    testid: "content-hex",
    tabindex: 0,
    "aria-label": t("content.hex"),
  });
  const more = button(t("content.more"), { kind: "quiet", small: true, testid: "content-hex-more", onClick: grow });
  let shown = 0;
  function grow() {
    const end = Math.min(shown + PAGE, bytes.length);
    text.append(`${shown ? "\n" : ""}${rows(bytes, shown, end)}`);
    shown = end;
    more.hidden = shown >= bytes.length;
  }
  grow();
  return el("div", { class: "hex-view" }, text, more);
}

/**
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 * @returns {string}
 */
export function rows(bytes, start, end) {
  const lines = [];
  for (let at = start; at < end; at += ROW) {
    const row = [...bytes.subarray(at, Math.min(at + ROW, end))];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const halves = `${digits.slice(0, 8).join(" ")}  ${digits.slice(8).join(" ")}`;
    lines.push(`${at.toString(16).padStart(8, "0")}  ${halves.padEnd(ROW * 3)}  ${row.map(ascii).join("")}`);
  }
  return lines.join("\n");
}

/** @param {number} byte @returns {string} */
function ascii(byte) {
  return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".";
}

/**
 * The bytes that a base64 text stands for.
 * @param {string} base64
 * @returns {Uint8Array}
 */
export function bytesOf(base64) {
  const letters = atob(base64);
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}
