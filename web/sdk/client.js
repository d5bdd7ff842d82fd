/** A client of one broker. */

import { Channel } from "./channel.js";
import { Consumer } from "./consumer.js";
import { FixedToken, Nobody, PasswordLogin, TokenSource } from "./credentials.js";
import { Closed } from "./errors.js";
import { events } from "./events.js";
import { Http, path, Wire } from "./http.js";
import { Message } from "./message.js";
import { Publisher } from "./publishing.js";
import { ApiKeys, Consumers, Messages, Queues, Users, Webhooks } from "./resources.js";
import { Settler } from "./settling.js";
import { work } from "./work.js";

const CALL_MS = 10_000;
const SETTLE_MS = 60_000;

/** @typedef {import("./http.js").Credentials & {logout?: () => Promise<void>}} Login */

export class Client {
  #wire;
  #http;
  #settler;
  #publisher;
  #channel;
  /** @type {Set<Consumer>} */
  #consumers = new Set();
  /** @type {Login} */
  #login;
  #closed = false;
  /** Aborted by `close`. */
  #stopped = new AbortController();

  /**
   * @param {string | URL} [url] the broker's; where absent, STREAMBROKER_URL, or in a browser the page's own origin
   * @param {import("./streambroker.js").ClientOptions} [options]
   */
  constructor(url, options = {}) {
    const { fetch, WebSocket, timeoutMs = CALL_MS, settleTimeoutMs = SETTLE_MS, onState } = options;
    this.#wire = new Wire(addressOf(url), { fetch, timeoutMs });
    this.#login = loginOf(this.#wire, options);
    this.#http = new Http(this.#wire, {
      access: (wanted) => this.#access(wanted),
      rejected: (refused) => this.#login.rejected?.(refused),
    });
    this.#settler = new Settler(this.#http, settleTimeoutMs);
    this.#publisher = new Publisher(this.#http, timeoutMs);
    const link = {
      url: `${this.#wire.url.replace(/^http/, "ws")}/ws`,
      access: (/** @type {any} */ wanted) => this.#access(wanted),
      probe: () => this.#http.get("/users/me"),
      socket: () => socketClass(WebSocket),
    };
    this.#channel = new Channel(link, this.#settler, onState);
    this.queues = new Queues(this.#http);
    this.messages = new Messages(this.#http, this.#settler);
    this.users = new Users(this.#http);
    this.apiKeys = new ApiKeys(this.#http);
    this.consumers = new Consumers(this.#http);
    this.webhooks = new Webhooks(this.#http);
  }

  /** @param {string} queue @param {unknown} content @param {import("./publishing.js").PublishOptions} [options] */
  publish(queue, content, options = {}) {
    return this.#publisher.publish(queue, content, options);
  }

  /** @param {string} queue @param {any[]} drafts @param {{signal?: AbortSignal, timeoutMs?: number}} [options] */
  publishMany(queue, drafts, options = {}) {
    return this.#publisher.publishMany(queue, drafts, options);
  }

  /** @param {string} queue @param {import("./streambroker.js").ConsumeOptions} [options] @returns {Consumer} */
  consume(queue, { credit = 100, leaseMs, leaseMode = "session", transport = "auto", signal } = {}) {
    if (this.#closed) throw new Closed();
    const client = { http: this.#http, settler: this.#settler, channel: this.#channel, consumers: this.#consumers };
    return new Consumer(client, { queue, credit, leaseMs, leaseMode }, transport, signal);
  }

  /**
   * @param {string} queue @param {{waitMs?: number, leaseMs?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<Message | null>}
   */
  async receive(queue, { waitMs = 0, leaseMs, signal } = {}) {
    if (this.#closed) throw new Closed();
    const query = { wait_ms: waitMs, lease_ms: leaseMs };
    const timeoutMs = waitMs + this.#wire.timeoutMs;
    const text = await this.#http.text(path`/queues/${queue}/messages/consume`, { query, signal, timeoutMs });
    const fields = JSON.parse(text);
    return fields === null ? null : new Message(fields, () => text, this.#settler);
  }

  /**
   * @param {string} queue @param {(message: Message) => unknown} handler
   * @param {import("./streambroker.js").WorkOptions} [options]
   */
  work(queue, handler, options = {}) {
    return work((consuming) => this.consume(queue, consuming), handler, options);
  }

  /** @param {string} queue @param {{signal?: AbortSignal, lastEventId?: string}} [options] */
  events(queue, options = {}) {
    return events(this.#http, queue, { ...options, closed: this.#stopped.signal });
  }

  /** @param {{signal?: AbortSignal, timeoutMs?: number}} [call] */
  stats(call) {
    return this.#http.get("/stats", call);
  }

  /** A request that has no method of its own here, with the token and typed errors. @returns {Http} */
  get http() {
    return this.#http;
  }

  /**
   * From now on as this user. Throws `Unauthenticated` and stays who it was.
   * @param {string} username @param {string} password
   */
  async login(username, password) {
    const login = new PasswordLogin(this.#wire, username, password);
    await login.access();
    this.#login = login;
  }

  /** Ends the session of a username and password; a token is only forgotten. */
  async logout() {
    const login = this.#login;
    this.#login = new Nobody();
    await login.logout?.();
  }

  /** Ends loops, waits for the answers to what was published and settled, and closes the connection. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#consumers].map((consumer) => consumer.return()));
    await Promise.all([this.#publisher.close(), this.#settler.close()]);
    this.#stopped.abort(new Closed());
    this.#channel.close();
  }

  /** @param {{fresh?: boolean, refused?: string}} [wanted] */
  #access(wanted) {
    return this.#login.access(wanted);
  }
}

// `await using client = new Client(…)`, where the runtime knows it.
if (Symbol.asyncDispose) {
  Object.defineProperty(Client.prototype, Symbol.asyncDispose, { value: Client.prototype.close });
}

/** Throws a `TypeError` for what is no URL of a broker. @param {string | URL} [given] @returns {string} */
function addressOf(given) {
  const url = given ?? environment("STREAMBROKER_URL") ?? globalThis.location?.origin ?? "http://127.0.0.1:8000";
  const { protocol, origin, pathname } = new URL(url);
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError(`no http: or https: URL: ${url}`);
  return origin + pathname;
}

/** @param {Wire} wire @param {import("./streambroker.js").ClientOptions} given @returns {Login} */
function loginOf(wire, { token, username, password }) {
  if (username !== undefined && password !== undefined) return new PasswordLogin(wire, username, password);
  const known = token ?? environment("STREAMBROKER_TOKEN");
  if (typeof known === "function") return new TokenSource(known);
  return known ? new FixedToken(known) : new Nobody();
}

/** @param {string} name @returns {string | undefined} */
function environment(name) {
  return /** @type {any} */ (globalThis).process?.env?.[name] || undefined;
}

/**
 * The class to open WebSockets with: the one given, the runtime's own, on Node 20 ours.
 * @param {any} given @returns {Promise<any>}
 */
async function socketClass(given) {
  if (given !== undefined) return given;
  if (globalThis.WebSocket) return globalThis.WebSocket;
  const node = /** @type {any} */ (globalThis).process?.versions?.node;
  return node ? (await import("./node-socket.js")).NodeWebSocket : null;
}
