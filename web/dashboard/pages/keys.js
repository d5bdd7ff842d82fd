/** API keys: what programs log in with. A key is shown once, when it is made. */

import { path } from "../lib/api.js";
import { now } from "../lib/clock.js";
import { button, el, field, replace } from "../lib/dom.js";
import { dateTime } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { empty, loaded } from "../lib/views.js";
import { copyButton } from "../parts/copy.js";
import { ask, closeDialogs, tell } from "../parts/dialog.js";
import { grantsEditor, grantsText } from "../parts/grants-editor.js";
import { pager, plainTable } from "../parts/plain-table.js";
import { ACTIONS, mayAnywhere } from "../parts/rights.js";

/** @typedef {{id: string, name: string, username: string, grants: import("../parts/grants-editor.js").Grant[] | null,
 *   created_at: string, expires_at: string | null}} Key */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { api, session }) {
  const place = el("div", {});
  const pages = pager(() => void list.reload(), "key");
  const list = loaded(place, load, draw, { lines: 4 });
  // A key may do no more than its user: of who may do nothing it would be of no use.
  const useful = ACTIONS.some((action) => mayAnywhere(session, action));
  const create = (/** @type {string} */ testid) =>
    useful
      ? button(t("keys.create"), {
          kind: "primary",
          icon: icon("plus"),
          testid,
          onClick: () => askCreate(api, list.reload),
        })
      : undefined;

  /** @param {AbortSignal} signal */
  function load(signal) {
    return api.get("/api-keys", { query: { limit: 100, cursor: pages.at() }, signal });
  }

  /** @param {{items: Key[], next_cursor: string | null}} page @returns {HTMLElement} */
  function draw(page) {
    pages.found(page.next_cursor);
    if (page.items.length > 0) return table(api, session, page.items, list.reload);
    const hint = t(useful ? "keys.empty_hint" : "keys.empty_none");
    return empty({ title: t("keys.empty"), hint, action: create("key-create-first") });
  }

  replace(
    root,
    el(
      "header",
      { class: "page-head" },
      el(
        "div",
        { class: "page-title" },
        el("h1", { tabindex: -1, text: t("keys.title") }),
        el("p", { class: "page-lede", text: t("keys.lede") }),
      ),
      el("div", { class: "page-actions" }, create("key-create")),
    ),
    el("section", { class: "panel" }, place, pages.node),
  );
  return () => {
    list.stop();
    closeDialogs();
  };
}

/** @param {any} api @param {any} session @param {Key[]} keys @param {() => void} reload */
function table(api, session, keys, reload) {
  const columns = [
    { label: t("keys.name"), class: "wrap", cell: (/** @type {Key} */ key) => key.name },
    { label: t("keys.user"), class: "wrap hide-narrow", cell: (/** @type {Key} */ key) => key.username },
    {
      label: t("grants.title"),
      class: "wrap hide-narrow",
      cell: (/** @type {Key} */ key) =>
        key.grants === null ? el("span", { class: "soft", text: t("keys.as_user") }) : grantsText(key.grants),
    },
    { label: t("keys.created_at"), class: "hide-medium", cell: (/** @type {Key} */ key) => dateTime(key.created_at) },
    { label: t("keys.expires_at"), cell: expires },
    {
      label: t("table.actions"),
      hiddenLabel: true,
      class: "col-buttons",
      cell: (/** @type {Key} */ key) => remove(key),
    },
  ];
  const remove = (/** @type {Key} */ key) =>
    button(t("keys.delete", { name: key.name }), {
      kind: "quiet",
      small: true,
      iconOnly: true,
      icon: icon("trash"),
      testid: `key-delete-${key.id}`,
      onClick: () => askDelete(api, key, reload),
    });
  const shown = session.isAdmin ? columns : columns.filter((column) => column.label !== t("keys.user"));
  return plainTable({
    columns: shown,
    rows: keys,
    caption: t("keys.title"),
    testid: "keys-table",
    rowTestid: (key) => `key-row-${key.id}`,
  });
}

/** @param {Key} key */
function expires(key) {
  if (key.expires_at === null) return el("span", { class: "soft", text: t("keys.never") });
  const over = Date.parse(key.expires_at) <= now();
  return [dateTime(key.expires_at), over ? el("span", { class: "badge badge-red", text: t("keys.expired") }) : null];
}

/** @param {any} api @param {() => void} reload */
function askCreate(api, reload) {
  const name = el("input", { type: "text", testid: "key-field-name", maxlength: 128, autocomplete: "off" });
  const until = el("input", { type: "datetime-local", testid: "key-field-expires" });
  const limited = el("input", {
    type: "checkbox",
    checked: true,
    testid: "key-field-limited",
    on: { change: onLimited },
  });
  const editor = grantsEditor([{ queues: "", actions: ["consume"] }]);
  function onLimited() {
    editor.node.hidden = !limited.checked;
  }
  /** @type {any} what was made, until it is shown */
  let made = null;
  const dialog = ask({
    title: t("keys.create"),
    testid: "key-form",
    content: [
      field(t("keys.name"), name, { hint: t("keys.name_hint") }),
      field(t("keys.limited"), limited, { hint: t("keys.limited_hint") }),
      editor.node,
      field(t("keys.expires_at"), until, { hint: t("keys.expires_hint") }),
    ],
    controls: { "/name": name, "/expires_at": until },
    confirm: t("keys.create"),
    run: async () => {
      const body = {
        name: name.value.trim(),
        ...(limited.checked && { grants: editor.read() }),
        ...(until.value !== "" && { expires_at: new Date(until.value).toISOString() }),
      };
      const answer = await api.post("/api-keys", body);
      reload();
      if (dialog.open) made = answer;
      else showOnce(answer);
    },
  });
  // After this question has given the focus back, so that closing the next one gives it back there too.
  dialog.addEventListener("close", () => made && showOnce(made));
}

/** The key itself, the only time it is to be seen. @param {{name: string, key: string}} made */
function showOnce({ name, key }) {
  tell({
    title: t("keys.created", { name }),
    testid: "key-created",
    content: [
      el("p", { class: "notice notice-warning", text: t("keys.once") }),
      el(
        "div",
        { class: "secret" },
        el("code", { class: "mono", testid: "key-secret", text: key }),
        copyButton(() => key, "key-copy"),
      ),
    ],
    done: t("keys.done"),
  });
}

/** @param {any} api @param {Key} key @param {() => void} reload */
function askDelete(api, key, reload) {
  ask({
    title: t("keys.delete", { name: key.name }),
    kind: "danger",
    content: [el("p", { text: t("keys.delete_note", { user: key.username }) })],
    confirm: t("keys.delete_confirm"),
    run: async () => {
      await api.delete(path`/api-keys/${key.id}`);
      toast(t("keys.deleted", { name: key.name }));
      reload();
    },
  });
}
