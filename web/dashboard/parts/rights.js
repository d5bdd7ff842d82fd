/**
 * What whoever is logged in may do, so that nothing is offered that would be refused. The broker decides; this only
 * hides buttons.
 */

/** @typedef {"publish" | "consume" | "manage" | "view"} Action */
/** @type {Action[]} */
export const ACTIONS = ["publish", "consume", "manage", "view"];

/**
 * @param {any} session
 * @param {Action} action
 * @param {string} queue
 * @returns {boolean}
 */
export function may(session, action, queue) {
  const user = session?.user;
  if (!user || user.role === "admin" || !Array.isArray(user.grants)) return true;
  return user.grants.some((/** @type {any} */ grant) => grant.actions.includes(action) && matches(grant.queues, queue));
}

/**
 * True where the action is granted on some queue at least.
 * @param {any} session
 * @param {Action} action
 * @returns {boolean}
 */
export function mayAnywhere(session, action) {
  const user = session?.user;
  if (!user || user.role === "admin" || !Array.isArray(user.grants)) return true;
  return user.grants.some((/** @type {any} */ grant) => grant.actions.includes(action));
}

/**
 * A name against a pattern: `*` any characters, `?` exactly one. No regular expression is made of the pattern.
 * @param {string} pattern
 * @param {string} name
 * @returns {boolean}
 */
export function matches(pattern, name) {
  let at = 0;
  let back = -1;
  let from = 0;
  for (let seen = 0; seen < name.length;) {
    if (at < pattern.length && (pattern[at] === "?" || (pattern[at] === name[seen] && pattern[at] !== "*"))) {
      at += 1;
      seen += 1;
    } else if (pattern[at] === "*") {
      back = at;
      from = seen;
      at += 1;
    } else if (back >= 0) {
      from += 1;
      seen = from;
      at = back + 1;
    } else {
      return false;
    }
  }
  return [...pattern.slice(at)].every((sign) => sign === "*");
}
