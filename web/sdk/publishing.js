/** Publishing: calls that come while a request is under way share the next one. */

import { Closed, errorOf, StreambrokerError, TimedOut } from "./errors.js";
import { Draft } from "./draft.js";
import { path } from "./http.js";
import { deferred, pause, pauseMs } from "./waiting.js";

const BATCH_MESSAGES = 1_000;
const BATCH_CHARACTERS = 4 * 1024 * 1024;
/** Whose time is over so little before the batch's is not told on its own; and so little is no time for another try. */
const NEARLY_MS = 250;
/** Faults of one message, for which the others of its batch were refused with it. */
const ONES_OWN = new Set(["invalid", "too_large", "queue_full"]);

/**
 * @typedef {{messageId: string, duplicate: boolean}} Published
 * @typedef {import("./draft.js").Attributes & {signal?: AbortSignal, timeoutMs?: number}} PublishOptions
 * @typedef {import("./waiting.js").Deferred<Published> & {draft: Draft, deadline: number}} Waiting
 */

/** Owns what waits to be published, a line for each queue; each line has one request under way at a time. */
export class Publisher {
  #http;
  #timeoutMs;
  /** @type {Map<string, Waiting[]>} */
  #lines = new Map();
  /** @type {Set<string>} */
  #busy = new Set();
  /** @type {Set<Promise<unknown>>} */
  #unanswered = new Set();
  #stopped = new AbortController();

  /** @param {import("./http.js").Http} http @param {number} timeoutMs */
  constructor(http, timeoutMs) {
    this.#http = http;
    this.#timeoutMs = timeoutMs;
  }

