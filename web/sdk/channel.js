/**
 * Consuming over the client's one WebSocket: subscriptions, deliveries, and the verdicts that go back. After the
 * connection was lost, verdicts that it left unconfirmed are settled by REST first, and only then it subscribes again.
 */

import { errorOf, LeaseLost, StreambrokerError, Unreachable } from "./errors.js";
import { Link } from "./link.js";
import { Message, Source } from "./message.js";
import { deferred, pause, pauseMs } from "./waiting.js";

const PROTOCOL = "streambroker.v1+json";
/** The subscriptions wait no longer than this for verdicts of the connection before. */
const QUIET_MS = 5_000;
/** With so many frames of verdicts unconfirmed, more verdicts gather for one frame. */
const BUSY_FRAMES = 4;

/**
 * @typedef {object} Taker whoever takes a subscription's messages
 * @property {(messages: Message[]) => void} push
 * @property {() => void} lost the connection is gone; another subscription follows
 * @property {(error: unknown) => void} fail it has ended
 * @property {() => void} blocked WebSockets do not get through: another way is wanted
 *
 * @typedef {{queue: string, credit: number, leaseMs?: number, leaseMode: "session" | "fixed"}} Wanted
 */

/** One subscription, over any number of connections. */
export class Subscription {
  /** @type {Map<string, Message>} delivered by this connection and not settled */
  held = new Map();
  ready = false;
  attempt = 0;

  /** @param {string} name @param {Wanted} wanted @param {Taker} taker */
  constructor(name, wanted, taker) {
    this.name = name;
    this.wanted = wanted;
    this.taker = taker;
  }
}

/** Owns the subscriptions and what is unanswered on the connection. It connects with the first subscription. */
export class Channel {
  #link;
  #settler;
  #onState;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** @type {Map<number, {answered: (frame: any) => void, lost: () => void}>} */
  #unanswered = new Map();
  #verdictFrames = 0;
  #names = 0;
  #ids = 0;
  /** Counts connections. */
  #turn = 0;

