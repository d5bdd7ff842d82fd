/**
 * JSON as a tree that opens branch by branch. What is shown is cut from the text, never parsed and written again, so
 * every digit is the sender's. A branch is built when it is opened, and at most some hundred members at a time.
 */

import { button, el, setText } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { kindAt, membersOf, skipSpace, spoken } from "./json-text.js";

const STEP = 200;
const LONGEST = 2000;
const OPEN_DEPTH = 2;
const OPEN_MEMBERS = 50;

/**
 * @param {string} text  valid JSON
 * @returns {HTMLElement}
 */
export function jsonTree(text) {
  const start = skipSpace(text, 0);
  const root = branch({ key: null, start, end: text.trimEnd().length }, text, 0);
  return el("ul", { class: "json-tree mono", testid: "content-tree" }, root);
}

/**
 * @param {import("./json-text.js").Member} member
 * @param {string} text
 * @param {number} depth
 * @returns {HTMLElement}
 */
function branch(member, text, depth) {
  const kind = kindAt(text, member.start);
  const name = member.key === null ? null : el("span", { class: "json-key", text: spoken(member.key) });
  if (kind !== "object" && kind !== "array")
    return el("li", { class: "json-leaf" }, name, name && ": ", leaf(member, text, kind));
  const all = membersOf(text, member.start);
  const signs = kind === "object" ? ["{", "}"] : ["[", "]"];
  if (all.length === 0) return el("li", { class: "json-leaf" }, name, name && ": ", signs.join(""));
  return opening(name, all, text, signs, depth);
}

/**
 * @param {HTMLElement | null} name
 * @param {import("./json-text.js").Member[]} all
 * @param {string} text
 * @param {string[]} signs
 * @param {number} depth
 * @returns {HTMLElement}
 */
function opening(name, all, text, signs, depth) {
  const inside = el("ul", {});
  const count = el("span", { class: "json-count", text: t("content.members", { count: all.length }) });
  const summary = el("summary", {}, name, name && ": ", signs[0], " ", count, " ", signs[1]);
  const details = el("details", { on: { toggle: fill } }, summary, inside);
  let built = 0;
  function fill() {
    if (details.open && built === 0) grow();
  }
  function grow() {
    const next = all.slice(built, built + STEP);
    inside.append(...next.map((one) => branch(one, text, depth + 1)));
    built += next.length;
    if (built < all.length) inside.append(rest());
  }
  function rest() {
    const line = el("li", { class: "json-leaf" });
    const left = all.length - built;
    line.append(button(t("content.more_members", { count: left }), { kind: "quiet", small: true, onClick: onMore }));
    function onMore() {
      line.remove();
      grow();
    }
    return line;
  }
  if (depth < OPEN_DEPTH && all.length <= OPEN_MEMBERS) {
    details.open = true;
    grow();
  }
  return el("li", {}, details);
}

/**
 * @param {import("./json-text.js").Member} member
 * @param {string} text
 * @param {string} kind
 * @returns {HTMLElement}
 */
function leaf(member, text, kind) {
  const raw = text.slice(member.start, member.end);
  const shown = kind === "string" ? `"${spoken(raw)}"` : raw;
  if (shown.length <= LONGEST) return el("span", { class: `json-${kind}`, text: shown });
  const value = el("span", { class: `json-${kind}`, text: `${shown.slice(0, LONGEST)}…` });
  const all = button(t("content.whole"), {
    kind: "quiet",
    small: true,
    onClick: () => {
      setText(value, shown);
      all.remove();
    },
  });
  return el("span", {}, value, " ", all);
}
