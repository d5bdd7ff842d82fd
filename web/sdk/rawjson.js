/**
 * The exact text of parts of a JSON text. JSON.parse turns 12345678901234567890 into another number; where a value must
 * stay what it is, it is cut out of the text instead. Every `json` here must be valid JSON.
 */

/**
 * The source text of the top-level member `name`, or `null` when there is none; the last of several equal names wins,
 * as in JSON.parse.
 * @param {string} json an object @param {string} name @returns {string | null}
 */
export function memberText(json, name) {
  let at = skipSpace(json, 0);
  if (json[at] !== "{") return null;
  at = skipSpace(json, at + 1);
  /** @type {string | null} */
  let found = null;
  while (at < json.length && json[at] !== "}") {
    const keyEnd = endOfString(json, at);
    const key = JSON.parse(json.slice(at, keyEnd));
    const start = skipSpace(json, skipSpace(json, keyEnd) + 1);
    const end = endOfValue(json, start);
    if (key === name) found = json.slice(start, end);
    at = skipSpace(json, end);
    if (json[at] === ",") at = skipSpace(json, at + 1);
  }
  return found;
}

/** The source texts of an array's items; of what is no array none. @param {string} json @returns {string[]} */
export function itemTexts(json) {
  let at = skipSpace(json, 0);
  if (json[at] !== "[") return [];
  at = skipSpace(json, at + 1);
  /** @type {string[]} */
  const found = [];
  while (at < json.length && json[at] !== "]") {
    const end = endOfValue(json, at);
    found.push(json.slice(at, end));
    at = skipSpace(json, end);
    if (json[at] === ",") at = skipSpace(json, at + 1);
  }
  return found;
}

/** @param {string} json @param {number} at @returns {number} */
function skipSpace(json, at) {
  while (at < json.length && " \t\n\r".includes(json[at])) at += 1;
  return at;
}

/** @param {string} json @param {number} at where its opening quote is @returns {number} */
function endOfString(json, at) {
  for (at += 1; at < json.length; at += 1) {
    if (json[at] === "\\") at += 1;
    else if (json[at] === '"') return at + 1;
  }
  return at;
}

/** Without recursion: content may be nested 1,024 deep. @param {string} json @param {number} at @returns {number} */
function endOfValue(json, at) {
  let depth = 0;
  while (at < json.length) {
    const letter = json[at];
    if (letter === '"') at = endOfString(json, at) - 1;
    else if (letter === "{" || letter === "[") depth += 1;
    else if ((letter === "}" || letter === "]") && depth === 0) return trimmed(json, at);
    else if (letter === "}" || letter === "]") depth -= 1;
    else if (letter === "," && depth === 0) return trimmed(json, at);
    at += 1;
  }
  return trimmed(json, at);
}

/** @param {string} json @param {number} end @returns {number} */
function trimmed(json, end) {
  while (end > 0 && " \t\n\r".includes(json[end - 1])) end -= 1;
  return end;
}
