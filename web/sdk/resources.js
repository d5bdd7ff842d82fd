/**
 * What is around messages: queues, stored messages, users, API keys, consumers, webhooks. Plain objects are as in
 * docs/protocol.md, in its words.
 */

import { path } from "./http.js";
import { carried, Message } from "./message.js";
import { itemTexts, memberText } from "./rawjson.js";

/**
 * @typedef {import("./http.js").Http} Http
 * @typedef {{signal?: AbortSignal, timeoutMs?: number}} Call
 */

/** @param {any} options @returns {[any, Call]} what is asked for, and how */
function split({ signal, timeoutMs, ...rest } = /** @type {any} */ ({})) {
  return [rest, { signal, timeoutMs }];
}

/**
 * Every item of a list, page after page.
 * @param {Http} http @param {string} where @param {any} query @param {Call} call
 */
async function* pages(http, where, query, call) {
  for (let cursor = query.cursor; cursor !== null; ) {
    const page = await http.get(where, { query: { ...query, cursor }, ...call });
    yield* page.items;
    cursor = page.next_cursor;
  }
}

/** A list: `for await` walks over all of it, `page` asks for one page. */
class Listing {
  /** @param {Http} http @param {string} where */
  constructor(http, where) {
    this.http = http;
    this.where = where;
  }

  /** @param {any} [options] `limit`, the size of a page */
  list(options) {
    return pages(this.http, this.where, ...split(options));
  }

  /** @param {any} [options] `limit`, `cursor` */
  page(options) {
    const [query, call] = split(options);
    return this.http.get(this.where, { query, ...call });
  }
}

export class Queues extends Listing {
  /** @param {Http} http */
  constructor(http) {
    super(http, "/queues");
  }

  /** @param {string} name @param {object} [config] @param {Call} [call] */
  create(name, config = {}, call) {
    return this.http.post("/queues", { name, ...config }, call);
  }

  /** @param {string} name @param {Call} [call] */
  get(name, call) {
    return this.http.get(path`/queues/${name}`, call);
  }

  /** @param {string} name @param {object} config @param {Call} [call] */
  update(name, config, call) {
    return this.http.patch(path`/queues/${name}`, config, call);
  }

  /** @param {string} name @param {Call} [call] */
  async delete(name, call) {
    await this.http.delete(path`/queues/${name}`, call);
  }

  /** @param {string} name @param {any} [options] `status` @returns {Promise<number>} how many were purged */
  async purge(name, options) {
    const [body, call] = split(options);
    return (await this.http.post(path`/queues/${name}/purge`, body, call)).purged;
  }

  /** @param {string} name @param {Call} [call] */
  pause(name, call) {
    return this.http.post(path`/queues/${name}/pause`, undefined, call);
  }

  /** @param {string} name @param {Call} [call] */
  resume(name, call) {
    return this.http.post(path`/queues/${name}/resume`, undefined, call);
  }

  /** @param {string} name @param {any} [options] `from`, `limit` @returns {Promise<number>} how many were redriven */
  async redrive(name, options) {
    const [body, call] = split(options);
    return (await this.http.post(path`/queues/${name}/redrive`, body, call)).redriven;
  }
}

/** @param {string} text of one message @param {import("./message.js").Settling} settling */
function read(text, settling) {
  return new Message(JSON.parse(text), () => text, settling);
}

export class Messages {
  #http;
  #settler;

  /** @param {Http} http @param {import("./settling.js").Settler} settler */
  constructor(http, settler) {
    this.#http = http;
    this.#settler = settler;
  }

