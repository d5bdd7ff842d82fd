/**
 * Who is logged in. The tokens live in sessionStorage: they end with the tab, never travel in a URL or a
 * cookie, and are refreshed before they end. Tabs of one login (a tab that was duplicated) share each new pair,
 * because a refresh token played twice would end the whole family.
 */

import { Http, Wire } from "/sdk/http.js";
import { Session as Login } from "/sdk/session.js";

const KEY = "streambroker.session";
const CHANNEL = "streambroker.session";
/** How long the pair that another tab won may take to be heard of. */
const HEARD_MS = 2_000;

/**
 * @typedef {{username: string, role: string, grants?: object[]}} User
 * @typedef {import("/sdk/session.js").Tokens} Tokens
 */

export class Session extends EventTarget {
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(CHANNEL) : null;
  #login;
  #http;
  /** The way to the broker that served this page. A purge may take its time: no call has a limit. */
  wire = new Wire("", { timeoutMs: 0 });
  /** @type {User | null} set after login and after `identify` */
  user = null;

  /** Takes up what the tab had before a reload. */
  constructor() {
    super();
    const hooks = {
      kept: (/** @type {Tokens} */ tokens) => this.#store(tokens),
      rotated: (/** @type {string} */ spent, /** @type {Tokens} */ tokens) => this.#tell({ spent, tokens }),
      ended: (/** @type {"logout" | "expired"} */ reason) => this.#forget(reason),
      alone: alone(),
      raced: (/** @type {string} */ spent) => this.#heardOther(spent),
    };
    this.#login = new Login(this.wire, hooks, readStored());
    this.#http = new Http(this.wire, this);
    this.#channel?.addEventListener("message", (event) => this.#hear(event.data));
  }

  /** True while there are tokens; they may still turn out to be refused. */
  get active() {
    return this.#login.active;
  }

  get isAdmin() {
    return this.user?.role === "admin";
  }

  /**
   * Logs in. Throws a `Problem` (`unauthenticated`, `rate_limited`, …) and stays logged out when refused.
   * @param {string} username @param {string} password
   */
  async login(username, password) {
    await this.#login.login(username, password);
    await this.identify();
  }

  /** Asks who this is, for `user`. A token that is refused is renewed once; refused again, the session has ended. */
  async identify() {
    this.user = await this.#http.get("/users/me");
    this.dispatchEvent(new Event("change"));
  }

  /**
   * An access token that is good for a while yet; refreshed first when it is about to end.
   * @param {{fresh?: boolean, refused?: string}} [wanted] `fresh`: a new one in any case; `refused`: a new one
   *   unless that refused token has been replaced meanwhile
   * @returns {Promise<string>}
   */
  access(wanted) {
    return this.#login.access(wanted);
  }

  /** A renewed token was refused too. @param {string} token */
  rejected(token) {
    this.#login.rejected(token);
  }

  /** Ends the session here and on the broker; never throws, for the tab forgets its tokens in any case. */
  async logout() {
    const refresh = this.#login.tokens?.refresh;
    const done = this.#login.logout();
    this.#tell({ ended: refresh });
    await done;
  }

  /**
   * Forgets the tokens and tells the page.
   * @param {"logout" | "expired"} reason
   */
  end(reason) {
    this.#login.end(reason);
  }

  /** @param {"logout" | "expired"} reason */
  #forget(reason) {
    this.user = null;
    sessionStorage.removeItem(KEY);
    this.dispatchEvent(new CustomEvent("ended", { detail: reason }));
  }

  /** @param {Tokens} tokens */
  #store(tokens) {
    sessionStorage.setItem(KEY, JSON.stringify(tokens));
    this.dispatchEvent(new Event("change"));
  }

  /** @param {{spent?: string, tokens?: Tokens, ended?: string}} word to the other tabs */
  #tell(word) {
    this.#channel?.postMessage(word);
  }

  /** @param {{spent?: string, tokens?: Tokens, ended?: string}} word from another tab */
  #hear(word) {
    const refresh = this.#login.tokens?.refresh;
    if (refresh === undefined) return;
    if (word.ended === refresh) this.end("logout");
    else if (word.spent === refresh && word.tokens) this.#login.adopt(word.tokens);
  }

  /** Waits a little for the pair that another tab won. @param {string} spent @returns {Promise<Tokens | null>} */
  #heardOther(spent) {
    const changed = () => {
      const tokens = this.#login.tokens;
      return tokens && tokens.refresh !== spent ? tokens : null;
    };
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(changed()), HEARD_MS);
      this.addEventListener("change", () => (clearTimeout(timer), resolve(changed())), { once: true });
    });
  }
}

/** One tab refreshes at a time, where the browser can see to that: a page without TLS has no locks. */
function alone() {
  const locks = navigator.locks;
  return locks ? (/** @type {() => Promise<any>} */ work) => locks.request(CHANNEL, work) : undefined;
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
