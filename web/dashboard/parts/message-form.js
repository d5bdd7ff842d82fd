/** A message to be published: what it carries and its options. Its JSON is sent as it was typed, digit for digit. */

import { button, el, field } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { asText } from "./content-view.js";
import { parseDuration } from "./duration.js";
import { bytesOf } from "./hex-view.js";
import { indented } from "./json-text.js";
import { fieldProblem } from "./queue-form.js";

/** @typedef {"json" | "text" | "base64" | "file"} Mode */

/**
 * @param {import("./message-text.js").Message | null} message  what it begins with
 * @returns {{nodes: HTMLElement[], controls: Record<string, HTMLElement>, body: () => Promise<string>}}
 */
export function messageForm(message = null) {
  const start = beginning(message);
  const text = (/** @type {string} */ id, /** @type {any} */ value, /** @type {Record<string, any>} */ props = {}) =>
    el("input", {
      type: "text",
      value: value ?? "",
      testid: `publish-${id}`,
      autocomplete: "off",
      spellcheck: "false",
      ...props,
    });
  const content = el("textarea", { value: start.text, rows: 8, testid: "publish-content", spellcheck: "false" });
  const file = el("input", { type: "file", testid: "publish-file" });
  const modes = /** @type {Mode[]} */ (["json", "text", "base64", "file"]);
  const mode = el(
    "select",
    { value: start.mode, testid: "publish-mode", on: { change: onMode } },
    modes.map((value) => el("option", { value, text: t(`publish.mode_${value}`) })),
  );
  const tidy = button(t("publish.tidy"), { kind: "quiet", small: true, testid: "publish-tidy", onClick: onTidy });
  const old = message?.fields ?? {};
  const type = text("content-type", old.content_type ?? "", { placeholder: "text/plain; charset=utf-8" });
  const priorities = Array.from({ length: 10 }, (_, value) => el("option", { value, text: String(value) }));
  const priority = el("select", { value: String(old.priority ?? 0), testid: "publish-priority" }, priorities);
  const delay = text("delay", "", { placeholder: "30 s" });
  const ttl = text("ttl", "", { placeholder: "1 h" });
  const key = text("key", old.key);
  const headers = el("textarea", {
    value: message?.headers ?? "",
    rows: 3,
    testid: "publish-headers",
    spellcheck: "false",
    placeholder: '{"name": "value"}',
  });
  const dedup = text("dedup-id", "");
  const correlation = text("correlation-id", old.correlation_id);
  const replyTo = text("reply-to", old.reply_to);
  const attempts = text("max-attempts", "", { inputmode: "numeric" });

  const contentField = field(t("publish.content"), content, { wide: true });
  const fileField = field(t("publish.file"), file, { wide: true });
  const typeField = field(t("publish.content_type"), type);
  contentField.append(tidy);

  function onMode() {
    fileField.hidden = mode.value !== "file";
    contentField.hidden = mode.value === "file";
    tidy.hidden = mode.value !== "json";
  }
  function onTidy() {
    try {
      JSON.parse(content.value);
      content.value = indented(content.value);
    } catch {
      // Sending it says what is wrong with it.
    }
  }
  onMode();

  /** @returns {Promise<string>} */
  async function body() {
    const parts = [await carried(mode.value, content.value, file.files?.[0], type.value.trim())];
    const add = (/** @type {string} */ name, /** @type {any} */ value) =>
      parts.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
    if (priority.value !== "0") add("priority", Number(priority.value));
    for (const [name, control] of /** @type {[string, any][]} */ ([
      ["delay_ms", delay],
      ["ttl_ms", ttl],
    ])) {
      if (control.value.trim() !== "") add(name, milliseconds(name, control.value));
    }
    const texts = { key, dedup_id: dedup, correlation_id: correlation, reply_to: replyTo };
    for (const [name, control] of Object.entries(texts)) if (control.value !== "") add(name, control.value);
    if (attempts.value.trim() !== "") add("max_attempts", figure("max_attempts", attempts.value));
    if (old.traceparent) add("traceparent", old.traceparent);
    if (headers.value.trim() !== "") parts.push(`"headers":${json("headers", headers.value)}`);
    return `{${parts.join(",")}}`;
  }

  const more = el(
    "details",
    { class: "more field-wide" },
    el("summary", { text: t("publish.more") }),
    el(
      "div",
      { class: "form" },
      field(t("publish.dedup_id"), dedup, { hint: t("publish.dedup_hint") }),
      field(t("publish.max_attempts"), attempts, { hint: t("publish.max_attempts_hint") }),
      field(t("publish.correlation_id"), correlation),
      field(t("publish.reply_to"), replyTo),
    ),
  );
  const nodes = [
    el(
      "div",
      { class: "form" },
      field(t("publish.mode"), mode),
      typeField,
      contentField,
      fileField,
      field(t("publish.priority"), priority, { hint: t("publish.priority_hint") }),
      field(t("publish.key"), key, { hint: t("publish.key_hint") }),
      field(t("publish.delay"), delay, { hint: t("publish.delay_hint") }),
      field(t("publish.ttl"), ttl, { hint: t("publish.ttl_hint") }),
      field(t("publish.headers"), headers, { hint: t("publish.headers_hint"), wide: true }),
      more,
    ),
  ];
  const controls = {
    "/content": content,
    "/content_base64": content,
    "/content_type": type,
    "/priority": priority,
    "/delay_ms": delay,
    "/ttl_ms": ttl,
    "/key": key,
    "/headers": headers,
    "/dedup_id": dedup,
    "/correlation_id": correlation,
    "/reply_to": replyTo,
    "/max_attempts": attempts,
  };
  return { nodes, controls, body };
}

