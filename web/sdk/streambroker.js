/**
 * streambroker's client for browsers and Node. Everything that may be relied on is exported here, and described in
 * streambroker.d.ts.
 */

/**
 * @typedef {object} ClientOptions
 * @property {string | (() => string | Promise<string>)} [token] an API key, an access token, or a function that gets
 *   one
 * @property {string} [username]
 * @property {string} [password]
 * @property {typeof fetch} [fetch]
 * @property {any} [WebSocket] a class to open WebSockets with; null for long polls only
 * @property {number} [timeoutMs] for a call; 10,000
 * @property {number} [settleTimeoutMs] for how long a verdict is tried; 60,000
 * @property {(state: string) => void} [onState] of the WebSocket
 *
 * @typedef {object} ConsumeOptions
 * @property {number} [credit]
 * @property {number} [leaseMs]
 * @property {"session" | "fixed"} [leaseMode]
 * @property {"auto" | "websocket" | "long-poll"} [transport]
 * @property {AbortSignal} [signal]
 *
 * @typedef {Omit<ConsumeOptions, "credit"> & {concurrency?: number,
 *   onError?: (error: unknown, message: import("./message.js").Message) => void}} WorkOptions
 */

export { Client } from "./client.js";
export {
  AlreadySettled,
  Closed,
  Conflict,
  Draining,
  Forbidden,
  Internal,
  Invalid,
  LeaseLost,
  Malformed,
  MethodNotAllowed,
  NotFound,
  NotProcessing,
  Overloaded,
  QueueFull,
  RateLimited,
  RefreshRaced,
  Reject,
  RequestTimeout,
  StorageFull,
  StreambrokerError,
  TimedOut,
  TooLarge,
  Unauthenticated,
  Unreachable,
  UnsupportedMediaType,
} from "./errors.js";
export { JsonText, Message } from "./message.js";