  /** @param {string} id @param {Call} [call] */
  async get(id, call) {
    return read(await this.#http.text(path`/messages/${id}`, call), this.#settler);
  }

  /** @param {string} queue @param {any} [options] `status`, `key`, `contains`, `limit` */
  async *browse(queue, options) {
    for (let cursor = options?.cursor; cursor !== null; ) {
      const page = await this.page(queue, { ...options, cursor });
      yield* page.items;
      cursor = page.nextCursor;
    }
  }

  /** @param {string} queue @param {any} [options] the same, and `cursor` */
  async page(queue, options) {
    const [query, call] = split(options);
    const text = await this.#http.text(path`/queues/${queue}/messages`, { query, ...call });
    const items = itemTexts(memberText(text, "items") ?? "").map((item) => read(item, this.#settler));
    return { items, nextCursor: JSON.parse(memberText(text, "next_cursor") ?? "null") };
  }

  /** @param {string} id @param {Call} [call] */
  async delete(id, call) {
    await this.#http.delete(path`/messages/${id}`, call);
  }

  /** @param {string} id @param {Call} [call] */
  async retry(id, call) {
    return this.#http.post(path`/messages/${id}/retry`, undefined, call);
  }

  /** @param {string} id @param {Call} [call] */
  async timeline(id, call) {
    return (await this.#http.get(path`/messages/${id}/timeline`, call)).items;
  }

  /** @param {string} id @param {any} [options] `lease` */
  ack(id, options) {
    const [body, call] = split(options);
    return this.#http.post(path`/messages/${id}/ack`, body, call);
  }

  /** @param {string} id @param {any} [options] `lease`, `requeue` (true), `delayMs`, `reason` */
  nack(id, options) {
    const [{ requeue = true, delayMs, reason, ...rest }, call] = split(options);
    const body = { requeue, delay_ms: delayMs, reason: carried(reason), ...rest };
    return this.#http.post(path`/messages/${id}/nack`, body, call);
  }

  /** @param {string} id @param {number} leaseMs @param {any} [options] `lease` */
  extend(id, leaseMs, options) {
    const [body, call] = split(options);
    return this.#http.post(path`/messages/${id}/extend`, { lease_ms: leaseMs, ...body }, call);
  }
}

export class Users extends Listing {
  /** @param {Http} http */
  constructor(http) {
    super(http, "/users");
  }

  /** @param {Call} [call] */
  me(call) {
    return this.http.get("/users/me", call);
  }

  /** @param {string} username @param {Call} [call] */
  get(username, call) {
    return this.http.get(path`/users/${username}`, call);
  }

  /** @param {object} user @param {Call} [call] */
  create(user, call) {
    return this.http.post("/users", user, call);
  }

  /** @param {string} username @param {object} change @param {Call} [call] */
  update(username, change, call) {
    return this.http.patch(path`/users/${username}`, change, call);
  }

  /** @param {string} username @param {Call} [call] */
  async delete(username, call) {
    await this.http.delete(path`/users/${username}`, call);
  }
}

export class ApiKeys extends Listing {
  /** @param {Http} http */
  constructor(http) {
    super(http, "/api-keys");
  }

  /** @param {object} key @param {Call} [call] */
  create(key, call) {
    return this.http.post("/api-keys", key, call);
  }

  /** @param {string} id @param {Call} [call] */
  async delete(id, call) {
    await this.http.delete(path`/api-keys/${id}`, call);
  }
}

export class Consumers extends Listing {
  /** @param {Http} http */
  constructor(http) {
    super(http, "/consumers");
  }

  /** @param {string} id @param {Call} [call] */
  async disconnect(id, call) {
    await this.http.delete(path`/consumers/${id}`, call);
  }
}

export class Webhooks {
  #http;

  /** @param {Http} http */
  constructor(http) {
    this.#http = http;
  }

  /** @param {string} queue @param {any} [options] `limit` */
  list(queue, options) {
    return pages(this.#http, path`/queues/${queue}/webhooks`, ...split(options));
  }

  /**
   * The webhooks of all queues that one may manage, and how each did of late.
   * @param {any} [options] `queue`, `limit`
   */
  every(options) {
    return pages(this.#http, "/webhooks", ...split(options));
  }

  /** @param {string} queue @param {object} webhook @param {Call} [call] */
  create(queue, webhook, call) {
    return this.#http.post(path`/queues/${queue}/webhooks`, webhook, call);
  }

  /** @param {string} queue @param {string} id @param {Call} [call] */
  get(queue, id, call) {
    return this.#http.get(path`/queues/${queue}/webhooks/${id}`, call);
  }

  /** @param {string} queue @param {string} id @param {object} change @param {Call} [call] */
  update(queue, id, change, call) {
    return this.#http.patch(path`/queues/${queue}/webhooks/${id}`, change, call);
  }

  /** @param {string} queue @param {string} id @param {Call} [call] */
  async delete(queue, id, call) {
    await this.#http.delete(path`/queues/${queue}/webhooks/${id}`, call);
  }

  /** Sends a request at once, and answers what came of it. @param {string} queue @param {string} id @param {Call} [call] */
  test(queue, id, call) {
    return this.#http.post(path`/queues/${queue}/webhooks/${id}/test`, undefined, call);
  }

  /** @param {string} queue @param {string} id @param {any} [options] `limit` */
  deliveries(queue, id, options) {
    return pages(this.#http, path`/queues/${queue}/webhooks/${id}/deliveries`, ...split(options));
  }

  /** @param {string} queue @param {string} id @param {string} delivery @param {Call} [call] */
  redeliver(queue, id, delivery, call) {
    return this.#http.post(path`/queues/${queue}/webhooks/${id}/deliveries/${delivery}/redeliver`, undefined, call);
  }
}
