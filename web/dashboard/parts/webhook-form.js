/** Making a webhook and changing one. A secret that the broker makes is shown once. */

import { path } from "../lib/api.js";
import { el, field, uid } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { Problem } from "../lib/api.js";
import { copyButton } from "./copy.js";
import { ask, tell } from "./dialog.js";
import { parseDuration, writeDuration } from "./duration.js";
import { may } from "./rights.js";

/**
 * @typedef {{id: string, kind: string, at: string, message_id: string | null, attempt: number | null, outcome: string,
 *   status_code: number | null, latency_ms: number, error: string | null, response: string | null}} Delivery
 * @typedef {{id: string, queue: string, url: string, description: string | null, headers: Record<string, string>,
 *   concurrency: number, timeout_ms: number, disable_after_ms: number, disabled: boolean, status: string,
 *   reason: string | null, failing_since: string | null, in_flight: number, username: string, created_at: string,
 *   failures?: number, last_delivery?: Delivery | null}} Webhook
 */

/** @type {{concurrency: number, timeout_ms: number, disable_after_ms: number}} what the broker takes by default */
const DEFAULTS = { concurrency: 10, timeout_ms: 10_000, disable_after_ms: 86_400_000 };

/** @param {any} api @param {any} session @param {string} queue @param {() => void} done */
export function askCreateWebhook(api, session, queue, done) {
  const known = el("datalist", { id: uid("queues"), testid: "webhook-queues" });
  void suggest(api, session, known);
  const name = text("queue", queue, { list: known.id });
  const form = settings(null);
  const question = {
    title: t("webhooks.create"),
    fields: [field(t("webhooks.queue"), name, { wide: true }), known, ...form.fields],
    controls: form.controls,
    confirm: t("webhooks.create"),
    done,
  };
  put(question, async () => {
    const made = await api.post(path`/queues/${name.value.trim()}/webhooks`, form.read());
    toast(t("webhooks.made"));
    return made;
  });
}

/** Fills in queues that may have one; without them the name can be typed still.
 * @param {any} api @param {any} session @param {HTMLElement} list */
async function suggest(api, session, list) {
  const { items } = await api.get("/queues", { query: { limit: 100 } }).catch(() => ({ items: [] }));
  const names = items.map((/** @type {{name: string}} */ one) => one.name);
  const fit = names.filter((/** @type {string} */ one) => may(session, "manage", one) && may(session, "consume", one));
  list.append(...fit.map((/** @type {string} */ value) => el("option", { value })));
}

/** @param {any} api @param {Webhook} webhook @param {() => void} done */
export function askEditWebhook(api, webhook, done) {
  const form = settings(webhook);
  const title = t("webhooks.edit_title", { queue: webhook.queue });
  put({ title, fields: form.fields, controls: form.controls, confirm: t("webhooks.save"), done }, async () => {
    const saved = await api.patch(path`/queues/${webhook.queue}/webhooks/${webhook.id}`, form.read());
    toast(t("webhooks.saved"));
    return saved;
  });
}

/**
 * @param {{title: string, fields: HTMLElement[], controls: Record<string, HTMLElement>, confirm: string,
 *   done: () => void}} question
 * @param {() => Promise<{secret?: string}>} send
 */
function put({ title, fields, controls, confirm, done }, send) {
  /** @type {string | undefined} what was made, until it is shown */
  let secret;
  const dialog = ask({
    title,
    testid: "webhook-form",
    content: [el("div", { class: "form" }, ...fields)],
    controls,
    confirm,
    run: async () => {
      const answer = await send();
      done();
      if (dialog.open) secret = answer.secret;
      else if (answer.secret) showOnce(answer.secret);
    },
  });
  // After this question has given the focus back, so that closing the next one gives it back there too.
  dialog.addEventListener("close", () => secret && showOnce(secret));
}

