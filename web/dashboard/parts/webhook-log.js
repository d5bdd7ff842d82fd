/** What a webhook sent and what came of it, the newest first; and a way to send a message again. */

import { path } from "../lib/api.js";
import { button, el } from "../lib/dom.js";
import { dateTime, duration, number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { empty } from "../lib/views.js";
import { ask } from "./dialog.js";
import { plainTable } from "./plain-table.js";
import { outcome } from "./webhook-actions.js";

/** @typedef {import("./webhook-form.js").Webhook} Webhook */
/** @typedef {import("./webhook-form.js").Delivery} Delivery */

/** @param {any} api @param {Webhook} webhook @param {Delivery[]} deliveries @param {() => void} changed */
export function deliveriesTable(api, webhook, deliveries, changed) {
  if (deliveries.length === 0) return empty({ title: t("webhooks.log_empty") });
  /** @type {import("./plain-table.js").PlainColumn<Delivery>[]} */
  const columns = [
    { label: t("webhooks.at"), class: "wrap webhook-at", cell: (one) => [when(one), one.message_id && narrow(messageLink(one))] },
    { label: t("webhooks.answer"), class: "wrap webhook-answer", cell: (one) => [outcome(one), narrow(said(one))] },
    { label: t("webhooks.attempt"), class: "num hide-narrow", cell: (one) => number(one.attempt) },
    { label: t("webhooks.latency"), class: "num hide-narrow", cell: (one) => took(one.latency_ms) },
    { label: t("webhooks.kind"), class: "hide-medium", cell: (one) => t(`webhooks.kind_${one.kind}`) },
    { label: t("webhooks.message"), class: "hide-narrow", cell: messageLink },
    { label: t("webhooks.error"), class: "wrap webhook-said hide-narrow", cell: said },
    { label: t("table.actions"), hiddenLabel: true, class: "col-buttons", cell: again },
  ];

  /** @param {Delivery} one */
  function again(one) {
    if (one.message_id === null) return null;
    return button(t("webhooks.redeliver"), {
      kind: "quiet",
      small: true,
      iconOnly: true,
      icon: icon("send"),
      testid: `delivery-redeliver-${one.id}`,
      onClick: () => askRedeliver(api, webhook, one, changed),
    });
  }
  return plainTable({
    columns,
    rows: deliveries,
    caption: t("webhooks.log"),
    testid: "deliveries-table",
    rowTestid: (one) => `delivery-row-${one.id}`,
  });
}

/** @param {Delivery} one */
function when({ at }) {
  return el("time", { datetime: at, title: at, text: dateTime(at) });
}

/** What has no column of its own where there is no room for it. @param {import("../lib/dom.js").Child} child */
function narrow(child) {
  return el("div", { class: "only-narrow" }, child);
}

/** @param {Delivery} one */
function said({ error, response }) {
  return error ?? response ?? "–";
}

/** It is measured in whole milliseconds. @param {number} ms */
function took(ms) {
  return ms === 0 ? "< 1 ms" : duration(ms);
}

/** @param {Delivery} one */
function messageLink({ message_id }) {
  if (message_id === null) return "–";
  return el("a", { class: "mono", href: `#/messages/${encodeURIComponent(message_id)}`, text: message_id });
}

/** @param {any} api @param {Webhook} webhook @param {Delivery} one @param {() => void} changed */
function askRedeliver(api, webhook, one, changed) {
  ask({
    title: t("webhooks.redeliver_title"),
    content: [
      el("p", { class: "mono", text: one.message_id ?? "" }),
      el("p", { class: "soft", text: t("webhooks.redeliver_note") }),
    ],
    confirm: t("webhooks.redeliver"),
    run: async () => {
      const answer = await api.post(
        path`/queues/${webhook.queue}/webhooks/${webhook.id}/deliveries/${one.id}/redeliver`,
      );
      const came = answer.delivery && t(`webhooks.outcome_${answer.delivery.outcome}`);
      toast(answer.queued ? t("webhooks.requeued") : t("webhooks.redelivered", { outcome: came }));
      changed();
    },
  });
}
