/** The messages of one queue: search by status, key, id and text in the content, and page through what is found. */

import { path, Problem } from "../lib/api.js";
import { age } from "../lib/clock.js";
import { button, el, replace } from "../lib/dom.js";
import { bytes } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { empty, loaded } from "../lib/views.js";
import { preview, readMessage, readMessages } from "./message-text.js";
import { pager, plainTable } from "./plain-table.js";
import { statusBadge } from "./status-badge.js";

/** What one sees of a page that is not tall; as many more as fit where it is. */
const PAGE = 25;
const MOST = 100;
/** In rem: a row, and what stands above and below them. */
const ROW = 2.5714;
const AROUND = 25;
const STATUSES = ["pending", "processing", "failed", "processed"];

/** @typedef {import("./message-text.js").Message} Message */

/**
 * @param {import("../lib/api.js").Api} api
 * @param {string} queue
 * @returns {{node: HTMLElement, reload: () => void, stop: () => void}}
 */
export function messageSearch(api, queue) {
  const words = (/** @type {string} */ id) =>
    el("input", {
      class: "input",
      type: "search",
      testid: `message-search-${id}`,
      placeholder: t(`search.${id}`),
      "aria-label": t(`search.${id}`),
      autocomplete: "off",
      spellcheck: "false",
    });
  const status = el(
    "select",
    { class: "input", testid: "message-search-status", "aria-label": t("search.status"), on: { change: search } },
    el("option", { value: "", text: t("search.any_status") }),
    STATUSES.map((value) => el("option", { value, text: t(`status.${value}`) })),
  );
  const key = words("key");
  const id = words("id");
  const contains = words("contains");
  const go = button(t("action.search"), { type: "submit", icon: icon("search"), testid: "message-search-submit" });
  const again = button(t("action.refresh"), {
    kind: "quiet",
    icon: icon("refresh"),
    iconOnly: true,
    testid: "message-refresh",
    onClick: () => void list.reload(),
  });
  const pages = pager(() => void list.reload(), "message");
  const place = el("div", { class: "panel-flush", testid: "messages" });
  const list = loaded(place, load, draw, { lines: 6 });

  /** @param {Event} [event] */
  function search(event) {
    event?.preventDefault();
    pages.reset();
    void list.reload();
  }

  /** @param {AbortSignal} signal @returns {Promise<{items: Message[], next: string | null}>} */
  async function load(signal) {
    if (id.value.trim() !== "") return { items: await single(id.value.trim(), signal), next: null };
    const query = { status: status.value, key: key.value, contains: contains.value, cursor: pages.at(), limit: pageSize() };
    return readMessages(await api.text(path`/queues/${queue}/messages`, { query, signal }));
  }

  /** The one of that id; none where it is in another queue. @param {string} wanted @param {AbortSignal} signal */
  async function single(wanted, signal) {
    try {
      const found = readMessage(await api.text(path`/messages/${wanted}`, { signal }));
      return found.fields.queue === queue ? [found] : [];
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 404) return [];
      throw problem;
    }
  }

  /** @param {{items: Message[], next: string | null}} page */
  function draw({ items, next }) {
    pages.found(next);
    if (items.length > 0) return table(items);
    const sought = Boolean(status.value || key.value || id.value || contains.value);
    if (next !== null) return empty({ title: t("search.none_yet"), hint: t("search.none_yet_hint") });
    return empty({ title: t(sought ? "search.none" : "search.empty") });
  }

  const form = el(
    "form",
    { class: "toolbar search", role: "search", on: { submit: search } },
    status,
    key,
    contains,
    id,
    go,
  );
  const node = el(
    "section",
    { class: "panel" },
    el(
      "div",
      { class: "panel-head" },
      el("h2", { text: t("search.title") }),
      el("div", { class: "panel-tools" }, again),
    ),
    el("div", { class: "panel-body search-body" }, form),
    place,
    pages.node,
  );
  return { node, reload: () => void list.reload(), stop: list.stop };
}

/** As many rows as fit below each other, so that a tall screen is not left empty. */
function pageSize() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  return Math.min(MOST, Math.max(PAGE, Math.floor((innerHeight / rem - AROUND) / ROW)));
}

/** @param {Message[]} items @returns {HTMLElement} */
function table(items) {
  return plainTable({
    columns: [
      { label: t("message.id"), cell: idCell },
      { label: t("message.status"), cell: ({ fields }) => statusBadge(fields.status, fields.available_at) },
      { label: t("message.key"), class: "clip col-key hide-medium", cell: ({ fields }) => fields.key ?? "" },
      { label: t("message.content"), class: "clip col-preview", cell: previewCell },
      { label: t("message.priority"), class: "num hide-medium", cell: ({ fields }) => fields.priority },
      { label: t("message.attempt"), class: "num hide-narrow", cell: ({ fields }) => fields.attempt },
      { label: t("message.created"), class: "hide-narrow", cell: whenCell },
    ],
    rows: items,
    caption: t("search.title"),
    testid: "messages-table",
    rowTestid: ({ fields }) => `message-row-${fields.message_id}`,
  });
}

/** @param {Message} message */
function idCell({ fields }) {
  const id = String(fields.message_id);
  return el("a", { class: "mono", href: `#/messages/${encodeURIComponent(id)}`, text: id });
}

/** @param {Message} message */
function previewCell(message) {
  const error = message.fields.error;
  const body = el("span", { class: "mono", text: preview(message, bytes) });
  return error ? [body, el("span", { class: "row-error", text: ` ${error}` })] : body;
}

/** @param {Message} message */
function whenCell({ fields }) {
  return age(fields.created_at);
}
