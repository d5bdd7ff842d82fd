/** What the tests with a broker share: clients, queue names, the control of the broker, and a proxy to cut. */

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";

import { Client } from "../../web/sdk/streambroker.js";

export const URL_ = process.env.SBTEST_URL;
export const TOKEN = process.env.SBTEST_TOKEN;
export const PASSWORD = process.env.SBTEST_PASSWORD;

export const fresh = (name = "js") => `${name}-${randomBytes(6).toString("hex")}`;

/** A client that is closed when the test ends. */
export function client(t, options = {}, url = URL_) {
  const made = new Client(url, { token: TOKEN, ...options });
  t.after(() => made.close());
  return made;
}

/** Asks the test's parent to `kill`, `terminate` or `start` the broker; returns when that is done. */
export async function control(what) {
  const answer = await fetch(`${process.env.SBTEST_CONTROL}/${what}`, { method: "POST" });
  if (!answer.ok) throw new Error(await answer.text());
}

/** The next `count` messages of a consumer; those that `each` returns a promise for are waited for. */
export async function take(consumer, count, each = (message) => message.ack()) {
  const taken = [];
  for await (const message of consumer) {
    taken.push(message);
    await each(message);
    if (taken.length === count) break;
  }
  return taken;
}

/** Looks again until it is so; the test's own time limit is the limit. */
export async function until(look) {
  for (let seen = await look(); ; seen = await look()) {
    if (seen) return seen;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * A way to the broker that can be cut, made deaf (answers on WebSockets that are open do not come through), or closed
 * to WebSockets.
 */
export async function proxy(t) {
  const to = new URL(URL_);
  const pairs = new Set();
  const way = { url: "", deaf: false, closedToSockets: false, upgrades: 0, cut: () => pairs.forEach((pair) => pair.forEach((socket) => socket.destroy())) };
  const server = createServer((near) => {
    const far = connect(Number(to.port), to.hostname);
    const pair = [near, far];
    let upgraded = false;
    pairs.add(pair);
    near.on("data", (bytes) => {
      if (/upgrade: websocket/i.test(bytes.toString("latin1").slice(0, 4_096))) {
        if (way.closedToSockets) return near.destroy();
        upgraded = true;
        way.upgrades += 1;
      }
      far.write(bytes);
    });
    far.on("data", (bytes) => way.deaf && upgraded ? way.heard?.(bytes) : near.write(bytes));
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => (pairs.delete(pair), pair.forEach((other) => other.destroy())));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  way.url = `http://127.0.0.1:${server.address().port}`;
  t.after(() => (server.close(), way.cut()));
  return way;
}
