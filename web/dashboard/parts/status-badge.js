/** A message's status as a badge; one that is pending for later says so. */

import { isToCome } from "../lib/clock.js";
import { el } from "../lib/dom.js";
import { known, t } from "../lib/i18n.js";

/**
 * @param {string} status
 * @param {string} [availableAt]
 * @returns {HTMLElement}
 */
export function statusBadge(status, availableAt) {
  const delayed = status === "pending" && availableAt !== undefined && isToCome(availableAt);
  const key = delayed ? "message.delayed" : `status.${status}`;
  const badge = el("span", { class: "badge badge-status", testid: "status", text: known(key) ? t(key) : status });
  badge.dataset.status = status;
  return badge;
}
