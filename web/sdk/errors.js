/**
 * What can go wrong, as errors: one class for each `code` that the broker answers with (RFC 9457), and three of this
 * side's own. A program looks at the class or at `code`; `detail` is for people.
 */

/**
 * @typedef {{pointer: string, detail: string}} FieldError
 * @typedef {{status?: number, code?: string, title?: string, detail?: string, retryable?: boolean,
 *   retry_after_ms?: number, errors?: FieldError[], instance?: string}} ProblemBody
 */

/** Base of all errors of this library. */
export class StreambrokerError extends Error {
  /** @param {ProblemBody} [body] @param {{cause?: unknown}} [options] */
  constructor(body = {}, options) {
    super(body.detail || body.title || body.code || "problem", options);
    this.name = new.target.name;
    /** the HTTP status; 0 where no answer came */
    this.status = body.status ?? 0;
    /** one of the contract's stable codes, or `unreachable`, `timed_out`, `closed` */
    this.code = body.code ?? "internal";
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    /** whether the same call, as it is, can succeed later */
    this.retryable = body.retryable ?? false;
    /** @type {number | null} when it can, where the broker has an idea */
    this.retryAfterMs = body.retry_after_ms ?? null;
    /** @type {FieldError[]} what was wrong in the request, by RFC 6901 pointers */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    /** names the request in the broker's log */
    this.instance = body.instance ?? "";
  }
}

/** 400: not JSON, or a body that is missing. */
export class Malformed extends StreambrokerError {}
/** 401: no token, or one that is not good any more. */
export class Unauthenticated extends StreambrokerError {}
/** 403: you may know of it, but not do this with it. */
export class Forbidden extends StreambrokerError {}
/** 404: it does not exist, or you may not know that it does. */
export class NotFound extends StreambrokerError {}
/** 405 */
export class MethodNotAllowed extends StreambrokerError {}
/** 409: it is there with another configuration, or in another state. */
export class Conflict extends StreambrokerError {}
/** 409: settled without a lease, and nobody is processing it. */
export class NotProcessing extends StreambrokerError {}
/** 409: the message was given to somebody else, or back to the queue. */
export class LeaseLost extends StreambrokerError {}
/** 409: the lease was used already, for another verdict. */
export class AlreadySettled extends StreambrokerError {}
/** 409: another one used the same refresh token in the same moment. */
export class RefreshRaced extends StreambrokerError {}
/** 408: the request did not come to its end in time; nothing of it was done. */
export class RequestTimeout extends StreambrokerError {}
/** 413, 414, 431 */
export class TooLarge extends StreambrokerError {}
/** 415 */
export class UnsupportedMediaType extends StreambrokerError {}
/** 422: a value is not allowed; `errors` says which. */
export class Invalid extends StreambrokerError {}
/** 429: certainly not done; `retryAfterMs` says when it can be. */
export class RateLimited extends StreambrokerError {}
/** 503: the broker is stopping. */
export class Draining extends StreambrokerError {}
/** 503: more to do than it may hold, or still starting. */
export class Overloaded extends StreambrokerError {}
/** 507: the disk is full; certainly not stored. */
export class StorageFull extends StreambrokerError {}
/** 507: the queue is full; certainly not stored. */
export class QueueFull extends StreambrokerError {}
/** 500: a fault of the broker's; what became of the request is unknown. */
export class Internal extends StreambrokerError {}

/** No answer came: no connection, or one that was cut. What became of the request is unknown. */
export class Unreachable extends StreambrokerError {
  /** @param {unknown} [cause] */
  constructor(cause) {
    super({ code: "unreachable", title: "the broker cannot be reached", retryable: true }, { cause });
  }
}

/** The call's time was over before its answer came. What became of the request is unknown. */
export class TimedOut extends StreambrokerError {
  /** @param {unknown} [cause] what went wrong last */
  constructor(cause) {
    super({ code: "timed_out", title: "no answer in time", retryable: true }, { cause });
  }
}

/** The client was closed. */
export class Closed extends StreambrokerError {
  constructor() {
    super({ code: "closed", title: "the client is closed" });
  }
}

/** Thrown by a `work` handler: the message must not come back. It becomes `failed`, or a dead letter. */
export class Reject extends Error {
  name = "Reject";
}

/** @type {Record<string, new (body: ProblemBody) => StreambrokerError>} */
const BY_CODE = {
  malformed: Malformed,
  unauthenticated: Unauthenticated,
  forbidden: Forbidden,
  not_found: NotFound,
  method_not_allowed: MethodNotAllowed,
  conflict: Conflict,
  not_processing: NotProcessing,
  lease_lost: LeaseLost,
  already_settled: AlreadySettled,
  refresh_raced: RefreshRaced,
  request_timeout: RequestTimeout,
  too_large: TooLarge,
  unsupported_media_type: UnsupportedMediaType,
  invalid: Invalid,
  rate_limited: RateLimited,
  draining: Draining,
  overloaded: Overloaded,
  storage_full: StorageFull,
  queue_full: QueueFull,
  internal: Internal,
};

/** The error for a problem document; a code of tomorrow is a plain `StreambrokerError`. @param {ProblemBody} body */
export function errorOf(body) {
  const kind = body.code && Object.hasOwn(BY_CODE, body.code) ? BY_CODE[body.code] : StreambrokerError;
  return new kind(body);
}

/**
 * The error that a refusing answer carries; made up from the status when its body is something else.
 * @param {Response} answer @returns {Promise<StreambrokerError>}
 */
export async function errorFrom(answer) {
  /** @type {ProblemBody} */
  let body = {};
  try {
    const read = await answer.json();
    if (read && typeof read === "object") body = read;
  } catch {
    // A proxy's HTML page, or nothing: the status must do.
  }
  const title = body.title ?? (answer.statusText || `HTTP ${answer.status}`);
  // A proxy in between says 502 to 504 while the broker behind it starts again.
  const retryable = body.retryable ?? [408, 429, 502, 503, 504].includes(answer.status);
  return errorOf({ ...body, title, retryable, status: answer.status });
}
