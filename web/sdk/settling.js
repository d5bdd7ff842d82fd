/**
 * Verdicts on delivered messages on their way to the broker. They go over the connection that brought the message,
 * together with others of the same turn; where that connection is gone before it has confirmed them, and for messages
 * that came by REST, they go by REST with the message's lease. That is safe to repeat: the broker answers the same
 * verdict with the same lease as it did the first time, so no ack is lost or done twice.
 */

import { Closed, errorOf, StreambrokerError, TimedOut } from "./errors.js";
import { deferred, pause, pauseMs } from "./waiting.js";

const MOST_ITEMS = 1_000;

/** @type {Record<string, number>} the statuses of the codes that an item of a batch may have */
const STATUS = { not_found: 404, lease_lost: 409, already_settled: 409, not_processing: 409, forbidden: 403 };

/**
 * @typedef {"ack" | "nack" | "extend"} Op
 * @typedef {import("./waiting.js").Deferred<void> & {op: Op, fields: Record<string, unknown>, deadline: number,
 *   message: import("./message.js").Message}} Verdict
 *
 * @typedef {object} Carrier the connection
 * @property {(op: Op, fields: Record<string, unknown>, verdicts: Verdict[]) => boolean} carry sends them as one frame,
 *   and will call `answered` or `unconfirmed`; false where there is no connection
 * @property {(message: import("./message.js").Message) => boolean} brought whether it holds this message
 * @property {boolean} busy it has several frames to confirm; it calls `dispatch` when one of them is
 */

/** Owns every verdict until it is answered. */
export class Settler {
  #http;
  #timeoutMs;
  /** @type {Carrier | null} */
  #carrier = null;
  /** @type {Verdict[]} of this turn, or for the next frame */
  #fresh = [];
  #due = false;
  /** @type {Verdict[]} for REST */
  #line = [];
  /** @type {Verdict[]} in the request that is under way, or waiting to be sent again */
  #underway = [];
  #sending = false;
  /** @type {Set<Promise<void>>} */
  #unanswered = new Set();
  #stopped = new AbortController();

