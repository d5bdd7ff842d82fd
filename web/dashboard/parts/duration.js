/** Durations as people type them: `30 s`, `1 h 30 min`, `250 ms`; a bare number is milliseconds. */

/** @type {[string, number][]} */
const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
  ["ms", 1],
];
const SIZES = Object.fromEntries(UNITS);
const PART = /\s*(\d+(?:[.,]\d+)?)\s*(ms|s|min|h|d)/iy;

/**
 * Milliseconds; null where it is none of these.
 * @param {string} text
 * @returns {number | null}
 */
export function parseDuration(text) {
  const trimmed = text.trim();
  if (/^\d+$/.test(trimmed)) return Number(trimmed);
  let total = 0;
  let at = 0;
  while (at < trimmed.length) {
    PART.lastIndex = at;
    const part = PART.exec(trimmed);
    if (!part) return null;
    total += Number(part[1].replace(",", ".")) * SIZES[part[2].toLowerCase()];
    at = PART.lastIndex;
  }
  return trimmed === "" ? null : Math.round(total);
}

/**
 * To the millisecond, in as few units as that takes.
 * @param {number} ms
 * @returns {string}
 */
export function writeDuration(ms) {
  const parts = [];
  let left = ms;
  for (const [unit, size] of UNITS) {
    const whole = Math.floor(left / size);
    if (whole > 0) parts.push(`${whole} ${unit}`);
    left -= whole * size;
  }
  return parts.join(" ") || "0";
}
