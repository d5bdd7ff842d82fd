/** A worker: a handler for each message, so many at a time, with the verdict that follows from how it ends. */

import { LeaseLost, Reject, StreambrokerError } from "./errors.js";

/**
 * Runs the handler for each message until the signal is aborted or the client is closed; returns when the last handler
 * has ended. Acks when the handler returns; nacks when it throws, so that the message comes back after the queue's
 * backoff, or with `Reject` never. A message whose lease was lost meanwhile is somebody else's: nothing is said of it.
 * @param {(options: object) => import("./consumer.js").Consumer} consume
 * @param {(message: import("./message.js").Message) => unknown} handler
 * @param {{concurrency?: number, signal?: AbortSignal,
 *   onError?: (error: unknown, message: import("./message.js").Message) => void}} options
 */
export async function work(consume, handler, { concurrency = 1, signal, onError = console.error, ...options }) {
  const consumer = consume({ credit: concurrency, ...options });
  /** @type {Set<Promise<void>>} */
  const running = new Set();
  let stopping = false;
  /** @type {Promise<IteratorResult<import("./message.js").Message>> | null} */
  let coming = null;
  /** @type {() => void} */
  let stopped = () => {};
  const stop = new Promise((resolve) => {
    stopped = () => ((stopping = true), resolve({ done: true, value: undefined }));
  });
  signal?.addEventListener("abort", stopped, { once: true });
  if (signal?.aborted) stopped();
  try {
    while (!stopping) {
      coming = consumer.next();
      const { value, done } = /** @type {any} */ (await Promise.race([coming, stop]));
      if (done) break;
      coming = null;
      const one = handled(value, handler, onError).finally(() => running.delete(one));
      running.add(one);
      if (running.size >= concurrency) await Promise.race([...running, stop]);
    }
  } finally {
    signal?.removeEventListener("abort", stopped);
    consumer.rest();
    if (coming && consumer.transport === "long-poll") await lastOne(coming, handler, onError);
    await Promise.all(running);
    await consumer.return();
    coming?.catch(() => {});
  }
}

/**
 * What a poll brought in the moment of the stop is worked on too: to give it back would count a failure. A
 * subscription's end gives it back by itself.
 * @param {Promise<IteratorResult<import("./message.js").Message>>} coming
 * @param {(message: import("./message.js").Message) => unknown} handler
 * @param {(error: unknown, message: import("./message.js").Message) => void} onError
 */
async function lastOne(coming, handler, onError) {
  const { value, done } = await coming.catch(() => ({ value: undefined, done: true }));
  if (!done) await handled(value, handler, onError);
}

/**
 * @param {import("./message.js").Message} message @param {(message: import("./message.js").Message) => unknown} handler
 * @param {(error: unknown, message: import("./message.js").Message) => void} onError
 */
async function handled(message, handler, onError) {
  try {
    try {
      await handler(message);
    } catch (error) {
      onError(error, message);
      await message.nack({ requeue: !(error instanceof Reject), reason: reasonOf(error) });
      return;
    }
    await message.ack();
  } catch (error) {
    if (!(error instanceof LeaseLost)) onError(error, message);
    if (!(error instanceof StreambrokerError)) throw error;
  }
}

/** @param {unknown} error @returns {string} */
function reasonOf(error) {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
