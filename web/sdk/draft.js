/** What is published, as the JSON text that the broker takes. */

import { JsonText, toBase64 } from "./message.js";

/**
 * @typedef {object} Attributes
 * @property {Record<string, string | number | boolean | null>} [headers]
 * @property {number} [priority] 0 to 9, higher goes first
 * @property {number} [delayMs]
 * @property {Date | string} [availableAt]
 * @property {number} [ttlMs]
 * @property {string} [key]
 * @property {string | null} [dedupId] made up when absent, so that trying again is safe; null: none, and no second try
 *   where the first one may have been stored
 * @property {string} [correlationId]
 * @property {string} [replyTo]
 * @property {string} [traceparent]
 * @property {string} [contentType]
 * @property {number} [maxAttempts]
 */

/** @type {Record<string, string>} */
const NAMES = {
  headers: "headers",
  priority: "priority",
  delayMs: "delay_ms",
  availableAt: "available_at",
  ttlMs: "ttl_ms",
  key: "key",
  correlationId: "correlation_id",
  replyTo: "reply_to",
  traceparent: "traceparent",
  contentType: "content_type",
  maxAttempts: "max_attempts",
};
/** What callers say about a publish that is not about the message. */
const OTHERS = new Set(["dedupId", "signal", "timeoutMs", "content"]);

/** A message on its way out; `generated` where its dedup id is ours. */
export class Draft {
  /** @param {unknown} content @param {Attributes & Record<string, unknown>} options */
  constructor(content, options = {}) {
    const { dedupId } = options;
    this.generated = dedupId === undefined;
    this.repeatable = dedupId !== null;
    const fields = attributes(options);
    if (this.repeatable) fields.dedup_id = dedupId ?? newId();
    const rest = said(fields, "").slice(1);
    /** @type {string} */
    this.json = `{${contentMember(content)}${rest === "}" ? "" : ","}${rest}`;
  }
}

/** @param {Attributes & Record<string, unknown>} options @returns {Record<string, unknown>} */
function attributes(options) {
  /** @type {Record<string, unknown>} */
  const fields = {};
  for (const [name, value] of Object.entries(options)) {
    if (Object.hasOwn(NAMES, name)) fields[NAMES[name]] = value;
    else if (!OTHERS.has(name)) throw new TypeError(`a message has no option ${name}`);
  }
  return fields;
}

/** @param {unknown} content @returns {string} */
function contentMember(content) {
  if (content instanceof JsonText) return `"content":${content.text}`;
  if (content instanceof ArrayBuffer) return bytesMember(new Uint8Array(content));
  if (ArrayBuffer.isView(content)) {
    return bytesMember(new Uint8Array(content.buffer, content.byteOffset, content.byteLength));
  }
  const text = said(content, "/content");
  if (text === undefined) throw new TypeError("the content is nothing that JSON can say");
  return `"content":${text}`;
}

/** Half of a surrogate pair without its other half: no Unicode, and nothing that UTF-8 can say. */
const LONE = /\p{Surrogate}/u;

/**
 * `JSON.stringify`, which makes null of NaN and the infinite, and an escape of half a surrogate pair that most other
 * languages cannot read; here they are refused.
 * @param {unknown} value @param {string} pointer @returns {string}
 */
function said(value, pointer) {
  const text = JSON.stringify(value);
  if (text?.includes("null") || text?.includes("\\ud")) refuseUnsayable(value, pointer);
  return text;
}

/** The error says where it is (RFC 6901), from `pointer` on. @param {unknown} value @param {string} pointer */
function refuseUnsayable(value, pointer) {
  /** @type {Map<object, string>} */
  const places = new Map();
  JSON.stringify(value, function (key, member) {
    const around = places.get(this);
    if (around !== undefined && LONE.test(key)) throw notUnicode(`the name of a member of ${around || "/"}`);
    const at = around === undefined ? pointer : `${around}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    if (typeof member === "number" && !Number.isFinite(member)) {
      throw new TypeError(`${at} is ${member}, and JSON has no such number`);
    }
    if (typeof member === "string" && LONE.test(member)) throw notUnicode(at);
    if (typeof member === "object" && member !== null) places.set(member, at);
    return member;
  });
}

/** @param {string} what */
function notUnicode(what) {
  return new TypeError(`${what} is not Unicode: it holds half of a surrogate pair`);
}

/** @param {Uint8Array} bytes @returns {string} */
function bytesMember(bytes) {
  return `"content_base64":"${toBase64(bytes)}"`;
}

/** 128 random bits. A page that is not served over TLS has no `crypto.randomUUID`. @returns {string} */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
