/** Grants: which queues, by a pattern, and what may be done with them. */

import { button, el, uid } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { ACTIONS } from "./rights.js";

/** @typedef {{queues: string, actions: string[]}} Grant */

/**
 * @param {Grant[]} grants  what it begins with
 * @returns {{node: HTMLElement, read: () => Grant[]}}
 */
export function grantsEditor(grants) {
  const rows = el("div", { class: "stack grants" });
  const more = button(t("grants.add"), {
    small: true,
    icon: icon("plus"),
    testid: "grant-add",
    onClick: () => add(null)?.focus(),
  });
  /** @type {Map<HTMLElement, () => Grant>} */
  const readers = new Map();

  /** @param {Grant | null} grant */
  function add(grant) {
    const pattern = el("input", {
      class: "input",
      type: "text",
      value: grant?.queues ?? "",
      testid: "grant-queues",
      placeholder: "orders.*",
      "aria-label": t("grants.queues"),
      autocomplete: "off",
      spellcheck: "false",
    });
    const boxes = ACTIONS.map((action) => {
      const id = uid("grant");
      const box = el("input", {
        class: "checkbox",
        type: "checkbox",
        id,
        checked: grant?.actions.includes(action) ?? action === "view",
        testid: `grant-${action}`,
      });
      return { action, box, node: el("label", { class: "row grant-action", for: id }, box, t(`grants.${action}`)) };
    });
    const drop = button(t("grants.remove"), {
      kind: "quiet",
      small: true,
      iconOnly: true,
      icon: icon("close"),
      testid: "grant-remove",
      onClick: remove,
    });
    const row = el(
      "div",
      { class: "grant", testid: "grant" },
      pattern,
      el(
        "div",
        { class: "row row-wrap" },
        boxes.map((one) => one.node),
      ),
      drop,
    );
    function remove() {
      readers.delete(row);
      row.remove();
      more.focus();
    }
    readers.set(row, () => ({
      queues: pattern.value.trim(),
      actions: boxes.filter((one) => one.box.checked).map((one) => one.action),
    }));
    rows.append(row);
    return pattern;
  }

  grants.forEach(add);
  const legend = el("legend", { text: t("grants.title") });
  const hint = el("p", { class: "field-hint", text: t("grants.hint") });
  const node = el("fieldset", { class: "group", testid: "grants" }, legend, hint, rows, more);
  return { node, read: () => [...readers.values()].map((read) => read()) };
}

/**
 * Grants in one cell: each pattern with what it allows.
 * @param {Grant[] | null | undefined} grants
 * @returns {HTMLElement}
 */
export function grantsText(grants) {
  if (!grants || grants.length === 0) return el("span", { class: "faint", text: t("grants.none") });
  const lines = grants.map((grant) =>
    el(
      "li",
      {},
      el("code", { text: grant.queues }),
      " ",
      grant.actions.map((action) => t(`grants.${action}`)).join(", "),
    ),
  );
  return el("ul", { class: "grants-text" }, lines);
}
