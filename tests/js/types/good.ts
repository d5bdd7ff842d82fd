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
  await client.close();
  console.log(many, purged, key);
}

void all;