/**
 * How an existing message is put into the form. A text area knows one kind of line end, so bytes with another one are
 * edited as base64, where nothing is lost.
 * @param {import("./message-text.js").Message | null} message
 * @returns {{mode: Mode, text: string}}
 */
function beginning(message) {
  if (message === null) return { mode: "json", text: '{"hello": "world"}' };
  if (message.content !== null) return { mode: "json", text: message.content };
  const base64 = message.fields.content_base64;
  const text = asText(bytesOf(base64));
  return text === null || text.includes("\r") ? { mode: "base64", text: base64 } : { mode: "text", text };
}

/**
 * @param {string} mode @param {string} text @param {File | undefined} file @param {string} type
 * @returns {Promise<string>}
 */
async function carried(mode, text, file, type) {
  const typed = type === "" ? "" : `,"content_type":${JSON.stringify(type)}`;
  if (mode === "json") return `"content":${json("content", text)}${typed}`;
  if (mode === "base64") return `"content_base64":${JSON.stringify(text.replace(/\s+/g, ""))}${typed}`;
  if (mode === "file" && !file) throw fieldProblem("content", t("publish.no_file"));
  const bytes = mode === "file" && file ? new Uint8Array(await file.arrayBuffer()) : new TextEncoder().encode(text);
  const known =
    type ||
    (mode === "file" && file?.type) ||
    (mode === "text" ? "text/plain; charset=utf-8" : "application/octet-stream");
  return `"content_base64":${JSON.stringify(base64Of(bytes))},"content_type":${JSON.stringify(known)}`;
}

/** @param {Uint8Array} bytes @returns {string} */
export function base64Of(bytes) {
  let letters = "";
  for (let at = 0; at < bytes.length; at += 8192) letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(letters);
}

/** The text itself, if it is JSON. @param {string} name @param {string} text @returns {string} */
function json(name, text) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw fieldProblem(name, `${t("form.not_json")} ${/** @type {Error} */ (error).message}`);
  }
  return text;
}

/** @param {string} name @param {string} text @returns {number} */
function milliseconds(name, text) {
  const ms = parseDuration(text);
  if (ms === null) throw fieldProblem(name, t("form.not_duration"));
  return ms;
}

/** @param {string} name @param {string} text @returns {number} */
function figure(name, text) {
  if (!/^\d+$/.test(text.trim())) throw fieldProblem(name, t("form.not_number"));
  return Number(text);
}
