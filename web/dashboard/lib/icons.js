/** Line icons on a 16 × 16 grid, drawn for this page. Decoration: names stand beside them, or in aria-label. */

import { svg } from "./dom.js";

/** @type {Record<string, string>} path data by name */
const PATHS = {
  overview: "M2 2h5v5H2zM9 2h5v3H9zM9 7h5v7H9zM2 9h5v5H2z",
  queues: "M2 4h12M2 8h12M2 12h8",
  consumers: "M4 5.5a4 4 0 0 0 8 0V2M8 9.5V14M5 14h6M4 5.5V2",
  webhooks: "M8 2.5a2.5 2.5 0 0 0-1.2 4.7L4.5 11M4 9.5a2.5 2.5 0 1 0 2.4 3H11.5M12 9.5a2.5 2.5 0 1 1-1.5 4M8 5l3 5",
  users: "M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2.5 14c.6-2.6 2.8-4 5.5-4s4.9 1.4 5.5 4",
  keys: "M6 10a4 4 0 1 1 3.5-2L14 12.5V14h-2.5v-1.5H10V11L9 10M4.5 5.5h.01",
  logs: "M3 2h7l3 3v9H3zM10 2v3h3M5.5 8h5M5.5 11h5",
  logout: "M6 2H3v12h3M10.5 4.5 14 8l-3.5 3.5M14 8H6",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
  auto: "M2 3h12v8H2zM6 14h4M8 11v3",
  refresh: "M13.5 3v3.5H10M13 6.5A5.5 5.5 0 1 0 13.5 9",
  warning: "M8 2 1.5 13.5h13zM8 6.5v3.5M8 12h.01",
  inbox: "M2 9l2-6h8l2 6v4H2zM2 9h3.5l1 2h3l1-2H14",
  plus: "M8 3v10M3 8h10",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  check: "M3 8.5 6.5 12 13 4.5",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5 14 14",
  pause: "M5 3v10M11 3v10",
  play: "M4.5 2.5v11l9-5.5z",
  trash: "M2.5 4h11M6 4V2h4v2M4 4l.5 10h7L12 4M6.5 7v4M9.5 7v4",
  edit: "M10.5 2.5l3 3L6 13l-3.5.5L3 10zM9 4l3 3",
  copy: "M5.5 5.5H14V14H5.5zM10.5 5.5V2H2v8.5h3.5",
  send: "M14 2 7 9M14 2 9.5 14 7 9 2 6.5z",
  undo: "M6 3 2.5 6.5 6 10M2.5 6.5H10a3.5 3.5 0 0 1 0 7H7",
  chevron: "M6 3.5 10.5 8 6 12.5",
  back: "M9.5 3.5 5 8l4.5 4.5",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  unplug: "M2 14l3-3M14 2l-3 3M6 6l4 4-1.5 1.5a2.83 2.83 0 0 1-4 0 2.83 2.83 0 0 1 0-4zM7.5 4.5a2.83 2.83 0 0 1 4 4",
  download: "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  menu: "M2 4h12M2 8h12M2 12h12",
};

/**
 * An icon; an unknown name gives an empty one.
 * @param {string} name @returns {SVGElement}
 */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] ?? "" }),
  );
}
