/** What can be done to one message by hand. */

import { path } from "../lib/api.js";
import { button, el, field } from "../lib/dom.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { ask, concerned } from "./dialog.js";
import { parseDuration } from "./duration.js";
import { openMenu } from "./menu.js";
import { askEdit } from "./publish.js";
import { fieldProblem } from "./queue-form.js";
import { may } from "./rights.js";

/**
 * @typedef {object} Acting
 * @property {import("../lib/api.js").Api} api
 * @property {any} session
 * @property {() => void} changed
 * @property {(copy: string | null) => void} gone  it is no more; a changed copy may be there instead
 */

/** Where five buttons would take three rows, they are a menu. */
export const NARROW = matchMedia("(max-width: 719px)");

/**
 * The buttons; those that its status does not allow are there and disabled. Where it is narrow, the button of a menu of
 * those that it does allow.
 * @param {Acting} acting
 * @param {import("./message-text.js").Message} message
 * @returns {HTMLElement[]}
 */
export function messageActions(acting, message) {
  const { queue, status } = message.fields;
  const held = status === "processing";
  const right = (/** @type {import("./rights.js").Action} */ action) => may(acting.session, action, queue);
  /** @type {(Offer | false)[]} */
  const all = [
    right("consume") && { id: "ack", sign: "check", run: () => askAck(acting, message), enabled: held },
    right("consume") && { id: "nack", sign: "close", run: () => askNack(acting, message), enabled: held },
    right("manage") && { id: "retry", sign: "undo", run: () => askRetry(acting, message), enabled: status === "failed" },
    right("manage") &&
      right("publish") && { id: "edit", sign: "edit", run: () => edit(acting, message), enabled: true },
    right("manage") && { id: "delete", sign: "trash", run: () => askDelete(acting, message), enabled: true },
  ];
  const offered = /** @type {Offer[]} */ (all.filter(Boolean));
  return NARROW.matches ? menuOf(offered.filter((one) => one.enabled)) : offered.map(make);
}

/** @typedef {{id: string, sign: string, run: () => void, enabled: boolean}} Offer */

/** @param {Offer} offer */
function make({ id, sign, run, enabled }) {
  return button(t(`message.${id}`), {
    kind: id === "delete" ? "danger" : "plain",
    icon: icon(sign),
    testid: `action-${id}`,
    disabled: !enabled,
    title: enabled ? undefined : t(`message.${id}_not_now`),
    onClick: run,
  });
}

/** @param {Offer[]} offers @returns {HTMLElement[]} */
function menuOf(offers) {
  if (offers.length === 0) return [];
  const items = offers.map(({ id, sign, run }) => ({
    label: t(`message.${id}`),
    icon: sign,
    testid: `action-${id}`,
    danger: id === "delete",
    onSelect: run,
  }));
  const more = button(t("table.actions"), {
    icon: icon("more"),
    testid: "message-actions",
    onClick: () => openMenu(more, items),
  });
  more.setAttribute("aria-haspopup", "menu");
  more.setAttribute("aria-expanded", "false");
  return [more];
}

/** @param {import("./message-text.js").Message} message @param {string} key */
function one(message, key) {
  return concerned(t(key, { id: message.fields.message_id, queue: message.fields.queue }), 1);
}

/** @param {Acting} acting @param {import("./message-text.js").Message} message */
function askAck(acting, message) {
  ask({
    title: t("message.ack_title"),
    content: [one(message, "message.ack_note"), el("p", { class: "soft", text: t("message.held_note") })],
    confirm: t("message.ack"),
    run: () => settled(acting, message, "ack"),
  });
}

/** @param {Acting} acting @param {import("./message-text.js").Message} message */
function askNack(acting, message) {
  const requeue = el("input", { type: "checkbox", checked: true, testid: "nack-requeue", on: { change: onChoice } });
  const delay = el("input", { type: "text", testid: "nack-delay", placeholder: "30 s", autocomplete: "off" });
  const reason = el("input", { type: "text", testid: "nack-reason", maxlength: 4096, autocomplete: "off" });
  const delayField = field(t("message.nack_delay"), delay, { hint: t("message.nack_delay_hint") });
  function onChoice() {
    delayField.hidden = !requeue.checked;
  }
  ask({
    title: t("message.nack_title"),
    content: [
      one(message, "message.nack_note"),
      field(t("message.nack_requeue"), requeue, { hint: t("message.nack_requeue_hint") }),
      delayField,
      field(t("message.nack_reason"), reason, { hint: t("message.nack_reason_hint") }),
      el("p", { class: "soft", text: t("message.held_note") }),
    ],
    controls: { "/delay_ms": delay, "/reason": reason },
    confirm: t("message.nack"),
    run: () => settled(acting, message, "nack", nackBody(requeue.checked, delay.value, reason.value)),
  });
}

/** @param {boolean} requeue @param {string} delay @param {string} reason */
function nackBody(requeue, delay, reason) {
  const ms = parseDuration(delay);
  if (requeue && delay.trim() !== "" && ms === null) throw fieldProblem("delay_ms", t("form.not_duration"));
  return { requeue, ...(requeue && ms !== null && { delay_ms: ms }), ...(reason !== "" && { reason }) };
}

/** @param {Acting} acting @param {import("./message-text.js").Message} message */
function askRetry(acting, message) {
  ask({
    title: t("message.retry_title"),
    content: [one(message, "message.retry_note")],
    confirm: t("message.retry"),
    run: () => settled(acting, message, "retry"),
  });
}

/**
 * @param {Acting} acting
 * @param {import("./message-text.js").Message} message
 * @param {string} verdict
 * @param {object} [body]
 */
async function settled(acting, message, verdict, body) {
  await acting.api.post(path`/messages/${message.fields.message_id}/${verdict}`, body);
  toast(t(`message.${verdict}_done`));
  acting.changed();
}

/** @param {Acting} acting @param {import("./message-text.js").Message} message */
function edit(acting, message) {
  askEdit(acting.api, message, (copy) => acting.gone(copy));
}

/** @param {Acting} acting @param {import("./message-text.js").Message} message */
function askDelete(acting, message) {
  const held = message.fields.status === "processing" && el("p", { class: "soft", text: t("message.delete_held") });
  ask({
    title: t("message.delete_title"),
    kind: "danger",
    content: [one(message, "message.delete_note"), held],
    confirm: t("message.delete"),
    run: async () => {
      await acting.api.delete(path`/messages/${message.fields.message_id}`);
      toast(t("message.delete_done"));
      acting.gone(null);
    },
  });
}
