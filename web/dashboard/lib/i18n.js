/**
 * The page's words. `t(key, params)` gives the text in the chosen language; English where the other has none. The
 * language is the person's choice, else the browser's.
 */

import en from "../lang/en.js";
import ptBR from "../lang/pt-BR.js";
import pagesEn from "../lang/pages.en.js";
import pagesPtBR from "../lang/pages.pt-BR.js";

/**
 * A text, with `{name}` where a parameter goes; or one for each plural category, chosen by the parameter `count`.
 * @typedef {string | {one: string, other: string, many?: string}} Text
 * @typedef {(key: string, params?: Record<string, string | number>) => string} Translate
 */

const STORED = "streambroker.language";

/** @type {Record<string, Record<string, Text>>} */
const TEXTS = { en: { ...en, ...pagesEn }, "pt-BR": { ...ptBR, ...pagesPtBR } };

/** The languages one can choose, each by its own name. */
export const LANGUAGES = { en: "English", "pt-BR": "Português" };

/** @type {Set<(language: string) => void>} */
const listeners = new Set();
let current = chosen() ?? preferred(navigator.languages ?? [navigator.language]);

/** The language in use, as a BCP 47 tag. @returns {string} */
export function language() {
  return current;
}

/**
 * What this browser's list asks for, of what there is: any Portuguese is Brazilian here.
 * @param {readonly string[]} wanted @returns {string}
 */
export function preferred(wanted) {
  for (const tag of wanted) {
    if (/^pt\b/i.test(tag)) return "pt-BR";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

/** Changes the language, and remembers it in this browser. @param {string} tag one of `LANGUAGES` */
export function setLanguage(tag) {
  if (!(tag in TEXTS) || tag === current) return;
  current = tag;
  localStorage.setItem(STORED, tag);
  for (const listener of listeners) listener(tag);
}

/** @param {(language: string) => void} listener @returns {() => void} stops listening */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** @type {Translate} a key nobody translated comes back as it is, so that it is seen */
export function t(key, params = {}) {
  const text = TEXTS[current][key] ?? TEXTS.en[key];
  if (text === undefined) return key;
  const form = typeof text === "string" ? text : plural(text, Number(params.count));
  return form.replace(/\{(\w+)\}/g, (whole, name) => (name in params ? shown(params[name]) : whole));
}

/** True when there is a text for the key. @param {string} key @returns {boolean} */
export function known(key) {
  return key in TEXTS[current] || key in TEXTS.en;
}

/** @param {{one: string, other: string, many?: string}} text @param {number} count @returns {string} */
function plural(text, count) {
  const category = new Intl.PluralRules(current).select(count);
  return (category === "one" && text.one) || (category === "many" && text.many) || text.other;
}

/** @param {string | number} value @returns {string} */
function shown(value) {
  return typeof value === "number" ? new Intl.NumberFormat(current).format(value) : value;
}

/** @returns {string | null} */
function chosen() {
  const tag = localStorage.getItem(STORED);
  return tag !== null && tag in TEXTS ? tag : null;
}
