/** What of the SDK needs no broker: parsers, pauses, tokens, a WebSocket's frames. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";

import { FixedToken, TokenSource } from "../../web/sdk/credentials.js";
import { Draft } from "../../web/sdk/draft.js";
import { errorOf, NotFound, StreambrokerError, Unauthenticated } from "../../web/sdk/errors.js";
import { EventParser } from "../../web/sdk/events.js";
import { path } from "../../web/sdk/http.js";
import { fromBase64, JsonText, toBase64 } from "../../web/sdk/message.js";
import { NodeWebSocket } from "../../web/sdk/node-socket.js";
import { itemTexts, memberText } from "../../web/sdk/rawjson.js";
import { pause, pauseMs } from "../../web/sdk/waiting.js";

test("the text of a member is cut out to the letter", () => {
  const json = '{"a": "}\\"{", "content" : {"n": 12345678901234567890, "n": 1.0} , "z":[1,{"content":2}]}';
  assert.equal(memberText(json, "content"), '{"n": 12345678901234567890, "n": 1.0}');
  assert.equal(memberText(json, "none"), null);
  assert.equal(memberText('{"a":1,"a":2}', "a"), "2");
  assert.equal(memberText("[1]", "a"), null);
});

test("the texts of an array's items are cut out to the letter", () => {
  assert.deepEqual(itemTexts(' [ 1.0 , "],[" , {"a":[1,2]} ,[]] '), ["1.0", '"],["', '{"a":[1,2]}', "[]"]);
  assert.deepEqual(itemTexts("[]"), []);
  assert.deepEqual(itemTexts("{}"), []);
});

test("nesting as deep as content may be overflows no stack", () => {
  const deep = "[".repeat(50_000) + "]".repeat(50_000);
  assert.equal(memberText(`{"content":${deep}}`, "content"), deep);
});

test("bytes survive base64, also more than a call takes arguments", () => {
  const bytes = Uint8Array.from({ length: 200_001 }, (_, at) => at % 256);
  assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
});

test("a draft says JSON text to the letter, bytes in base64, and a dedup id of its own", () => {
  const one = JSON.parse(new Draft({ a: 1 }, { priority: 3, delayMs: 5 }).json);
  assert.deepEqual([one.content, one.priority, one.delay_ms], [{ a: 1 }, 3, 5]);
  assert.match(one.dedup_id, /^[0-9a-f]{32}$/);
  assert.match(new Draft(new JsonText("1.00")).json, /^\{"content":1\.00,/);
  assert.equal(new Draft(null, { dedupId: null }).json, '{"content":null}');
  const view = new Uint8Array([9, 1, 2, 9]).subarray(1, 3);
  assert.equal(JSON.parse(new Draft(view).json).content_base64, "AQI=");
  assert.throws(() => new Draft(undefined), TypeError);
  assert.throws(() => new Draft(1, { delay_ms: 5 }), /no option delay_ms/);
  assert.throws(() => new JsonText("{"), SyntaxError);
});

test("a number that JSON does not have is refused, and where it is is told", () => {
  assert.throws(() => new Draft(NaN), { name: "TypeError", message: /^\/content is NaN/ });
  assert.throws(() => new Draft({ "a/b": [null, { toJSON: () => [1, -Infinity] }] }), /^TypeError: \/content\/a~1b\/1\/1 is -/);
  assert.throws(() => new Draft(1, { headers: { h: Infinity } }), /^TypeError: \/headers\/h is Infinity/);
  const content = { none: null, text: "null", time: new Date(NaN), left: undefined, list: [undefined] };
  const sent = '{"content":{"none":null,"text":"null","time":null,"list":[null]}}';
  assert.equal(new Draft(content, { dedupId: null }).json, sent);
});

test("half of a surrogate pair is refused, and where it is is told", () => {
  assert.throws(() => new Draft("a\ud800"), { name: "TypeError", message: /^\/content is not Unicode: it holds half of a sur/ });
  assert.throws(() => new Draft({ a: [1, "\udc00 \ud83d"] }), /^TypeError: \/content\/a\/1 is not Unicode/);
  assert.throws(() => new Draft({ a: { "\udfff": 1 } }), /^TypeError: the name of a member of \/content\/a is not Unicode/);
  assert.throws(() => new Draft(1, { headers: { h: "\udbff" } }), /^TypeError: \/headers\/h is not Unicode/);
  assert.throws(() => new Draft(1, { key: "\ud800" }), /^TypeError: \/key is not Unicode/);
  const whole = { "\ud83d\ude00": "\ud83d\ude00", text: "\\ud800" };
  assert.deepEqual(JSON.parse(new Draft(whole).json).content, whole);
  assert.ok(new Draft(new JsonText('"\\ud800"')).json.includes('"content":"\\ud800"')); // to the letter is to the letter
});

test("an error is of its code's class, and a code of tomorrow is an error still", () => {
  const error = errorOf({ code: "not_found", status: 404, detail: "no such queue", retryable: false });
  assert.ok(error instanceof NotFound && error instanceof StreambrokerError);
  assert.deepEqual([error.name, error.message, error.status], ["NotFound", "no such queue", 404]);
  const unknown = errorOf({ code: "constructor" });
  assert.deepEqual([unknown.constructor, unknown.code], [StreambrokerError, "constructor"]);
});

test("a path escapes what is put into it", () => {
  assert.equal(path`/queues/${"a/b?c"}/messages`, "/queues/a%2Fb%3Fc/messages");
});

test("pauses are spread over all of a span that doubles up to a bound, after what was asked for", () => {
  const most = (attempt) => Math.max(...Array.from({ length: 400 }, () => pauseMs(attempt)));
  const least = (attempt) => Math.min(...Array.from({ length: 400 }, () => pauseMs(attempt)));
  for (const [attempt, bound] of [[0, 500], [1, 1_000], [3, 4_000], [4, 5_000], [20, 5_000]]) {
    assert.ok(most(attempt) <= bound && most(attempt) > bound * 0.7, `attempt ${attempt}`);
    assert.ok(least(attempt) < bound * 0.3, `attempt ${attempt}`);
  }
  assert.ok(pauseMs(0, 7_000) >= 7_000);
});

test("an aborted pause throws the reason at once", async () => {
  const controller = new AbortController();
  const waiting = pause(3_600_000, controller.signal);
  controller.abort("enough");
  await assert.rejects(waiting, (reason) => reason === "enough");
  await assert.rejects(pause(1, controller.signal), (reason) => reason === "enough");
});

const parse = (...chunks) => {
  const parser = new EventParser();
  const found = chunks.flatMap((chunk) => [...parser.add(new TextEncoder().encode(chunk))]);
  return { parser, found };
};

test("events are read whatever their lines end with, and wherever the bytes are cut", () => {
  const text = 'retry: 70\r\nid: 1\r\n\r\n: a comment\nevent: new_message\rid: 2\rdata: {"queue":\rdata:"ä"}\r\r';
  const whole = parse(text, "\n");
  assert.deepEqual(whole.found, [{ id: "2", event: "new_message", queue: "ä" }]);
  assert.deepEqual([whole.parser.lastEventId, whole.parser.retryMs], ["2", 70]);
  const parser = new EventParser();
  const bytes = new TextEncoder().encode(`${text}\n`);
  const found = [...bytes].flatMap((byte) => [...parser.add(Uint8Array.of(byte))]);
  assert.deepEqual(found, whole.found);
});

test("an id without data moves the place to resume from, and is no event", () => {
  const { parser, found } = parse("id: 41-x\n\n", "id: 42\ndata: {}");
  assert.deepEqual([parser.lastEventId, found], ["41-x", []]);
});

test("a fixed token that was refused is not offered again", async () => {
  const token = new FixedToken("t");
  assert.equal(await token.access(), "t");
  await assert.rejects(token.access({ refused: "t" }), Unauthenticated);
});

test("a token's source is asked again when its token is refused, and once for all who ask", async () => {
  let asked = 0;
  const source = new TokenSource(async () => `t${++asked}`);
  assert.deepEqual(await Promise.all([source.access(), source.access()]), ["t1", "t1"]);
  assert.equal(await source.access({ refused: "t1" }), "t2");
  assert.equal(await source.access({ refused: "t1" }), "t2");
  const stubborn = new TokenSource(() => "same");
  assert.equal(await stubborn.access(), "same");
  await assert.rejects(stubborn.access({ refused: "same" }), Unauthenticated);
});

test("a source that failed is asked again the next time", async () => {
  let fail = true;
  const source = new TokenSource(() => {
    if (fail) throw new Error("no network");
    return "t";
  });
  await assert.rejects(source.access(), /no network/);
  fail = false;
  assert.equal(await source.access(), "t");
});

/** A server that upgrades and then sends these bytes; hands over what the client sent. */
async function peer(...chunks) {
  const server = createServer();
  const sent = [];
  server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = createHash("sha1").update(key).digest("base64");
    socket.write(`HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    for (const chunk of chunks) socket.write(Buffer.from(chunk));
    socket.on("data", (bytes) => sent.push(bytes));
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `ws://127.0.0.1:${server.address().port}/`, sent, close: () => server.close() };
}

/** Everything that a socket tells until it is closed. */
function told(socket) {
  const messages = [];
  socket.addEventListener("message", (event) => messages.push(event.data));
  return new Promise((resolve) => {
    socket.addEventListener("close", (event) => resolve({ messages, code: event.code, reason: event.reason }));
  });
}

test("fragments are joined, pings between them answered, and a close is answered with its code", async () => {
  const close = [0x88, 0x06, 0x11, 0x62, 0x62, 0x79, 0x65, 0x21]; // 4450 "bye!"
  const { url, sent, close: end } = await peer([0x01, 0x02, 0x22, 0xc3], [0x89, 0x01, 0x70, 0x80, 0x02, 0xa4], [0x22], close);
  const { messages, code, reason } = await told(new NodeWebSocket(url));
  assert.deepEqual([messages, code, reason], [['"ä"'], 4450, "bye!"]);
  const bytes = Buffer.concat(sent);
  assert.equal(bytes[0], 0x8a, "a pong");
  assert.equal(bytes[1], 0x81, "masked");
  assert.equal(bytes[6] ^ bytes[2], 0x70);
  end();
});

test("a frame with an extension, or fragments out of order, ends the connection", async () => {
  for (const wrong of [[0xc1, 0x01, 0x61], [0x80, 0x01, 0x61], [0x01, 0x01, 0x61, 0x81, 0x01, 0x61]]) {
    const { url, close } = await peer(wrong);
    const { messages, code } = await told(new NodeWebSocket(url));
    assert.deepEqual([messages, code], [[], 1006]);
    close();
  }
});

test("a server that does not upgrade, and one that is not there, close with 1006", async () => {
  const server = createServer((_, answer) => answer.writeHead(401).end());
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `ws://127.0.0.1:${server.address().port}/`;
  assert.equal((await told(new NodeWebSocket(url))).code, 1006);
  server.close();
  server.closeAllConnections();
  assert.equal((await told(new NodeWebSocket(url))).code, 1006);
});
