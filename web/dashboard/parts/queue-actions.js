/** What can be done to a queue, each behind a question that says how many messages it concerns. */

import { path } from "../lib/api.js";
import { el, field } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { toast, toastProblem } from "../lib/toast.js";
import { ask, concerned } from "./dialog.js";
import { DEFAULTS, changed, queueForm } from "./queue-form.js";
import { may } from "./rights.js";

/**
 * @typedef {object} Acting
 * @property {import("../lib/api.js").Api} api
 * @property {any} session
 * @property {(name: string) => void} [done]  called after each change
 * @property {(name: string) => void} [gone]  called after the queue was deleted
 */

/**
 * The actions on a queue that whoever is logged in may use.
 * @param {Acting} acting
 * @param {{name: string, paused: boolean}} queue
 * @returns {import("./menu.js").Item[]}
 */
export function queueActions(acting, { name, paused }) {
  if (!may(acting.session, "manage", name)) return [];
  const item = (
    /** @type {string} */ id,
    /** @type {string} */ icon,
    /** @type {Function} */ question,
    danger = false,
  ) => ({
    label: t(`queue.${id}`),
    icon,
    testid: `queue-action-${id}`,
    danger,
    onSelect: () => void looked(acting, name, question),
  });
  return [
    item("edit", "edit", askEdit),
    paused ? item("resume", "play", askResume) : item("pause", "pause", askPause),
    item("redrive", "undo", askRedrive),
    item("purge", "trash", askPurge, true),
    item("delete", "trash", askDelete, true),
  ];
}

/**
 * Asks with the counts of this moment; where the queue is gone, says so instead.
 * @param {Acting} acting @param {string} name @param {Function} question
 */
async function looked(acting, name, question) {
  try {
    question(acting, await acting.api.get(path`/queues/${name}`));
  } catch (problem) {
    toastProblem(problem);
  }
}

/** @param {any} queue @param {string[]} statuses */
function sum(queue, ...statuses) {
  return statuses.reduce((total, status) => total + queue.counts[status], 0);
}

/** @param {string} key @param {number} count @param {Record<string, any>} [params] */
function counted(key, count, params = {}) {
  return concerned(t(key, { count, n: number(count), ...params }), count);
}

/** Asks for a new queue's name and configuration. @param {Acting} acting */
export function askCreate(acting) {
  const name = el("input", {
    type: "text",
    testid: "queue-field-name",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 128,
  });
  const form = queueForm(DEFAULTS);
  const configuration = el("details", { class: "more" }, el("summary", { text: t("queue.configuration") }), form.nodes);
  ask({
    title: t("queue.create"),
    testid: "queue-form",
    wide: true,
    content: [field(t("queue.field.name"), name, { hint: t("queue.hint.name") }), configuration],
    controls: { "/name": name, ...form.controls },
    confirm: t("queue.create"),
    run: async () => {
      await opened(configuration, () => acting.api.post("/queues", { name: name.value.trim(), ...form.read() }));
      toast(t("queue.created", { name: name.value.trim() }));
      acting.done?.(name.value.trim());
    },
  });
}

/** Opens the part in which the wrong field may be. @param {HTMLElement} part @param {() => Promise<any>} work */
async function opened(part, work) {
  try {
    return await work();
  } catch (problem) {
    const wrong = /** @type {any} */ (problem)?.errors ?? [];
    if (wrong.some((/** @type {any} */ one) => one.pointer !== "/name")) part.setAttribute("open", "");
    throw problem;
  }
}

/** @param {Acting} acting @param {any} queue */
function askEdit(acting, queue) {
  const form = queueForm(queue.config);
  ask({
    title: t("queue.edit_title", { name: queue.name }),
    testid: "queue-form",
    wide: true,
    content: [
      counted("queue.edit_count", sum(queue, "pending", "processing")),
      el("p", { class: "soft", text: t("queue.edit_note") }),
      form.nodes,
    ],
    controls: form.controls,
    confirm: t("action.save"),
    run: async () => {
      const change = changed(queue.config, form.read());
      if (Object.keys(change).length > 0) await acting.api.patch(path`/queues/${queue.name}`, change);
      toast(t("queue.saved", { name: queue.name }));
      acting.done?.(queue.name);
    },
  });
}

/** @param {Acting} acting @param {any} queue */
function askPause(acting, queue) {
  simple(acting, queue, "pause", counted("queue.pause_count", sum(queue, "pending")));
}

