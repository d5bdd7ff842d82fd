/** What a message carries, shown as what it is: a tree of JSON, text, a picture, or bytes. */

import { button, el, replace, setText } from "../lib/dom.js";
import { bytes as sized, number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { copyButton } from "./copy.js";
import { bytesOf, hexView } from "./hex-view.js";
import { indented } from "./json-text.js";
import { jsonTree } from "./json-tree.js";

const IMAGE = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;
/** More text than this is shown from its beginning only, until one asks for the rest. */
const TEXT_MOST = 200_000;

/** @typedef {{id: string, view: () => Node}} Way  One way to look at it. */

/**
 * @param {import("./message-text.js").Message} message
 * @returns {HTMLElement}
 */
export function contentView(message) {
  const bytes = message.content === null ? bytesOf(message.fields.content_base64) : null;
  const ways = bytes === null ? jsonWays(message.content ?? "null") : byteWays(message.fields, bytes);
  const size = bytes === null ? new TextEncoder().encode(message.content ?? "").length : bytes.length;
  const text = bytes === null ? message.content : asText(bytes);
  const facts = el("span", { class: "soft", testid: "content-size", title: `${number(size)} B`, text: sized(size) });
  const tools = el(
    "div",
    { class: "panel-tools" },
    facts,
    text === null ? null : copyButton(() => text, "content-copy"),
    saving(message, bytes),
  );
  return el(
    "section",
    { class: "panel", testid: "content" },
    el("div", { class: "panel-head" }, el("h2", { text: t("content.title") }), tools),
    tabbed(ways),
  );
}

/** @param {string} text @returns {Way[]} */
function jsonWays(text) {
  return [
    { id: "tree", view: () => jsonTree(text) },
    { id: "pretty", view: () => block(indented(text, TEXT_MOST), "content-pretty", () => indented(text)) },
    { id: "raw", view: () => block(text, "content-raw") },
  ];
}

/** @param {any} fields @param {Uint8Array} bytes @returns {Way[]} */
function byteWays(fields, bytes) {
  const type = String(fields.content_type ?? "")
    .split(";")[0]
    .trim()
    .toLowerCase();
  const text = asText(bytes);
  /** @type {Way[]} */
  const ways = [];
  if (IMAGE.test(type)) ways.push({ id: "image", view: () => image(type, fields.content_base64) });
  if (text !== null && isJson(text)) ways.push(...jsonWays(text).slice(0, 2));
  if (text !== null) ways.push({ id: "text", view: () => block(text, "content-text") });
  ways.push({ id: "hex", view: () => hexView(bytes) });
  return ways;
}

/** @param {Way[]} ways @returns {HTMLElement} */
function tabbed(ways) {
  const panel = el("div", { class: "panel-body content-body", role: "tabpanel", id: "content-panel" });
  const tabs = ways.map((way, at) => {
    const props = {
      type: "button",
      role: "tab",
      testid: `content-tab-${way.id}`,
      "aria-controls": "content-panel",
      id: `content-tab-${way.id}`,
    };
    return el("button", { ...props, text: t(`content.${way.id}`), on: { click: () => choose(at) } });
  });
  /** @param {number} at */
  function choose(at) {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === at));
      tab.setAttribute("tabindex", index === at ? "0" : "-1");
    });
    panel.setAttribute("aria-labelledby", tabs[at].id);
    replace(panel, ways[at].view());
  }
  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = tabs.indexOf(/** @type {any} */ (document.activeElement));
    if (step === undefined || at < 0) return;
    const to = (at + step + tabs.length) % tabs.length;
    choose(to);
    tabs[to].focus();
  }
  choose(0);
  const list = el(
    "div",
    { class: "tabs", role: "tablist", "aria-label": t("content.title"), on: { keydown: onKey } },
    tabs,
  );
  return el("div", {}, list, panel);
}

/**
 * @param {string} text
 * @param {string} testid
 * @param {() => string} whole  the text, where the one given may be only its beginning
 * @returns {HTMLElement}
 */
function block(text, testid, whole = () => text) {
  const code = el("pre", { class: "code-block", testid, tabindex: 0, text: text.slice(0, TEXT_MOST) });
  if (text.length <= TEXT_MOST) return code;
  const rest = button(t("content.more"), { kind: "quiet", small: true, testid: `${testid}-more`, onClick: onMore });
  function onMore() {
    setText(code, whole());
    rest.remove();
  }
  return el("div", {}, code, rest);
}

/** @param {string} type @param {string} base64 @returns {HTMLElement} */
function image(type, base64) {
  const picture = el("img", {
    class: "content-image",
    testid: "content-image",
    src: `data:${type};base64,${base64}`,
    alt: t("content.image_alt"),
  });
  const box = el("div", { class: "content-picture" }, picture);
  picture.addEventListener("error", () => replace(box, el("p", { class: "soft", text: t("content.image_broken") })));
  return box;
}

/**
 * The text that bytes are in UTF-8; null where they are something else.
 * @param {Uint8Array} bytes
 * @returns {string | null}
 */
export function asText(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    // eslint-disable-next-line no-control-regex -- control characters are what tells bytes from text here
    return /[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** @param {string} text @returns {boolean} */
function isJson(text) {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/** @param {import("./message-text.js").Message} message @param {Uint8Array | null} bytes @returns {HTMLElement} */
function saving(message, bytes) {
  const name = `${message.fields.message_id}.${bytes === null ? "json" : "bin"}`;
  const save = () => {
    const blob = new Blob([/** @type {any} */ (bytes ?? message.content ?? "")], { type: "application/octet-stream" });
    const url = URL.createObjectURL(blob);
    const link = el("a", { href: url, download: name });
    link.click();
    URL.revokeObjectURL(url);
  };
  return button(t("content.download"), {
    kind: "quiet",
    small: true,
    icon: icon("download"),
    testid: "content-download",
    onClick: save,
  });
}
