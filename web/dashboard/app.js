/** Boot: who is logged in, the frame around the pages, and which page the address asks for. */

import { createApi, Problem } from "./lib/api.js";
import { heardTime } from "./lib/clock.js";
import { el, replace } from "./lib/dom.js";
import { Feed, feedUrl } from "./lib/feed.js";
import { createFrame } from "./lib/frame.js";
import { language, onLanguage, t } from "./lib/i18n.js";
import { PAGES, routeOf } from "./lib/router.js";
import { Session } from "./lib/session.js";
import { empty, failed, loading } from "./lib/views.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
const session = new Session();
const api = createApi(session);
const feed = new Feed(session, feedUrl());

/** @type {ReturnType<typeof createFrame> | null} */
let frame = null;
/** Ends the page that is shown. @type {() => void} */
let leave = () => {};
/** Counts the pages shown: one that is overtaken while it loads is not shown. */
let turn = 0;
/** True until the frame has shown its first page, whose title does not take the focus. */
let fresh = true;

/** Shows a page of the frame: the one the address names. */
async function showPage() {
  if (frame === null) return;
  const route = routeOf(location.hash);
  const first = fresh;
  fresh = false;
  const mine = enter(route?.page ?? null);
  const root = el("div", { class: "page", testid: `page-${route?.page ?? "unknown"}` }, loading({ lines: 6 }));
  replace(frame.outlet, root);
  if (route === null) return replace(root, empty({ title: t("state.notFound"), hint: t("state.notFoundHint") }));
  try {
    const page = await pageModule(route.page);
    if (mine !== turn) return;
    replace(root);
    const tearDown = await page.show(root, { ...route, api, feed, t, session });
    if (mine !== turn) return tearDown?.();
    leave = tearDown ?? leave;
    if (!first) focusTitle(root);
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    if (mine === turn) replace(root, failed(error, showPage));
  }
}

/** How often each page could not be fetched. @type {Map<string, number>} */
const missed = new Map();

/** Of a page by its name: a browser does not fetch an address again that could not be. @param {string} page */
function addressOf(page) {
  const times = missed.get(page);
  return `./pages/${page}.js${times ? `?turn=${times}` : ""}`;
}

/** A page's module; with the broker away a page that was never opened cannot be had. @param {string} page */
async function pageModule(page) {
  try {
    return await import(addressOf(page));
  } catch (error) {
    console.warn(error);
    missed.set(page, (missed.get(page) ?? 0) + 1);
    throw new Problem({ code: "unreachable" });
  }
}

/** Ends the page before and marks the new one. @param {string | null} page @returns {number} the new page's turn */
function enter(page) {
  leave();
  leave = () => {};
  turn += 1;
  frame?.setPage(page);
  document.title = page === null ? t("app.title") : `${titleOf(page)} · ${t("app.title")}`;
  return turn;
}

/** @param {string} page */
function titleOf(page) {
  return t(`nav.${page === "queue" ? "queues" : page}`);
}

/** A screen reader goes on at the new page's title. @param {HTMLElement} root */
function focusTitle(root) {
  const title = root.querySelector("h1");
  scrollTo(0, 0);
  if (!title || root.contains(document.activeElement)) return;
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
}

/** Shows the login form. @param {"expired" | "logout" | null} reason why one is not logged in any more */
async function showLogin(reason) {
  closeFrame();
  replace(app);
  const { show } = await import("./pages/login.js");
  if (session.user) return;
  document.title = `${t("login.title")} · ${t("app.title")}`;
  leave = show(app, { session, t, reason, entered: showFrame });
}

/** Shows the frame and its page, for whoever is logged in. */
function showFrame() {
  closeFrame();
  frame = createFrame({ session, feed });
  replace(app, frame.node);
  feed.start();
  void showPage().then(fetchPages);
}

/** Has all pages at hand before they are asked for: they open at once, and when the broker is away too. */
function fetchPages() {
  const soon = globalThis.requestIdleCallback ?? setTimeout;
  soon(() => void Promise.allSettled(PAGES.map((page) => import(`./pages/${page}.js`))));
}

function closeFrame() {
  leave();
  leave = () => {};
  turn += 1;
  fresh = true;
  frame?.stop();
  frame = null;
}

/** A tab that was reloaded has its tokens still: asks who that is. */
async function resume() {
  document.documentElement.lang = language();
  if (!session.active) return showLogin(null);
  replace(app, loading({ lines: 6 }));
  try {
    await session.identify();
    showFrame();
  } catch (error) {
    if (session.active) replace(app, failed(error, resume));
  }
}

/** Rights may have changed, here or while the broker was away: all is drawn anew then, with what one may see now. */
async function lookWhoIAm() {
  const before = JSON.stringify(session.user);
  try {
    await session.identify();
  } catch {
    return; // the session says by itself when it has ended, and the feed that the broker is away
  }
  if (frame !== null && JSON.stringify(session.user) !== before) showFrame();
}

feed.on("welcome", () => void lookWhoIAm());
feed.on("tick", (frame) => heardTime(frame.point.at));
session.addEventListener("ended", (event) => void showLogin(/** @type {CustomEvent} */ (event).detail));
addEventListener("hashchange", () => void showPage());
onLanguage((tag) => {
  document.documentElement.lang = tag;
  if (session.user) showFrame();
  else void showLogin(null);
  // The menu that was used is gone: the focus goes on in its successor.
  /** @type {HTMLElement | null} */ (document.querySelector('[data-testid="language-select"]'))?.focus();
});
void resume();
