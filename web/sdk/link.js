/**
 * One WebSocket that comes back by itself: with growing pauses after trouble, at once with a new token when the old one
 * ended, and not at all where the broker said so. What is said over it is its owner's matter.
 */

import { errorOf, StreambrokerError, Unauthenticated } from "./errors.js";
import { pauseMs } from "./waiting.js";

const PING_MS = 5_000;
/** A connection that leaves a ping, or its opening, without any answer for so long is taken for dead. */
const SILENCE_MS = 7_000;
const OPENING_MS = 12_000;
/** A connection that held this long forgets the pauses before it. */
const STEADY_MS = 5_000;
/** So many openings in a row fail while the rest of the broker answers: a proxy keeps WebSockets from passing. */
const OPENINGS = 3;
/** The least pause after "too many", where the broker does not say how long. */
const CROWDED_MS = 5_000;

/** What ends a link for good (contract, close codes): the client is wrong, or not wanted. */
const FINAL = new Map([
  [4400, "malformed"],
  [4401, "unauthenticated"],
  [4403, "forbidden"],
  [4404, "not_found"],
  [4413, "too_large"],
]);
const TOO_MANY = 4429;
const TOKEN_EXPIRED = 4450;

/**
 * @typedef {"idle" | "connecting" | "open" | "reconnecting" | "refused"} State `refused`: it has ended for good
 *
 * @typedef {object} Owner
 * @property {(state: State) => void} [stateChanged]
 * @property {(frame: any, text: string, index: number | null) => void} heard one frame; `text` is what it came in, a
 *   frame or, where there is an index, an array of them
 * @property {(code: number) => void} [lost] an open connection has ended
 * @property {(error: StreambrokerError) => void} refused it will not come back
 * @property {() => void} [blocked] WebSockets do not get through, while REST does; it tries no more
 *
 * @typedef {object} LinkOptions
 * @property {string} url `ws:` or `wss:`
 * @property {string} protocol the subprotocol, offered beside the token
 * @property {(wanted?: {fresh?: boolean, refused?: string}) => Promise<string>} access
 * @property {() => Promise<unknown>} probe asks REST who one is: a browser does not say why a WebSocket did not open
 * @property {() => Promise<typeof WebSocket | null>} socket the class; null where there is none
 * @property {number[]} [renewed] close codes after which a new token is worth a try; 4450
 */

export class Link {
  #options;
  #owner;
  #renewCodes;
  /** @type {WebSocket | null} */
  #socket = null;
  /** Counts connections: what an earlier one still does is nobody's concern. */
  #turn = 0;
  #attempt = 0;
  #unopened = 0;
  #startedAt = 0;
  #openedAt = 0;
  #heardAt = 0;
  #pingedAt = 0;
  /** True after a connection that was never welcomed: the token may have been the reason. */
  #doubtful = false;
  /** The token that came in place of a refused one. */
  #renewed = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pulse;

  /** @type {State} */
  state = "idle";
  /** When the next try is due, while reconnecting; as of `Date.now()`. */
  retryAt = 0;

  /** @param {LinkOptions} options @param {Owner} owner */
  constructor(options, owner) {
    this.#options = options;
    this.#owner = owner;
    this.#renewCodes = new Set(options.renewed ?? [TOKEN_EXPIRED]);
  }

  /** Connects, unless it has. */
  start() {
    if (this.state !== "idle" && this.state !== "refused") return;
    this.#attempt = 0;
    this.#unopened = 0;
    this.#doubtful = false;
    void this.#connect("connecting");
  }

