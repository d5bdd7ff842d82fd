/**
 * Nodes, built without ever parsing HTML. Text becomes text nodes, styles go through the CSSOM, so that
 * nothing from a message can become markup and the page lives under `style-src 'self'`.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Attributes that could load, run or style something: they are never set from here. */
const REFUSED = /^(on|style$|srcdoc$|http-equiv$)/i;

/** What may follow the scheme check: own pages and images made on the spot. */
const SAFE_URL = /^(#|\/(?!\/)|blob:|data:image\/(png|jpeg|gif|webp|avif|bmp);)/i;

/** Characters that turn the direction of what follows: `evil` behind one reads `live`. */
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

/** Attributes that people read. */
const SPOKEN = new Set(["title", "aria-label", "alt", "placeholder"]);

/**
 * @typedef {Node | string | number | null | undefined | false | Child[]} Child
 * @typedef {object} Props
 * @property {string} [class]                       class names, separated by spaces
 * @property {string} [testid]                      the element's `data-testid`
 * @property {string | number} [text]               its text, in place of children
 * @property {Record<string, (event: any) => void>} [on]  listeners by event name
 * @property {Record<string, string>} [style]       set through the CSSOM; `--names` are allowed
 * @property {Record<string, string>} [data]        `data-*` by camelCase name
 * Any other name is an attribute; `true` sets it empty, `false`, `null` and `undefined` leave it out.
 * `value`, `checked`, `disabled`, `selected`, `hidden`, `open` and `indeterminate` are set as properties.
 */

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "indeterminate"]);

/**
 * A new HTML element.
 * @param {string} tag
 * @param {(Props & Record<string, any>) | null} [props]
 * @param {...Child} children
 * @returns {HTMLElement & Record<string, any>}
 */
export function el(tag, props, ...children) {
  const node = document.createElement(tag);
  // A <select> takes its value only once it has its options.
  append(node, children);
  dress(node, props ?? {});
  return node;
}

/**
 * A new SVG element; attributes only, plus `class`, `testid` and `text`.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  append(node, children);
  dress(node, props ?? {});
  return node;
}

/** @param {Element} node @param {Record<string, any>} props */
function dress(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "class") node.setAttribute("class", value);
    else if (name === "testid") node.setAttribute("data-testid", value);
    else if (name === "text") node.textContent = visible(value);
    else if (name === "on") listen(node, value);
    else if (name === "style") setStyle(/** @type {any} */ (node), value);
    else if (name === "data") Object.assign(/** @type {any} */ (node).dataset, value);
    else if (PROPERTIES.has(name) && name in node) /** @type {any} */ (node)[name] = value;
    else setAttribute(node, name, value);
  }
}

/** @param {Element} node @param {Record<string, (event: any) => void>} listeners */
function listen(node, listeners) {
  for (const [event, listener] of Object.entries(listeners)) node.addEventListener(event, listener);
}

/**
 * Sets an attribute that cannot run anything; a `href` or `src` must be of this page or an image made here.
 * @param {Element} node @param {string} name @param {string | number | boolean} value
 */
export function setAttribute(node, name, value) {
  if (REFUSED.test(name)) throw new Error(`dom: the attribute ${name} is not set from here`);
  if ((name === "href" || name === "src") && !SAFE_URL.test(String(value))) throw new Error(`dom: not a safe ${name}`);
  if (value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : SPOKEN.has(name) ? visible(value) : String(value));
}

/**
 * Styles by the CSSOM, which a strict CSP allows.
 * @param {HTMLElement | SVGElement} node @param {Record<string, string>} styles
 */
export function setStyle(node, styles) {
  for (const [name, value] of Object.entries(styles)) {
    if (name.includes("-")) node.style.setProperty(name, value);
    else /** @type {any} */ (node.style)[name] = value;
  }
}

/**
 * Appends children: strings and numbers as text, arrays in order, `null` and `false` not at all.
 * @template {Node} T
 * @param {T} node @param {Child[]} children @returns {T}
 */
export function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else if (child instanceof Node) node.appendChild(child);
    else node.appendChild(document.createTextNode(visible(child)));
  }
  return node;
}

/**
 * Puts these children in place of what was there.
 * @param {Element} node @param {...Child} children
 */
export function replace(node, ...children) {
  node.replaceChildren(append(document.createDocumentFragment(), children));
}

/**
 * Sets the text only when it differs, so that a live page writes to the DOM no more than it changes.
 * @param {Node} node @param {string | number} text
 */
export function setText(node, text) {
  const next = visible(text);
  if (node.textContent !== next) node.textContent = next;
}

/**
 * The text as it is shown: what would turn its direction is written as JSON escapes it. The letters of a language that
 * is written from right to left are left alone.
 * @param {unknown} text @returns {string}
 */
export function visible(text) {
  return String(text).replace(TURNING, (sign) => `\\u${sign.charCodeAt(0).toString(16)}`);
}

let made = 0;

/** An id no other element of this page has. @param {string} prefix @returns {string} */
export function uid(prefix) {
  made += 1;
  return `${prefix}-${made}`;
}

/**
 * A button.
 * @param {string} label its text, and its accessible name when `icon` stands alone
 * @param {{kind?: "primary" | "danger" | "quiet" | "plain", type?: "button" | "submit", icon?: Node,
 *   iconOnly?: boolean, testid?: string, disabled?: boolean, small?: boolean, title?: string,
 *   onClick?: (event: MouseEvent) => void}} [options]
 * @returns {HTMLButtonElement}
 */
export function button(label, options = {}) {
  const { kind = "plain", type = "button", icon, iconOnly = false, testid, disabled, small, title, onClick } = options;
  const classes = ["button", `button-${kind}`, iconOnly && "button-icon", small && "button-small"].filter(Boolean);
  return /** @type {any} */ (
    el(
      "button",
      {
        class: classes.join(" "),
        type,
        testid,
        disabled,
        title: title ?? (iconOnly ? label : undefined),
        "aria-label": iconOnly ? label : undefined,
        on: onClick ? { click: onClick } : undefined,
      },
      icon,
      iconOnly ? null : el("span", { text: label }),
    )
  );
}

/**
 * A labelled form field: label, control, hint, and a place for its error. `showError` fills that place.
 * @param {string} label
 * @param {HTMLElement} control input, select or textarea
 * @param {{hint?: string, wide?: boolean}} [options]
 * @returns {HTMLElement}
 */
export function field(label, control, options = {}) {
  const id = control.id || uid("field");
  control.id = id;
  control.classList.add(control.getAttribute("type") === "checkbox" ? "checkbox" : "input");
  const hint = options.hint ? el("p", { class: "field-hint", id: `${id}-hint`, text: options.hint }) : null;
  const error = el("p", { class: "field-error", id: `${id}-error`, hidden: true });
  control.setAttribute("aria-describedby", [hint && hint.id, error.id].filter(Boolean).join(" "));
  const caption = el("label", { class: "field-label", for: id, text: label });
  return el("div", { class: options.wide ? "field field-wide" : "field" }, caption, control, hint, error);
}

/**
 * Shows a field's error, or takes it away with `null`.
 * @param {HTMLElement} control @param {string | null} message
 */
export function showError(control, message) {
  const place = document.getElementById(`${control.id}-error`);
  if (place) {
    place.hidden = message === null;
    setText(place, message ?? "");
  }
  if (message === null) control.removeAttribute("aria-invalid");
  else control.setAttribute("aria-invalid", "true");
}
