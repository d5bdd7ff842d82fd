/**
 * Dark, light, or as the system has it. `early.js` sets the first theme before the page is painted; this module
 * changes it afterwards.
 */

const STORED = "streambroker.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @type {Set<() => void>} */
const listeners = new Set();
dark.addEventListener("change", () => mode() === "auto" && apply());

/** @typedef {"auto" | "dark" | "light"} Mode */

/** What was chosen. @returns {Mode} */
export function mode() {
  const stored = localStorage.getItem(STORED);
  return stored === "dark" || stored === "light" ? stored : "auto";
}

/** @param {Mode} next */
export function setMode(next) {
  if (next === "auto") localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, next);
  apply();
}

/** The next of auto, light, dark. @returns {Mode} */
export function nextMode() {
  /** @type {Mode[]} */
  const modes = ["auto", "light", "dark"];
  return modes[(modes.indexOf(mode()) + 1) % modes.length];
}

/** @param {() => void} listener called after each change @returns {() => void} stops listening */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A design token's value now, for a canvas. @param {string} name such as `--blue` @returns {string} */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function apply() {
  const wanted = mode();
  document.documentElement.dataset.theme = wanted === "auto" ? (dark.matches ? "dark" : "light") : wanted;
  for (const listener of listeners) listener();
}
