/**
 * A WebSocket client for Node 20, which has no stable one of its own (Node 22 and browsers do, and never load this).
 * It is as much of the standard class as `link.js` uses: RFC 6455 over an HTTP upgrade, text both ways, no extensions.
 */

import { createHash, randomBytes } from "node:crypto";
import { request as overHttp } from "node:http";
import { request as overHttps } from "node:https";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CONTINUATION = 0x0;
const TEXT = 0x1;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;
/** A broker's message is a frame of about 256 KiB, or one content of `max_message_bytes`. */
const MOST_BYTES = 256 * 1024 * 1024;
/** A peer that does not answer a close within this time is cut off. */
const CLOSING_MS = 2_000;

/** A `message`, with what came. */
class MessageHeard extends Event {
  /** @param {string} data */
  constructor(data) {
    super("message");
    this.data = data;
  }
}

/** A `close`, with why. */
class Closed extends Event {
  /** @param {number} code @param {string} reason */
  constructor(code, reason) {
    super("close");
    this.code = code;
    this.reason = reason;
  }
}

export class NodeWebSocket extends EventTarget {
  /** @type {import("node:net").Socket | null} */
  #socket = null;
  #request;
  #received = new Received();
  /** @type {{code: number, reason: string}} what `close` will tell: 1006 unless the peer said goodbye */
  #end = { code: 1006, reason: "" };
  #closeSent = false;
  #ended = false;
  protocol = "";

