/**
 * A table that may have thousands of rows and change each second: only the rows in sight are in the page, a row that
 * stays is the same element, and a cell is written to only when it says something else.
 */

import { el, setStyle, setText } from "../lib/dom.js";

/** Until one has been measured; all rows are of one height. */
const ROW_PX = 36;
/** Rows above and below what is in sight, so that scrolling and tabbing find something there. */
const BEYOND = 8;

/**
 * @template R
 * @typedef {object} Column
 * @property {string} id
 * @property {string} label
 * @property {string} [class]
 * @property {boolean} [hiddenLabel]  the label is for screen readers only
 * @property {(row: R) => string | number | null} [sort]  absent: not sorted by; numbers begin with the largest
 * @property {(cell: HTMLElement, first: R) => (row: R) => void} make  fills a new cell, answers what updates it
 */

/**
 * @template R
 * @typedef {object} Options
 * @property {Column<R>[]} columns
 * @property {(row: R) => string} key
 * @property {string} caption  what the table is, for screen readers
 * @property {string} testid
 * @property {(row: R) => string} rowTestid
 * @property {{column: string, descending: boolean}} sorted
 */

/**
 * @template R
 * @param {Options<R>} options
 * @returns {{node: HTMLElement, show: (rows: R[]) => void, stop: () => void}}
 */
export function liveTable(options) {
  const { columns, key, caption, testid, rowTestid } = options;
  let { column: sortedBy, descending } = options.sorted;
  /** @type {R[]} */
  let rows = [];
  /** @type {Map<string, {row: HTMLElement, show: (row: R) => void}>} */
  const made = new Map();
  let frame = 0;
  let unsorted = false;
  let rowPx = ROW_PX;
  let measured = false;

  const heads = columns.map((column) => head(column));
  const above = el("tr", { class: "live-space", "aria-hidden": "true" }, el("td", {}));
  const below = el("tr", { class: "live-space", "aria-hidden": "true" }, el("td", {}));
  const body = el("tbody", {}, above, below);
  const table = el(
    "table",
    { class: "table live-table", testid },
    el("caption", { class: "visually-hidden", text: caption }),
    el("thead", {}, el("tr", {}, heads)),
    body,
  );
  const node = el("div", { class: "table-wrap live-wrap", tabindex: 0, role: "region", "aria-label": caption }, table);
  node.addEventListener("scroll", () => later(false), { passive: true });
  const size = new ResizeObserver(() => {
    measured = false;
    later(false);
  });
  size.observe(node);
  markSorted();

  /** @param {Column<R>} column */
  function head(column) {
    const label = column.hiddenLabel ? el("span", { class: "visually-hidden", text: column.label }) : column.label;
    const look = [column.class, column.sort && "sortable"].filter(Boolean).join(" ");
    const props = { class: look || undefined, scope: "col", testid: `${testid}-column-${column.id}` };
    if (!column.sort) return el("th", props, label);
    const sort = el(
      "button",
      { type: "button", testid: `${testid}-sort-${column.id}`, on: { click: () => sortBy(column) } },
      label,
    );
    return el("th", props, sort);
  }

  /** @param {Column<R>} column */
  function sortBy(column) {
    const first = rows.map((row) => column.sort?.(row)).find((value) => value !== null);
    descending = column.id === sortedBy ? !descending : typeof first === "number";
    sortedBy = column.id;
    markSorted();
    later(true);
  }

  function markSorted() {
    columns.forEach((column, at) => {
      if (column.id === sortedBy) heads[at].setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heads[at].removeAttribute("aria-sort");
    });
  }

  /** @param {boolean} sort */
  function later(sort) {
    unsorted ||= sort;
    frame ||= requestAnimationFrame(render);
  }

  function render() {
    frame = 0;
    if (unsorted)
      rows = sortedRows(
        rows,
        columns.find((column) => column.id === sortedBy),
        descending,
        key,
      );
    unsorted = false;
    const { first, last } = inSight();
    spaces(first, rows.length - last);
    const held = document.activeElement;
    put(rows.slice(first, last), first);
    if (held instanceof HTMLElement && held !== document.activeElement && body.contains(held)) {
      held.focus({ preventScroll: true });
    }
    table.setAttribute("aria-rowcount", String(rows.length + 1));
    if (!measured) measure();
  }

  /** The size of text, and so of rows, is the screen's and the person's. */
  function measure() {
    const one = made.values().next().value;
    const height = one ? one.row.getBoundingClientRect().height : 0;
    if (height === 0) return;
    measured = true;
    if (Math.abs(height - rowPx) > 0.01) later(false);
    rowPx = height;
  }

  function inSight() {
    const top = Math.max(0, Math.floor(node.scrollTop / rowPx) - BEYOND);
    const first = Math.max(0, Math.min(top, rows.length - 1));
    const many = Math.ceil((node.clientHeight || rowPx) / rowPx) + 2 * BEYOND;
    return { first, last: Math.min(rows.length, first + many) };
  }

  /** @param {number} before @param {number} after rows that are not there */
  function spaces(before, after) {
    for (const [space, many] of /** @type {[HTMLElement, number][]} */ ([
      [above, before],
      [below, after],
    ])) {
      space.hidden = many === 0;
      setStyle(/** @type {HTMLElement} */ (space.firstElementChild), { height: `${many * rowPx}px` });
    }
  }

  /** @param {R[]} shown @param {number} first */
  function put(shown, first) {
    const wanted = new Set(shown.map(key));
    for (const [name, { row }] of made) {
      if (wanted.has(name)) continue;
      row.remove();
      made.delete(name);
    }
    /** @type {Element} */
    let before = above;
    shown.forEach((one, at) => {
      const line = made.get(key(one)) ?? build(one);
      line.show(one);
      line.row.setAttribute("aria-rowindex", String(first + at + 2));
      if (before.nextSibling !== line.row) before.after(line.row);
      before = line.row;
    });
  }

  /** @param {R} one */
  function build(one) {
    const row = el("tr", { testid: rowTestid(one) });
    const updates = columns.map((column) => {
      const cell = el("td", { class: column.class });
      row.append(cell);
      return column.make(cell, one);
    });
    const line = { row, show: (/** @type {R} */ now) => updates.forEach((update) => update(now)) };
    made.set(key(one), line);
    return line;
  }

  return {
    node,
    show(next) {
      rows = next;
      later(true);
    },
    stop() {
      cancelAnimationFrame(frame);
      size.disconnect();
    },
  };
}