  /**
   * @param {Omit<import("./link.js").LinkOptions, "protocol">} link @param {import("./settling.js").Settler} settler
   * @param {(state: string) => void} [onState]
   */
  constructor(link, settler, onState = () => {}) {
    this.#settler = settler;
    this.#onState = onState;
    this.#link = new Link({ ...link, protocol: PROTOCOL }, {
      stateChanged: (state) => this.#onState(state),
      heard: (frame, text, index) => this.#heard(frame, text, index),
      lost: () => this.#lost(),
      refused: (error) => this.#ended((taker) => taker.fail(error)),
      blocked: () => this.#ended((taker) => taker.blocked()),
    });
  }

  /** @param {Wanted} wanted @param {Taker} taker @returns {Subscription} */
  subscribe(wanted, taker) {
    this.#names += 1;
    const subscription = new Subscription(`s${this.#names}`, wanted, taker);
    this.#subscriptions.set(subscription.name, subscription);
    if (this.#link.state === "open") void this.#subscribe(subscription);
    else this.#link.start();
    return subscription;
  }

  /**
   * Ends it: what it held and was not settled goes back to the queue. Never throws.
   * @param {Subscription} subscription
   */
  async unsubscribe(subscription) {
    if (!this.#subscriptions.delete(subscription.name)) return;
    this.#settler.dispatch(true); // verdicts of this turn go before it
    try {
      if (subscription.ready) await this.#ask({ op: "unsubscribe", sub: subscription.name });
    } catch {
      // The connection is gone, and what it held with it.
    }
    forget(subscription, "the subscription has ended");
    this.#closeIfIdle();
  }

  /** Closes the connection; subscriptions must have ended before. */
  close() {
    this.#lost();
    this.#link.stop();
  }

  retryNow() {
    this.#link.retryNow();
  }

  // ---- verdicts: the settler's carrier

  /** @param {Message} message */
  brought(message) {
    return this.#holder(message) !== undefined;
  }

  get busy() {
    return this.#verdictFrames >= BUSY_FRAMES;
  }

  /**
   * @param {import("./settling.js").Op} op @param {Record<string, unknown>} fields
   * @param {import("./settling.js").Verdict[]} verdicts
   */
  carry(op, fields, verdicts) {
    const id = ++this.#ids;
    const ids = verdicts.map((verdict) => verdict.message.messageId);
    if (!this.#link.send({ op, id, ids, ...fields })) return false;
    if (op !== "extend") for (const { message } of verdicts) this.#holder(message)?.held.delete(message.messageId);
    this.#verdictFrames += 1;
    this.#unanswered.set(id, {
      answered: (frame) => this.#judged(verdicts, frame),
      lost: () => this.#settler.unconfirmed(verdicts),
    });
    return true;
  }

  /** @param {import("./settling.js").Verdict[]} verdicts @param {any} frame */
  #judged(verdicts, frame) {
    this.#verdictFrames -= 1;
    this.#settler.dispatch();
    if (frame.op === "ok") this.#settler.answered(verdicts, frame.results);
    else if (frame.problem.retryable) this.#settler.unconfirmed(verdicts);
    else for (const verdict of verdicts) verdict.reject(errorOf(frame.problem));
  }

  /** @param {Message} message @returns {Subscription | undefined} */
  #holder(message) {
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.held.get(message.messageId) === message) return subscription;
    }
    return undefined;
  }

  // ---- what the broker says

  /** @param {any} frame @param {string} text @param {number | null} index */
  #heard(frame, text, index) {
    if (frame.op === "deliver") this.#deliver(frame, new Source(text, index));
    else if (frame.op === "lease_lost") this.#leaseLost(frame);
    else if (frame.op === "welcome") void this.#welcomed();
    else if (typeof frame.id === "number") this.#answer(frame);
    else if (frame.op === "error" && frame.id === null) void this.#lookForTheEnded(frame.problem);
  }

  /** @param {any} frame */
  #answer(frame) {
    const waiting = this.#unanswered.get(frame.id);
    this.#unanswered.delete(frame.id);
    waiting?.answered(frame);
    this.#closeIfIdle();
  }

  #closeIfIdle() {
    if (this.#subscriptions.size === 0 && this.#unanswered.size === 0 && this.#link.state !== "idle") this.close();
  }

  /** @param {any} frame @param {Source} source */
  #deliver(frame, source) {
    const subscription = this.#subscriptions.get(frame.sub);
    if (!subscription) return; // it was ended in this moment: the broker takes them back
    const messages = frame.messages.map(
      (/** @type {any} */ fields, /** @type {number} */ at) =>
        new Message(fields, () => source.of(at, "messages"), this.#settler),
    );
    for (const message of messages) subscription.held.set(message.messageId, message);
    subscription.taker.push(messages);
  }

  /** @param {{sub: string, ids: string[], reason: string}} frame */
  #leaseLost(frame) {
    const held = this.#subscriptions.get(frame.sub)?.held;
    for (const id of frame.ids) {
      held?.get(id)?.lose(new LeaseLost({ code: "lease_lost", status: 409, detail: frame.reason }));
      held?.delete(id);
    }
  }

  async #welcomed() {
    const turn = ++this.#turn;
    this.#settler.carryBy(this);
    await this.#quiet();
    if (turn !== this.#turn) return;
    for (const subscription of this.#subscriptions.values()) {
      if (!subscription.ready) void this.#subscribe(subscription);
    }
  }

  async #quiet() {
    const quiet = new AbortController();
    const patience = pause(QUIET_MS, quiet.signal).catch(() => {});
    await Promise.race([this.#settler.quiet(), patience]);
    quiet.abort();
  }

  /** @param {Subscription} subscription */
  async #subscribe(subscription) {
    const turn = this.#turn;
    const { queue, credit, leaseMs, leaseMode } = subscription.wanted;
    subscription.ready = true;
    const frame = { op: "subscribe", sub: subscription.name, queue, credit, lease_ms: leaseMs, lease_mode: leaseMode };
    try {
      await this.#ask(frame);
      subscription.attempt = 0;
    } catch (error) {
      subscription.ready = false;
      if (turn === this.#turn && !(error instanceof Unreachable)) await this.#refused(subscription, error);
    }
  }

  /** Tries again where that may help. @param {Subscription} subscription @param {unknown} error */
  async #refused(subscription, error) {
    if (!(error instanceof StreambrokerError) || !error.retryable) return this.#end(subscription, error);
    const turn = this.#turn;
    await pause(pauseMs(subscription.attempt++, error.retryAfterMs));
    const wanted = turn === this.#turn && this.#subscriptions.has(subscription.name) && !subscription.ready;
    if (wanted) await this.#subscribe(subscription);
  }

  /**
   * The broker ended a subscription (its queue was deleted, a right was taken away) and names it only in words: asks
   * which ones are there still. @param {import("./errors.js").ProblemBody} problem
   */
  async #lookForTheEnded(problem) {
    if (problem.code !== "not_found" && problem.code !== "forbidden") return;
    const looked = [...this.#subscriptions.values()].filter((subscription) => subscription.ready);
    for (const subscription of looked) {
      try {
        await this.#ask({ op: "resume", sub: subscription.name });
      } catch (error) {
        if (error instanceof Unreachable) return;
        this.#end(subscription, errorOf(problem));
      }
    }
  }

  /** @param {Subscription} subscription @param {unknown} error */
  #end(subscription, error) {
    this.#subscriptions.delete(subscription.name);
    forget(subscription, "the subscription has ended");
    subscription.taker.fail(error);
  }

  /**
   * Sends a frame and waits for its answer. Throws `Unreachable` when the connection is lost before.
   * @param {object} frame @returns {Promise<any>}
   */
  #ask(frame) {
    /** @type {import("./waiting.js").Deferred<any>} */
    const { promise, resolve, reject } = deferred();
    const id = ++this.#ids;
    const answered = (/** @type {any} */ answer) =>
      answer.op === "ok" ? resolve(answer) : reject(errorOf(answer.problem ?? {}));
    this.#unanswered.set(id, { answered, lost: () => reject(new Unreachable()) });
    if (!this.#link.send({ ...frame, id })) {
      this.#unanswered.delete(id);
      reject(new Unreachable());
    }
    return promise;
  }

  // ---- the connection ends

  #lost() {
    this.#turn += 1;
    for (const subscription of this.#subscriptions.values()) {
      subscription.ready = false;
      if (subscription.wanted.leaseMode === "session") subscription.taker.lost();
      forget(subscription, "the connection was lost");
    }
    const unanswered = [...this.#unanswered.values()];
    this.#unanswered.clear();
    this.#verdictFrames = 0;
    for (const { lost } of unanswered) lost();
    this.#settler.carryBy(null);
  }

  /** @param {(taker: Taker) => void} tell */
  #ended(tell) {
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    for (const subscription of subscriptions) tell(subscription.taker);
  }
}

/**
 * What it held is somebody else's now, or will be. A fixed lease runs on: its verdict goes by REST.
 * @param {Subscription} subscription @param {string} detail
 */
function forget(subscription, detail) {
  const held = [...subscription.held.values()];
  subscription.held.clear();
  if (subscription.wanted.leaseMode === "fixed") return;
  for (const message of held) message.lose(new LeaseLost({ code: "lease_lost", status: 409, detail }));
}