/** @param {string} secret */
function showOnce(secret) {
  tell({
    title: t("webhooks.created"),
    testid: "webhook-created",
    content: [
      el("p", { class: "notice notice-warning", text: t("webhooks.once") }),
      el(
        "div",
        { class: "secret" },
        el("code", { class: "mono", testid: "webhook-secret", text: secret }),
        copyButton(() => secret, "webhook-copy"),
      ),
    ],
    done: t("webhooks.done"),
  });
}

/** @param {string} name @param {string} value @param {Record<string, any>} [more] */
function text(name, value, more = {}) {
  const plain = { type: "text", autocomplete: "off", spellcheck: "false" };
  return el("input", { ...plain, testid: `webhook-field-${name}`, value, ...more });
}

/** The fields that both forms have; of a webhook that is there, only what was changed is read. @param {Webhook | null} now */
function settings(now) {
  const before = now ?? DEFAULTS;
  const url = text("url", now?.url ?? "", { maxlength: 2_048 });
  const description = text("description", now?.description ?? "", { maxlength: 256 });
  const concurrency = text("concurrency", String(before.concurrency), { inputmode: "numeric" });
  const timeout = text("timeout", writeDuration(before.timeout_ms));
  const giveUp = text("give-up", writeDuration(before.disable_after_ms));
  const secret = text("secret", "", { maxlength: 128 });
  const rotate = el("input", { type: "checkbox", testid: "webhook-field-rotate" });
  const headers = el("textarea", { class: "mono", rows: 3, testid: "webhook-field-headers", spellcheck: "false" });
  const kept = Object.keys(now?.headers ?? {}).join(", ");
  const hint = kept ? t("webhooks.headers_keep", { names: kept }) : t("webhooks.headers_hint");
  const secrets = now
    ? field(t("webhooks.rotate"), rotate, { hint: t("webhooks.rotate_hint") })
    : field(t("webhooks.secret"), secret, { hint: t("webhooks.secret_hint"), wide: true });

  function read() {
    const given = {
      url: url.value.trim(),
      description: description.value.trim() || null,
      concurrency: whole(concurrency.value),
      timeout_ms: parseDuration(timeout.value) ?? timeout.value,
      disable_after_ms: parseDuration(giveUp.value) ?? giveUp.value,
    };
    const same = /** @type {Record<string, unknown>} */ (now ?? {});
    const changed = Object.entries(given).filter(([name, value]) => !now || value !== same[name]);
    return {
      ...Object.fromEntries(changed),
      ...(headers.value.trim() !== "" && { headers: parsed(headers.value) }),
      ...(secret.value.trim() !== "" && { secret: secret.value.trim() }),
      ...(rotate.checked && { rotate_secret: true }),
    };
  }

  const controls = {
    "/url": url,
    "/description": description,
    "/concurrency": concurrency,
    "/timeout_ms": timeout,
    "/disable_after_ms": giveUp,
    "/secret": secret,
    "/headers": headers,
  };
  const fields = [
    field(t("webhooks.url"), url, { hint: t("webhooks.url_hint"), wide: true }),
    field(t("webhooks.description"), description, { hint: t("webhooks.description_hint"), wide: true }),
    field(t("webhooks.concurrency"), concurrency, { hint: t("webhooks.concurrency_hint") }),
    field(t("webhooks.timeout"), timeout, { hint: t("webhooks.timeout_hint") }),
    field(t("webhooks.give_up"), giveUp, { hint: t("webhooks.give_up_hint") }),
    secrets,
    field(t("webhooks.headers"), headers, { hint, wide: true }),
  ];
  return { fields, controls, read };
}

/** A whole number, or the text as it is, which the broker refuses in its own words. @param {string} typed */
function whole(typed) {
  return /^\d+$/.test(typed.trim()) ? Number(typed) : typed;
}

/** @param {string} typed @returns {Record<string, string>} throws a `Problem` that points to the field */
function parsed(typed) {
  try {
    const value = JSON.parse(typed);
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // told below
  }
  throw new Problem({ code: "invalid", errors: [{ pointer: "/headers", detail: t("webhooks.headers_wrong") }] });
}
