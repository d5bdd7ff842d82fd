/** The broker's own log files: the end of one, searched and followed. For admins. */

import { path } from "../lib/api.js";
import { button, el, replace, setText } from "../lib/dom.js";
import { bytes, dateTime, number } from "../lib/format.js";
import { icon } from "../lib/icons.js";
import { t } from "../lib/i18n.js";
import { empty, failed, loaded, loading } from "../lib/views.js";
import { LEVELS, logLine, readLine } from "../parts/log-line.js";

const FOLLOW_MS = 3_000;
const TAILS = [100, 500, 2_000, 10_000];
/** More lines than this are read and searched, but not all drawn. */
const DRAWN = 2_000;

/** @typedef {{name: string, size: number, modified_at: string}} LogFile */

/** @param {HTMLElement} root @param {any} page @returns {Promise<() => void>} */
export async function show(root, { api, session }) {
  const title = el("header", { class: "page-head" }, el("h1", { tabindex: -1, text: t("logs.title") }));
  const place = el("div", {});
  replace(root, title, place);
  if (!session.isAdmin) {
    replace(place, failed({ code: "forbidden", detail: t("state.forbidden") }));
    return () => {};
  }
  /** @type {(() => void) | null} */
  let stopTail = null;
  const list = loaded(place, (signal) => api.get("/logs", { query: { limit: 500 }, signal }), draw);

  /** @param {{items: LogFile[]}} answer */
  function draw({ items }) {
    stopTail?.();
    if (items.length === 0) return empty({ title: t("logs.empty"), hint: t("logs.empty_hint") });
    const tail = logTail(api);
    stopTail = tail.stop;
    const buttons = items.map((file) => fileButton(file, () => choose(file)));
    /** @param {LogFile} file */
    function choose(file) {
      buttons.forEach((one, at) => one.setAttribute("aria-current", String(items[at] === file)));
      tail.open(file.name);
    }
    choose(items.find((file) => file.name.endsWith(".log")) ?? items[0]);
    return el(
      "div",
      { class: "log-columns" },
      el("nav", { class: "panel log-files", "aria-label": t("logs.files") }, buttons),
      tail.node,
    );
  }

  return () => {
    list.stop();
    stopTail?.();
  };
}

/** @param {LogFile} file @param {() => void} onClick */
function fileButton(file, onClick) {
  return el(
    "button",
    { type: "button", class: "log-file", testid: `log-file-${file.name}`, on: { click: onClick } },
    el("span", { class: "mono", text: file.name }),
    el("span", { class: "faint", text: `${bytes(file.size)} · ${dateTime(file.modified_at)}` }),
  );
}

/** @param {import("../lib/api.js").Api} api */
function logTail(api) {
  const lines = el("ol", { class: "log-lines mono", testid: "log-lines", tabindex: 0, "aria-label": t("logs.lines") });
  const place = el("div", { class: "panel-flush" });
  const found = el("span", { class: "soft", testid: "log-count", role: "status" });
  const filter = el("input", {
    class: "input",
    type: "search",
    testid: "log-filter",
    placeholder: t("logs.filter"),
    "aria-label": t("logs.filter"),
    autocomplete: "off",
    spellcheck: "false",
    on: { input: draw },
  });
  const level = el(
    "select",
    { class: "input", testid: "log-level", "aria-label": t("logs.level"), on: { change: draw } },
    el("option", { value: "", text: t("logs.any_level") }),
    LEVELS.map((value) => el("option", { value, text: value })),
  );
  const tail = el(
    "select",
    { class: "input", testid: "log-tail", "aria-label": t("logs.tail"), on: { change: () => void load(false) } },
    TAILS.map((value) => el("option", { value: String(value), text: t("logs.last", { n: number(value) }) })),
  );
  const follow = button(t("logs.follow"), { icon: icon("play"), testid: "log-follow", onClick: onFollow });
  const again = button(t("action.refresh"), {
    kind: "quiet",
    icon: icon("refresh"),
    iconOnly: true,
    testid: "log-refresh",
    onClick: () => void load(true),
  });
  let name = "";
  let aborter = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let following = false;
  /** @type {import("../parts/log-line.js").LogLine[]} */
  let read = [];

  /** @param {boolean} quietly  what is there stays until the new lines have come */
  async function load(quietly) {
    aborter.abort();
    aborter = new AbortController();
    const { signal } = aborter;
    clearTimeout(timer);
    if (!quietly) replace(place, loading({ lines: 8 }));
    try {
      const text = await api.text(path`/logs/${name}`, { query: { tail: tail.value }, signal });
      read = text.split("\n").filter(Boolean).map(readLine);
      draw();
    } catch (error) {
      if (!signal.aborted)
        replace(
          place,
          failed(error, () => void load(false)),
        );
    }
    if (following && !signal.aborted) timer = setTimeout(() => void load(true), FOLLOW_MS);
  }

  function draw() {
    const wanted = filter.value.trim().toLowerCase();
    const least = LEVELS.indexOf(level.value);
    const shown = read.filter(
      (line) => LEVELS.indexOf(line.level) >= least && (wanted === "" || line.text.toLowerCase().includes(wanted)),
    );
    setText(found, t("logs.count", { count: read.length, shown: number(shown.length), all: number(read.length) }));
    if (shown.length === 0)
      return replace(place, empty({ title: t(read.length === 0 ? "logs.no_lines" : "logs.none_match") }));
    const atEnd = !lines.isConnected || lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 40;
    replace(lines, shown.slice(-DRAWN).map(logLine));
    if (!lines.isConnected) replace(place, lines);
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  function onFollow() {
    following = !following;
    follow.setAttribute("aria-pressed", String(following));
    replace(
      follow,
      icon(following ? "pause" : "play"),
      el("span", { text: t(following ? "logs.unfollow" : "logs.follow") }),
    );
    if (following) void load(true);
    else clearTimeout(timer);
  }

  const node = el(
    "section",
    { class: "panel" },
    el(
      "div",
      { class: "panel-body log-tools" },
      el("div", { class: "toolbar" }, filter, level, tail, follow, again, found),
    ),
    place,
  );
  return {
    node,
    /** @param {string} file */
    open(file) {
      name = file;
      void load(false);
    },
    stop() {
      clearTimeout(timer);
      aborter.abort();
    },
  };
}