  /** @param {import("./http.js").Http} http @param {number} timeoutMs how long a verdict is tried */
  constructor(http, timeoutMs) {
    this.#http = http;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Returns when the broker has committed it. Throws `LeaseLost`, `AlreadySettled`, …; `TimedOut` when nothing is known
   * even after all tries.
   * @param {Op} op @param {Record<string, unknown>} fields @param {import("./message.js").Message} message
   * @param {{signal?: AbortSignal}} [options] @returns {Promise<void>}
   */
  async settle(op, fields, message, { signal } = {}) {
    this.#stopped.signal.throwIfAborted();
    signal?.throwIfAborted();
    /** @type {Verdict} */
    const verdict = { ...deferred(), op, fields, message, deadline: Date.now() + this.#timeoutMs };
    this.#fresh.push(verdict);
    if (!this.#due) queueMicrotask(() => ((this.#due = false), this.dispatch()));
    this.#due = true;
    this.#unanswered.add(verdict.promise);
    const aborted = () => verdict.reject(signal?.reason);
    signal?.addEventListener("abort", aborted, { once: true });
    try {
      await verdict.promise;
    } finally {
      signal?.removeEventListener("abort", aborted);
      this.#unanswered.delete(verdict.promise);
    }
  }

  /** The connection has changed; null: there is none. @param {Carrier | null} carrier */
  carryBy(carrier) {
    this.#carrier = carrier;
    this.dispatch();
  }

  /** The results of one frame, or of one request. @param {Verdict[]} verdicts @param {any[]} results */
  answered(verdicts, results) {
    const byId = new Map(results.map((result) => [result.message_id, result]));
    for (const verdict of verdicts) {
      const { ok, code = "internal" } = byId.get(verdict.message.messageId) ?? {};
      if (ok) verdict.resolve();
      else verdict.reject(errorOf({ code, status: STATUS[code] ?? 0, title: code.replaceAll("_", " ") }));
    }
  }

  /** The connection did not confirm them: by REST, then. @param {Verdict[]} verdicts */
  unconfirmed(verdicts) {
    this.#line.push(...verdicts);
    void this.#send();
  }

  /** Returns when nothing of what goes by REST is open any more: what is delivered next is really another delivery. */
  async quiet() {
    await Promise.allSettled([...this.#underway, ...this.#line].map((verdict) => verdict.promise));
  }

  /** Returns when every verdict has its answer; then nothing more is taken. */
  async close() {
    await Promise.allSettled(this.#unanswered);
    this.#stopped.abort(new Closed());
  }

  /**
   * Sends what has gathered. While the connection has enough to confirm, more gathers for one frame, unless it is to go
   * `now`; the connection calls again.
   */
  dispatch(now = false) {
    const carrier = this.#carrier;
    /** @type {Verdict[]} */
    const byFrame = [];
    /** @type {Verdict[]} */
    const byRest = [];
    for (const verdict of this.#fresh.splice(0)) {
      (carrier?.brought(verdict.message) ? byFrame : byRest).push(verdict);
    }
    if (carrier?.busy && !now) this.#fresh = byFrame;
    else for (const alike of grouped(byFrame)) {
      if (!carrier?.carry(alike[0].op, alike[0].fields, alike)) byRest.push(...alike);
    }
    if (byRest.length > 0) this.unconfirmed(byRest);
  }

  /** One request at a time: what gathers meanwhile shares the next one. */
  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    await null;
    for (let attempt = 0; this.#line.length > 0; ) {
      const op = this.#line[0].op;
      const batch = this.#line.filter((verdict) => verdict.op === op).slice(0, MOST_ITEMS);
      const taken = new Set(batch);
      this.#line = this.#line.filter((verdict) => !taken.has(verdict));
      this.#underway = batch;
      attempt = (await this.#tried(op, batch, attempt)) ? 0 : attempt + 1;
      this.#underway = [];
    }
    this.#sending = false;
  }

  /**
   * @param {Op} op @param {Verdict[]} batch @param {number} attempt @returns {Promise<boolean>} whether it was answered
   */
  async #tried(op, batch, attempt) {
    try {
      const items = batch.map(({ message, fields }) => ({
        message_id: message.messageId,
        lease: message.lease ?? undefined,
        ...fields,
      }));
      const { results } = await this.#http.post(`/messages/${op}`, { items });
      this.answered(batch, results);
      return true;
    } catch (error) {
      await this.#failed(error, batch, attempt);
      return false;
    }
  }

  /**
   * Puts back into the line what may be tried again, after a pause.
   * @param {unknown} error @param {Verdict[]} batch @param {number} attempt
   */
  async #failed(error, batch, attempt) {
    if (!(error instanceof StreambrokerError) || !error.retryable) {
      for (const verdict of batch) verdict.reject(error);
      return;
    }
    const wait = pauseMs(attempt, error.retryAfterMs);
    const patient = batch.filter((verdict) => Date.now() + wait < verdict.deadline);
    for (const verdict of batch) if (!patient.includes(verdict)) verdict.reject(new TimedOut(error));
    if (patient.length === 0) return;
    await pause(wait);
    this.#line.unshift(...patient);
  }
}

/** Those that one frame can say. @param {Verdict[]} verdicts @returns {Verdict[][]} */
function grouped(verdicts) {
  /** @type {Verdict[][]} */
  const groups = [];
  /** @type {Map<string, Verdict[]>} the groups with room */
  const open = new Map();
  for (const verdict of verdicts) {
    const key = `${verdict.op} ${JSON.stringify(verdict.fields)}`;
    let alike = open.get(key);
    if (!alike || alike.length === MOST_ITEMS) {
      alike = [];
      open.set(key, alike);
      groups.push(alike);
    }
    alike.push(verdict);
  }
  return groups;
}
