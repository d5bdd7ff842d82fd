/**
 * Consuming by REST, where WebSockets do not get through: one long poll after the other. Its leases have an end, so
 * they are extended for as long as a message is being worked on. REST has no clean release: what is given back counts a
 * failure. So it asks for no more messages than somebody waits for, and none lies here unseen.
 */

import { LeaseLost, StreambrokerError } from "./errors.js";
import { path } from "./http.js";
import { Message, Source } from "./message.js";
import { deferred, pause, pauseMs } from "./waiting.js";

const WAIT_MS = 30_000;
/** The answer may take this much longer than the wait. */
const GRACE_MS = 10_000;
/** The most that the broker gives at a time. */
const MOST = 1_000;
const LEASE_MS = 60_000;

/** Owns one consumer's polls and the leases of what they brought. */
export class Polling {
  #http;
  #settler;
  #wanted;
  #taker;
  #stopped = new AbortController();
  /** @type {Set<Message>} */
  #held = new Set();
  #room = deferred();
  #leaseMs;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #extending;

  /**
   * @param {import("./http.js").Http} http @param {import("./settling.js").Settler} settler
   * @param {import("./channel.js").Wanted} wanted
   * @param {import("./channel.js").Taker & {waiting: number}} taker
   */
  constructor(http, settler, wanted, taker) {
    this.#http = http;
    this.#settler = settler;
    this.#wanted = wanted;
    this.#taker = taker;
    this.#leaseMs = wanted.leaseMs ?? LEASE_MS;
    if (wanted.leaseMode === "session") {
      this.#extending = setInterval(() => void this.#extend(), this.#leaseMs / 3);
    }
    void this.#run();
  }

  /** Somebody waits for a message. */
  wanted() {
    this.#room.resolve(undefined);
  }

  /** Asks for no more; what is being worked on is extended until `stop`. */
  rest() {
    this.#stopped.abort(new DOMException("stopped", "AbortError"));
    this.#room.resolve(undefined);
  }

  /** The end: what somebody still works on keeps its lease until that ends. */
  stop() {
    this.rest();
    clearInterval(this.#extending);
  }

  /**
   * @param {import("./settling.js").Op} op @param {Record<string, unknown>} fields @param {Message} message
   * @param {{signal?: AbortSignal}} [options]
   */
  async settle(op, fields, message, options) {
    try {
      await this.#settler.settle(op, fields, message, options);
      if (op !== "extend") this.#let(message);
    } catch (error) {
      if (error instanceof StreambrokerError && !error.retryable) this.#let(message);
      throw error;
    }
  }

  async #run() {
    const signal = this.#stopped.signal;
    for (let attempt = 0; !signal.aborted; ) {
      try {
        await this.#poll(signal);
        attempt = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof StreambrokerError) || !error.retryable) return this.#taker.fail(error);
        await pause(pauseMs(attempt++, error.retryAfterMs), signal).catch(() => {});
      }
    }
  }

  /** @param {AbortSignal} signal */
  async #poll(signal) {
    const most = Math.min(MOST, this.#taker.waiting, this.#wanted.credit - this.#held.size);
    if (most <= 0) {
      this.#room = deferred();
      await this.#room.promise;
      return;
    }
    const body = { max: most, wait_ms: WAIT_MS, lease_ms: this.#leaseMs };
    const where = path`/queues/${this.#wanted.queue}/messages/consume`;
    const options = { body, signal, timeoutMs: WAIT_MS + GRACE_MS };
    const messages = this.#read(await this.#http.exchange("POST", where, options, (answer) => answer.text()));
    if (signal.aborted) return this.#giveBack(messages);
    this.#take(messages);
  }

  /** What came in the very moment of the end. @param {Message[]} messages */
  async #giveBack(messages) {
    const given = messages.map((message) => message.nack({ requeue: true, delayMs: 0, reason: "the consumer stopped" }));
    await Promise.allSettled(given);
  }

  /** @param {string} text @returns {Message[]} */
  #read(text) {
    const source = new Source(text);
    return JSON.parse(text).messages.map(
      (/** @type {any} */ fields, /** @type {number} */ at) =>
        new Message(fields, () => source.of(at, "messages"), this),
    );
  }

  /** @param {Message[]} messages */
  #take(messages) {
    for (const message of messages) this.#held.add(message);
    if (messages.length === 0) return;
    if (this.#wanted.leaseMode === "fixed") this.#letLater(messages);
    this.#taker.push(messages);
  }

  /** A fixed lease that has ended makes room again, whoever settles it. @param {Message[]} messages */
  #letLater(messages) {
    const signal = this.#stopped.signal;
    pause(this.#leaseMs, signal).then(() => messages.forEach((message) => this.#let(message)), () => {});
  }

  /** @param {Message} message */
  #let(message) {
    this.#held.delete(message);
    this.#room.resolve(undefined);
  }

  async #extend() {
    await Promise.allSettled(
      [...this.#held].map(async (message) => {
        try {
          await this.settle("extend", { lease_ms: this.#leaseMs }, message);
        } catch (error) {
          if (error instanceof LeaseLost) message.lose(error);
        }
      }),
    );
  }
}
