/** A small menu at a button: arrows move, Enter chooses, Escape and a click elsewhere close it. */

import { el, setStyle } from "../lib/dom.js";
import { icon } from "../lib/icons.js";

/** @typedef {{label: string, icon: string, testid: string, danger?: boolean, onSelect: () => void}} Item */

/** @type {(() => void) | null} closes the one that is open */
let closeOpen = null;

/** Closes the menu that is open, if one is. */
export function closeMenu() {
  closeOpen?.();
}

/**
 * Opens it below the button, or above where there is no room.
 * @param {HTMLElement} anchor
 * @param {Item[]} items
 */
export function openMenu(anchor, items) {
  const again = anchor.getAttribute("aria-expanded") === "true";
  closeMenu();
  if (again || items.length === 0) return;
  const rows = items.map((item) => row(item));
  const menu = el("div", { class: "menu", role: "menu", testid: "menu", on: { keydown: onKey } }, rows);
  const gone = new AbortController();
  closeOpen = close;

  function close() {
    gone.abort();
    menu.remove();
    anchor.setAttribute("aria-expanded", "false");
    closeOpen = null;
  }

  /** @param {Item} item */
  function row(item) {
    const choose = () => {
      close();
      anchor.focus({ preventScroll: true });
      item.onSelect();
    };
    const look = item.danger ? "menu-item menu-item-danger" : "menu-item";
    const props = { class: look, type: "button", role: "menuitem", tabindex: -1, testid: item.testid };
    return el("button", { ...props, on: { click: choose } }, icon(item.icon), item.label);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const at = rows.indexOf(/** @type {any} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      rows[(to + rows.length) % rows.length].focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      if (event.key === "Escape") event.preventDefault();
      close();
      anchor.focus({ preventScroll: true });
    }
  }

  anchor.setAttribute("aria-expanded", "true");
  (anchor.closest("main") ?? document.body).append(menu);
  place(menu, anchor);
  rows[0].focus({ preventScroll: true });
  const elsewhere = (/** @type {Event} */ event) => {
    const target = /** @type {Node} */ (event.target);
    if (!menu.contains(target) && !anchor.contains(target)) close();
  };
  document.addEventListener("pointerdown", elsewhere, { signal: gone.signal });
  addEventListener("resize", close, { signal: gone.signal });
  addEventListener("hashchange", close, { signal: gone.signal });
}

/** @param {HTMLElement} menu @param {HTMLElement} anchor */
function place(menu, anchor) {
  const at = anchor.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  const below = at.bottom + 4;
  const top = below + size.height > innerHeight ? Math.max(4, at.top - size.height - 4) : below;
  const left = Math.min(Math.max(4, at.right - size.width), innerWidth - size.width - 4);
  setStyle(menu, { top: `${top}px`, left: `${left}px` });
}
