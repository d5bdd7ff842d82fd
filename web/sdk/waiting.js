/** Waiting: pauses that an `AbortSignal` ends, deadlines, and how long to stay away from a broker in trouble. */

const PAUSE_FIRST_MS = 500;
/** Less than a publish waits by default: one that began while the broker was away sees it come back. */
const PAUSE_MOST_MS = 5_000;

/**
 * How long to wait before the next try: anything up to twice as long each time, so that clients which lost the broker
 * together do not come back together (full jitter). What the broker asked for is the least.
 * @param {number} attempt 0 for the first pause @param {number | null} [askedMs] @returns {number} milliseconds
 */
export function pauseMs(attempt, askedMs = null) {
  const most = Math.min(PAUSE_MOST_MS, PAUSE_FIRST_MS * 2 ** attempt);
  return (askedMs ?? 0) + Math.random() * most;
}

/**
 * Returns after `ms`; throws the signal's reason when that is aborted first.
 * @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const aborted = () => (clearTimeout(timer), reject(signal?.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", aborted), resolve()), ms);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/**
 * A signal that is aborted with the first of those given, whichever they are. `release` lets go of them.
 * @param {(AbortSignal | undefined)[]} signals
 * @returns {{signal: AbortSignal, abort: (reason: unknown) => void, release: () => void}}
 */
export function anyOf(...signals) {
  const controller = new AbortController();
  /** @type {(() => void)[]} */
  const letGo = [];
  for (const signal of signals) {
    if (!signal) continue;
    if (signal.aborted) controller.abort(signal.reason);
    const aborted = () => controller.abort(signal.reason);
    signal.addEventListener("abort", aborted, { once: true });
    letGo.push(() => signal.removeEventListener("abort", aborted));
  }
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    release: () => letGo.forEach((release) => release()),
  };
}

/**
 * @template T @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (reason: unknown) => void}} Deferred
 */

/** A promise that somebody else settles. @template T @returns {Deferred<T>} */
export function deferred() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
