/** What stands around every page: navigation, the connection's state, language, theme, who is logged in. */

import { button, el, replace, setText } from "./dom.js";
import { time } from "./format.js";
import { LANGUAGES, language, setLanguage, t } from "./i18n.js";
import { icon } from "./icons.js";
import { mayAnywhere } from "../parts/rights.js";
import { mode, nextMode, setMode } from "./theme.js";

/** @type {{page: string, href: string, admin?: boolean, manage?: boolean}[]} */
const PLACES = [
  { page: "overview", href: "#/" },
  { page: "queues", href: "#/queues" },
  { page: "consumers", href: "#/consumers" },
  { page: "webhooks", href: "#/webhooks", manage: true },
  { page: "users", href: "#/users" },
  { page: "keys", href: "#/keys" },
  { page: "logs", href: "#/logs", admin: true },
];

/** Which place in the navigation a page belongs to. @type {Record<string, string>} */
const UNDER = { queue: "queues", message: "queues" };

/**
 * @param {{session: import("./session.js").Session, feed: import("./feed.js").Feed}} given
 * @returns {{node: HTMLElement, outlet: HTMLElement, setPage: (page: string | null) => void, stop: () => void}}
 */
export function createFrame({ session, feed }) {
  const outlet = el("div", { class: "main-inner", id: "page" });
  const banner = el("div", { class: "banner", testid: "state-reconnecting", hidden: true, role: "status" });
  const alarm = el("div", { class: "banner", testid: "state-refusing", hidden: true, role: "alert" });
  const main = el("main", { class: "main", id: "content", tabindex: "-1" }, banner, alarm, outlet);
  const linkState = el("span", {
    class: "link-state",
    testid: "connection-state",
    role: "status",
    "aria-live": "polite",
  });
  const links = PLACES.filter((place) => offered(place, session)).map(navLink);
  const side = sideBar(session, linkState, links);
  const skip = el("a", { class: "skip", href: "#content", text: t("app.skip") });
  skip.addEventListener("click", (event) => (event.preventDefault(), main.focus()));
  const show = () => showState(feed, linkState, banner);
  const stops = [feed.on("state", show), feed.on("tick", () => showRefusing(feed, alarm))];
  const timer = setInterval(() => feed.state === "reconnecting" && show(), 1_000);
  show();
  showRefusing(feed, alarm);
  return {
    node: el("div", null, skip, el("div", { class: "frame" }, side, main)),
    outlet,
    setPage: (page) => {
      side.dataset.open = "false";
      side.querySelector(".menu-button")?.setAttribute("aria-expanded", "false");
      for (const link of links) mark(link, page);
    },
    stop: () => (stops.forEach((stop) => stop()), clearInterval(timer)),
  };
}

/** @param {{admin?: boolean, manage?: boolean}} place @param {import("./session.js").Session} session */
function offered(place, session) {
  return (!place.admin || session.isAdmin) && (!place.manage || mayAnywhere(session, "manage"));
}

/** @param {{page: string, href: string}} place */
function navLink({ page, href }) {
  return el("a", { href, testid: `nav-${page}`, data: { page } }, icon(page), t(`nav.${page}`));
}

