/**
 * Who is logged in. The tokens live in sessionStorage: they end with the tab, never travel in a URL or a
 * cookie, and are refreshed before they end. Tabs of one login (a tab that was duplicated) share each new pair,
 * because a refresh token played twice would end the whole family.
 */

import { Problem, problemOf, unreachable } from "./problem.js";

const KEY = "streambroker.session";
const CHANNEL = "streambroker.session";
/** Refreshed when less than this is left, or a fifth of the token's life when that is shorter. */
const MARGIN_MS = 60_000;

/**
 * @typedef {{username: string, role: string, grants?: object[]}} User
 * @typedef {{access: string, refresh: string, endsAt: number, lifeMs: number}} Tokens
 */

export class Session extends EventTarget {
  /** @type {Tokens | null} */
  #tokens = null;
  /** @type {Promise<Tokens> | null} the refresh under way: there is never more than one */
  #refreshing = null;
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(CHANNEL) : null;
  /** @type {User | null} set after login and after `identify` */
  user = null;

  /** Takes up what the tab had before a reload. */
  constructor() {
    super();
    this.#tokens = readStored();
    this.#channel?.addEventListener("message", (event) => this.#hear(event.data));
  }

  /** True while there are tokens; they may still turn out to be refused. */
  get active() {
    return this.#tokens !== null;
  }

  get isAdmin() {
    return this.user?.role === "admin";
  }

  /**
   * Logs in. Throws a `Problem` (`unauthenticated`, `rate_limited`, …) and stays logged out when refused.
   * @param {string} username @param {string} password
   */
  async login(username, password) {
    this.#keep(await post("/login", { username, password }));
    await this.identify();
  }

  /** Asks who this is, for `user`. A token that is refused is renewed once; refused again, the session has ended. */
  async identify() {
    const me = (/** @type {string} */ token) => reach("/users/me", { headers: { Authorization: `Bearer ${token}` } });
    const token = await this.access();
    let answer = await me(token);
    if (answer.status === 401) answer = await me(await this.access({ refused: token }));
    if (answer.status === 401) this.end("expired");
    if (!answer.ok) throw await problemOf(answer);
    this.user = await answer.json();
    this.dispatchEvent(new Event("change"));
  }

  /**
   * An access token that is good for a while yet; refreshed first when it is about to end.
   * @param {{fresh?: boolean, refused?: string}} [options] `fresh`: a new one in any case; `refused`: a new one
   *   unless that refused token has been replaced meanwhile
   * @returns {Promise<string>}
   */
  async access({ fresh = false, refused } = {}) {
    if (this.#tokens === null) throw new Problem({ code: "unauthenticated", status: 401 });
    const margin = Math.min(MARGIN_MS, this.#tokens.lifeMs / 5);
    const due = Date.now() > this.#tokens.endsAt - margin || this.#tokens.access === refused;
    if (!fresh && !due) return this.#tokens.access;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return (await this.#refreshing).access;
  }

  /** Ends the session here and on the broker; never throws, for the tab forgets its tokens in any case. */
  async logout() {
    const tokens = this.#tokens;
    this.end("logout");
    this.#channel?.postMessage({ ended: tokens?.refresh });
    if (!tokens) return;
    try {
      await reach("/logout", { method: "POST", headers: { Authorization: `Bearer ${tokens.access}` } });
    } catch {
      // The broker is away: its own clock ends the session.
    }
  }

  /**
   * Forgets the tokens and tells the page.
   * @param {"logout" | "expired"} reason
   */
  end(reason) {
    if (this.#tokens === null && this.user === null) return;
    this.#tokens = null;
    this.user = null;
    sessionStorage.removeItem(KEY);
    this.dispatchEvent(new CustomEvent("ended", { detail: reason }));
  }

  /** @returns {Promise<Tokens>} */
  async #refresh() {
    const locks = navigator.locks;
    const before = this.#tokens?.refresh;
    const work = async () => {
      // Another tab may have refreshed while this one waited for the lock.
      if (this.#tokens && this.#tokens.refresh !== before) return this.#tokens;
      return this.#rotate();
    };
    return locks ? locks.request(CHANNEL, work) : work();
  }

  /** @returns {Promise<Tokens>} */
  async #rotate() {
    const spent = this.#tokens;
    if (spent === null) throw new Problem({ code: "unauthenticated", status: 401 });
    try {
      const tokens = this.#keep(await post("/refresh", { refresh_token: spent.refresh }));
      this.#channel?.postMessage({ spent: spent.refresh, tokens });
      return tokens;
    } catch (problem) {
      if (problem instanceof Problem && problem.code === "refresh_raced") {
        const heard = await this.#heardOther(spent.refresh);
        if (heard) return heard;
      }
      if (problem instanceof Problem && (problem.status === 401 || problem.code === "refresh_raced"))
        this.end("expired");
      throw problem;
    }
  }

  /** Waits a little for the pair that another tab won. @param {string} spent @returns {Promise<Tokens | null>} */
  #heardOther(spent) {
    const changed = () => (this.#tokens && this.#tokens.refresh !== spent ? this.#tokens : null);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(changed()), 2_000);
      this.addEventListener("change", () => (clearTimeout(timer), resolve(changed())), { once: true });
    });
  }

  /** @param {{spent?: string, tokens?: Tokens, ended?: string}} word from another tab */
  #hear(word) {
    if (this.#tokens === null) return;
    if (word.ended === this.#tokens.refresh) this.end("logout");
    else if (word.spent === this.#tokens.refresh && word.tokens) this.#store(word.tokens);
  }

  /** @param {{access_token: string, refresh_token: string, expires_in: number}} pair @returns {Tokens} */
  #keep(pair) {
    const lifeMs = pair.expires_in * 1_000;
    return this.#store({ access: pair.access_token, refresh: pair.refresh_token, endsAt: Date.now() + lifeMs, lifeMs });
  }

  /** @param {Tokens} tokens @returns {Tokens} */
  #store(tokens) {
    this.#tokens = tokens;
    sessionStorage.setItem(KEY, JSON.stringify(tokens));
    this.dispatchEvent(new Event("change"));
    return tokens;
  }
}

/** @returns {Tokens | null} */
function readStored() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return stored && typeof stored.access === "string" && typeof stored.refresh === "string" ? stored : null;
  } catch {
    return null;
  }
}

/** @param {string} path @param {object} body @returns {Promise<any>} */
async function post(path, body) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const answer = await reach(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}

/** @param {string} path @param {RequestInit} options @returns {Promise<Response>} */
async function reach(path, options) {
  try {
    return await fetch(path, { ...options, credentials: "omit", cache: "no-store" });
  } catch (error) {
    throw unreachable(error);
  }
}