/** @param {Acting} acting @param {any} queue */
function askResume(acting, queue) {
  simple(acting, queue, "resume", counted("queue.resume_count", sum(queue, "pending")));
}

/** @param {Acting} acting @param {any} queue @param {"pause" | "resume"} what @param {HTMLElement} count */
function simple(acting, queue, what, count) {
  ask({
    title: t(`queue.${what}_title`, { name: queue.name }),
    content: [count, el("p", { class: "soft", text: t(`queue.${what}_note`) })],
    confirm: t(`queue.${what}`),
    run: async () => {
      await acting.api.post(path`/queues/${queue.name}/${what}`);
      toast(t(`queue.${what}d`, { name: queue.name }));
      acting.done?.(queue.name);
    },
  });
}

/** @param {Acting} acting @param {any} queue */
function askPurge(acting, queue) {
  const concerns = {
    pending: ["pending"],
    failed: ["failed"],
    processed: ["processed"],
    all: ["pending", "failed", "processed"],
  };
  const options = Object.keys(concerns).map((value) => el("option", { value, text: t(`queue.purge_${value}`) }));
  const select = el("select", { value: "pending", testid: "purge-status", on: { change: recount } }, options);
  const count = el("div", {});
  function recount() {
    const statuses = /** @type {any} */ (concerns)[select.value];
    count.replaceChildren(counted("queue.purge_count", sum(queue, ...statuses)));
  }
  recount();
  ask({
    title: t("queue.purge_title", { name: queue.name }),
    kind: "danger",
    content: [field(t("queue.purge_which"), select), count, el("p", { class: "soft", text: t("queue.purge_note") })],
    controls: { "/status": select },
    confirm: t("queue.purge"),
    run: async () => {
      const { purged } = await acting.api.post(path`/queues/${queue.name}/purge`, { status: select.value });
      toast(t("queue.purged", { count: purged, n: number(purged) }));
      acting.done?.(queue.name);
    },
  });
}

/** @param {Acting} acting @param {any} queue */
function askRedrive(acting, queue) {
  const dead = queue.config.dead_letter_queue;
  const sources = [
    ["failed", t("queue.redrive_failed")],
    ...(dead ? [[dead, t("queue.redrive_dead", { name: dead })]] : []),
  ];
  const options = sources.map(([value, text]) => el("option", { value, text }));
  const select = el(
    "select",
    { value: "failed", testid: "redrive-from", on: { change: () => void recount() } },
    options,
  );
  const limit = el("input", { type: "number", min: 1, step: 1, testid: "redrive-limit" });
  const count = el("div", {});
  async function recount() {
    const from = select.value;
    if (from === "failed") return count.replaceChildren(counted("queue.redrive_count", sum(queue, "failed")));
    count.replaceChildren();
    const found = await acting.api.get(path`/queues/${from}`).catch(() => null);
    if (select.value !== from) return;
    count.replaceChildren(
      found
        ? counted("queue.redrive_dead_count", sum(found, "pending", "failed"), { name: from })
        : el("p", { class: "soft", testid: "dialog-count", text: t("queue.redrive_unknown") }),
    );
  }
  void recount();
  ask({
    title: t("queue.redrive_title", { name: queue.name }),
    content: [
      field(t("queue.redrive_from"), select),
      count,
      field(t("queue.redrive_limit"), limit, { hint: t("queue.redrive_limit_hint") }),
      el("p", { class: "soft", text: t("queue.redrive_note") }),
    ],
    controls: { "/from": select, "/limit": limit },
    confirm: t("queue.redrive"),
    run: async () => {
      const most = limit.value === "" ? {} : { limit: Number(limit.value) };
      const { redriven } = await acting.api.post(path`/queues/${queue.name}/redrive`, { from: select.value, ...most });
      toast(t("queue.redriven", { count: redriven, n: number(redriven) }));
      acting.done?.(queue.name);
    },
  });
}

/** @param {Acting} acting @param {any} queue */
function askDelete(acting, queue) {
  const all = sum(queue, "pending", "processing", "processed", "failed");
  ask({
    title: t("queue.delete_title", { name: queue.name }),
    kind: "danger",
    typed: queue.name,
    content: [
      counted("queue.delete_count", all),
      el("p", { class: "soft", text: t("queue.delete_note", { count: queue.consumers }) }),
    ],
    confirm: t("queue.delete"),
    run: async () => {
      await acting.api.delete(path`/queues/${queue.name}`);
      toast(t("queue.deleted", { name: queue.name }));
      (acting.gone ?? acting.done)?.(queue.name);
    },
  });
}
