/** What must not compile: each of these lines has an error, and `@ts-expect-error` fails where it has none. */

import { Client, Message } from "../../../web/sdk/streambroker.js";

async function all(client: Client, message: Message): Promise<void> {
  // @ts-expect-error a token is no number
  new Client("http://host", { token: 1 });
  // @ts-expect-error options speak camelCase
  await client.publish("q", 1, { delay_ms: 5 });
  // @ts-expect-error a queue and a content are due
  await client.publish("q");
  // @ts-expect-error drafts hold their content
  await client.publishMany("q", [{ priority: 1 }]);
  // @ts-expect-error there are two ways only
  client.consume("q", { transport: "carrier pigeon" });
  // @ts-expect-error there are two modes only
  client.consume("q", { leaseMode: "forever" });
  // @ts-expect-error receive may answer null
  await (await client.receive("q")).ack();
  // @ts-expect-error a message is not made by users
  new Message();
  // @ts-expect-error what came stays as it came
  message.priority = 5;
  // @ts-expect-error a lease has a length
  await message.extend();
  // @ts-expect-error a queue's configuration is in the words of the wire
  await client.queues.create("q", { maxAttempts: 3 });
  // @ts-expect-error no such status
  client.messages.browse("q", { status: "done" });
  // @ts-expect-error no such action
  await client.users.create({ username: "a", password: "b", grants: [{ queues: "*", actions: ["rule"] }] });
  for await (const event of client.events("q")) {
    // @ts-expect-error a gap is about no message
    console.log(event.message_id);
  }
}

void all;