/**
 * Equal rows stand in the order of their keys, so that a live table does not shuffle them; what is missing is last.
 * @template R
 * @param {R[]} rows
 * @param {Column<R> | undefined} column
 * @param {boolean} descending
 * @param {(row: R) => string} key
 * @returns {R[]}
 */
function sortedRows(rows, column, descending, key) {
  const value = column?.sort ?? key;
  const way = descending ? -1 : 1;
  const decorated = rows.map((row) => ({ row, value: value(row), key: key(row) }));
  decorated.sort((a, b) => {
    if (a.value === null || b.value === null) {
      if (a.value !== b.value) return a.value === null ? 1 : -1;
    } else if (a.value !== b.value) {
      return (typeof a.value === "string" ? byName.compare(a.value, String(b.value)) : a.value - Number(b.value)) * way;
    }
    return a.key < b.key ? -1 : 1;
  });
  return decorated.map((one) => one.row);
}

const byName = new Intl.Collator("en", { numeric: true });

/**
 * A cell that says one thing: text that is written only when it changes.
 * @template R
 * @param {(row: R) => string} text
 * @returns {(cell: HTMLElement) => (row: R) => void}
 */
export function says(text) {
  return (cell) => {
    let before = "";
    return (row) => {
      const now = text(row);
      if (now !== before) setText(cell, now);
      before = now;
    };
  };
}
