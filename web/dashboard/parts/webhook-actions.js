/** What can be done to a webhook, each behind a question that says what will happen; and how one stands, in words. */

import { path } from "../lib/api.js";
import { age } from "../lib/clock.js";
import { button, el } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast, toastProblem } from "../lib/toast.js";
import { ask, concerned } from "./dialog.js";
import { openMenu } from "./menu.js";
import { may } from "./rights.js";
import { askEditWebhook } from "./webhook-form.js";

/** @typedef {import("./webhook-form.js").Webhook} Webhook */
/** @typedef {import("./webhook-form.js").Delivery} Delivery */

/** @type {Record<string, string>} */
const COLOURS = {
  active: "green",
  slowed: "orange",
  stopped: "orange",
  disabled: "neutral",
  delivered: "green",
  gone: "orange",
};

/** How it stands, and why. @param {Webhook} webhook @returns {HTMLElement} */
export function standing(webhook) {
  const { status, disabled } = webhook;
  const reason = webhook.reason ?? (disabled ? t("webhooks.by_hand") : null);
  return el(
    "div",
    { class: "webhook-standing" },
    el("span", {
      class: `badge badge-${COLOURS[status] ?? "neutral"}`,
      testid: "webhook-status",
      data: { status },
      text: t(`webhooks.status_${status}`),
    }),
    reason === null ? null : el("span", { class: "soft webhook-reason", testid: "webhook-reason", text: reason }),
  );
}

/** What came of a request. @param {Delivery} delivery @returns {HTMLElement} */
export function outcome({ outcome: name, status_code }) {
  const words = t(`webhooks.outcome_${name}`) + (status_code === null ? "" : ` · ${status_code}`);
  return el("span", { class: `badge badge-${COLOURS[name] ?? "red"}`, data: { outcome: name }, text: words });
}

/** @param {Delivery | null | undefined} delivery @returns {HTMLElement} */
export function lastOutcome(delivery) {
  if (!delivery) return el("span", { class: "soft", testid: "webhook-last", text: t("webhooks.none_yet") });
  const when = age(delivery.at, "soft");
  return el("span", { class: "webhook-last", testid: "webhook-last" }, outcome(delivery), " ", when);
}

/**
 * The button of a webhook's menu.
 * @param {any} api @param {any} session @param {Webhook} webhook
 * @param {{changed: () => void, deleted?: () => void, log?: boolean}} options
 *   `log`: offer its log; `deleted`: in place of `changed` where it is gone
 * @returns {HTMLElement}
 */
export function webhookMenu(api, session, webhook, { changed, deleted = changed, log = false }) {
  const one = path`/queues/${webhook.queue}/webhooks/${webhook.id}`;
  const also = may(session, "consume", webhook.queue);
  /** @type {import("./menu.js").Item[]} */
  const items = [
    { label: t("webhooks.edit"), icon: "edit", testid: "webhook-action-edit", onSelect: () => edit() },
    { label: t("webhooks.test"), icon: "send", testid: "webhook-action-test", onSelect: () => void test() },
  ];
  if (log) items.unshift({ label: t("webhooks.log"), icon: "logs", testid: "webhook-action-log", onSelect: show });
  if (!webhook.disabled) {
    items.push({ label: t("webhooks.disable"), icon: "pause", testid: "webhook-action-disable", onSelect: disable });
  } else if (also) {
    items.push({ label: t("webhooks.enable"), icon: "play", testid: "webhook-action-enable", onSelect: enable });
  }
  const remove = { label: t("webhooks.delete"), icon: "trash", testid: "webhook-action-delete", danger: true };
  items.push({ ...remove, onSelect: askDelete });

  function show() {
    location.hash = `#/webhooks?${new URLSearchParams({ queue: webhook.queue, id: webhook.id })}`;
  }
  function edit() {
    askEditWebhook(api, webhook, changed);
  }
  async function test() {
    try {
      const sent = await api.post(`${one}/test`);
      toast(t("webhooks.tested", { outcome: t(`webhooks.outcome_${sent.outcome}`) }));
      changed();
    } catch (error) {
      toastProblem(error);
    }
  }
  function enable() {
    question("enable", "primary", async () => {
      await api.patch(one, { disabled: false });
      toast(t("webhooks.enabled"));
      changed();
    });
  }
  function disable() {
    question("disable", "danger", async () => {
      await api.patch(one, { disabled: true });
      toast(t("webhooks.disabled"));
      changed();
    });
  }
  function askDelete() {
    question("delete", "danger", async () => {
      await api.delete(one);
      toast(t("webhooks.deleted"));
      deleted();
    });
  }

  /** @param {"enable" | "disable" | "delete"} verb @param {"primary" | "danger"} kind @param {() => Promise<void>} run */
  function question(verb, kind, run) {
    const n = webhook.in_flight;
    ask({
      title: t(`webhooks.${verb}_title`),
      kind,
      content: [
        verb === "enable" ? null : concerned(t("webhooks.in_flight_count", { count: n, n: number(n) }), n),
        el("p", { class: "wrap", text: t(`webhooks.${verb}_note`, { url: webhook.url, queue: webhook.queue }) }),
      ],
      confirm: verb === "delete" ? t("webhooks.delete_confirm") : t(`webhooks.${verb}`),
      run,
    });
  }

  const more = button(t("webhooks.actions", { url: webhook.url }), {
    kind: "quiet",
    small: true,
    iconOnly: true,
    icon: icon("more"),
    testid: `webhook-actions-${webhook.id}`,
    onClick: () => openMenu(more, items),
  });
  more.setAttribute("aria-haspopup", "menu");
  more.setAttribute("aria-expanded", "false");
  return more;
}
