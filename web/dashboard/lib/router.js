/** Which page a hash names. Pure: no page is loaded here. */

/**
 * @typedef {{page: string, params: Record<string, string>, query: URLSearchParams}} Route
 */

/** The modules in pages/ that a route may name. */
export const PAGES = ["overview", "queues", "queue", "message", "consumers", "webhooks", "users", "keys", "logs"];

/** @type {[RegExp, string, string | null][]} what the path looks like, its page, the name of its one parameter */
const ROUTES = [
  [/^\/?$/, "overview", null],
  [/^\/queues$/, "queues", null],
  [/^\/queues\/([^/]+)$/, "queue", "name"],
  [/^\/messages\/([^/]+)$/, "message", "id"],
  [/^\/(consumers|webhooks|users|keys|logs)$/, "", null],
];

/**
 * @param {string} hash such as `#/queues/orders?status=failed`
 * @returns {Route | null} `null` when no page is meant
 */
export function routeOf(hash) {
  const [where, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  for (const [pattern, page, name] of ROUTES) {
    const found = pattern.exec(where);
    if (!found) continue;
    const value = name === null ? null : decoded(found[1]);
    if (name !== null && value === null) return null;
    const params = name === null ? {} : { [name]: /** @type {string} */ (value) };
    return { page: page || found[1], params, query: new URLSearchParams(query) };
  }
  return null;
}

/** @param {string} part @returns {string | null} */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
