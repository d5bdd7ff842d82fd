/** A queue's configuration as a form: each setting with its default and what it does. */

import { el, field } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Problem } from "../lib/api.js";
import { parseDuration, writeDuration } from "./duration.js";

/** What the broker takes where nothing is said (docs/protocol.md). */
export const DEFAULTS = {
  lease_ms: 30_000,
  max_attempts: 5,
  backoff: { kind: "exponential", base_ms: 1_000, factor: 2, max_ms: 300_000, jitter: true },
  dead_letter_queue: /** @type {string | null} */ (null),
  message_ttl_ms: 0,
  max_messages: 0,
  overflow: "reject",
  retention_ms: 3_600_000,
  dedup_window_ms: 86_400_000,
  durability: "fsync",
};

/** @typedef {typeof DEFAULTS} QueueConfig */
/** @typedef {{node: HTMLElement, read: () => any}} Setting */

/**
 * @param {QueueConfig} config  what it begins with
 * @returns {{nodes: HTMLElement[], controls: Record<string, HTMLElement>, read: () => QueueConfig}}
 */
export function queueForm(config) {
  /** @type {Record<string, HTMLElement>} */
  const controls = {};
  const now = { ...flat(DEFAULTS), ...flat(config) };

  /** @param {string} name @param {HTMLElement} control @param {(control: any) => any} read @returns {Setting} */
  function setting(name, control, read) {
    const pointer = `/${name.replace(".", "/")}`;
    controls[pointer] = control;
    const hint = `${t(`queue.hint.${name}`)} ${t("queue.default", { value: written(name) })}`;
    return { node: field(t(`queue.field.${name}`), control, { hint }), read: () => read(control) };
  }

  /** @param {string} name */
  function duration(name) {
    const value = writeDuration(now[name]);
    const input = el("input", {
      type: "text",
      value,
      testid: `queue-field-${name}`,
      autocomplete: "off",
      spellcheck: "false",
    });
    return setting(name, input, (control) => {
      const ms = parseDuration(control.value);
      if (ms === null) throw fieldProblem(name, t("form.not_duration"));
      return ms;
    });
  }

  /** @param {string} name */
  function figure(name) {
    const input = el("input", {
      type: "text",
      inputmode: "numeric",
      value: String(now[name]),
      testid: `queue-field-${name}`,
    });
    return setting(name, input, (control) => {
      if (!/^\d+(\.\d+)?$/.test(control.value.trim())) throw fieldProblem(name, t("form.not_number"));
      return Number(control.value);
    });
  }

  /** @param {string} name @param {string[]} values */
  function choice(name, values) {
    const options = values.map((value) => el("option", { value, text: t(`queue.choice.${value}`) }));
    return setting(
      name,
      el("select", { value: now[name], testid: `queue-field-${name}` }, options),
      (control) => control.value,
    );
  }

  const jitter = el("input", {
    type: "checkbox",
    checked: now["backoff.jitter"],
    testid: "queue-field-backoff.jitter",
  });
  const dead = el("input", {
    type: "text",
    value: now.dead_letter_queue ?? "",
    testid: "queue-field-dead_letter_queue",
    autocomplete: "off",
    spellcheck: "false",
  });

  /** @type {Record<string, Setting>} */
  const settings = {
    lease_ms: duration("lease_ms"),
    max_attempts: figure("max_attempts"),
    dead_letter_queue: setting("dead_letter_queue", dead, (control) => control.value.trim() || null),
    "backoff.kind": choice("backoff.kind", ["exponential", "fixed"]),
    "backoff.base_ms": duration("backoff.base_ms"),
    "backoff.factor": figure("backoff.factor"),
    "backoff.max_ms": duration("backoff.max_ms"),
    "backoff.jitter": setting("backoff.jitter", jitter, (control) => control.checked),
    message_ttl_ms: duration("message_ttl_ms"),
    max_messages: figure("max_messages"),
    overflow: choice("overflow", ["reject", "drop_oldest"]),
    retention_ms: duration("retention_ms"),
    dedup_window_ms: duration("dedup_window_ms"),
    durability: choice("durability", ["fsync", "memory"]),
  };
  const group = (/** @type {string} */ name, /** @type {string[]} */ names) =>
    el(
      "fieldset",
      { class: "group" },
      el("legend", { text: t(`queue.group.${name}`) }),
      el(
        "div",
        { class: "form" },
        names.map((one) => settings[one].node),
      ),
    );
  const nodes = [
    group("delivery", ["lease_ms", "max_attempts", "dead_letter_queue"]),
    group(
      "backoff",
      Object.keys(settings).filter((name) => name.startsWith("backoff.")),
    ),
    group("keeping", ["message_ttl_ms", "retention_ms", "max_messages", "overflow", "dedup_window_ms", "durability"]),
  ];
  return { nodes, controls, read: () => /** @type {any} */ (nested(settings)) };
}

/** @param {Record<string, Setting>} settings @returns {Record<string, any>} */
function nested(settings) {
  /** @type {Record<string, any>} */
  const made = { backoff: {} };
  for (const [name, { read }] of Object.entries(settings)) {
    if (name.startsWith("backoff.")) made.backoff[name.slice("backoff.".length)] = read();
    else made[name] = read();
  }
  return made;
}

/** @param {any} config @returns {Record<string, any>} */
function flat(config) {
  const { backoff, ...rest } = config;
  const inner = Object.entries(backoff).map(([name, value]) => [`backoff.${name}`, value]);
  return { ...rest, ...Object.fromEntries(inner) };
}

/** A setting's default as one would write it. @param {string} name @returns {string} */
function written(name) {
  const value = flat(DEFAULTS)[name];
  if (value === null) return t("queue.none");
  if (typeof value === "boolean") return t(value ? "form.yes" : "form.no");
  return name.endsWith("_ms") ? writeDuration(value) : String(value);
}

/**
 * A field that cannot be sent as it is, said in the way the broker would.
 * @param {string} name
 * @param {string} detail
 * @returns {Problem}
 */
export function fieldProblem(name, detail) {
  const pointer = `/${name.replace(".", "/")}`;
  return new Problem({ code: "invalid", status: 422, errors: [{ pointer, detail }] });
}

/**
 * What differs, for a change: `backoff` as a whole.
 * @param {QueueConfig} before
 * @param {QueueConfig} after
 * @returns {Record<string, any>}
 */
export function changed(before, after) {
  const told = (/** @type {any} */ value) =>
    JSON.stringify(value !== null && typeof value === "object" ? Object.entries(value).sort() : value);
  return Object.fromEntries(
    Object.entries(after).filter(([name, value]) => told(value) !== told(/** @type {any} */ (before)[name])),
  );
}
