/** The login form. Nothing else is shown to somebody the broker does not know. */

import { button, el, field, replace } from "../lib/dom.js";
import { languageSelect, themeToggle } from "../lib/frame.js";
import { icon } from "../lib/icons.js";
import { explain } from "../lib/views.js";

/**
 * @param {HTMLElement} root
 * @param {{session: import("../lib/session.js").Session, t: import("../lib/i18n.js").Translate,
 *   reason: "expired" | "logout" | null, entered: () => void}} given
 * @returns {() => void}
 */
export function show(root, { session, t, reason, entered }) {
  const username = input({
    name: "username",
    autocomplete: "username",
    testid: "login-username",
    autocapitalize: "none",
  });
  const password = input({
    name: "password",
    autocomplete: "current-password",
    testid: "login-password",
    type: "password",
  });
  const submit = button(t("login.submit"), { kind: "primary", type: "submit", testid: "login-submit" });
  const error = el("p", { class: "field-error", testid: "login-error", role: "alert", hidden: true });
  const secret = field(t("login.password"), password);
  secret.classList.add("password");
  secret.append(reveal(password, t));
  const form = el(
    "form",
    { class: "form", testid: "login-form", novalidate: true },
    error,
    field(t("login.username"), username),
    secret,
    submit,
  );
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let countdown;

  function say(/** @type {string} */ text) {
    error.textContent = text;
    error.hidden = text === "";
  }

  /** Counts down to the moment at which the broker takes another try. */
  function wait(/** @type {number} */ ms) {
    const until = Date.now() + ms;
    submit.disabled = true;
    clearInterval(countdown);
    const tell = () => {
      const count = Math.ceil((until - Date.now()) / 1_000);
      submit.disabled = count > 0;
      if (count > 0) return say(t("login.wait", { count }));
      clearInterval(countdown);
      say("");
    };
    tell();
    countdown = setInterval(tell, 1_000);
  }

  function refuse(/** @type {any} */ problem) {
    submit.disabled = false;
    if (problem.code === "rate_limited") return wait(problem.retryAfterMs ?? 5_000);
    const { title, detail } = explain(problem);
    say(problem.code === "unauthenticated" ? t("login.wrong") : [title, detail].filter(Boolean).join(": "));
    password.select();
    password.focus();
  }

  async function enter(/** @type {Event} */ event) {
    event.preventDefault();
    if (submit.disabled) return;
    if (!username.value || !password.value) {
      say(t("login.missing"));
      (username.value ? password : username).focus();
      return;
    }
    submit.disabled = true;
    submit.lastElementChild?.replaceChildren(t("login.busy"));
    try {
      await session.login(username.value, password.value);
      entered();
    } catch (problem) {
      refuse(problem);
    } finally {
      submit.lastElementChild?.replaceChildren(t("login.submit"));
    }
  }

  form.addEventListener("submit", enter);
  if (reason !== null) say(t(reason === "logout" ? "login.loggedOut" : "login.expired"));
  error.classList.toggle("login-note", reason !== null);
  replace(root, page(form, t));
  username.focus();
  return () => clearInterval(countdown);
}

/** @param {Record<string, any>} props @returns {HTMLInputElement} */
function input(props) {
  return /** @type {any} */ (
    el("input", { type: "text", required: true, spellcheck: "false", maxlength: 1024, ...props })
  );
}

/** @param {HTMLInputElement} password @param {import("../lib/i18n.js").Translate} t */
function reveal(password, t) {
  const eye = button(t("login.show"), {
    icon: icon("eye"),
    iconOnly: true,
    kind: "quiet",
    small: true,
    testid: "login-reveal",
  });
  eye.addEventListener("click", () => {
    const shown = password.type === "password";
    password.type = shown ? "text" : "password";
    const label = t(shown ? "login.hide" : "login.show");
    eye.setAttribute("aria-label", label);
    eye.title = label;
  });
  return eye;
}

/** @param {HTMLElement} form @param {import("../lib/i18n.js").Translate} t */
function page(form, t) {
  const mark = el("img", { src: "/dashboard/assets/icon.svg", alt: "", width: "32", height: "32" });
  const head = el(
    "div",
    { class: "login-brand" },
    mark,
    el("div", null, el("h1", { text: t("app.title") }), el("p", { text: t("login.lede") })),
  );
  return el(
    "div",
    { class: "login" },
    el("header", { class: "login-tools" }, languageSelect(), themeToggle()),
    el("main", { class: "login-box" }, head, form),
  );
}
