/** Who may do what: one's own account, and for admins all users. */

import { path } from "../lib/api.js";
import { button, el, field, replace } from "../lib/dom.js";
import { dateTime } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { toast } from "../lib/toast.js";
import { empty, loaded } from "../lib/views.js";
import { ask, closeDialogs } from "../parts/dialog.js";
import { grantsEditor, grantsText } from "../parts/grants-editor.js";
import { pager, plainTable } from "../parts/plain-table.js";
import { fieldProblem } from "../parts/queue-form.js";

/** @typedef {import("../parts/grants-editor.js").Grant} Grant */
/** @typedef {{username: string, role: string, grants: Grant[], disabled: boolean, created_at: string}} User */
/** @typedef {{api: import("../lib/api.js").Api, feed: any, session: any, reload: () => void}} Acting */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { api, feed, session }) {
  const create = button(t("users.create"), {
    kind: "primary",
    icon: icon("plus"),
    testid: "user-create",
    onClick: () => askCreate(acting),
  });
  const place = el("div", { class: "panel-flush" });
  const pages = pager(() => acting.reload(), "user");
  const list = session.isAdmin ? loaded(place, load, draw, { lines: 4 }) : null;
  /** @type {Acting} */
  const acting = { api, feed, session, reload: () => void list?.reload() };

  /** @param {AbortSignal} signal */
  function load(signal) {
    return api.get("/users", { query: { limit: 100, cursor: pages.at() }, signal });
  }

  /** @param {{items: User[], next_cursor: string | null}} page */
  function draw(page) {
    pages.found(page.next_cursor);
    return page.items.length > 0 ? table(acting, page.items) : empty({ title: t("users.empty") });
  }

  const everybody = el(
    "section",
    { class: "panel" },
    el("div", { class: "panel-head" }, el("h2", { text: t("users.all") })),
    place,
    pages.node,
  );
  replace(
    root,
    el(
      "header",
      { class: "page-head" },
      el("h1", { tabindex: -1, text: t("users.title") }),
      el("div", { class: "page-actions" }, list && create),
    ),
    el("div", { class: "stack" }, list && everybody, account(acting)),
  );
  return () => {
    list?.stop();
    closeDialogs();
  };
}

/** One's own account. @param {Acting} acting @returns {HTMLElement} */
function account(acting) {
  const { username, role, grants } = acting.session.user;
  const change = button(t("users.own_password"), { testid: "password-change", onClick: () => askOwnPassword(acting) });
  return el(
    "section",
    { class: "panel", testid: "own-account" },
    el(
      "div",
      { class: "panel-head" },
      el("h2", { text: t("users.account") }),
      el("div", { class: "panel-tools" }, change),
    ),
    el(
      "div",
      { class: "panel-body" },
      el(
        "dl",
        { class: "facts" },
        el("dt", { text: t("users.username") }),
        el("dd", { text: username }),
        el("dt", { text: t("users.role") }),
        el("dd", { text: t(`role.${role}`) }),
        el("dt", { text: t("grants.title") }),
        el("dd", {}, role === "admin" ? t("users.everything") : grantsText(grants)),
      ),
    ),
  );
}

/** @param {Acting} acting @param {User[]} users */
function table(acting, users) {
  return plainTable({
    columns: [
      {
        label: t("users.username"),
        class: "wrap",
        cell: (user) => [
          user.username,
          user.disabled
            ? el("span", { class: "badge badge-red", testid: "user-disabled", text: t("users.is_disabled") })
            : null,
        ],
      },
      {
        label: t("users.role"),
        cell: (user) =>
          el("span", { class: user.role === "admin" ? "badge badge-purple" : "badge", text: t(`role.${user.role}`) }),
      },
      {
        label: t("grants.title"),
        class: "wrap hide-narrow",
        cell: (user) =>
          user.role === "admin" ? el("span", { class: "soft", text: t("users.everything") }) : grantsText(user.grants),
      },
      { label: t("users.created_at"), class: "hide-medium", cell: (user) => dateTime(user.created_at) },
      { label: t("table.actions"), hiddenLabel: true, class: "col-buttons", cell: (user) => rowButtons(acting, user) },
    ],
    rows: users,
    caption: t("users.all"),
    testid: "users-table",
    rowTestid: (user) => `user-row-${user.username}`,
  });
}

/** @param {Acting} acting @param {User} user */
function rowButtons(acting, user) {
  const look = (
    /** @type {string} */ id,
    /** @type {string} */ sign,
    /** @type {string} */ label,
    /** @type {() => void} */ onClick,
  ) =>
    button(label, {
      kind: "quiet",
      small: true,
      iconOnly: true,
      icon: icon(sign),
      testid: `user-${id}-${user.username}`,
      onClick,
    });
  const switching = user.disabled
    ? look("enable", "play", t("users.enable", { name: user.username }), () => askSwitch(acting, user))
    : look("disable", "pause", t("users.disable", { name: user.username }), () => askSwitch(acting, user));
  return el(
    "div",
    { class: "row row-end" },
    look("edit", "edit", t("users.edit", { name: user.username }), () => askEdit(acting, user)),
    switching,
    look("delete", "trash", t("users.delete", { name: user.username }), () => askDelete(acting, user)),
  );
}

