/**
 * The broker's REST interface, as the SDK has it. Each call carries the session's token, is tried once more with a new
 * one when the token is refused, and either answers or throws a `Problem`.
 */

import { Http } from "/sdk/http.js";

export { path } from "/sdk/http.js";
export { StreambrokerError as Problem } from "/sdk/errors.js";

/** @typedef {Http} Api */

/** @param {import("./session.js").Session} session @returns {Api} */
export function createApi(session) {
  return new Http(session.wire, session);
}
