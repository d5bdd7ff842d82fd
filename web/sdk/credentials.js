/** Who a client is: a token, a function that gets one, or a username with its password. */

import { StreambrokerError, Unauthenticated } from "./errors.js";
import { Session } from "./session.js";

/** @typedef {{fresh?: boolean, refused?: string}} Wanted */

/** A token that does not change: an API key, or an access token until it ends. */
export class FixedToken {
  /** @param {string} token */
  constructor(token) {
    this.token = token;
  }

  /** @param {Wanted} [wanted] @returns {Promise<string>} */
  async access({ fresh = false, refused } = {}) {
    if (fresh || refused === this.token) throw refusedToken();
    return this.token;
  }
}

/** Tokens from a function of the user's, which is asked again when one is refused or about to end. */
export class TokenSource {
  #source;
  /** @type {Promise<string> | null} */
  #current = null;

  /** @param {() => string | Promise<string>} source */
  constructor(source) {
    this.#source = source;
  }

  /** @param {Wanted} [wanted] @returns {Promise<string>} */
  async access({ fresh = false, refused } = {}) {
    if (this.#current === null || fresh) return this.#ask();
    const token = await this.#current;
    if (token !== refused) return token;
    const renewed = await this.#ask();
    if (renewed === refused) throw refusedToken();
    return renewed;
  }

  /** @returns {Promise<string>} */
  #ask() {
    const asked = Promise.resolve().then(this.#source);
    this.#current = asked;
    asked.catch(() => {
      if (this.#current === asked) this.#current = null;
    });
    return asked;
  }
}

/**
 * Logs in with a password when a token is first needed, refreshes, and logs in again when the session has ended by
 * itself. A password that was refused is not tried again: the broker would make everybody wait for it.
 */
export class PasswordLogin {
  #session;
  #username;
  #password;
  /** @type {Promise<void> | null} */
  #loggingIn = null;
  /** @type {Unauthenticated | null} why no login is tried any more */
  #refused = null;

  /** @param {import("./http.js").Wire} wire @param {string} username @param {string} password */
  constructor(wire, username, password) {
    this.#session = new Session(wire);
    this.#username = username;
    this.#password = password;
  }

  /** @param {Wanted} [wanted] @returns {Promise<string>} */
  async access(wanted) {
    if (this.#session.active) {
      try {
        return await this.#session.access(wanted);
      } catch (error) {
        if (!(error instanceof StreambrokerError) || this.#session.active) throw error;
      }
    }
    if (this.#refused) throw this.#refused;
    this.#loggingIn ??= this.#login().finally(() => {
      this.#loggingIn = null;
    });
    await this.#loggingIn;
    return this.#session.access();
  }

  /** @param {string} token */
  rejected(token) {
    this.#session.rejected(token);
  }

  /** Ends the session; no other one is begun. */
  async logout() {
    this.#refused = new Unauthenticated({ code: "unauthenticated", status: 401, title: "logged out" });
    await this.#session.logout();
  }

  async #login() {
    try {
      await this.#session.login(this.#username, this.#password);
    } catch (error) {
      if (error instanceof Unauthenticated) this.#refused = error;
      throw error;
    }
  }
}

/** Nobody yet: `Client.login` makes it somebody. */
export class Nobody {
  /** @returns {Promise<string>} */
  async access() {
    const title = "no token: give the client a token, or a username and password, or log in";
    throw new Unauthenticated({ code: "unauthenticated", status: 401, title });
  }
}

function refusedToken() {
  return new Unauthenticated({ code: "unauthenticated", status: 401, title: "the token is not good any more" });
}
