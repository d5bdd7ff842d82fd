/** Copying text, and saying that it was. */

import { button } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";

/**
 * @param {() => string} text
 * @param {string} testid
 * @returns {HTMLElement}
 */
export function copyButton(text, testid) {
  return button(t("action.copy"), {
    kind: "quiet",
    small: true,
    icon: icon("copy"),
    testid,
    onClick: () => void copy(text()),
  });
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("action.copied"));
  } catch {
    // Over plain HTTP from another host the browser has no clipboard for us.
    toast(t("copy.refused"), { kind: "error" });
  }
}
