/** What must compile under --strict. */

import { Client, type Consumer, JsonText, LeaseLost, type Message, type Published, type Queue, Reject, StreambrokerError } from "../../../web/sdk/streambroker.js";

async function all(): Promise<void> {
  const client = new Client("http://127.0.0.1:8000", { token: async () => "t", timeoutMs: 5_000, onState: (state) => state === "open" });
  new Client();
  new Client(new URL("http://host"), { username: "u", password: "p", WebSocket: null });
  new Client("http://host", { WebSocket });
  const published: Published = await client.publish("q", { any: 1 }, { priority: 5, delayMs: 10, dedupId: null, headers: { a: 1 } });
  const id: string = published.messageId;
  await client.publish("q", new JsonText("1"), { availableAt: new Date() });
  const many: Published[] = await client.publishMany("q", [{ content: new Uint8Array(3), key: "k" }]);
  const consumer: Consumer = client.consume("q", { credit: 10, leaseMode: "fixed", leaseMs: 1_000, signal: AbortSignal.timeout(1) });
  for await (const message of consumer) {
    const exact: string | null = message.text;
    const when: Date | null = message.createdAt;
    message.signal.addEventListener("abort", () => [exact, when]);
    await message.extend(60_000);
    await (Math.random() > 0.5 ? message.ack() : message.nack({ requeue: false, reason: "no" }));
  }
  const one: Message | null = await client.receive("q", { waitMs: 1_000 });
  if (one) await one.ack();
  await client.work("q", async (message) => {
    if (message.attempt > 3) throw new Reject("enough");
  }, { concurrency: 8, onError: (error, message) => console.error(error, message.messageId) });
  for await (const event of client.events("q", { lastEventId: "1" })) {
    if (event.event === "gap") console.log(event.lost);
    else console.log(event.message_id, event.attempt);
  }
  const queue: Queue = await client.queues.create("q", { max_attempts: 3, backoff: { kind: "fixed", base_ms: 10 } });
  for await (const { name, counts } of client.queues.list()) console.log(name, counts.pending, queue.config.lease_ms);
  for await (const found of client.messages.browse("q", { status: "failed", contains: "x" })) console.log(found.content);
  const purged: number = await client.queues.purge("q", { status: "all" });
  await client.users.create({ username: "a", password: "b", grants: [{ queues: "*", actions: ["view"] }] });
  const { key } = await client.apiKeys.create({ name: "n" });
  try {
    await client.messages.ack(id, { lease: "x" });
  } catch (error) {
    if (error instanceof LeaseLost) console.log(error.code, error.retryAfterMs);
    else if (error instanceof StreambrokerError) console.log(error.errors[0]?.pointer);
  }
  await administered(client, id);
  await client.close();
  console.log(many, purged, key);
}

/** The rest of what is declared. */
async function administered(client: Client, id: string): Promise<void> {
  const call = { signal: AbortSignal.timeout(1), timeoutMs: 1_000 };
  await client.login("u", "p");
  const me: string = (await client.users.me(call)).username;
  await client.users.update(me, { disabled: true, grants: [] });
  await client.users.delete((await client.users.get(me)).username);
  for await (const { username } of client.users.list({ limit: 9 })) console.log(username);
  const { items, next_cursor }: { items: Queue[]; next_cursor: string | null } = await client.queues.page({ limit: 1, cursor: "q" });
  await client.queues.update("q", { backoff: { jitter: false }, dead_letter_queue: null }, call);
  const states: boolean[] = [(await client.queues.pause("q")).paused, (await client.queues.resume("q", call)).paused];
  const redriven: number = await client.queues.redrive("q", { from: "dead", limit: 5 });
  await client.queues.delete((await client.queues.get("q")).name);
  const found: Message = await client.messages.get(id, call);
  const { items: messages, nextCursor } = await client.messages.page("q", { key: "k", limit: 5, cursor: "c" });
  for (const { event, at } of await client.messages.timeline(id)) console.log(event, at);
  await client.messages.nack(id, { lease: "x", requeue: false, delayMs: 5, reason: "r" });
  await client.messages.extend(id, 5_000, { lease: "x" });
  console.log((await client.messages.retry(id)).status, JSON.stringify(found), found.deadLetter?.queue, messages[0]?.attempt);
  await client.messages.delete(id);
  for await (const key of client.apiKeys.list()) await client.apiKeys.delete(key.id);
  for await (const consumer of client.consumers.list()) await client.consumers.disconnect(consumer.id);
  const { id: hook } = await client.webhooks.create("q", { url: "https://host/hook", concurrency: 1 });
  for await (const { failures, last_delivery } of client.webhooks.every({ queue: "q", limit: 5 })) console.log(failures, last_delivery);
  for await (const webhook of client.webhooks.list("q")) await client.webhooks.update("q", webhook.id, { disabled: true });
  for await (const delivery of client.webhooks.deliveries("q", hook)) await client.webhooks.redeliver("q", hook, delivery.id);
  await client.webhooks.test("q", (await client.webhooks.get("q", hook)).id);
  await client.webhooks.delete("q", hook);
  const text: string = await client.http.text("/health", { query: { a: 1, b: null } });
  await client.http.request("PUT", "/x", { body: {}, headers: { a: "b" } });
  console.log(await client.stats(call), await client.http.get("/x"), await client.http.post("/x"), await client.http.patch("/x", {}), await client.http.delete("/x"));
  await client.logout();
  console.log(items, next_cursor, states, redriven, nextCursor, text);
}

void all;
