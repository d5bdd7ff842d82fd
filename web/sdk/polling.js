/**
 * Consuming by REST, where WebSockets do not get through: one long poll after the other. Its leases have an end, so
 * they are extended for as long as a message is being worked on.
 */

import { LeaseLost, StreambrokerError } from "./errors.js";
import { path } from "./http.js";
import { Message, Source } from "./message.js";
import { deferred, pause, pauseMs } from "./waiting.js";

const WAIT_MS = 30_000;
/** The answer may take this much longer than the wait. */
const GRACE_MS = 10_000;
/** So few at a time, since what is not worked on in the end can be given back only as a failure. */
const MOST = 10;
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
   * @param {import("./channel.js").Wanted} wanted @param {import("./channel.js").Taker} taker
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

  /** Stops asking; gives back those of its messages that nobody has seen. @param {Message[]} unseen */
  async stop(unseen) {
    this.#stopped.abort(new DOMException("stopped", "AbortError"));
    this.#room.resolve(undefined);
    clearInterval(this.#extending); // what somebody still works on keeps its lease until that ends
    const given = unseen.map((message) => message.nack({ requeue: true, delayMs: 0, reason: "the consumer stopped" }));
    await Promise.allSettled(given);
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
    const most = Math.min(MOST, this.#wanted.credit - this.#held.size);
    if (most <= 0) {
      this.#room = deferred();
      await this.#room.promise;
      return;
    }
    const body = { max: most, wait_ms: WAIT_MS, lease_ms: this.#leaseMs };
    const where = path`/queues/${this.#wanted.queue}/messages/consume`;
    const options = { body, signal, timeoutMs: WAIT_MS + GRACE_MS };
    this.#take(await this.#http.exchange("POST", where, options, (answer) => answer.text()));
  }

  /** @param {string} text */
  #take(text) {
    const source = new Source(text);
    const messages = JSON.parse(text).messages.map(
      (/** @type {any} */ fields, /** @type {number} */ at) =>
        new Message(fields, () => source.of(at, "messages"), this),
    );
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
