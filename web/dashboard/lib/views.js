/** What a page shows when it has nothing to show yet, or any more: loading, empty, error. */

import { button, el, replace } from "./dom.js";
import { icon } from "./icons.js";
import { known, t } from "./i18n.js";

/** Grey lines that stand for what is coming. @param {{lines?: number}} [options] @returns {HTMLElement} */
export function loading({ lines = 3 } = {}) {
  const bars = Array.from({ length: lines }, () => el("span", { class: "skeleton", "aria-hidden": "true" }));
  return el(
    "div",
    { class: "state state-loading", testid: "state-loading", role: "status", "aria-busy": "true" },
    el("span", { class: "visually-hidden", text: t("state.loading") }),
    bars,
  );
}

/**
 * Nothing there: says so, and what to do about it.
 * @param {{title?: string, hint?: string, action?: Node}} [options] @returns {HTMLElement}
 */
export function empty({ title = t("state.empty"), hint, action } = {}) {
  return el(
    "div",
    { class: "state", testid: "state-empty" },
    icon("inbox"),
    el("p", { class: "state-title", text: title }),
    hint ? el("p", { class: "state-hint", text: hint }) : null,
    action,
  );
}

/**
 * What went wrong, and a way to try again.
 * @param {unknown} error a `Problem`, or anything thrown @param {() => void} [retry] @returns {HTMLElement}
 */
export function failed(error, retry) {
  const { title, detail } = explain(error);
  return el(
    "div",
    { class: "state state-error", testid: "state-error", role: "alert" },
    icon("warning"),
    el("p", { class: "state-title", text: title }),
    detail ? el("p", { class: "state-hint", text: detail }) : null,
    retry ? button(t("state.retry"), { icon: icon("refresh"), testid: "state-retry", onClick: retry }) : null,
  );
}

/**
 * An error in words: the translated title of its code, and the broker's own detail.
 * @param {unknown} error
 * @returns {{title: string, detail: string, errors: {pointer: string, detail: string}[]}}
 */
export function explain(error) {
  const problem = /** @type {any} */ (error);
  const key = `problem.${problem?.code}`;
  const title = known(key) ? t(key) : problem?.title || t("problem.internal");
  return { title, detail: problem?.detail ?? "", errors: problem?.errors ?? [] };
}

/**
 * The problem as a box to stand above a form: title, detail, and each field's error.
 * @param {unknown} error @param {{testid?: string}} [options] @returns {HTMLElement}
 */
export function notice(error, { testid = "problem" } = {}) {
  const { title, detail, errors } = explain(error);
  const lines = errors.map((one) =>
    el("li", null, one.pointer ? el("code", { text: one.pointer }) : null, " ", one.detail),
  );
  return el(
    "div",
    { class: "notice notice-error", role: "alert", testid },
    icon("warning"),
    el(
      "div",
      null,
      el("p", { class: "notice-title", text: title }),
      detail ? el("p", { text: detail }) : null,
      lines.length > 0 ? el("ul", null, lines) : null,
    ),
  );
}

/**
 * Loads and shows: the loading state, then what `show` makes of the answer, or the error with a way to try again. When
 * called again, or aborted, an answer still under way is not shown any more.
 * @template T
 * @param {Element} root @param {(signal: AbortSignal) => Promise<T>} load @param {(answer: T) => Node | Node[]} show
 * @param {{lines?: number}} [options]
 * @returns {{reload: () => Promise<void>, stop: () => void}}
 */
export function loaded(root, load, show, options) {
  let aborter = new AbortController();
  async function reload() {
    aborter.abort();
    aborter = new AbortController();
    const { signal } = aborter;
    replace(root, loading(options));
    try {
      const answer = await load(signal);
      if (!signal.aborted) replace(root, .../** @type {Node[]} */ ([show(answer)].flat()));
    } catch (error) {
      if (!signal.aborted) replace(root, failed(error, reload));
    }
  }
  void reload();
  return { reload, stop: () => aborter.abort() };
}
