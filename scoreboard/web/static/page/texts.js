/** What the page says, in plain words. */

const STATES = /** @type {Record<string, string>} */ ({
  connecting: "Reconnecting …",
  live: "Live",
  polling: "Polling",
  paused: "Paused",
  offline: "Offline",
  refused: "Sign in to watch",
  closed: "Disconnected",
});

/** @param {string} state @param {boolean} hasBeenLive */
export function stateText(state, hasBeenLive) {
  if (state === "connecting" && !hasBeenLive) return "Connecting …";
  return STATES[state] ?? state;
}

const UNITS = /** @type {[number, string][]} */ ([[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]]);

/** @param {string | null} at ISO time @param {number} now ms */
export function agoText(at, now) {
  if (!at) return "not updated yet";
  const seconds = Math.max(0, Math.round((now - Date.parse(at)) / 1000));
  if (!Number.isFinite(seconds)) return "not updated yet";
  if (seconds < 2) return "updated just now";
  const [size, unit] = UNITS.find(([length]) => seconds >= length) ?? [1, "s"];
  return `updated ${Math.floor(seconds / size)} ${unit} ago`;
}

const REFUSALS = /** @type {Record<string, string>} */ ({
  COMPLETION_TIME: "That was too quick or too slow to count.",
  CLOCK_MISMATCH: "The time measured here does not agree with the service's clock, so it did not count.",
  BURST: "That was a lot in a few seconds. Take a breath.",
  ACTION_TOKEN_EXPIRED: "The service did not hear of this round in time. Start a new one.",
  INVALID_ACTION_TOKEN: "The service did not recognise this round. Start a new one.",
  SCORE_VALIDATION_FAILED: "More points were claimed than this round is worth.",
  ACTION_ALREADY_COMPLETED: "This round was counted before.",
  ACCOUNT_BANNED: "This account is banned.",
  INVALID_TOKEN: "You were signed out. Sign in to earn points.",
  TOKEN_EXPIRED: "You were signed out. Sign in to earn points.",
  QUEUE_FULL: "Too many rounds wait to be sent already.",
  SERVICE_UNAVAILABLE: "The service is busy right now.",
  RATE_LIMIT_EXCEEDED: "That was faster than the service takes rounds.",
  TOO_MANY_OPEN_ACTIONS: "Too many rounds were begun and not finished.",
  NETWORK: "The service cannot be reached.",
  TIMEOUT: "The service did not answer in time.",
});

/**
 * Why a round did not count.
 *
 * @param {string | null | undefined} code
 * @param {string} [message] the service's own words
 */
export function refusalText(code, message) {
  return REFUSALS[code ?? ""] ?? message ?? "It did not count.";
}

/** Codes of what is over once the service answers again. */
export const UNREACHABLE = ["NETWORK", "TIMEOUT", "SERVICE_UNAVAILABLE"];

/**
 * Until when a round is kept, on the reader's own clock, whatever that shows.
 *
 * @param {number | null | undefined} ms
 */
export function untilText(ms) {
  if (!ms) return "";
  const until = new Date(Date.now() + ms);
  return ` until ${until.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

/** @param {number} points */
export function pointsText(points) {
  return `${points} ${points === 1 ? "point" : "points"}`;
}

/** @param {number | null | undefined} change positive is up */
export function rankChangeText(change) {
  if (!change) return "";
  const places = Math.abs(change);
  return `${change > 0 ? "up" : "down"} ${places} ${places === 1 ? "place" : "places"}`;
}

/** @param {number} ms */
export function secondsText(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
