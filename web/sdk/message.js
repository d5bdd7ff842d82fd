/** A message as it came, and what its holder may do with it. */

import { AlreadySettled } from "./errors.js";
import { itemTexts, memberText } from "./rawjson.js";

const REASON_CHARACTERS = 4_096;

/**
 * JSON text that is published to the letter: numbers beyond 2^53, an order of keys, white space.
 */
export class JsonText {
  /** @param {string} text Throws a `SyntaxError` unless it is JSON. */
  constructor(text) {
    JSON.parse(text);
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

/** The texts of the messages in one frame or answer; they are looked for when the first one is asked for. */
export class Source {
  #text;
  #index;
  /** @type {string[] | null} */
  #found = null;

  /**
   * @param {string} text an object with `messages`, or an array of frames @param {number | null} [index] of the frame
   */
  constructor(text, index = null) {
    this.#text = text;
    this.#index = index;
  }

  /** @param {number} at @param {string} member @returns {string | null} */
  of(at, member) {
    if (this.#found === null) {
      const frame = this.#index === null ? this.#text : itemTexts(this.#text)[this.#index];
      this.#found = itemTexts(memberText(frame, member) ?? "");
      this.#text = "";
    }
    return this.#found[at] ?? null;
  }
}

/**
 * @typedef {object} Settling whoever takes the verdict on a delivered message to the broker
 * @property {(op: "ack" | "nack" | "extend", fields: Record<string, unknown>, message: Message,
 *   options?: {signal?: AbortSignal}) => Promise<void>} settle
 */

export class Message {
  #fields;
  #textOf;
  #settling;
  /** @type {AbortController | null} made when somebody asks: most messages are never lost */
  #controller = null;
  /** @type {{reason: unknown} | null} */
  #lost = null;
  /** @type {{verdict: "ack" | "nack", answer: Promise<void>} | null} */
  #settled = null;

  /**
   * @param {any} fields as the broker sent them @param {() => string | null} textOf the message's JSON text
   * @param {Settling} settling
   */
  constructor(fields, textOf, settling) {
    this.#fields = fields;
    this.#textOf = textOf;
    this.#settling = settling;
  }

  get messageId() {
    return this.#fields.message_id;
  }
  get queue() {
    return this.#fields.queue;
  }
  get status() {
    return this.#fields.status;
  }
  get contentType() {
    return this.#fields.content_type;
  }
  get headers() {
    return this.#fields.headers ?? {};
  }
  get priority() {
    return this.#fields.priority;
  }
  get attempt() {
    return this.#fields.attempt;
  }
  get maxAttempts() {
    return this.#fields.max_attempts;
  }
  get key() {
    return this.#fields.key;
  }
  get dedupId() {
    return this.#fields.dedup_id;
  }
  get correlationId() {
    return this.#fields.correlation_id;
  }
  get replyTo() {
    return this.#fields.reply_to;
  }
  get traceparent() {
    return this.#fields.traceparent;
  }
  get error() {
    return this.#fields.error;
  }
  get deadLetter() {
    return this.#fields.dead_letter ?? null;
  }
  get createdAt() {
    return time(this.#fields.created_at);
  }
  get updatedAt() {
    return time(this.#fields.updated_at);
  }
  get availableAt() {
    return time(this.#fields.available_at);
  }
  get expiresAt() {
    return time(this.#fields.expires_at);
  }
  get leaseExpiresAt() {
    return time(this.#fields.lease_expires_at);
  }
  /** The fencing token; null on a message that was only looked at. */
  get lease() {
    return this.#fields.lease ?? null;
  }

  /** True for a message that was published as bytes. */
  get isBytes() {
    return typeof this.#fields.content_base64 === "string";
  }

  /** What was published: the value of its JSON, or the bytes. */
  get content() {
    return this.isBytes ? fromBase64(this.#fields.content_base64) : this.#fields.content;
  }

  /** The content's JSON text, to the letter as it was published; null for bytes. */
  get text() {
    const whole = this.isBytes ? null : this.#textOf();
    return whole === null ? null : memberText(whole, "content");
  }

  /** The content as bytes: of JSON its text in UTF-8. */
  get bytes() {
    return this.isBytes ? fromBase64(this.#fields.content_base64) : new TextEncoder().encode(this.text ?? "null");
  }

  /** Aborted when the lease is lost: work that goes on is for nothing, somebody else may be at it. */
  get signal() {
    this.#controller ??= new AbortController();
    if (this.#lost) this.#controller.abort(this.#lost.reason);
    return this.#controller.signal;
  }

  /** Whether the lease is lost, as far as is known here. */
  get isLost() {
    return this.#lost !== null;
  }

  /** The lease is lost. For the client's own parts. @param {unknown} reason */
  lose(reason) {
    this.#lost ??= { reason };
    this.#controller?.abort(reason);
  }

  /**
   * The work is done. Returns when that is committed: the message does not come back.
   * @param {{signal?: AbortSignal}} [options]
   */
  ack(options) {
    return this.#settle("ack", {}, options);
  }

  /**
   * The work failed. The message comes back after `delayMs`, or the queue's backoff where that is absent; with
   * `requeue: false` it is given up.
   * @param {{requeue?: boolean, delayMs?: number, reason?: string, signal?: AbortSignal}} [options]
   */
  nack({ requeue = true, delayMs, reason, ...options } = {}) {
    return this.#settle("nack", { requeue, delay_ms: delayMs, reason: carried(reason) }, options);
  }

  /**
   * A lease that ends so many milliseconds from now.
   * @param {number} leaseMs @param {{signal?: AbortSignal}} [options]
   */
  extend(leaseMs, options) {
    return this.#settling.settle("extend", { lease_ms: leaseMs }, this, options);
  }

  /** The message as the broker sent it, in its words. @returns {any} */
  toJSON() {
    return this.#fields;
  }

  /**
   * The first verdict counts; the same one again is the same answer.
   * @param {"ack" | "nack"} verdict @param {Record<string, unknown>} fields @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>}
   */
  #settle(verdict, fields, options) {
    if (this.#settled?.verdict === verdict) return this.#settled.answer;
    if (this.#settled) {
      const detail = `the message was settled already, by ${this.#settled.verdict}`;
      return Promise.reject(new AlreadySettled({ code: "already_settled", status: 409, detail }));
    }
    const answer = this.#settling.settle(verdict, fields, this, options);
    const settled = (this.#settled = { verdict, answer });
    answer.catch(() => {
      if (this.#settled === settled) this.#settled = null; // another try is the caller's to make
    });
    return answer;
  }
}

/** @param {string | null | undefined} text @returns {Date | null} */
function time(text) {
  return text ? new Date(text) : null;
}

/** @param {string} text @returns {Uint8Array} */
export function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** @param {Uint8Array} bytes @returns {string} */
export function toBase64(bytes) {
  let letters = "";
  // In pieces: a call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 32_768) letters += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return btoa(letters);
}

/**
 * A reason without what none may hold: NUL, halves of surrogate pairs, and more than its most characters.
 * @param {string | undefined} reason @returns {string | undefined}
 */
export function carried(reason) {
  if (typeof reason !== "string") return reason;
  return reason.replaceAll("\0", "").slice(0, REASON_CHARACTERS).replace(/\p{Surrogate}/gu, "");
}
