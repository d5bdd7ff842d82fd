/** A message as the broker wrote it: its fields, and beside them the exact text of what must not change. */

import { cut, cutItems, spoken } from "./json-text.js";

/**
 * @typedef {object} Message
 * @property {any} fields  the message, parsed
 * @property {string | null} content  the JSON text of `content` as it was sent; null for raw bytes
 * @property {string | null} headers  the JSON text of `headers`; null without any
 */

/** @param {string} text  the JSON text of one message @returns {Message} */
export function readMessage(text) {
  const fields = JSON.parse(text);
  const raw = typeof fields.content_base64 === "string";
  return { fields, content: raw ? null : cut(text, "content"), headers: fields.headers ? cut(text, "headers") : null };
}

/**
 * @param {string} text  the JSON text of a list of messages
 * @returns {{items: Message[], next: string | null}}
 */
export function readMessages(text) {
  const cursor = cut(text, "next_cursor");
  return {
    items: cutItems(text, "items").map(readMessage),
    next: cursor === null || cursor === "null" ? null : spoken(cursor),
  };
}

const PREVIEW = 160;

/**
 * The beginning of the content on one line; for raw bytes what they are.
 * @param {Message} message
 * @param {(size: number) => string} bytes
 * @returns {string}
 */
export function preview(message, bytes) {
  if (message.content !== null) return message.content.slice(0, PREVIEW).replace(/\s+/g, " ");
  const size = Math.floor((message.fields.content_base64.replace(/=+$/, "").length * 3) / 4);
  return `${message.fields.content_type ?? "application/octet-stream"} · ${bytes(size)}`;
}
