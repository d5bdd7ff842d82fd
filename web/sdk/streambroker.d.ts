/**
 * Types of streambroker's client for browsers and Node. Plain objects (queues, users, statistics) are as on the wire, in
 * its words; methods, options and messages speak JavaScript's. Durations are milliseconds.
 */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Bytes = ArrayBuffer | ArrayBufferView;
export type Status = "pending" | "processing" | "processed" | "failed";
export type Transport = "auto" | "websocket" | "long-poll";

/** JSON text that is published to the letter: numbers beyond 2^53, the order of keys, white space. */
export class JsonText {
  /** Throws a `SyntaxError` unless the text is JSON. */
  constructor(text: string);
  readonly text: string;
  toString(): string;
}

export interface Call {
  /** Aborted, the call throws the signal's reason. What became of it on the broker is unknown then. */
  signal?: AbortSignal;
  /** Until the whole answer is there; the client's `timeoutMs` when absent. */
  timeoutMs?: number;
}

/** The part of the standard class that is used: browsers', Node 22's, or that of the package `ws`. */
export interface WebSocketLike {
  addEventListener(type: string, listener: (event: any) => void): void;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;
export type ConnectionState = "idle" | "connecting" | "open" | "reconnecting" | "refused";

export interface ClientOptions {
  /** An API key, an access token, or a function that gets a token whenever another one is needed. */
  token?: string | (() => string | Promise<string>);
  /** With `password`: logs in when a token is first needed, refreshes, and logs in again where that is needed. */
  username?: string;
  password?: string;
  fetch?: typeof globalThis.fetch;
  /** What to open WebSockets with; `null`: consume by long polls only. */
  WebSocket?: WebSocketClass | null;
  /** For each call; 10,000. */
  timeoutMs?: number;
  /** For how long an ack, nack or extend is tried, over connections and restarts; 60,000. */
  settleTimeoutMs?: number;
  /** Hears what becomes of the WebSocket. */
  onState?: (state: ConnectionState) => void;
}

export interface Attributes {
  headers?: Record<string, string | number | boolean | null>;
  /** 0 to 9, higher goes first. */
  priority?: number;
  /** Not to be delivered before; at most one of these two. */
  delayMs?: number;
  availableAt?: Date | string;
  ttlMs?: number;
  key?: string;
  /** Made up when absent, so that trying again is safe. `null`: none, and no second try where the first may be stored. */
  dedupId?: string | null;
  correlationId?: string;
  replyTo?: string;
  traceparent?: string;
  contentType?: string;
  maxAttempts?: number;
}
export interface PublishOptions extends Attributes, Call {}
/** `content` is any value that `JSON.stringify` can say, a `JsonText`, or bytes; `NaN` and `Infinity` are refused. */
export interface Draft extends Attributes {
  content: unknown;
}
export interface Published {
  messageId: string;
  /** It was there already: its `dedupId` was used before. */
  duplicate: boolean;
}

export interface ConsumeOptions {
  /** The most messages delivered and not settled; 100. */
  credit?: number;
  /** `session` (default): the lease lasts as long as the connection. `fixed`: `leaseMs`, or what the queue says. */
  leaseMode?: "session" | "fixed";
  leaseMs?: number;
  /** `auto` (default): by WebSocket, or by long polls where none gets through. */
  transport?: Transport;
  /** Aborted, the loop throws the signal's reason. */
  signal?: AbortSignal;
}

/** An endless row of messages. Leaving the loop gives back what was not settled. */
export interface Consumer extends AsyncIterableIterator<Message> {
  /** How the messages come at the moment. */
  readonly transport: "websocket" | "long-poll";
  next(): Promise<IteratorResult<Message>>;
  return(): Promise<IteratorResult<Message>>;
  [Symbol.asyncIterator](): Consumer;
}

export interface WorkOptions extends Omit<ConsumeOptions, "credit"> {
  /** So many messages at a time; 1. */
  concurrency?: number;
  /** Hears what a handler threw, and verdicts that did not arrive; `console.error`. */
  onError?: (error: unknown, message: Message) => void;
}

export interface NackOptions {
  /** True when absent: the message comes back. False: it is `failed`, or a dead letter. */
  requeue?: boolean;
  /** Until it comes back; the queue's backoff when absent. */
  delayMs?: number;
  /** Becomes the message's `error`. */
  reason?: string;
}
export interface DeadLetter {
  queue: string;
  reason: "rejected" | "attempts" | "expired";
  error: string | null;
  attempts: number;
  at: string;
}

export class Message {
  private constructor();
  readonly messageId: string;
  readonly queue: string;
  readonly status: Status;
  /** What was published: the value of its JSON, or a `Uint8Array`. */
  readonly content: any;
  /** The content's JSON to the letter, where `content` would round a number; `null` for bytes. */
  readonly text: string | null;
  /** The content as bytes: of JSON its text in UTF-8. */
  readonly bytes: Uint8Array;
  readonly isBytes: boolean;
  readonly contentType: string | null;
  readonly headers: Record<string, string | number | boolean | null>;
  readonly priority: number;
  /** Which delivery this is; 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly key: string | null;
  readonly dedupId: string | null;
  readonly correlationId: string | null;
  readonly replyTo: string | null;
  readonly traceparent: string | null;
  /** What went wrong last. */
  readonly error: string | null;
  readonly deadLetter: DeadLetter | null;
  readonly createdAt: Date | null;
  readonly updatedAt: Date | null;
  readonly availableAt: Date | null;
  readonly expiresAt: Date | null;
  /** The fencing token; `null` on a message that was only looked at. */
  readonly lease: string | null;
  readonly leaseExpiresAt: Date | null;
  /** Aborted when the lease is lost: the work is somebody else's now. */
  readonly signal: AbortSignal;
  readonly isLost: boolean;
  /** Returns when the broker has committed it. Throws `LeaseLost` when the message is somebody else's. */
  ack(options?: { signal?: AbortSignal }): Promise<void>;
  nack(options?: NackOptions & { signal?: AbortSignal }): Promise<void>;
  /** A lease that ends so many milliseconds from now. */
  extend(leaseMs: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** As the broker sent it. */
  toJSON(): Record<string, unknown>;
}

export type EventName = "new_message" | "message_processed" | "message_failed" | "message_requeued";
export interface MessageEvent {
  id: string;
  event: EventName;
  message_id: string;
  queue: string;
  status: Status;
  attempt: number;
  at: string;
}
/** Events were missed; `lost` says how many, where that is known. */
export interface GapEvent {
  id: string;
  event: "gap";
  queue: string;
  lost: number | null;
  at: string;
}
export type QueueEvent = MessageEvent | GapEvent;

export interface Backoff {
  kind: "exponential" | "fixed";
  base_ms: number;
  factor: number;
  max_ms: number;
  jitter: boolean;
}
export interface QueueConfig {
  lease_ms: number;
  max_attempts: number;
  backoff: Backoff;
  dead_letter_queue: string | null;
  message_ttl_ms: number;
  max_messages: number;
  overflow: "reject" | "drop_oldest";
  retention_ms: number;
  dedup_window_ms: number;
  durability: "fsync" | "memory";
}
export type QueueConfigChange = Partial<Omit<QueueConfig, "backoff"> & { backoff: Partial<Backoff> }>;
export interface Queue {
  name: string;
  created_at: string;
  paused: boolean;
  config: QueueConfig;
  counts: { pending: number; delayed: number; processing: number; processed: number; failed: number };
  rates: { published: number; delivered: number; settled: number };
  oldest_pending_age_ms: number | null;
  consumers: number;
}
export interface Settled {
  message_id: string;
  status: Status;
  queue?: string;
  attempt?: number;
  available_at?: string;
  lease_expires_at?: string;
  already_acked?: boolean;
  already_nacked?: boolean;
}
export interface TimelineEntry {
  at: string;
  event: string;
  attempt: number;
  consumer: string | null;
  lease_expires_at: string | null;
  error: string | null;
}
export interface Grant {
  queues: string;
  actions: ("publish" | "consume" | "manage" | "view")[];
}
export interface User {
  username: string;
  role: "admin" | "member";
  grants: Grant[];
  disabled: boolean;
  created_at: string;
  updated_at: string;
}
export interface ApiKey {
  id: string;
  name: string;
  username?: string;
  grants: Grant[] | null;
  created_at: string;
  expires_at: string | null;
}
export interface ConsumerInfo {
  id: string;
  kind: string;
  user: string;
  queue: string;
  sub: string | null;
  credit: number;
  in_flight: number;
  delivered_per_s: number;
  paused: boolean;
  address: string;
  since: string;
  lease_mode: "session" | "fixed";
}
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}
export interface PageOptions extends Call {
  limit?: number;
  cursor?: string;
}
export interface ListOptions extends Call {
  /** The size of a page. */
  limit?: number;
}

/** `list` walks over everything with `for await`; `page` asks for one page. */
export interface Listing<T> {
  list(options?: ListOptions): AsyncGenerator<T, void, void>;
  page(options?: PageOptions): Promise<Page<T>>;
}
export interface Queues extends Listing<Queue> {
  create(name: string, config?: QueueConfigChange, call?: Call): Promise<Queue>;
  get(name: string, call?: Call): Promise<Queue>;
  update(name: string, config: QueueConfigChange, call?: Call): Promise<Queue>;
  delete(name: string, call?: Call): Promise<void>;
  /** Answers how many were purged. */
  purge(name: string, options?: { status?: "pending" | "failed" | "processed" | "all" } & Call): Promise<number>;
  pause(name: string, call?: Call): Promise<Queue>;
  resume(name: string, call?: Call): Promise<Queue>;
  /** Answers how many were redriven. */
  redrive(name: string, options?: { from?: string; limit?: number } & Call): Promise<number>;
}
export interface BrowseOptions extends ListOptions {
  status?: Status;
  key?: string;
  contains?: string;
}
export interface Messages {
  get(id: string, call?: Call): Promise<Message>;
  /** Looks, and leases nothing. */
  browse(queue: string, options?: BrowseOptions): AsyncGenerator<Message, void, void>;
  page(queue: string, options?: BrowseOptions & { cursor?: string }): Promise<{ items: Message[]; nextCursor: string | null }>;
  delete(id: string, call?: Call): Promise<void>;
  retry(id: string, call?: Call): Promise<Settled>;
  timeline(id: string, call?: Call): Promise<TimelineEntry[]>;
  ack(id: string, options?: { lease?: string } & Call): Promise<Settled>;
  nack(id: string, options?: { lease?: string } & NackOptions & Call): Promise<Settled>;
  extend(id: string, leaseMs: number, options?: { lease?: string } & Call): Promise<Settled>;
}
export interface Users extends Listing<User> {
  me(call?: Call): Promise<User & { credential: Record<string, unknown> }>;
  get(username: string, call?: Call): Promise<User>;
  create(user: { username: string; password: string; role?: "admin" | "member"; grants?: Grant[] }, call?: Call): Promise<User>;
  update(username: string, change: Partial<Pick<User, "role" | "grants" | "disabled"> & { password: string }>, call?: Call): Promise<User>;
  delete(username: string, call?: Call): Promise<void>;
}
export interface ApiKeys extends Listing<ApiKey> {
  create(key: { name: string; grants?: Grant[]; expires_at?: string }, call?: Call): Promise<ApiKey & { key: string }>;
  delete(id: string, call?: Call): Promise<void>;
}
export interface Consumers extends Listing<ConsumerInfo> {
  disconnect(id: string, call?: Call): Promise<void>;
}
export interface Webhooks {
  list(queue: string, options?: ListOptions): AsyncGenerator<Record<string, any>, void, void>;
  /** The webhooks of all queues that one may manage, or of one, with `failures` in a row and the `last_delivery` of each. */
  every(options?: ListOptions & { queue?: string }): AsyncGenerator<Record<string, any>, void, void>;
  create(queue: string, webhook: { url: string; secret?: string; [option: string]: unknown }, call?: Call): Promise<Record<string, any>>;
  get(queue: string, id: string, call?: Call): Promise<Record<string, any>>;
  update(queue: string, id: string, change: Record<string, unknown>, call?: Call): Promise<Record<string, any>>;
  delete(queue: string, id: string, call?: Call): Promise<void>;
  /** Sends a request at once, and answers what came of it. */
  test(queue: string, id: string, call?: Call): Promise<Record<string, any>>;
  deliveries(queue: string, id: string, options?: ListOptions): AsyncGenerator<Record<string, any>, void, void>;
  redeliver(queue: string, id: string, delivery: string, call?: Call): Promise<Record<string, any>>;
}

export interface RequestOptions extends Call {
  query?: Record<string, string | number | boolean | null | undefined>;
  headers?: Record<string, string>;
}
/** Requests that have no method of their own, with the client's token and typed errors. */
export interface Http {
  get(path: string, options?: RequestOptions): Promise<any>;
  post(path: string, body?: unknown, options?: RequestOptions): Promise<any>;
  patch(path: string, body: unknown, options?: RequestOptions): Promise<any>;
  delete(path: string, options?: RequestOptions): Promise<any>;
  text(path: string, options?: RequestOptions): Promise<string>;
  request(method: string, path: string, options?: RequestOptions & { body?: unknown; raw?: string | Blob | ArrayBuffer | Uint8Array; contentType?: string }): Promise<Response>;
}

export class Client {
  /** Without `url`: STREAMBROKER_URL, or in a browser the page's own origin. Without a token: STREAMBROKER_TOKEN. */
  constructor(url?: string | URL, options?: ClientOptions);
  readonly queues: Queues;
  readonly messages: Messages;
  readonly users: Users;
  readonly apiKeys: ApiKeys;
  readonly consumers: Consumers;
  readonly webhooks: Webhooks;
  readonly http: Http;
  /** Returns when the message is stored. Publishes that come together share a request; each is tried until its time is over. */
  publish(queue: string, content: unknown, options?: PublishOptions): Promise<Published>;
  /** One batch of at most 1,000, all or nothing. */
  publishMany(queue: string, drafts: Draft[], options?: Call): Promise<Published[]>;
  consume(queue: string, options?: ConsumeOptions): Consumer;
  /** One message, or `null` when none came in `waitMs` (0). */
  receive(queue: string, options?: { waitMs?: number; leaseMs?: number; signal?: AbortSignal }): Promise<Message | null>;
  /** Acks when the handler returns, nacks when it throws; a `Reject` keeps the message from coming back. Ends with the signal. */
  work(queue: string, handler: (message: Message) => unknown, options?: WorkOptions): Promise<void>;
  /** What happens in a queue, from now on or from after `lastEventId`. */
  events(queue: string, options?: { signal?: AbortSignal; lastEventId?: string }): AsyncGenerator<QueueEvent, void, void>;
  stats(call?: Call): Promise<Record<string, any>>;
  login(username: string, password: string): Promise<void>;
  logout(): Promise<void>;
  /** Ends loops, waits for the answers to what was published and settled, and closes the connection. */
  close(): Promise<void>;
}

export interface FieldError {
  pointer: string;
  detail: string;
}
/** Base of all errors from the broker, one class for each `code`. */
export class StreambrokerError extends Error {
  constructor(problem?: Record<string, unknown>);
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  /** One of the protocol's codes, or `unreachable`, `timed_out`, `closed`. */
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** Whether the same call can succeed later. */
  readonly retryable: boolean;
  readonly retryAfterMs: number | null;
  readonly errors: FieldError[];
  /** Names the request in the broker's log. */
  readonly instance: string;
}
export class Malformed extends StreambrokerError {}
export class Unauthenticated extends StreambrokerError {}
export class Forbidden extends StreambrokerError {}
export class NotFound extends StreambrokerError {}
export class MethodNotAllowed extends StreambrokerError {}
export class Conflict extends StreambrokerError {}
export class NotProcessing extends StreambrokerError {}
export class LeaseLost extends StreambrokerError {}
export class AlreadySettled extends StreambrokerError {}
export class RefreshRaced extends StreambrokerError {}
export class RequestTimeout extends StreambrokerError {}
export class TooLarge extends StreambrokerError {}
export class UnsupportedMediaType extends StreambrokerError {}
export class Invalid extends StreambrokerError {}
export class RateLimited extends StreambrokerError {}
export class Draining extends StreambrokerError {}
export class Overloaded extends StreambrokerError {}
export class StorageFull extends StreambrokerError {}
export class QueueFull extends StreambrokerError {}
export class Internal extends StreambrokerError {}
/** No answer came: what became of the request is unknown. */
export class Unreachable extends StreambrokerError {
  constructor(cause?: unknown);
}
/** The call's time was over: what became of the request is unknown. */
export class TimedOut extends StreambrokerError {
  constructor(cause?: unknown);
}
/** The client was closed. */
export class Closed extends StreambrokerError {
  constructor();
}
/** Thrown by a `work` handler: the message must not come back. */
export class Reject extends Error {}
