/** What `for await` walks over: a queue's messages, by WebSocket, or by long polls where no WebSocket gets through. */

import { Polling } from "./polling.js";
import { deferred } from "./waiting.js";

/** @typedef {import("./message.js").Message} Message */

/**
 * Begins with the first `next`. At most `credit` messages wait here or are being worked on. Ending the loop gives back
 * what was not settled.
 * @implements {AsyncIterableIterator<Message>}
 */
export class Consumer {
  #client;
  #wanted;
  #transport;
  #signal;
  /** @type {Message[]} */
  #buffer = [];
  /** @type {import("./waiting.js").Deferred<IteratorResult<Message>>[]} */
  #waiting = [];
  /** @type {{error: unknown} | {} | null} how it ended */
  #end = null;
  /** @type {import("./channel.js").Subscription | null} */
  #subscription = null;
  /** @type {Polling | null} */
  #polling = null;
  #started = false;
  #resting = false;
  #aborted = () => void this.#stop({ error: this.#signal?.reason });

  /**
   * @param {{http: import("./http.js").Http, settler: import("./settling.js").Settler,
   *   channel: import("./channel.js").Channel, consumers: Set<Consumer>}} client
   * @param {import("./channel.js").Wanted} wanted @param {"auto" | "websocket" | "long-poll"} transport
   * @param {AbortSignal} [signal]
   */
  constructor(client, wanted, transport, signal) {
    this.#client = client;
    this.#wanted = wanted;
    this.#transport = transport;
    this.#signal = signal;
  }

  /** How the messages come at the moment. @returns {"websocket" | "long-poll"} */
  get transport() {
    return this.#polling || this.#transport === "long-poll" ? "long-poll" : "websocket";
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<Message>>} */
  async next() {
    this.#start();
    for (let message = this.#buffer.shift(); message; message = this.#buffer.shift()) {
      if (!message.isLost) return { value: message, done: false };
    }
    if (this.#end) return this.#last();
    /** @type {import("./waiting.js").Deferred<IteratorResult<Message>>} */
    const waiting = deferred();
    this.#waiting.push(waiting);
    this.#polling?.wanted();
    return waiting.promise;
  }

  /** How many wait for a message. */
  get waiting() {
    return this.#waiting.length;
  }

  /**
   * Where each message has to be asked for, no more are: who waits hears of the end, and leases are kept until
   * `return`. A subscription goes on until then, for its end gives back what nobody has seen.
   */
  rest() {
    this.#resting = true;
    if (!this.#polling) return;
    this.#polling.rest();
    for (const waiting of this.#waiting.splice(0)) waiting.resolve({ value: undefined, done: true });
  }

  /** @returns {Promise<IteratorResult<Message>>} */
  async return() {
    await this.#stop({});
    return { value: undefined, done: true };
  }

  #start() {
    if (this.#started) return;
    this.#started = true;
    if (this.#signal?.aborted) return this.#aborted();
    this.#signal?.addEventListener("abort", this.#aborted, { once: true });
    this.#client.consumers.add(this);
    if (this.#transport === "long-poll") this.#poll();
    else this.#subscription = this.#client.channel.subscribe(this.#wanted, this);
  }

  #poll() {
    this.#subscription = null;
    this.#polling = new Polling(this.#client.http, this.#client.settler, this.#wanted, this);
  }

  // ---- what the connection, or the polls, say

  /** @param {Message[]} messages */
  push(messages) {
    for (const message of messages) {
      const waiting = this.#waiting.shift();
      if (waiting) waiting.resolve({ value: message, done: false });
      else this.#buffer.push(message);
    }
  }

  /** What nobody has seen yet is given back by the broker, and comes again. */
  lost() {
    this.#buffer.length = 0;
  }

  /** @param {unknown} error */
  fail(error) {
    this.#subscription = null;
    void this.#stop({ error });
  }

  blocked() {
    if (this.#resting) return;
    if (this.#transport === "auto") return this.#poll();
    this.fail(new Error("no WebSocket can be opened to the broker"));
  }

  // ---- the end

  /** @param {{error?: unknown}} how */
  async #stop(how) {
    if (this.#end) return;
    this.#end = how;
    this.#started = true;
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#client.consumers.delete(this);
    this.#buffer.length = 0;
    const released = this.#release();
    for (const waiting of this.#waiting.splice(0)) this.#last().then(waiting.resolve, waiting.reject);
    await released;
  }

  async #release() {
    if (this.#polling) this.#polling.stop();
    else if (this.#subscription) await this.#client.channel.unsubscribe(this.#subscription);
  }

  /** An error is thrown once. @returns {Promise<IteratorResult<Message>>} */
  async #last() {
    const end = this.#end ?? {};
    if (!("error" in end)) return { value: undefined, done: true };
    this.#end = {};
    throw end.error;
  }
}
