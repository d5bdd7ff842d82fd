/**
 * A login: a pair of tokens, refreshed before it ends. A refresh token that is played twice ends the whole session on
 * the broker, so there is never more than one refresh under way here, and `hooks` let several tabs agree on one.
 */

import { errorFrom, StreambrokerError, Unauthenticated } from "./errors.js";

/** Refreshed when less than this is left, or a fifth of the token's life when that is shorter. */
const MARGIN_MS = 60_000;

/**
 * @typedef {{access: string, refresh: string, endsAt: number, lifeMs: number}} Tokens `endsAt` as of `Date.now()`
 *
 * @typedef {object} Hooks
 * @property {(tokens: Tokens) => void} [kept] there is a new pair
 * @property {(spent: string, tokens: Tokens) => void} [rotated] it came for this refresh token, which is used up
 * @property {(reason: "logout" | "expired") => void} [ended]
 * @property {<T>(work: () => Promise<T>) => Promise<T>} [alone] does the work while no other tab does such work
 * @property {(spent: string) => Promise<Tokens | null>} [raced] another one refreshed in the same moment: its pair
 */

export class Session {
  #wire;
  #hooks;
  /** @type {Tokens | null} */
  #tokens = null;
  /** @type {Promise<Tokens> | null} the refresh under way */
  #refreshing = null;

  /**
   * @param {import("./http.js").Wire} wire @param {Hooks} [hooks] @param {Tokens | null} [tokens] of an earlier login
   */
  constructor(wire, hooks = {}, tokens = null) {
    this.#wire = wire;
    this.#hooks = hooks;
    this.#tokens = tokens;
  }

  /** @returns {Tokens | null} */
  get tokens() {
    return this.#tokens;
  }

  /** True while there are tokens; they may still turn out to be refused. */
  get active() {
    return this.#tokens !== null;
  }

  /**
   * Throws `Unauthenticated`, `RateLimited`, … and changes nothing when refused.
   * @param {string} username @param {string} password
   */
  async login(username, password) {
    this.#keep(await this.#post("/login", { username, password }));
  }

  /**
   * An access token that is good for a while yet; refreshed first when it is about to end. See `Credentials`.
   * @param {{fresh?: boolean, refused?: string}} [wanted] @returns {Promise<string>}
   */
  async access({ fresh = false, refused } = {}) {
    if (this.#tokens === null) throw loggedOut();
    const margin = Math.min(MARGIN_MS, this.#tokens.lifeMs / 5);
    const due = Date.now() > this.#tokens.endsAt - margin || this.#tokens.access === refused;
    if (!fresh && !due) return this.#tokens.access;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return (await this.#refreshing).access;
  }

  /** A renewed token was refused too: there is nothing left to try. @param {string} token */
  rejected(token) {
    if (this.#tokens?.access === token) this.end("expired");
  }

  /** Ends the session here and on the broker; never throws, for the tokens are forgotten in any case. */
  async logout() {
    const tokens = this.#tokens;
    this.end("logout");
    if (!tokens) return;
    try {
      await this.#wire.send("POST", "/logout", {}, tokens.access, () => null);
    } catch {
      // The broker is away: its own clock ends the session.
    }
  }

  /** Forgets the tokens. @param {"logout" | "expired"} reason */
  end(reason) {
    if (this.#tokens === null) return;
    this.#tokens = null;
    this.#hooks.ended?.(reason);
  }

  /** Takes over a pair that somebody else got for the same login. @param {Tokens} tokens @returns {Tokens} */
  adopt(tokens) {
    this.#tokens = tokens;
    this.#hooks.kept?.(tokens);
    return tokens;
  }

  /** @returns {Promise<Tokens>} */
  #refresh() {
    const before = this.#tokens?.refresh;
    const work = async () => {
      // Another tab may have refreshed while this one waited for its turn.
      if (this.#tokens && this.#tokens.refresh !== before) return this.#tokens;
      return this.#rotate();
    };
    return this.#hooks.alone ? this.#hooks.alone(work) : work();
  }

  /** @returns {Promise<Tokens>} */
  async #rotate() {
    const spent = this.#tokens;
    if (spent === null) throw loggedOut();
    try {
      const tokens = this.#keep(await this.#post("/refresh", { refresh_token: spent.refresh }));
      this.#hooks.rotated?.(spent.refresh, tokens);
      return tokens;
    } catch (error) {
      const raced = error instanceof StreambrokerError && error.code === "refresh_raced";
      const heard = raced ? await this.#hooks.raced?.(spent.refresh) : null;
      if (heard) return heard;
      if (raced || error instanceof Unauthenticated) this.end("expired");
      throw error;
    }
  }

  /** @param {{access_token: string, refresh_token: string, expires_in: number}} pair @returns {Tokens} */
  #keep(pair) {
    const lifeMs = pair.expires_in * 1_000;
    return this.adopt({ access: pair.access_token, refresh: pair.refresh_token, endsAt: Date.now() + lifeMs, lifeMs });
  }

  /** @param {string} where @param {object} body @returns {Promise<any>} */
  #post(where, body) {
    return this.#wire.send("POST", where, { body }, null, async (answer) => {
      if (!answer.ok) throw await errorFrom(answer);
      return answer.json();
    });
  }
}

function loggedOut() {
  return new Unauthenticated({ code: "unauthenticated", status: 401, title: "not logged in" });
}
