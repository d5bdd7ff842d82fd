/**
 * The dashboard's one WebSocket. It comes back by itself, with growing pauses, and asks again for what is watched;
 * pages only say what they want to see and listen.
 */

const PROTOCOL = "streambroker.dashboard.v1+json";
const PAUSE_FIRST_MS = 500;
const PAUSE_MOST_MS = 15_000;
/** A tick comes each second: after this much silence the connection is taken for dead. */
const SILENCE_MS = 12_000;
const PING_MS = 5_000;
/** A connection that held this long forgets the pauses before it. */
const STEADY_MS = 5_000;
const HISTORY_POINTS = 300;

/**
 * @typedef {{p50: number, p95: number, p99: number}} Percentiles
 * @typedef {{at: string, requests: number, published: number, delivered: number, settled: number, pending: number,
 *   processing: number, failed: number, processed: number, cpu_percent: number, memory_mb: number,
 *   delivery_ms: Percentiles | null, publish_ms: Percentiles | null}} Point
 * @typedef {"idle" | "connecting" | "open" | "reconnecting" | "refused"} State
 *   `refused`: the broker will not have this user here (4403); nothing is tried again until `start`
 * @typedef {{topics?: ("queues" | "consumers")[], events?: string}} Wish
 */

export class Feed {
  #session;
  #url;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Set<(frame: any) => void>>} */
  #listeners = new Map();
  /** @type {Set<Wish>} what pages want, in the order they asked */
  #wishes = new Set();
  /** @type {string} what was asked last, so that nothing is asked twice */
  #asked = "";
  #attempt = 0;
  #heardAt = 0;
  #openedAt = 0;
  #queuesFresh = false;
  /** True after a connection that was never welcomed: a browser does not say whether the token was the reason. */
  #doubtful = false;
  /** The token that came in place of a refused one. */
  #renewed = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pulse;

  /** @type {State} */
  state = "idle";
  /** @type {{user: {username: string, role: string}, may_view_all: boolean, interval_ms: number} | null} */
  welcome = null;
  /** @type {Point[]} the last 300 points, oldest first; empty until the first history came */
  history = [];
  /** @type {Record<string, any> | null} the stats of the last tick */
  stats = null;
  /** @type {Map<string, any>} the queue lines by name, while `queues` is watched */
  queues = new Map();
  /** @type {any[] | null} the consumers, while `consumers` is watched; `null` before they came */
  consumers = null;
  /** When the next try is due, while reconnecting. */
  retryAt = 0;

