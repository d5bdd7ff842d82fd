/** Over a broker whose access tokens end after a few seconds. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Unauthenticated } from "../../web/sdk/streambroker.js";
import { client, fresh, PASSWORD, until, URL_ } from "./stage.mjs";

/** Counts the requests to a path. */
function counting(path) {
  const counted = { times: 0, fetch: (url, init) => ((counted.times += String(url).endsWith(path) ? 1 : 0), fetch(url, init)) };
  return counted;
}

test("a login is refreshed, and the connection goes on with the new token", async (t) => {
  const refreshes = counting("/refresh");
  const states = [];
  const options = { token: undefined, username: "admin", password: PASSWORD, fetch: refreshes.fetch };
  const c = client(t, { ...options, onState: (state) => states.push(state) });
  const queue = fresh();
  const consumer = c.consume(queue);
  const waiting = consumer.next();
  await until(() => refreshes.times >= 3);
  await c.publish(queue, "still here");
  const { value } = await waiting;
  await value.ack();
  await consumer.return();
  assert.equal(states.filter((state) => state === "open").length, 1);
});

test("a token from a function is asked for again before it ends", async (t) => {
  let asked = 0;
  const token = async () => {
    asked += 1;
    const body = JSON.stringify({ username: "admin", password: PASSWORD });
    const answer = await fetch(`${URL_}/login`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
    return (await answer.json()).access_token;
  };
  const c = client(t, { token });
  const queue = fresh();
  const consumer = c.consume(queue);
  const waiting = consumer.next();
  await until(() => asked >= 3);
  await c.publish(queue, 1);
  await (await waiting).value.ack();
  await consumer.return();
});

test("a token that ends and has no successor ends the loop: 4450, and nothing to come back with", async (t) => {
  const body = JSON.stringify({ username: "admin", password: PASSWORD });
  const answer = await fetch(`${URL_}/login`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
  const c = client(t, { token: (await answer.json()).access_token });
  await assert.rejects(c.consume(fresh()).next(), Unauthenticated);
  await assert.rejects(c.stats(), Unauthenticated);
});

test("a session that was logged out elsewhere closes with 4401, which is final", async (t) => {
  const body = JSON.stringify({ username: "admin", password: PASSWORD });
  const headers = { "Content-Type": "application/json" };
  const { access_token: token } = await (await fetch(`${URL_}/login`, { method: "POST", body, headers })).json();
  const c = client(t, { token });
  const queue = fresh();
  const states = [];
  const other = client(t, { token: undefined, username: "admin", password: PASSWORD });
  await other.queues.create(queue);
  const waiting = client(t, { token, onState: (state) => states.push(state) }).consume(queue).next();
  const refused = assert.rejects(waiting, Unauthenticated);
  await until(async () => (await other.queues.get(queue)).consumers === 1);
  await c.http.post("/logout");
  await refused;
  assert.deepEqual(states.filter((state) => state === "reconnecting"), []);
});
