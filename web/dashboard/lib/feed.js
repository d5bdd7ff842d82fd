/**
 * The dashboard's one WebSocket. It comes back by itself, as every link of the SDK does, and asks again for what is
 * watched; pages only say what they want to see and listen.
 */

import { Link } from "/sdk/link.js";

const PROTOCOL = "streambroker.dashboard.v1+json";
const HISTORY_POINTS = 300;
/** After these close codes a new token is worth a try: the session may have ended, or its token alone. */
const RENEWED = [4401, 4450];
/** What says that the events of a queue are not to be had. */
const GONE = ["not_found", "forbidden"];
/** When a watch that was refused for another reason is asked for again. */
const AGAIN_MS = 2_000;

/**
 * @typedef {{p50: number, p95: number, p99: number}} Percentiles
 * @typedef {{at: string, requests: number, published: number, delivered: number, settled: number, pending: number,
 *   processing: number, failed: number, processed: number, cpu_percent: number, memory_mb: number,
 *   delivery_ms: Percentiles | null, publish_ms: Percentiles | null}} Point
 * @typedef {import("/sdk/link.js").State} State
 *   `refused`: the broker will not have this user here (4403); nothing is tried again until `start`
 * @typedef {{topics?: ("queues" | "consumers")[], events?: string}} Wish
 */

export class Feed {
  #link;
  /** @type {Map<string, Set<(frame: any) => void>>} */
  #listeners = new Map();
  /** @type {Set<Wish>} what pages want, in the order they asked */
  #wishes = new Set();
  /** @type {string} what was asked last, so that nothing is asked twice */
  #asked = "";
  /** What was in force before it was asked: a watch that is refused changes nothing. */
  #before = "";
  #askId = 0;
  /** @type {string | null} the queue whose events are refused: it is gone, or not to be seen */
  #refused = null;
  #queuesFresh = false;

  /** @type {{user: {username: string, role: string}, may_view_all: boolean, interval_ms: number} | null} */
  welcome = null;
  /** @type {Point[]} the last 300 points, oldest first; empty until the first history came */
  history = [];
  /** @type {Record<string, any> | null} the stats of the last tick */
  stats = null;
  /** @type {"disk" | "quota" | "draining" | null} why publishes are refused, as of the last tick */
  refusing = null;
  /** @type {Map<string, any>} the queue lines by name, while `queues` is watched */
  queues = new Map();
  /** @type {any[] | null} the consumers, while `consumers` is watched; `null` before they came */
  consumers = null;

