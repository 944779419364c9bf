/** How long to wait before trying again. */

/**
 * Exponential back-off with full jitter: anything up to min(cap, base · 2^attempt), so that
 * ten thousand browsers that lost the same server do not come back in the same instant.
 *
 * @param {number} attempt 0 for the first wait
 * @param {number} baseMs
 * @param {number} capMs
 */
export function backoff(attempt, baseMs, capMs) {
  // 2^16 is past every cap in use; it keeps the power from growing without a bound.
  return Math.random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16));
}

/**
 * The time a server asked for, plus up to a quarter (at most 5 s) so that those told the same come spread out.
 *
 * @param {number} retryAfterMs
 */
export function asked(retryAfterMs) {
  return retryAfterMs + Math.random() * Math.min(5_000, retryAfterMs / 4 + 250);
}

/** @param {number} ms @returns {Promise<void>} */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
