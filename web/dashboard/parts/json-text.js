/**
 * JSON read as text: where values begin and end, so that they can be shown and sent on digit for digit. `JSON.parse`
 * turns 12345678901234567890123 into another number, drops members of the same name, and forgets white space; what is
 * cut out here keeps all of it.
 *
 * Nothing here recurses: a value nested a thousand levels deep is as good as a flat one.
 */

/** @typedef {{key: string | null, start: number, end: number}} Member  A value inside another; no `key` in arrays. */
/** @typedef {"object" | "array" | "string" | "number" | "boolean" | "null"} Kind */

const SPACE = /[ \t\r\n]*/y;
const SCALAR = /[^,\]}\s]*/y;
/** Deeper than this, lines begin no further right. */
const DEEPEST = 64;
const QUOTE = 34;
const OPENING = [91, 123];
const CLOSING = [93, 125];

/**
 * The kind of the value that begins at `start`.
 * @param {string} text
 * @param {number} start
 * @returns {Kind}
 */
export function kindAt(text, start) {
  switch (text[start]) {
    case "{":
      return "object";
    case "[":
      return "array";
    case '"':
      return "string";
    case "t":
    case "f":
      return "boolean";
    case "n":
      return "null";
    default:
      return "number";
  }
}

/**
 * Where the next thing begins, behind white space.
 * @param {string} text
 * @param {number} from
 * @returns {number}
 */
export function skipSpace(text, from) {
  SPACE.lastIndex = from;
  SPACE.test(text);
  return SPACE.lastIndex;
}

/**
 * Behind the string whose opening quote is at `start`.
 * @param {string} text
 * @param {number} start
 * @returns {number}
 */
function endOfString(text, start) {
  let at = start + 1;
  for (;;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) throw new SyntaxError("a string without an end");
    let slashes = quote;
    while (text[slashes - 1] === "\\") slashes -= 1;
    if ((quote - slashes) % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

/**
 * Behind the value that begins at `start`; the text is taken for valid JSON.
 * @param {string} text
 * @param {number} start
 * @returns {number}
 */
export function endOfValue(text, start) {
  const kind = kindAt(text, start);
  if (kind === "string") return endOfString(text, start);
  if (kind !== "object" && kind !== "array") {
    SCALAR.lastIndex = start;
    SCALAR.test(text);
    return SCALAR.lastIndex;
  }
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const sign = text.charCodeAt(at);
    if (sign === QUOTE) at = endOfString(text, at) - 1;
    else if (OPENING.includes(sign)) depth += 1;
    else if (CLOSING.includes(sign)) depth -= 1;
    if (depth === 0) return at + 1;
  }
  throw new SyntaxError("a value without an end");
}

/**
 * The values directly inside the object or array that begins at `start`, in their order.
 * @param {string} text
 * @param {number} start
 * @param {number} most  no more than so many
 * @returns {Member[]}
 */
export function membersOf(text, start, most = Infinity) {
  const named = kindAt(text, start) === "object";
  /** @type {Member[]} */
  const found = [];
  let at = skipSpace(text, start + 1);
  while (text[at] !== "}" && text[at] !== "]" && found.length < most) {
    if (at >= text.length) throw new SyntaxError("a value without an end");
    let key = null;
    if (named) {
      const end = endOfString(text, at);
      key = text.slice(at, end);
      at = skipSpace(text, skipSpace(text, end) + 1);
    }
    const end = endOfValue(text, at);
    found.push({ key, start: at, end });
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return found;
}

/**
 * The text of the member `name` of the object that `text` is, as it stands there; null where there is none.
 * @param {string} text
 * @param {string} name
 * @param {number} start  where the object begins
 * @returns {string | null}
 */
export function cut(text, name, start = skipSpace(text, 0)) {
  const quoted = JSON.stringify(name);
  const member = membersOf(text, start).find((one) => one.key === quoted);
  return member ? text.slice(member.start, member.end) : null;
}

/**
 * The text of each item of the array member `name`.
 * @param {string} text
 * @param {string} name
 * @returns {string[]}
 */
export function cutItems(text, name) {
  const array = cut(text, name);
  return array === null ? [] : membersOf(array, 0).map((item) => array.slice(item.start, item.end));
}

/**
 * What a JSON string in its quotes says; the raw text where that is no string.
 * @param {string} quoted
 * @returns {string}
 */
export function spoken(quoted) {
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted;
  }
}

/**
 * The same value over several lines. Only white space between tokens changes.
 * @param {string} text
 * @param {number} most  stops when it has more characters than this: what is longer is only begun
 * @returns {string}
 */
export function indented(text, most = Infinity) {
  /** @type {string[]} */
  const out = [];
  let depth = 0;
  let size = 0;
  const put = (/** @type {string} */ piece) => {
    out.push(piece);
    size += piece.length;
  };
  const line = (/** @type {number} */ by) => {
    depth += by;
    put(`\n${"  ".repeat(Math.min(depth, DEEPEST))}`);
  };
  for (let at = skipSpace(text, 0); at < text.length && size <= most; at = skipSpace(text, at)) {
    const sign = text[at];
    const end = emptyEnd(text, at) ?? (",:{}[]".includes(sign) ? at + 1 : endOfValue(text, at));
    if (end === at) throw new SyntaxError("not JSON");
    const empty = end - at > 1 && "{[".includes(sign);
    if (sign === "}" || sign === "]") line(-1);
    put(empty ? sign + text[end - 1] : text.slice(at, end));
    if (sign === ":") put(" ");
    else if (sign === ",") line(0);
    else if ("{[".includes(sign) && !empty) line(1);
    at = end;
  }
  return out.join("");
}

/**
 * Behind the object or array at `at`, if there is nothing in it.
 * @param {string} text
 * @param {number} at
 * @returns {number | null}
 */
function emptyEnd(text, at) {
  if (text[at] !== "{" && text[at] !== "[") return null;
  const next = skipSpace(text, at + 1);
  return text[next] === "}" || text[next] === "]" ? next + 1 : null;
}
