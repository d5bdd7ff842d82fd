/** A queue's events, by server-sent events (WHATWG HTML, section 9.2) over fetch, which can send a token. */

import { StreambrokerError, Unreachable } from "./errors.js";
import { path } from "./http.js";
import { anyOf, pause, pauseMs } from "./waiting.js";

/**
 * The broker says something every 15 s, if only a comment; after this much silence the connection is taken for dead.
 */
const SILENCE_MS = 45_000;
/** The broker's last word on a connection. Coming back tells whether, and why, one may not. */
const END = "end";

/**
 * @typedef {{id: string, event: string, queue: string, at: string, message_id?: string, status?: string,
 *   attempt?: number, lost?: number | null}} QueueEvent
 */

/**
 * The events of a queue from now on, or from after `lastEventId`; it comes back by itself where it left off.
 * @param {import("./http.js").Http} http @param {string} queue
 * @param {{signal?: AbortSignal, closed?: AbortSignal, lastEventId?: string}} options `closed` ends it without an error
 * @returns {AsyncGenerator<QueueEvent, void, void>}
 */
export async function* events(http, queue, { signal, closed, lastEventId = "" }) {
  const until = anyOf(signal, closed);
  try {
    yield* comingBack(http, queue, new EventParser(lastEventId), until.signal);
  } catch (error) {
    if (!closed?.aborted || signal?.aborted) throw error;
  } finally {
    until.release();
  }
}

/**
 * @param {import("./http.js").Http} http @param {string} queue @param {EventParser} parser @param {AbortSignal} signal
 * @returns {AsyncGenerator<QueueEvent, void, void>}
 */
async function* comingBack(http, queue, parser, signal) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      for await (const event of connection(http, queue, parser, signal)) {
        attempt = 0;
        yield event;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof StreambrokerError) || !error.retryable) throw error;
      await pause(pauseMs(attempt, error.retryAfterMs ?? parser.retryMs), signal);
      continue;
    }
    await pause(pauseMs(attempt, parser.retryMs), signal); // the broker closed it
  }
}

/**
 * @param {import("./http.js").Http} http @param {string} queue @param {EventParser} parser @param {AbortSignal} signal
 * @returns {AsyncGenerator<QueueEvent, void, void>}
 */
async function* connection(http, queue, parser, signal) {
  const headers = { Accept: "text/event-stream" };
  // In the query: a page of another site may not send the header of that name.
  const query = { last_event_id: parser.lastEventId };
  const answer = await http.request("GET", path`/queues/${queue}/events`, { headers, query, signal });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  parser.begin();
  try {
    for (;;) {
      const { value, done } = await heard(reader);
      signal.throwIfAborted();
      if (done) return;
      for (const event of parser.add(value)) {
        if (event.event === END) return;
        yield event;
      }
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader @returns {Promise<any>} */
async function heard(reader) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Unreachable()), SILENCE_MS);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch (error) {
    throw error instanceof StreambrokerError ? error : new Unreachable(error);
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes in, events out; remembers the last id over connections. */
export class EventParser {
  #decoder = new TextDecoder();
  #rest = "";
  #data = "";
  #event = "";
  #id;
  /** @type {number | null} how long the broker wants to be left alone */
  retryMs = null;

  /** @param {string} [lastEventId] */
  constructor(lastEventId = "") {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /** A new connection: what the one before left half is not told. */
  begin() {
    this.#decoder = new TextDecoder();
    this.#rest = "";
    this.#data = "";
    this.#event = "";
    this.#id = this.lastEventId;
  }

  /** @param {Uint8Array} bytes @returns {Generator<QueueEvent, void, void>} */
  *add(bytes) {
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    // A line may end with CR LF; a CR at the very end waits to see whether a LF follows.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#data !== "") yield this.#dispatched();
      else this.#begin();
    }
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data += `${value}\n`;
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  /** @returns {QueueEvent} */
  #dispatched() {
    const event = { id: this.#id, event: this.#event || "message", ...JSON.parse(this.#data) };
    this.#begin();
    return event;
  }

  /** A blank line: what was said of the id holds, with or without data. */
  #begin() {
    this.lastEventId = this.#id;
    this.#data = "";
    this.#event = "";
  }
}
