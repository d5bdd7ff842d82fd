/** Short word of what was just done, in the corner; read out by screen readers. */

import { button, el } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";
import { explain } from "./views.js";

const STAYS_MS = 5_000;
const MOST = 4;

/**
 * Says what was done; goes away by itself.
 * @param {string} text @param {{kind?: "done" | "error"}} [options]
 */
export function toast(text, { kind = "done" } = {}) {
  const box = place();
  const bubble = el("div", { class: `toast toast-${kind}`, testid: `toast-${kind}` });
  const close = () => bubble.remove();
  bubble.append(
    icon(kind === "done" ? "check" : "warning"),
    el("span", { class: "toast-text", text }),
    button(t("action.close"), { icon: icon("close"), iconOnly: true, kind: "quiet", small: true, onClick: close }),
  );
  box.append(bubble);
  while (box.children.length > MOST) box.firstElementChild?.remove();
  // An error stays until it is closed: it may be all one gets to know.
  if (kind === "done") setTimeout(close, STAYS_MS);
}

/** Says that something failed, and why. @param {unknown} error */
export function toastProblem(error) {
  const { title, detail } = explain(error);
  toast(detail ? `${title}: ${detail}` : title, { kind: "error" });
}

/** @returns {HTMLElement} */
function place() {
  const box = document.getElementById("toasts");
  if (box === null) throw new Error("toast: the page has no place for it");
  return box;
}
