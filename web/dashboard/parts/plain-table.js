/** A table of one page of things, and the way to the next page. */

import { button, el } from "../lib/dom.js";
import { t } from "../lib/i18n.js";

/**
 * @template R
 * @typedef {{label: string, class?: string, hiddenLabel?: boolean,
 *   cell: (row: R) => import("../lib/dom.js").Child}} PlainColumn
 */

/**
 * @template R
 * @param {{columns: PlainColumn<R>[], rows: R[], caption: string, testid: string,
 *   rowTestid: (row: R) => string}} options
 * @returns {HTMLElement}
 */
export function plainTable({ columns, rows, caption, testid, rowTestid }) {
  const heads = columns.map((column) => {
    const label = column.hiddenLabel ? el("span", { class: "visually-hidden", text: column.label }) : column.label;
    return el("th", { class: column.class, scope: "col" }, label);
  });
  const lines = rows.map((row) => {
    const cells = columns.map((column) => el("td", { class: column.class }, column.cell(row)));
    return el("tr", { testid: rowTestid(row) }, cells);
  });
  const table = el(
    "table",
    { class: "table", testid },
    el("caption", { class: "visually-hidden", text: caption }),
    el("thead", {}, el("tr", {}, heads)),
    el("tbody", {}, lines),
  );
  return el("div", { class: "table-wrap", tabindex: 0, role: "region", "aria-label": caption }, table);
}

/**
 * Where one is in a list that is read by cursors: back as far as one came, on as long as there is more.
 * @param {(cursor: string | null) => void} turn  shows the page that begins there
 * @param {string} testid
 * @returns {{node: HTMLElement, at: () => string | null, found: (next: string | null) => void, reset: () => void}}
 */
export function pager(turn, testid) {
  /** @type {(string | null)[]} the cursors of the pages so far, this one's last */
  let trail = [null];
  /** @type {string | null} */
  let next = null;
  const back = button(t("pager.back"), {
    small: true,
    testid: `${testid}-page-back`,
    onClick: () => go(trail.slice(0, -1)),
  });
  const on = button(t("pager.next"), {
    small: true,
    testid: `${testid}-page-next`,
    onClick: () => go([...trail, next]),
  });
  const where = el("span", { class: "soft", testid: `${testid}-page` });
  const node = el("nav", { class: "pager", "aria-label": t("pager.label") }, back, where, on);

  /** @param {(string | null)[]} to */
  function go(to) {
    trail = to;
    turn(trail[trail.length - 1]);
  }
  function draw() {
    back.disabled = trail.length === 1;
    on.disabled = next === null;
    where.textContent = t("pager.page", { page: trail.length });
    node.hidden = trail.length === 1 && next === null;
  }
  draw();
  return {
    node,
    at: () => trail[trail.length - 1],
    found(cursor) {
      next = cursor;
      draw();
    },
    reset() {
      trail = [null];
      next = null;
      draw();
    },
  };
}
