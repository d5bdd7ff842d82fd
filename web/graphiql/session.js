/**
 * Who asks. Tokens live in this page's memory and nowhere else: they end with it. An access token is renewed before it
 * ends; an API key stays as it is.
 */

/** Renewed when less than this is left. */
const MARGIN_MS = 30_000;

export class Session {
  #token = "";
  #refresh = null;
  #endsAt = Infinity;
  #renewing = null;

  /** @param {string} username @param {string} password */
  async login(username, password) {
    this.#keep(await post("/login", { username, password }));
  }

  /** @param {string} key */
  use(key) {
    this.#token = key;
    this.#refresh = null;
    this.#endsAt = Infinity;
  }

  /** Who it is, as the broker sees it: `{username, role}`. Throws where the broker does not know it. */
  async whoever() {
    const answer = await fetch("/users/me", { headers: await this.headers() });
    return read(answer);
  }

  async logout() {
    if (this.#refresh !== null) await fetch("/logout", { method: "POST", headers: await this.headers() });
  }

  /** An access token or API key that is good for a while yet. */
  async token() {
    if (this.#refresh !== null && Date.now() > this.#endsAt - MARGIN_MS) {
      this.#renewing ??= post("/refresh", { refresh_token: this.#refresh })
        .then((pair) => this.#keep(pair))
        .finally(() => (this.#renewing = null));
      await this.#renewing;
    }
    return this.#token;
  }

  async headers() {
    return { Authorization: `Bearer ${await this.token()}` };
  }

  #keep({ access_token, refresh_token, expires_in }) {
    this.#token = access_token;
    this.#refresh = refresh_token;
    this.#endsAt = Date.now() + expires_in * 1000;
  }
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return read(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function read(answer) {
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail);
  return document;
}