  /** @param {string} queue @param {unknown} content @param {PublishOptions} options @returns {Promise<Published>} */
  async publish(queue, content, options) {
    this.#stopped.signal.throwIfAborted();
    options.signal?.throwIfAborted();
    const deadline = Date.now() + (options.timeoutMs ?? this.#timeoutMs);
    /** @type {Waiting} */
    const waiting = { ...deferred(), draft: new Draft(content, options), deadline };
    const line = this.#lines.get(queue) ?? [];
    this.#lines.set(queue, line);
    line.push(waiting);
    void this.#run(queue, line);
    const answer = abortable(waiting, line, options.signal).finally(() => this.#unanswered.delete(answer));
    this.#unanswered.add(answer);
    return answer;
  }

  /**
   * One batch, all or nothing.
   * @param {string} queue @param {({content: unknown} & import("./draft.js").Attributes)[]} drafts
   * @param {{signal?: AbortSignal, timeoutMs?: number}} options @returns {Promise<Published[]>}
   */
  async publishMany(queue, drafts, { signal, timeoutMs = this.#timeoutMs }) {
    this.#stopped.signal.throwIfAborted();
    const made = drafts.map(({ content, ...options }) => new Draft(content, /** @type {any} */ (options)));
    return made.length === 0 ? [] : this.#send(queue, made, Date.now() + timeoutMs, signal);
  }

  /** Waits for what is under way; nothing more is taken. */
  async close() {
    this.#stopped.abort(new Closed());
    await Promise.allSettled(this.#unanswered);
  }

  /** @param {string} queue @param {Waiting[]} line */
  async #run(queue, line) {
    if (this.#busy.has(queue)) return;
    this.#busy.add(queue);
    await null; // publishes of this turn go together
    while (line.length > 0) await this.#flush(queue, nextBatch(line));
    this.#busy.delete(queue);
    this.#lines.delete(queue);
  }

  /** @param {string} queue @param {Waiting[]} batch */
  async #flush(queue, batch) {
    try {
      // The most patient one decides: each of the others is told when its own time is over.
      const deadline = Math.max(...batch.map((waiting) => waiting.deadline));
      const drafts = batch.map((waiting) => waiting.draft);
      const timers = batch.map((waiting) => giveUpAt(waiting, deadline));
      const answers = await this.#send(queue, drafts, deadline).finally(() => timers.forEach(clearTimeout));
      batch.forEach((waiting, at) => waiting.resolve(answers[at]));
    } catch (error) {
      if (batch.length > 1 && error instanceof StreambrokerError && ONES_OWN.has(error.code)) {
        await Promise.all(batch.map((waiting) => this.#alone(queue, waiting)));
      } else batch.forEach((waiting) => waiting.reject(error));
    }
  }

  /** @param {string} queue @param {Waiting} waiting */
  async #alone(queue, waiting) {
    try {
      waiting.resolve((await this.#send(queue, [waiting.draft], waiting.deadline))[0]);
    } catch (error) {
      waiting.reject(error);
    }
  }

  /**
   * Sends until there is an answer or the time is over; dedup ids make the second try safe.
   * @param {string} queue @param {Draft[]} drafts @param {number} deadline @param {AbortSignal} [signal]
   * @returns {Promise<Published[]>}
   */
  async #send(queue, drafts, deadline, signal) {
    const raw = drafts.length === 1 ? drafts[0].json : `{"messages":[${drafts.map((draft) => draft.json).join(",")}]}`;
    const where = path`/queues/${queue}/messages` + (drafts.length === 1 ? "" : "/batch");
    /** @type {unknown} */
    let failure;
    for (let attempt = 0; ; attempt += 1) {
      const timeoutMs = deadline - Date.now();
      if (timeoutMs <= 0) throw new TimedOut(failure);
      try {
        const read = (/** @type {Response} */ answer) => answer.json();
        return answersOf(await this.#http.exchange("POST", where, { raw, timeoutMs, signal }, read), drafts, attempt);
      } catch (error) {
        if (!mayRepeat(error, drafts)) throw error;
        failure = error;
      }
      const asked = /** @type {StreambrokerError} */ (failure).retryAfterMs ?? 0;
      const leftMs = deadline - Date.now() - asked;
      if (leftMs < NEARLY_MS) throw failure;
      // Whatever chance says, some of the time is kept for another try: the broker may be back by then.
      await pause(Math.min(pauseMs(attempt, asked), asked + leftMs / 2), signal);
    }
  }
}

/** Takes out of the line what goes into one request. @param {Waiting[]} line @returns {Waiting[]} */
function nextBatch(line) {
  let characters = 0;
  const taken = line.slice(0, BATCH_MESSAGES).findIndex((waiting, at) => {
    characters += waiting.draft.json.length;
    return at > 0 && characters > BATCH_CHARACTERS;
  });
  return line.splice(0, taken > 0 ? taken : BATCH_MESSAGES);
}

/** @param {unknown} error @param {Draft[]} drafts */
function mayRepeat(error, drafts) {
  if (!(error instanceof StreambrokerError) || !error.retryable) return false;
  const refused = ["rate_limited", "draining", "overloaded"].includes(error.code);
  return refused || drafts.every((draft) => draft.repeatable);
}

/**
 * A duplicate of our own first try, whose answer was lost, is none to the caller.
 * @param {any} answer of a single publish or a batch @param {Draft[]} drafts @param {number} attempt
 * @returns {Published[]}
 */
function answersOf(answer, drafts, attempt) {
  const ids = answer.message_ids ?? [answer.message_id];
  const doubles = new Set(answer.duplicates ?? (answer.duplicate ? [0] : []));
  if (ids.length !== drafts.length) throw errorOf({ code: "internal", title: "an answer for other messages" });
  return drafts.map((draft, at) => ({
    messageId: ids[at],
    duplicate: doubles.has(at) && !(draft.generated && attempt > 0),
  }));
}

/** Tells one whose time is over before the batch's. @param {Waiting} waiting @param {number} deadline */
function giveUpAt(waiting, deadline) {
  if (deadline - waiting.deadline < NEARLY_MS) return undefined;
  return setTimeout(() => waiting.reject(new TimedOut()), Math.max(0, waiting.deadline - Date.now()));
}

/**
 * Until it is sent, an abort takes it back; afterwards nobody waits for its answer any more.
 * @param {Waiting} waiting @param {Waiting[]} line @param {AbortSignal} [signal] @returns {Promise<Published>}
 */
async function abortable(waiting, line, signal) {
  const aborted = () => {
    const at = line.indexOf(waiting);
    if (at >= 0) line.splice(at, 1);
    waiting.reject(signal?.reason);
  };
  signal?.addEventListener("abort", aborted, { once: true });
  try {
    return await waiting.promise;
  } finally {
    signal?.removeEventListener("abort", aborted);
  }
}
