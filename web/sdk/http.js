/** The broker's REST interface: requests with a token, deadlines and typed errors. */

import { errorFrom, TimedOut, Unreachable } from "./errors.js";
import { anyOf } from "./waiting.js";

/**
 * @typedef {object} RequestOptions
 * @property {Record<string, string | number | boolean | null | undefined>} [query] empty values are left out
 * @property {unknown} [body] sent as JSON
 * @property {string | Blob | ArrayBuffer | Uint8Array} [raw] sent as it is, in place of `body`: JSON text whose numbers
 *   must not change, or bytes
 * @property {string} [contentType] of `raw`; `application/json` when absent
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal] an aborted call throws the signal's reason
 * @property {number} [timeoutMs] until the whole answer is there; 0 for no limit
 *
 * @typedef {object} Credentials who one is
 * @property {(wanted?: {fresh?: boolean, refused?: string}) => Promise<string>} access a token: `fresh`, a new one in
 *   any case; `refused`, a new one unless that has been replaced meanwhile. Throws `Unauthenticated` when there is none
 * @property {(token: string) => void} [rejected] a renewed token was refused too
 */

/**
 * A path whose variable parts are escaped: path`/queues/${name}/messages`.
 * @param {TemplateStringsArray} fixed @param {...(string | number)} parts @returns {string}
 */
export function path(fixed, ...parts) {
  return fixed.reduce((made, piece, at) => made + piece + (at < parts.length ? encodeURIComponent(parts[at]) : ""), "");
}

/** The way to one broker: sends, and says nothing about who one is. */
export class Wire {
  #fetch;

  /**
   * @param {string} url the broker's, with whatever path it is served below
   * @param {{fetch?: typeof fetch, timeoutMs?: number}} [options] `timeoutMs` for calls that name none; 10,000
   */
  constructor(url, { fetch: given, timeoutMs = 10_000 } = {}) {
    this.url = url.replace(/\/+$/, "");
    // Not kept as a method: a browser's fetch must be called on the window.
    this.#fetch = given ?? ((/** @type {any} */ input, /** @type {any} */ init) => globalThis.fetch(input, init));
    this.timeoutMs = timeoutMs;
  }

  /**
   * Sends a request and reads its answer with `read`, both within the time. Throws `Unreachable`, `TimedOut`, or the
   * reason of the signal; what the status says is for `read` to judge.
   * @template T @param {string} method @param {string} where @param {RequestOptions} options
   * @param {string | null} token @param {(answer: Response) => T | Promise<T>} read @returns {Promise<T>}
   */
  async send(method, where, options, token, read) {
    const until = anyOf(options.signal);
    const request = init(method, options, token, until.signal);
    const timeoutMs = options.timeoutMs ?? this.timeoutMs;
    const timer = timeoutMs > 0 ? setTimeout(() => until.abort(new TimedOut()), timeoutMs) : undefined;
    try {
      return await read(await this.#fetch(this.url + withQuery(where, options.query), request));
    } catch (error) {
      if (until.signal.aborted) throw until.signal.reason;
      // fetch throws a TypeError for whatever kept the request from being answered; a refusal passes as it is.
      throw error instanceof TypeError ? new Unreachable(error) : error;
    } finally {
      clearTimeout(timer);
      until.release();
    }
  }
}

/** The same with a token: refused once, the request is sent again with a new one. All methods throw typed errors. */
export class Http {
  #credentials;

  /** @param {Wire} wire @param {Credentials} credentials */
  constructor(wire, credentials) {
    this.wire = wire;
    this.#credentials = credentials;
  }

  /** A token for what is not a request of this class. @param {{fresh?: boolean, refused?: string}} [wanted] */
  access(wanted) {
    return this.#credentials.access(wanted);
  }

  /**
   * What `read` makes of the 2xx answer, within the call's time.
   * @template T @param {string} method @param {string} where @param {RequestOptions} options
   * @param {(answer: Response) => T | Promise<T>} read @returns {Promise<T>}
   */
  async exchange(method, where, options, read) {
    const token = await this.#credentials.access();
    const judged = async (/** @type {Response} */ answer) => {
      if (!answer.ok) throw await errorFrom(answer);
      return read(answer);
    };
    const refused = Symbol("refused");
    const first = await this.wire.send(method, where, options, token, (answer) =>
      answer.status === 401 ? refused : judged(answer),
    );
    if (first !== refused) return /** @type {T} */ (first);
    const renewed = await this.#credentials.access({ refused: token });
    return this.wire.send(method, where, options, renewed, (answer) => {
      if (answer.status === 401) this.#credentials.rejected?.(renewed);
      return judged(answer);
    });
  }

  /**
   * The answer itself, for what is not JSON; its body is not read within the call's time.
   * @param {string} method @param {string} where @param {RequestOptions} [options] @returns {Promise<Response>}
   */
  request(method, where, options = {}) {
    return this.exchange(method, where, options, (answer) => answer);
  }

  /** @param {string} where @param {RequestOptions} [options] @returns {Promise<any>} the JSON answer */
  get(where, options = {}) {
    return this.exchange("GET", where, options, json);
  }

  /** @param {string} where @param {unknown} [body] @param {RequestOptions} [options] @returns {Promise<any>} */
  post(where, body, options = {}) {
    return this.exchange("POST", where, { ...options, body }, json);
  }

  /** @param {string} where @param {unknown} body @param {RequestOptions} [options] @returns {Promise<any>} */
  patch(where, body, options = {}) {
    return this.exchange("PATCH", where, { ...options, body }, json);
  }

  /** `null` after a 204. @param {string} where @param {RequestOptions} [options] @returns {Promise<any>} */
  delete(where, options = {}) {
    return this.exchange("DELETE", where, options, json);
  }

  /**
   * The answer's text, to the letter.
   * @param {string} where @param {RequestOptions} [options] @returns {Promise<string>}
   */
  text(where, options = {}) {
    return this.exchange("GET", where, options, (answer) => answer.text());
  }
}

/** @param {Response} answer @returns {Promise<any>} */
async function json(answer) {
  const text = await answer.text();
  return text === "" ? null : JSON.parse(text);
}

/** @param {string} method @param {RequestOptions} options @param {string | null} token @param {AbortSignal} signal */
function init(method, options, token, signal) {
  const headers = new Headers({ Accept: "application/json", ...options.headers });
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  /** @type {any} */
  const body = options.raw ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
  if (body !== undefined) headers.set("Content-Type", options.contentType ?? "application/json");
  return /** @type {RequestInit} */ ({
    method,
    headers,
    body,
    signal,
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
  });
}

/** @param {string} where @param {RequestOptions["query"]} query @returns {string} */
function withQuery(where, query) {
  const pairs = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  if (pairs.length === 0) return where;
  return `${where}?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}`;
}
