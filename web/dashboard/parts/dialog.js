/**
 * Questions: a modal <dialog> with a form. It says what will happen, does it when confirmed, stays open with the
 * broker's answer when that is a refusal, and gives the focus back to where it was.
 */

import { append, button, el, field, replace, showError, uid } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toastProblem } from "../lib/toast.js";
import { notice } from "../lib/views.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {import("../lib/dom.js").Child[]} [content]
 * @property {string} confirm  what the confirming button says
 * @property {"primary" | "danger"} [kind]
 * @property {() => Promise<void> | void} run  what confirming does; what it throws is shown and the dialog stays
 * @property {Record<string, HTMLElement>} [controls]  by JSON pointer, for the errors of their fields
 * @property {string} [typed]  a text that must be typed before it can be confirmed
 * @property {string} [testid]
 * @property {boolean} [wide]
 * @property {string} [cancel]  what the other button says
 */

/** @type {Set<HTMLDialogElement>} */
const open = new Set();

/** Closes what is open: the page below is going away. */
export function closeDialogs() {
  for (const dialog of [...open]) dialog.close();
}

/**
 * Asks; returns at once.
 * @param {Question} question
 * @returns {HTMLDialogElement}
 */
export function ask(question) {
  const { title, content = [], confirm, kind = "primary", typed, testid = "dialog", wide = false } = question;
  const heading = el("h2", { id: uid("dialog"), text: title });
  const problem = el("div", {});
  const sure = typed === undefined ? null : typing(typed);
  const go = button(confirm, { kind, type: "submit", testid: "dialog-confirm", disabled: sure !== null });
  const no = button(question.cancel ?? t("action.cancel"), { testid: "dialog-cancel", onClick: () => dialog.close() });
  const form = el(
    "form",
    { class: "dialog-form", novalidate: true, on: { submit: (/** @type {Event} */ event) => void onSubmit(event) } },
    el("header", { class: "dialog-head" }, heading, closing()),
    el("div", { class: "dialog-body" }, problem, content, sure?.node),
    el("footer", { class: "dialog-actions" }, no, go),
  );
  const dialog = /** @type {HTMLDialogElement} */ (
    el("dialog", { class: wide ? "dialog dialog-wide" : "dialog", testid, "aria-labelledby": heading.id }, form)
  );
  sure?.input.addEventListener("input", () => (go.disabled = !sure.right()));

  function closing() {
    const cross = { kind: /** @type {const} */ ("quiet"), small: true, iconOnly: true, icon: icon("close") };
    return button(t("action.close"), { ...cross, onClick: () => dialog.close() });
  }

  /** @param {Event} event */
  async function onSubmit(event) {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    form.setAttribute("aria-busy", "true");
    replace(problem);
    for (const control of Object.values(question.controls ?? {})) showError(control, null);
    try {
      await question.run();
      dialog.close();
    } catch (error) {
      if (open.has(dialog)) refused(error);
      else toastProblem(error);
    } finally {
      go.disabled = sure !== null && !sure.right();
      form.removeAttribute("aria-busy");
    }
  }

  /** @param {any} error */
  function refused(error) {
    replace(problem, notice(error, { testid: "dialog-problem" }));
    /** @type {HTMLElement | null} */
    let first = null;
    for (const { pointer, detail } of error?.errors ?? []) {
      const control = question.controls?.[pointer];
      if (!control) continue;
      showError(control, detail);
      first ??= control;
    }
    if (first) first.focus();
    else problem.scrollIntoView({ block: "nearest" });
  }

  return shown(dialog);
}

/**
 * Opens it, and puts things back when it closes.
 * @param {HTMLDialogElement} dialog
 * @returns {HTMLDialogElement}
 */
function shown(dialog) {
  const before = document.activeElement;
  open.add(dialog);
  dialog.addEventListener("close", () => {
    open.delete(dialog);
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  dialog.showModal();
  const first = dialog.querySelector(".dialog-body input, .dialog-body select, .dialog-body textarea");
  const start = first ?? dialog.querySelector("[data-testid=dialog-cancel]");
  if (start instanceof HTMLElement) start.focus();
  return dialog;
}

/** @param {string} text what must be typed */
function typing(text) {
  const input = el("input", { type: "text", testid: "dialog-typed", autocomplete: "off", spellcheck: "false" });
  const node = field(t("dialog.type_name", { name: text }), input);
  return { node, input, right: () => input.value === text };
}

/**
 * How many messages a question concerns, as a sentence of its own.
 * @param {string} text
 * @param {number} count
 * @returns {HTMLElement}
 */
export function concerned(text, count) {
  return el("p", { class: "dialog-count", testid: "dialog-count", data: { count: String(count) }, text });
}

/**
 * Something to be seen and closed, such as a secret that is shown once.
 * @param {{title: string, content: import("../lib/dom.js").Child[], testid?: string, done?: string}} options
 * @returns {HTMLDialogElement}
 */
export function tell({ title, content, testid = "dialog", done = t("action.close") }) {
  const heading = el("h2", { id: uid("dialog"), text: title });
  const dialog = /** @type {HTMLDialogElement} */ (
    el("dialog", { class: "dialog", testid, "aria-labelledby": heading.id })
  );
  const close = button(done, { kind: "primary", testid: "dialog-cancel", onClick: () => dialog.close() });
  append(dialog, [
    el(
      "div",
      { class: "dialog-form" },
      el("header", { class: "dialog-head" }, heading),
      el("div", { class: "dialog-body" }, content),
      el("footer", { class: "dialog-actions" }, close),
    ),
  ]);
  return shown(dialog);
}
