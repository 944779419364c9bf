/** The page's texts. */

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

const CAUSES = /** @type {Record<string, string>} */ ({
  TOO_MANY_STREAMS: "Too many live boards are open from here.",
  RATE_LIMIT_EXCEEDED: "Too many calls came from here in a short time.",
  SERVICE_UNAVAILABLE: "The service is busy.",
  NETWORK: "The service cannot be reached.",
  TIMEOUT: "The service does not answer.",
});

/** A gateway's own page means the same as no answer. @param {string | null | undefined} code */
function known(code) {
  return /^HTTP_5/.test(code ?? "") ? "NETWORK" : code ?? "";
}

/**
 * The cause of a board that is not live, and what the page does meanwhile; empty when it is live or paused.
 *
 * @param {string} state
 * @param {{code: string | null, reason: string | null}} refusal of the last try; the reason is the service's message
 */
export function connectionCause(state, { code, reason }) {
  if (state === "live" || state === "paused") return "";
  if (state === "refused") return "This board is for signed-in players.";
  const cause = CAUSES[known(code)] ?? reason ?? "";
  if (state !== "polling") return cause;
  return `${cause || "Live updates do not come through."} The board is read every few seconds.`;
}

/** Seconds and name of each unit, longest first. */
const UNITS = /** @type {[number, string][]} */ ([[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]]);

/** @param {number} seconds */
export function durationText(seconds) {
  const [size, unit] = UNITS.find(([length]) => seconds >= length * 1.5) ?? [1, "s"];
  return `${Math.ceil(seconds / size)} ${unit}`;
}

/** @param {number | "" | null} ms since the board last changed */
export function agoText(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return "not updated yet";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 5) return "updated just now";
  const [size, unit] = UNITS.find(([length]) => seconds >= length) ?? [1, "s"];
  // In steps of 5 s: a text that changes every second keeps an open page busy.
  return `updated ${size === 1 ? seconds - (seconds % 5) : Math.floor(seconds / size)} ${unit} ago`;
}

const REFUSALS = /** @type {Record<string, string>} */ ({
  COMPLETION_TIME: "The time taken does not count for this level.",
  CLOCK_MISMATCH: "The time measured here does not agree with the service's clock, so it did not count.",
  BURST: "That was a lot in a few seconds. Take a breath.",
  ACTION_TOKEN_EXPIRED: "The round did not reach the service in time. Start a new one.",
  INVALID_ACTION_TOKEN: "The service does not know this round. Start a new one.",
  SCORE_VALIDATION_FAILED: "The round claimed more points than it is worth.",
  ACTION_ALREADY_COMPLETED: "This round was counted before.",
  ACCOUNT_BANNED: "This account is banned.",
  INVALID_TOKEN: "You were signed out. Sign in to earn points.",
  TOKEN_EXPIRED: "You were signed out. Sign in to earn points.",
  QUEUE_FULL: "Too many rounds already wait to be sent.",
  SERVICE_UNAVAILABLE: "The service is busy right now.",
  RATE_LIMIT_EXCEEDED: "Too many rounds in a short time.",
  TOO_MANY_OPEN_ACTIONS: "Too many rounds are begun and not finished.",
  NETWORK: "The service cannot be reached.",
  TIMEOUT: "The service did not answer in time.",
});

/**
 * The text for a refused or rejected round.
 *
 * @param {string | null | undefined} code
 * @param {string} [message] the service's message
 */
export function refusalText(code, message) {
  return REFUSALS[known(code)] ?? message ?? "It did not count.";
}

/** Whether the service is unreachable or busy: the note goes when it answers again. @param {string} code */
export function isAway(code) {
  return ["NETWORK", "TIMEOUT", "SERVICE_UNAVAILABLE"].includes(known(code));
}

/**
 * The end of a wait, by the reader's own clock.
 *
 * @param {number | null | undefined} ms
 */
export function untilText(ms) {
  if (!ms) return "";
  const until = new Date(Date.now() + ms);
  return ` until ${until.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

/**
 * The text for a round outside of a time bound.
 *
 * @param {{bound: string, boundMs: number, actualMs: number} | null | undefined} broken the bound, as the service measured
 * @param {{tookMs: number, minTimeMs: number, maxTimeMs: number}} known the page's own figures, if the service did not say
 */
export function timeText(broken, { tookMs, minTimeMs, maxTimeMs }) {
  const isShort = broken ? broken.bound === "minimum" : tookMs < minTimeMs;
  const actual = secondsText(broken?.actualMs ?? tookMs);
  const bound = secondsText(broken?.boundMs ?? (isShort ? minTimeMs : maxTimeMs));
  if (isShort) return `Too quick: ${actual} is under the ${bound} this level takes at least.`;
  if (broken || tookMs > maxTimeMs) return `Too slow: ${actual} is over the ${bound} a round may take.`;
  return "Too slow: the round reached the service later than a round may take.";
}

/** @param {number} points */
export function pointsText(points) {
  return `${points.toLocaleString("en")} ${points === 1 ? "point" : "points"}`;
}

/** @param {number | null | undefined} change positive is up */
export function rankChangeText(change) {
  if (!change) return "";
  const places = Math.abs(change);
  return `${change > 0 ? "up" : "down"} ${places.toLocaleString("en")} ${places === 1 ? "place" : "places"}`;
}

/** @param {number} ms */
export function secondsText(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