  /** @param {import("./session.js").Session} session @param {string} url `wss://host/dashboard/ws` */
  constructor(session, url) {
    this.#session = session;
    this.#url = url;
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
    session.addEventListener("ended", () => this.stop());
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
      this.#ask();
    };
  }

  /** Connects, unless it has. */
  start() {
    if (this.state !== "idle" && this.state !== "refused") return;
    this.#attempt = 0;
    this.#connect("connecting");
  }

  /** Ends the connection and forgets what it told: the next user may be another. */
  stop() {
    clearTimeout(this.#retry);
    this.#drop(1000);
    this.history = [];
    this.stats = null;
    this.welcome = null;
    this.queues.clear();
    this.consumers = null;
    this.#setState("idle");
  }

  /** Tries at once instead of waiting out the pause. */
  retryNow() {
    if (this.state !== "reconnecting" || this.#socket) return;
    clearTimeout(this.#retry);
    this.#connect("reconnecting");
  }

  /** @param {State} state while it connects */
  async #connect(state) {
    this.#setState(state);
    let token;
    try {
      if (this.#doubtful) await this.#session.identify();
      token = await this.#session.access();
    } catch {
      // With no session left, `ended` has already stopped this feed.
      if (this.#session.active) this.#pause();
      return;
    }
    if (this.#socket || this.state !== state) return;
    const socket = new WebSocket(this.#url, [PROTOCOL, `bearer.${token}`]);
    this.#socket = socket;
    this.#heardAt = Date.now();
    this.#openedAt = 0;
    socket.addEventListener("message", (event) => socket === this.#socket && this.#hear(event.data));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#closed(event.code, token));
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#checkPulse(), PING_MS);
  }

  /** @param {unknown} data */
  #hear(data) {
    this.#heardAt = Date.now();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    this.#take(frame);
    for (const listener of this.#listeners.get(frame.op) ?? []) listener(frame);
  }

  /** Keeps what the frame tells. @param {any} frame */
  #take(frame) {
    if (frame.op === "welcome") this.#welcomed(frame);
    else if (frame.op === "history") this.history = frame.points.slice(-HISTORY_POINTS);
    else if (frame.op === "tick") this.#tick(frame);
    else if (frame.op === "queues") this.#takeQueues(frame);
    else if (frame.op === "consumers") this.consumers = frame.items;
    else if (frame.op === "expiring") this.#renew();
  }

  /** @param {any} frame */
  #welcomed(frame) {
    this.welcome = frame;
    this.#openedAt = Date.now();
    this.#doubtful = false;
    this.#asked = "";
    this.#setState("open");
    this.#ask();
  }

  /** @param {{point: Point, stats: any}} frame */
  #tick(frame) {
    this.stats = frame.stats;
    this.history.push(frame.point);
    if (this.history.length > HISTORY_POINTS) this.history.splice(0, this.history.length - HISTORY_POINTS);
  }

  /** The first frame after asking has all lines. @param {{items: any[], removed?: string[]}} frame */
  #takeQueues(frame) {
    if (this.#queuesFresh) this.queues.clear();
    this.#queuesFresh = false;
    for (const line of frame.items) this.queues.set(line.name, line);
    for (const name of frame.removed ?? []) this.queues.delete(name);
  }

  #ask() {
    const topics = [...new Set([...this.#wishes].flatMap((wish) => wish.topics ?? []))].sort();
    const events =
      [...this.#wishes]
        .map((wish) => wish.events)
        .filter(Boolean)
        .pop() ?? null;
    const frame = JSON.stringify({ op: "watch", topics, events });
    const nothing = topics.length === 0 && events === null && this.#asked === "";
    if (this.state !== "open" || frame === this.#asked || nothing) return;
    const had = this.#asked === "" ? [] : JSON.parse(this.#asked).topics;
    if (topics.includes("queues") && !had.includes("queues")) this.#queuesFresh = true;
    if (!topics.includes("queues")) this.queues.clear();
    if (!topics.includes("consumers")) this.consumers = null;
    this.#asked = frame;
    this.#socket?.send(frame);
  }

  async #renew() {
    try {
      const token = await this.#session.access({ fresh: true });
      if (this.state === "open") this.#socket?.send(JSON.stringify({ op: "refresh", token }));
    } catch {
      // Then the broker closes with 4450, and coming back tries again.
    }
  }

  #checkPulse() {
    const silent = Date.now() - this.#heardAt;
    if (silent > SILENCE_MS) this.#closed(1006, "");
    else if (this.state === "open") this.#socket?.send('{"op":"ping"}');
  }

  /** @param {number} code @param {string} token the one it was opened with */
  #closed(code, token) {
    const steady = this.#openedAt > 0 && Date.now() - this.#openedAt > STEADY_MS;
    this.#doubtful = this.#openedAt === 0;
    this.#drop(1000);
    if (steady) this.#attempt = 0;
    if (code === 4403) this.#setState("refused");
    else if (code === 4401 && token === this.#renewed) this.#session.end("expired");
    else if (code === 4401 || code === 4450) this.#comeBackRenewed(token);
    else this.#pause();
  }

  /** The token was refused: with a new one at once. @param {string} token */
  async #comeBackRenewed(token) {
    this.#setState("reconnecting");
    try {
      this.#renewed = await this.#session.access({ refused: token });
    } catch {
      if (this.#session.active) this.#pause();
      return;
    }
    if (this.state === "reconnecting") this.#connect("reconnecting");
  }

  /** Waits before the next try: twice as long each time, and never in step with the other dashboards. */
  #pause() {
    const most = Math.min(PAUSE_MOST_MS, PAUSE_FIRST_MS * 2 ** this.#attempt);
    const wait = most / 2 + (Math.random() * most) / 2;
    this.#attempt += 1;
    this.retryAt = Date.now() + wait;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect("reconnecting"), wait);
    this.#setState("reconnecting");
  }

  /** @param {number} code */
  #drop(code) {
    clearInterval(this.#pulse);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  /** @param {State} state */
  #setState(state) {
    this.state = state;
    for (const listener of this.#listeners.get("state") ?? []) listener(this);
  }
}

/** The feed's address on the host that served this page. @returns {string} */
export function feedUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/dashboard/ws`;
}
