/** A line too small for axes: how a queue's depth moved in the last minute. */

import { svg } from "../lib/dom.js";

const WIDTH = 96;
const HEIGHT = 20;
const EDGE = 1.5;

/**
 * A sparkline of the latest values, oldest first; what it shows is said by its name.
 * @returns {{node: SVGElement, show: (values: number[], name: string) => void}}
 */
export function sparkline() {
  const line = svg("polyline", { class: "spark-line", points: "" });
  const area = svg("polygon", { class: "spark-area", points: "" });
  const node = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img" },
    area,
    line,
  );
  let shown = "";
  return {
    node,
    show(values, name) {
      const points = pointsOf(values);
      if (points !== shown) {
        shown = points;
        line.setAttribute("points", points);
        area.setAttribute("points", points && `${EDGE},${HEIGHT} ${points} ${WIDTH - EDGE},${HEIGHT}`);
      }
      if (node.getAttribute("aria-label") !== name) node.setAttribute("aria-label", name);
    },
  };
}

/**
 * The scale begins at nought, so that a line that looks empty is an empty queue.
 * @param {number[]} values
 * @returns {string}
 */
function pointsOf(values) {
  if (values.length === 0) return "";
  const top = Math.max(...values, 1);
  const step = (WIDTH - 2 * EDGE) / Math.max(values.length - 1, 1);
  const room = HEIGHT - 2 * EDGE;
  const point = (/** @type {number} */ value, /** @type {number} */ at) =>
    `${(EDGE + at * step).toFixed(1)},${(HEIGHT - EDGE - (value / top) * room).toFixed(1)}`;
  const line = values.map(point);
  if (values.length === 1) line.push(`${WIDTH - EDGE},${line[0].split(",")[1]}`);
  return line.join(" ");
}