/** @param {HTMLElement} link @param {string | null} page */
function mark(link, page) {
  const here = page !== null && link.dataset.page === (UNDER[page] ?? page);
  if (here) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

/**
 * @param {import("./session.js").Session} session @param {HTMLElement} linkState @param {HTMLElement[]} links
 */
function sideBar(session, linkState, links) {
  const menu = button(t("nav.menu"), { icon: icon("menu"), iconOnly: true, kind: "quiet", testid: "nav-menu" });
  menu.classList.add("menu-button");
  menu.setAttribute("aria-expanded", "false");
  menu.setAttribute("aria-controls", "side-fold");
  const fold = el(
    "div",
    { class: "side-fold", id: "side-fold" },
    el("nav", { class: "nav", "aria-label": t("app.nav") }, links),
    sideFoot(session),
  );
  const side = el(
    "header",
    { class: "side", data: { open: "false" } },
    el("div", { class: "side-top" }, brand(), linkState, menu),
    fold,
  );
  menu.addEventListener("click", () => {
    const open = side.dataset.open !== "true";
    side.dataset.open = String(open);
    menu.setAttribute("aria-expanded", String(open));
  });
  return side;
}

function brand() {
  const mark = el("img", { src: "/dashboard/assets/icon.svg", alt: "", width: "24", height: "24" });
  return el("a", { class: "brand", href: "#/" }, mark, t("app.title"));
}

/** @param {import("./session.js").Session} session */
function sideFoot(session) {
  const username = session.user?.username ?? "";
  const role = t(`role.${session.user?.role === "admin" ? "admin" : "member"}`);
  const out = button(t("frame.logout"), {
    icon: icon("logout"),
    iconOnly: true,
    kind: "quiet",
    testid: "logout",
    onClick: () => void session.logout(),
  });
  const who = el(
    "div",
    { class: "who", testid: "account", title: t("frame.account", { username, role }) },
    el("strong", { text: username }),
    el("span", { text: role }),
  );
  return el(
    "div",
    { class: "side-foot" },
    el("div", { class: "row" }, languageSelect(), themeToggle()),
    el("div", { class: "row" }, who, out),
  );
}

/** Chooses the language; the page is built anew by whoever listens to `onLanguage`. */
export function languageSelect() {
  const options = Object.entries(LANGUAGES).map(([tag, name]) => el("option", { value: tag, lang: tag, text: name }));
  const select = el(
    "select",
    { class: "input", testid: "language-select", "aria-label": t("frame.language") },
    options,
  );
  select.value = language();
  select.addEventListener("change", () => setLanguage(select.value));
  return select;
}

/** Goes round auto, light, dark. */
export function themeToggle() {
  const toggle = button("", { iconOnly: true, kind: "quiet", testid: "theme-toggle" });
  const show = () => {
    const names = { auto: "auto", light: "sun", dark: "moon" };
    const label = t("frame.theme", { mode: t(`theme.${mode()}`), next: t(`theme.${nextMode()}`) });
    replace(toggle, icon(names[mode()]));
    toggle.setAttribute("aria-label", label);
    toggle.title = label;
    toggle.dataset.mode = mode();
  };
  toggle.addEventListener("click", () => (setMode(nextMode()), show()));
  show();
  return toggle;
}

/** @param {import("./feed.js").Feed} feed @param {HTMLElement} linkState @param {HTMLElement} banner */
function showState(feed, linkState, banner) {
  linkState.dataset.state = feed.state;
  setText(linkState, t(`connection.${feed.state}`));
  banner.hidden = feed.state !== "reconnecting" && feed.state !== "refused";
  if (!banner.hidden) fillBanner(feed, banner);
}

/** That publishes are refused concerns whoever looks, whatever page it is. */
function showRefusing(/** @type {import("./feed.js").Feed} */ feed, /** @type {HTMLElement} */ alarm) {
  const why = feed.refusing ?? "";
  if (alarm.dataset.why === why) return;
  alarm.dataset.why = why;
  alarm.hidden = why === "";
  if (why === "") return replace(alarm);
  const what = el("strong", { text: t(`refusing.${why}`) });
  replace(alarm, icon("warning"), what, el("span", { class: "soft", text: t(`refusing.${why}Hint`) }));
}

/** The seconds change outside the live region's first sentence, which a screen reader hears once. */
function fillBanner(/** @type {import("./feed.js").Feed} */ feed, /** @type {HTMLElement} */ banner) {
  const refused = feed.state === "refused";
  const last = feed.history.at(-1);
  const lost = last ? t("connection.lost", { time: time(last.at) }) : t("connection.lostEarly");
  const count = Math.ceil((feed.retryAt - Date.now()) / 1_000);
  const next = count > 0 ? t("connection.retryIn", { count }) : t("connection.trying");
  if (banner.dataset.state !== feed.state || banner.dataset.lost !== lost) {
    Object.assign(banner.dataset, { state: feed.state, lost });
    banner.classList.toggle("banner-refused", refused);
    replace(
      banner,
      icon("warning"),
      el("strong", { text: refused ? t("connection.refusedHint") : lost }),
      refused ? null : el("span", { class: "soft", "aria-hidden": "true", data: { part: "next" } }),
      refused
        ? null
        : button(t("connection.now"), { small: true, testid: "retry-now", onClick: () => feed.retryNow() }),
    );
  }
  const place = banner.querySelector('[data-part="next"]');
  if (place) setText(place, next);
}
