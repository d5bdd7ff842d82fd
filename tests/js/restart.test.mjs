/** Connections that are cut and a broker that dies: nothing lost, no ack lost, none done twice. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { LeaseLost } from "../../web/sdk/streambroker.js";
import { client, control, fresh, proxy, until } from "./stage.mjs";

const PATIENT = { timeoutMs: 90_000, settleTimeoutMs: 90_000 };

test("an ack whose confirmation was lost with the connection is settled again by REST, once", async (t) => {
  const way = await proxy(t);
  const c = client(t, PATIENT, way.url);
  const direct = client(t);
  const queue = fresh();
  await c.publishMany(queue, [{ content: 1 }, { content: 2 }]);
  const consumer = c.consume(queue, { credit: 1 });
  const { value: message } = await consumer.next();
  way.deaf = true;
  const confirmed = new Promise((resolve) => (way.heard = resolve));
  let done = false;
  const acked = message.ack().then(() => (done = true));
  await confirmed; // the broker has answered, and nobody heard it
  assert.equal((await direct.messages.get(message.messageId)).status, "processed");
  assert.equal(done, false);
  way.deaf = false;
  way.cut();
  await acked;
  const timeline = await direct.messages.timeline(message.messageId);
  assert.equal(timeline.filter(({ event }) => event === "processed").length, 1);
  const { value: next } = await consumer.next();
  assert.equal(next.content, 2);
  assert.equal(way.upgrades, 2);
  await next.ack();
  await consumer.return();
});

test("a message that was in hand when the connection was cut is known to be lost, and comes again", async (t) => {
  const way = await proxy(t);
  const c = client(t, PATIENT, way.url);
  const queue = fresh();
  await c.publish(queue, "again");
  const consumer = c.consume(queue);
  const { value: message } = await consumer.next();
  const lost = new Promise((resolve) => message.signal.addEventListener("abort", resolve, { once: true }));
  way.cut();
  await lost;
  assert.ok(message.signal.reason instanceof LeaseLost);
  const { value: again } = await consumer.next();
  assert.deepEqual([again.messageId, again.attempt], [message.messageId, 2]);
  await again.ack();
  await consumer.return();
});

test("a fixed lease outlives the connection, and its ack goes by REST", async (t) => {
  const way = await proxy(t);
  const c = client(t, PATIENT, way.url);
  const queue = fresh();
  await c.publish(queue, 1);
  const consumer = c.consume(queue, { leaseMode: "fixed", leaseMs: 600_000 });
  const { value: message } = await consumer.next();
  way.cut();
  await until(() => way.upgrades === 2);
  assert.equal(message.isLost, false);
  await message.ack();
  assert.equal((await client(t).messages.get(message.messageId)).status, "processed");
  await consumer.return();
});

test("over a crash and a stop of the broker everything published is worked on, and what was acked stays so", async (t) => {
  const states = [];
  const producer = client(t, PATIENT);
  const c = client(t, { ...PATIENT, onState: (state) => states.push(state) });
  const queue = fresh();
  await producer.queues.create(queue, { max_attempts: 0 });
  const published = new Set();
  const acked = new Map();
  const again = [];
  let wanted = Infinity;
  const controller = new AbortController();
  const handled = async (message) => {
    if (acked.has(message.messageId)) again.push(message.messageId);
    try {
      await message.ack();
    } catch (error) {
      if (!(error instanceof LeaseLost)) throw error;
      return; // somebody else's, or our own next delivery
    }
    acked.set(message.messageId, (acked.get(message.messageId) ?? 0) + 1);
    if (acked.size >= wanted) controller.abort();
  };
  const consuming = (async () => {
    const running = new Set();
    try {
      for await (const message of c.consume(queue, { credit: 20, signal: controller.signal })) {
        const one = handled(message).finally(() => running.delete(one));
        running.add(one);
      }
    } catch (error) {
      if (!controller.signal.aborted) throw error;
    }
    await Promise.all(running);
  })();
  let publishing = true;
  const producing = (async () => {
    for (let n = 0; publishing; n += 1) published.add((await producer.publish(queue, n)).messageId);
  })();
  await until(() => acked.size > 50);
  for (const end of ["kill", "terminate"]) {
    await control(end);
    const before = acked.size;
    await control("start");
    await until(() => acked.size > before + 50);
  }
  publishing = false;
  await producing;
  wanted = published.size;
  if (acked.size >= wanted) controller.abort();
  await consuming;
  assert.deepEqual([...acked.keys()].sort(), [...published].sort());
  assert.deepEqual(again, [], "delivered again after its ack was confirmed");
  assert.deepEqual([...acked.values()].filter((times) => times > 1), []);
  const { counts } = await producer.queues.get(queue);
  assert.deepEqual([counts.processed, counts.pending, counts.processing, counts.failed], [published.size, 0, 0, 0]);
  assert.ok(states.filter((state) => state === "open").length >= 3);
});