  /** @param {string | URL} url @param {string | string[]} [protocols] */
  constructor(url, protocols = []) {
    super();
    const address = new URL(url);
    const secure = address.protocol === "wss:";
    address.protocol = secure ? "https:" : "http:";
    const key = randomBytes(16).toString("base64");
    this.#request = (secure ? overHttps : overHttp)(address, { agent: false, headers: handshake(key, protocols) });
    this.#request.on("upgrade", (answer, socket, head) => {
      this.#upgraded(answer, /** @type {import("node:net").Socket} */ (socket), head, key);
    });
    this.#request.on("response", (answer) => (answer.destroy(), this.#over()));
    this.#request.on("error", () => this.#over());
    this.#request.end();
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket && !this.#closeSent) this.#socket.write(frame(TEXT, Buffer.from(text)));
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code = 1000, reason = "") {
    if (!this.#socket) {
      this.#request.destroy();
      this.#over();
      return;
    }
    this.#sayGoodbye(code, reason);
  }

  /**
   * @param {import("node:http").IncomingMessage} answer @param {import("node:net").Socket} socket @param {Buffer} head
   * @param {string} key
   */
  #upgraded(answer, socket, head, key) {
    const expected = createHash("sha1").update(key + GUID).digest("base64");
    if (this.#ended || answer.headers["sec-websocket-accept"] !== expected) {
      socket.destroy();
      this.#over();
      return;
    }
    this.#socket = socket;
    this.protocol = answer.headers["sec-websocket-protocol"] ?? "";
    socket.setNoDelay(true);
    socket.setTimeout(0);
    socket.on("error", () => {}); // a close follows
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#over());
    this.dispatchEvent(new Event("open"));
    socket.on("data", (bytes) => this.#take(bytes));
    if (head.length > 0) this.#take(head);
  }

  /** @param {Buffer} bytes */
  #take(bytes) {
    try {
      for (const { opcode, payload } of this.#received.add(bytes)) this.#heard(opcode, payload);
    } catch {
      this.#sayGoodbye(1002, "");
      this.#socket?.destroy();
    }
  }

  /** @param {number} opcode @param {Buffer} payload */
  #heard(opcode, payload) {
    if (opcode === PING) this.#socket?.write(frame(PONG, payload));
    else if (opcode === CLOSE) this.#heardGoodbye(payload);
    else if (opcode !== PONG && !this.#closeSent) this.dispatchEvent(new MessageHeard(payload.toString("utf8")));
  }

  /** @param {Buffer} payload */
  #heardGoodbye(payload) {
    const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
    this.#end = { code, reason: payload.subarray(2).toString("utf8") };
    this.#sayGoodbye(code === 1005 ? 1000 : code, "");
    this.#socket?.end();
  }

  /** @param {number} code @param {string} reason */
  #sayGoodbye(code, reason) {
    if (this.#closeSent || !this.#socket) return;
    this.#closeSent = true;
    const payload = Buffer.concat([Buffer.alloc(2), Buffer.from(reason)]);
    payload.writeUInt16BE(code, 0);
    const socket = this.#socket;
    socket.write(frame(CLOSE, payload));
    setTimeout(() => socket.destroy(), CLOSING_MS).unref();
  }

  #over() {
    if (this.#ended) return;
    this.#ended = true;
    if (!this.#socket) this.dispatchEvent(new Event("error"));
    this.dispatchEvent(new Closed(this.#end.code, this.#end.reason));
  }
}

/** What has come and is not a whole message yet. Bounded by `MOST_BYTES`. */
class Received {
  /** @type {Buffer[]} */
  #chunks = [];
  #length = 0;
  /** How many bytes the next frame takes, as far as that is known: nothing is joined before. */
  #wanted = 2;
  /** @type {Buffer[]} */
  #fragments = [];

  /** The messages and control frames that are complete now. Throws where RFC 6455 is broken. @param {Buffer} bytes */
  *add(bytes) {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    while (this.#length >= this.#wanted) {
      const read = this.#frame();
      if (read) yield* this.#whole(read);
    }
  }

  /** @returns {{final: boolean, opcode: number, payload: Buffer} | null} the next frame; null until all of it came */
  #frame() {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
    this.#chunks = [all];
    const short = all[1] & 0x7f;
    const head = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (all.length < head) return this.#wait(head);
    if (all[0] & 0x70 || all[1] & 0x80) throw new Error("an extension, or a mask, that was not agreed on");
    const size = short < 126 ? short : short === 126 ? all.readUInt16BE(2) : Number(all.readBigUInt64BE(2));
    if (size > MOST_BYTES) throw new Error("a frame larger than any broker sends");
    if (all.length < head + size) return this.#wait(head + size);
    const rest = all.subarray(head + size);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    this.#wanted = 2;
    return { final: (all[0] & 0x80) !== 0, opcode: all[0] & 0x0f, payload: all.subarray(head, head + size) };
  }

  /** @param {number} wanted @returns {null} */
  #wait(wanted) {
    this.#wanted = wanted;
    return null;
  }

  /** @param {{final: boolean, opcode: number, payload: Buffer}} read */
  *#whole({ final, opcode, payload }) {
    if (opcode >= CLOSE) {
      yield { opcode, payload };
      return;
    }
    if ((opcode === CONTINUATION) !== this.#fragments.length > 0) throw new Error("fragments out of order");
    this.#fragments.push(payload);
    if (!final) return;
    const whole = this.#fragments.length === 1 ? payload : Buffer.concat(this.#fragments);
    this.#fragments = [];
    yield { opcode: TEXT, payload: whole };
  }
}

/** @param {string} key @param {string | string[]} protocols */
function handshake(key, protocols) {
  return {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": key,
    "Sec-WebSocket-Protocol": [protocols].flat().join(", "),
  };
}

/**
 * A whole frame, masked as a client's must be (RFC 6455, section 5.3).
 * @param {number} opcode @param {Buffer} payload
 */
function frame(opcode, payload) {
  const size = payload.length;
  const head = Buffer.alloc(size < 126 ? 2 : size < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = 0x80 | (size < 126 ? size : size < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(size, 2);
  else if (head.length === 10) head.writeBigUInt64BE(BigInt(size), 2);
  const mask = randomBytes(4);
  const masked = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; at += 1) masked[at] = payload[at] ^ mask[at & 3];
  return Buffer.concat([head, mask, masked]);
}
