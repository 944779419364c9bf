/** Waits before the next try. */

/**
 * Exponential back-off with full jitter: a random wait of up to min(cap, base · 2^attempt). So ten thousand browsers that
 * lost the same server do not come back at the same instant.
 *
 * @param {number} attempt 0 for the first wait
 * @param {number} baseMs
 * @param {number} capMs
 */
export function backoff(attempt, baseMs, capMs) {
  // 2^16 is over every cap in use, and bounds the power.
  return Math.random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16));
}

/**
 * The wait that a server asked for, plus a random part of up to a quarter (at most 5 s): browsers that got the same wait
 * come back spread out.
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