  /** Closes the connection: what it held is given back. */
  stop() {
    clearTimeout(this.#retry);
    this.#turn += 1;
    this.#drop(1000);
    this.#setState("idle");
  }

  /** Tries at once instead of waiting out the pause. */
  retryNow() {
    if (this.state !== "reconnecting" || this.#socket) return;
    clearTimeout(this.#retry);
    void this.#connect("reconnecting");
  }

  /** Sends frames, if it is open; says whether it is. @param {...object} frames */
  send(...frames) {
    if (this.state !== "open" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(frames.length === 1 ? frames[0] : frames));
    return true;
  }

  /** @param {State} state while it connects */
  async #connect(state) {
    this.#setState(state);
    const turn = ++this.#turn;
    try {
      if (this.#doubtful) await this.#explain();
      const token = await this.#options.access();
      const Socket = await this.#options.socket();
      if (turn !== this.#turn) return;
      if (Socket === null || this.#unopened >= OPENINGS) return this.#block();
      this.#open(Socket, token);
    } catch (error) {
      if (turn === this.#turn) this.#troubled(error);
    }
  }

  /** Asks by REST why the last connection was not welcomed; throws if the broker, or the token, is the reason. */
  async #explain() {
    await this.#options.probe();
    this.#unopened += 1;
  }

  /** @param {typeof WebSocket} Socket @param {string} token */
  #open(Socket, token) {
    this.#doubtful = true;
    this.#openedAt = 0;
    this.#startedAt = Date.now();
    const socket = new Socket(this.#options.url, [this.#options.protocol, `bearer.${token}`]);
    this.#socket = socket;
    socket.addEventListener("message", (event) => socket === this.#socket && this.#hear(String(event.data)));
    socket.addEventListener("close", (event) => socket === this.#socket && this.#closed(event.code, token));
    socket.addEventListener("error", () => {}); // a close follows
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#checkPulse(), PING_MS);
  }

  /** @param {unknown} error */
  #troubled(error) {
    if (error instanceof Unauthenticated) this.#refuse(error);
    else this.#comeBackLater(error instanceof StreambrokerError ? error.retryAfterMs : null);
  }

  /** @param {string} text */
  #hear(text) {
    this.#heardAt = Date.now();
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    if (!Array.isArray(said)) return this.#take(said, text, null);
    said.forEach((frame, index) => this.#take(frame, text, index));
  }

  /** @param {any} frame @param {string} text @param {number | null} index */
  #take(frame, text, index) {
    if (frame.op === "welcome") this.#welcomed();
    else if (frame.op === "expiring") void this.#renew();
    this.#owner.heard(frame, text, index);
  }

  #welcomed() {
    this.#openedAt ||= Date.now();
    this.#pingedAt = 0;
    this.#doubtful = false;
    this.#unopened = 0;
    this.#setState("open");
  }

  /** The token is about to end: a newer one, over the same connection. */
  async #renew() {
    try {
      const turn = this.#turn;
      const token = await this.#options.access({ fresh: true });
      if (turn === this.#turn) this.send({ op: "refresh", token });
    } catch {
      // Then the broker closes with 4450, and coming back tries again.
    }
  }

  /** A timer of a hidden tab may come a minute late: silence counts from what was asked, not from what was heard. */
  #checkPulse() {
    const now = Date.now();
    if (this.state !== "open") {
      if (now - this.#startedAt > OPENING_MS) this.#closed(1006, "");
    } else if (this.#pingedAt > this.#heardAt) {
      if (now - this.#pingedAt > SILENCE_MS) this.#closed(1006, "");
    } else {
      this.#pingedAt = now;
      this.send({ op: "ping" });
    }
  }

  /** @param {number} code @param {string} token the one it was opened with */
  #closed(code, token) {
    const open = this.#openedAt > 0;
    if (open && Date.now() - this.#openedAt > STEADY_MS) this.#attempt = 0;
    this.#drop(1000);
    if (open) this.#owner.lost?.(code);
    if (this.#renewCodes.has(code) && token !== this.#renewed) void this.#comeBackRenewed(token);
    else if (FINAL.has(code)) this.#refuse(errorOf({ code: FINAL.get(code), title: `closed with ${code}` }));
    else this.#comeBackLater(code === TOO_MANY ? CROWDED_MS : null);
  }

  /** The token was refused: with a new one at once. @param {string} token */
  async #comeBackRenewed(token) {
    const turn = ++this.#turn;
    this.#setState("reconnecting");
    try {
      this.#renewed = await this.#options.access({ refused: token });
      if (turn === this.#turn) void this.#connect("reconnecting");
    } catch (error) {
      if (turn === this.#turn) this.#troubled(error);
    }
  }

  /** @param {number | null} [askedMs] */
  #comeBackLater(askedMs) {
    const wait = pauseMs(this.#attempt, askedMs);
    this.#attempt += 1;
    this.retryAt = Date.now() + wait;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect("reconnecting"), wait);
    this.#setState("reconnecting");
  }

  #block() {
    if (!this.#owner.blocked) {
      this.#unopened = 0;
      return this.#comeBackLater();
    }
    this.stop();
    this.#owner.blocked();
  }

  /** @param {StreambrokerError} error */
  #refuse(error) {
    this.#turn += 1;
    this.#setState("refused");
    this.#owner.refused(error);
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
    this.#owner.stateChanged?.(state);
  }
}