/** @param {string} testid @param {string} autocomplete */
function secret(testid, autocomplete) {
  return el("input", { type: "password", testid, autocomplete, maxlength: 1024 });
}

/** Role and grants, where grants say nothing for an admin. @param {{role: string, grants: Grant[]}} user */
function rights(user) {
  const options = ["member", "admin"].map((value) => el("option", { value, text: t(`role.${value}`) }));
  const role = el("select", { value: user.role, testid: "user-field-role", on: { change: onRole } }, options);
  const editor = grantsEditor(user.grants);
  function onRole() {
    editor.node.hidden = role.value === "admin";
  }
  onRole();
  const nodes = [field(t("users.role"), role, { hint: t("users.role_hint") }), editor.node];
  return { nodes, role, read: () => ({ role: role.value, grants: editor.read() }) };
}

/** @param {Acting} acting */
function askCreate(acting) {
  const username = el("input", {
    type: "text",
    testid: "user-field-username",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 128,
  });
  const password = secret("user-field-password", "new-password");
  const granted = rights({ role: "member", grants: [] });
  ask({
    title: t("users.create"),
    testid: "user-form",
    content: [
      field(t("users.username"), username, { hint: t("users.username_hint") }),
      field(t("users.password"), password, { hint: t("users.password_hint") }),
      granted.nodes,
    ],
    controls: { "/username": username, "/password": password, "/role": granted.role },
    confirm: t("users.create"),
    run: async () => {
      await acting.api.post("/users", { username: username.value.trim(), password: password.value, ...granted.read() });
      toast(t("users.created", { name: username.value.trim() }));
      acting.reload();
    },
  });
}

/** @param {Acting} acting @param {User} user */
function askEdit(acting, user) {
  const password = secret("user-field-password", "new-password");
  const granted = rights(user);
  ask({
    title: t("users.edit", { name: user.username }),
    testid: "user-form",
    content: [granted.nodes, field(t("users.new_password"), password, { hint: t("users.new_password_hint") })],
    controls: { "/password": password, "/role": granted.role },
    confirm: t("action.save"),
    run: async () => {
      const change = { ...granted.read(), ...(password.value !== "" && { password: password.value }) };
      await acting.api.patch(path`/users/${user.username}`, change);
      toast(t("users.saved", { name: user.username }));
      acting.reload();
    },
  });
}

/** @param {Acting} acting @param {User} user */
function askSwitch(acting, user) {
  const what = user.disabled ? "enable" : "disable";
  ask({
    title: t(`users.${what}`, { name: user.username }),
    kind: user.disabled ? "primary" : "danger",
    content: [el("p", { text: t(`users.${what}_note`) })],
    confirm: t(`users.${what}_confirm`),
    run: async () => {
      await acting.api.patch(path`/users/${user.username}`, { disabled: !user.disabled });
      toast(t("users.saved", { name: user.username }));
      acting.reload();
    },
  });
}

/** @param {Acting} acting @param {User} user */
function askDelete(acting, user) {
  ask({
    title: t("users.delete", { name: user.username }),
    kind: "danger",
    typed: user.username,
    content: [el("p", { text: t("users.delete_note") })],
    confirm: t("users.delete_confirm"),
    run: async () => {
      await acting.api.delete(path`/users/${user.username}`);
      toast(t("users.deleted", { name: user.username }));
      acting.reload();
    },
  });
}

/** Another password ends this session too, so the new one begins at once. @param {Acting} acting */
function askOwnPassword(acting) {
  const current = secret("password-current", "current-password");
  const next = secret("password-new", "new-password");
  const again = secret("password-again", "new-password");
  ask({
    title: t("users.own_password"),
    testid: "password-form",
    content: [
      field(t("users.current_password"), current),
      field(t("users.new_password"), next, { hint: t("users.password_hint") }),
      field(t("users.password_again"), again),
      el("p", { class: "soft", text: t("users.own_password_note") }),
    ],
    controls: { "/current_password": current, "/new_password": next, "/again": again },
    confirm: t("users.own_password_confirm"),
    run: async () => {
      if (next.value !== again.value) throw fieldProblem("again", t("users.not_the_same"));
      await renewed(acting, current.value, next.value);
      toast(t("users.password_changed"));
    },
  });
}

/**
 * The old session ends in the broker's answer: a feed that heard of it before the new one has begun would log out.
 * @param {Acting} acting @param {string} current @param {string} next
 */
async function renewed({ api, feed, session }, current, next) {
  feed.stop();
  try {
    await api.post("/users/me/password", { current_password: current, new_password: next });
    await session.login(session.user.username, next);
  } finally {
    if (session.active) feed.start();
  }
}
