/** What the broker refuses, as an error (RFC 9457). */

/**
 * @typedef {{pointer: string, detail: string}} FieldError
 * @typedef {{status?: number, code?: string, title?: string, detail?: string, retryable?: boolean,
 *   retry_after_ms?: number, errors?: FieldError[], instance?: string}} ProblemBody
 */

export class Problem extends Error {
  /** @param {ProblemBody} body */
  constructor(body) {
    super(body.detail || body.title || body.code || "problem");
    this.name = "Problem";
    /** the HTTP status; 0 when the broker did not answer at all */
    this.status = body.status ?? 0;
    /** one of the contract's stable codes, or `unreachable` */
    this.code = body.code ?? "internal";
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    this.retryable = body.retryable ?? false;
    /** @type {number | null} */
    this.retryAfterMs = body.retry_after_ms ?? null;
    /** @type {FieldError[]} */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
  }
}

/**
 * The problem that a refusing answer carries; made up from the status when its body is something else.
 * @param {Response} answer @returns {Promise<Problem>}
 */
export async function problemOf(answer) {
  /** @type {ProblemBody} */
  let body = {};
  try {
    const read = await answer.json();
    if (read && typeof read === "object") body = read;
  } catch {
    // A proxy's HTML page, or nothing: the status must do.
  }
  const title = body.title ?? (answer.statusText || `HTTP ${answer.status}`);
  return new Problem({ ...body, title, status: answer.status });
}

/**
 * The broker could not be reached. An aborted request stays what it is: nobody waits for its answer.
 * @param {unknown} error @returns {unknown}
 */
export function unreachable(error) {
  if (error instanceof DOMException && error.name === "AbortError") return error;
  return new Problem({ status: 0, code: "unreachable", retryable: true });
}
