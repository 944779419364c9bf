/** One HTTP call: JSON in and out, a bounded wait, and failures as one kind of error. */

/** A longer wait comes from a wrong clock and is cut. */
const LONGEST_RETRY_AFTER_MS = 3_600_000;

/** A refusal by the service, or no answer at all (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status 0 when the service could not be reached
   * @param {string} code the service's stable code, `NETWORK` or `TIMEOUT`
   * @param {string} message
   * @param {Record<string, any>} [details]
   * @param {number | null} [retryAfterMs]
   */
  constructor(status, code, message, details = {}, retryAfterMs = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.details = details;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the very same call may succeed later. */
  get isTransient() {
    return this.status === 0 || this.status === 408 || this.status === 425 || this.status === 429 || this.status >= 500;
  }
}

/**
 * @typedef {object} CallOptions
 * @property {unknown} [body] sent as JSON
 * @property {Record<string, string>} [headers]
 * @property {RequestCredentials} [credentials]
 * @property {RequestCache} [cache]
 * @property {number} [timeoutMs]
 * @property {(response: Response) => void} [onResponse] called with every answer, whatever its status
 */

/**
 * Call the service and unwrap `{success, data}`; raises ApiError for everything else.
 *
 * @param {string} url
 * @param {string} method
 * @param {CallOptions} options
 * @returns {Promise<{data: any, response: Response}>}
 */
export async function call(url, method, { body, headers = {}, credentials, cache, timeoutMs = 15_000, onResponse }) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      credentials,
      cache,
      signal: abort.signal,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    onResponse?.(response);
    const answer = await response.json().catch((error) => {
      if (abort.signal.aborted) throw error;
      return null;
    });
    if (response.ok && answer?.success) return { data: answer.data, response };
    throw refusal(response, answer);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw abort.signal.aborted
      ? new ApiError(0, "TIMEOUT", "The service did not answer in time.")
      : new ApiError(0, "NETWORK", "The service cannot be reached.");
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Response} response
 * @param {any} answer the parsed body, or null where it was no JSON (a proxy's page)
 */
export function refusal(response, answer) {
  const error = answer?.error ?? {};
  const status = response.ok ? 502 : response.status;
  const message = error.message ?? `The service answered with status ${response.status}.`;
  const code = error.code ?? `HTTP_${status}`;
  return new ApiError(status, code, message, error.details ?? {}, retryAfter(response, error));
}

/**
 * Retry-After in ms, from the header or the body: other origins can read the header only where CORS exposes it.
 *
 * @param {Response} response
 * @param {{details?: Record<string, any>}} error
 */
function retryAfter(response, error) {
  const header = response.headers.get("Retry-After");
  const seconds = Number(header ?? error.details?.retryAfter ?? NaN);
  // A date in Retry-After goes by the clock of the answer's Date.
  const sentAt = Date.parse(response.headers.get("Date") ?? "") || Date.now();
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header ?? "") - sentAt;
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), LONGEST_RETRY_AFTER_MS) : null;
}