  /** @param {import("./session.js").Session} session @param {string} url `wss://host/dashboard/ws` */
  constructor(session, url) {
    this.#link = new Link(
      {
        url,
        protocol: PROTOCOL,
        access: (wanted) => session.access(wanted),
        probe: () => session.identify(),
        socket: async () => WebSocket,
        renewed: RENEWED,
      },
      {
        stateChanged: () => this.#tell("state", this),
        heard: (frame) => this.#hear(frame),
        refused: (error) => error.code === "unauthenticated" && session.end("expired"),
      },
    );
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
    session.addEventListener("ended", () => this.stop());
  }

  /** @returns {State} */
  get state() {
    return this.#link.state;
  }

  /** When the next try is due, while reconnecting. */
  get retryAt() {
    return this.#link.retryAt;
  }

  /**
   * Listens to frames by their `op` (`welcome`, `history`, `tick`, `queues`, `consumers`, `events`, `error`), or to
   * `state`, which hands over this feed. For `queues`, `feed.queues` has been brought up to date before the call.
   * @param {string} op @param {(frame: any) => void} listener @returns {() => void} stops listening
   */
  on(op, listener) {
    const listeners = this.#listeners.get(op) ?? new Set();
    this.#listeners.set(op, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * Watches topics, and the events of one queue (of several wishes the newest), until the returned function is called.
   * @param {Wish} wish @returns {() => void}
   */
  watch(wish) {
    this.#wishes.add(wish);
    this.#ask();
    return () => {
      this.#wishes.delete(wish);
      if (wish.events === this.#refused) this.#refused = null;
      this.#ask();
    };
  }

  /** Connects, unless it has. */
  start() {
    this.#link.start();
  }

  /** Ends the connection and forgets what it told: the next user may be another. */
  stop() {
    this.history = [];
    this.stats = null;
    this.welcome = null;
    this.queues.clear();
    this.consumers = null;
    this.#link.stop();
  }

  /** Tries at once instead of waiting out the pause. */
  retryNow() {
    this.#link.retryNow();
  }

  /** @param {any} frame */
  #hear(frame) {
    this.#take(frame);
    this.#tell(frame.op, frame);
  }

  /** @param {string} op @param {any} what */
  #tell(op, what) {
    for (const listener of this.#listeners.get(op) ?? []) listener(what);
  }

  /** Keeps what the frame tells. @param {any} frame */
  #take(frame) {
    if (frame.op === "welcome") this.#welcomed(frame);
    else if (frame.op === "history") this.history = frame.points.slice(-HISTORY_POINTS);
    else if (frame.op === "tick") this.#tick(frame);
    else if (frame.op === "queues") this.#takeQueues(frame);
    else if (frame.op === "consumers") this.consumers = frame.items;
    else if (frame.op === "error" && frame.id === this.#askId) this.#askAgain(frame.problem);
  }

  /** @param {any} frame */
  #welcomed(frame) {
    this.welcome = frame;
    this.#asked = "";
    this.#refused = null;
    this.#ask();
  }

  /**
   * A watch is refused as a whole where the queue of its events is gone or not to be seen: the topics are asked for
   * without them. Whatever else was in the way may be over in a while.
   * @param {{code: string, retry_after_ms?: number}} problem
   */
  #askAgain(problem) {
    const { events } = JSON.parse(this.#asked);
    this.#asked = this.#before;
    if (!GONE.includes(problem.code)) setTimeout(() => this.#ask(), problem.retry_after_ms ?? AGAIN_MS);
    else if (events !== null) {
      this.#refused = events;
      this.#ask();
    }
  }

  /** @param {{point: Point, stats: any, refusing: Feed["refusing"]}} frame */
  #tick(frame) {
    this.stats = frame.stats;
    this.refusing = frame.refusing;
    this.history.push(frame.point);
    if (this.history.length > HISTORY_POINTS) this.history.splice(0, this.history.length - HISTORY_POINTS);
  }

  /** The first frame after asking has all lines. @param {{items: any[], removed?: string[]}} frame */
  #takeQueues(frame) {
    if (this.#queuesFresh) this.queues.clear();
    this.#queuesFresh = false;
    for (const line of frame.items) this.queues.set(line.name, line);
    for (const name of frame.removed ?? []) this.queues.delete(name);
    if (this.#refused === null || !this.queues.has(this.#refused)) return;
    this.#refused = null; // it was made anew
    this.#ask();
  }

  #ask() {
    const topics = [...new Set([...this.#wishes].flatMap((wish) => wish.topics ?? []))].sort();
    const events =
      [...this.#wishes]
        .map((wish) => wish.events)
        .filter((name) => name && name !== this.#refused)
        .pop() ?? null;
    const watch = { op: "watch", topics, events };
    const frame = JSON.stringify(watch);
    const nothing = topics.length === 0 && events === null && this.#asked === "";
    if (this.state !== "open" || frame === this.#asked || nothing) return;
    const had = this.#asked === "" ? [] : JSON.parse(this.#asked).topics;
    if (topics.includes("queues") && !had.includes("queues")) this.#queuesFresh = true;
    if (!topics.includes("queues")) this.queues.clear();
    if (!topics.includes("consumers")) this.consumers = null;
    this.#before = this.#asked;
    this.#asked = frame;
    this.#askId += 1;
    this.#link.send({ ...watch, id: this.#askId });
  }
}

/** The feed's address on the host that served this page. @returns {string} */
export function feedUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/dashboard/ws`;
}
