/**
 * The broker's REST interface. Each call carries the session's token, is tried once more with a new one when the
 * token is refused, and either answers or throws a `Problem`.
 */

import { Problem, problemOf, unreachable } from "./problem.js";

export { Problem };

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | null | undefined>} [query] empty values are left out
 * @property {unknown} [body] sent as JSON
 * @property {string | Blob | ArrayBuffer | Uint8Array} [raw] sent as it is, in place of `body`: JSON text whose numbers
 *   must not change, or bytes
 * @property {string} [contentType] of `raw`; `application/json` when absent
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal] an aborted call throws an `AbortError`
 *
 * @typedef {ReturnType<typeof createApi>} Api
 */

/**
 * A path whose variable parts are escaped: path`/queues/${name}/messages`.
 * @param {TemplateStringsArray} fixed @param {...(string | number)} parts @returns {string}
 */
export function path(fixed, ...parts) {
  return fixed.reduce((made, piece, at) => made + piece + (at < parts.length ? encodeURIComponent(parts[at]) : ""), "");
}

/** @param {import("./session.js").Session} session */
export function createApi(session) {
  /**
   * The answer itself, for what is not JSON. Throws a `Problem` unless it is 2xx.
   * @param {string} method @param {string} where @param {Options} [options] @returns {Promise<Response>}
   */
  async function request(method, where, options = {}) {
    const token = await session.access();
    let answer = await send(method, where, options, token);
    if (answer.status === 401) {
      answer = await send(method, where, options, await session.access({ refused: token }));
      if (answer.status === 401) session.end("expired");
    }
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  }

  /** @param {string} method @param {string} where @param {Options} [options] @returns {Promise<any>} */
  async function json(method, where, options) {
    const answer = await request(method, where, options);
    const text = await answer.text();
    return text === "" ? null : JSON.parse(text);
  }

  return {
    request,
    /** The JSON answer. @param {string} where @param {Options} [options] */
    get: (where, options) => json("GET", where, options),
    /** @param {string} where @param {unknown} [body] @param {Options} [options] */
    post: (where, body, options) => json("POST", where, { ...options, body }),
    /** @param {string} where @param {unknown} body @param {Options} [options] */
    patch: (where, body, options) => json("PATCH", where, { ...options, body }),
    /** `null` after a 204. @param {string} where @param {Options} [options] */
    delete: (where, options) => json("DELETE", where, options),
    /** The answer's text, to the letter: JSON whose numbers must not change, a log file. */
    text: async (/** @type {string} */ where, /** @type {Options} */ options) =>
      (await request("GET", where, options)).text(),
  };
}

/** @param {string} method @param {string} where @param {Options} options @param {string} token */
async function send(method, where, options, token) {
  const headers = new Headers({ Accept: "application/json", ...options.headers, Authorization: `Bearer ${token}` });
  /** @type {any} */
  let body;
  if (options.raw !== undefined) body = options.raw;
  else if (options.body !== undefined) body = JSON.stringify(options.body);
  if (body !== undefined) headers.set("Content-Type", options.contentType ?? "application/json");
  const signal = options.signal;
  try {
    return await fetch(withQuery(where, options.query), {
      method,
      headers,
      body,
      signal,
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    throw unreachable(error);
  }
}

/** @param {string} where @param {Options["query"]} query @returns {string} */
function withQuery(where, query) {
  const pairs = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  if (pairs.length === 0) return where;
  return `${where}?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}`;
}
