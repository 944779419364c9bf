/**
 * Prefetched actions: the answer to a completion brings the action of the next round, so each round is one call.
 *
 * An action that is never played counts among the player's few open actions until it expires. So a completion prefetches
 * only until the next round begins, and never from the stored queue. A prefetched action waits for `start` while its clock
 * runs. It belongs to one tab, and a reload hands it to the next page in that tab.
 */

import { sleep } from "./backoff.js";
import { ApiError } from "./http.js";

/** @typedef {import("./types.js").Action} Action */
/** @typedef {import("./types.js").NextAction} NextAction */
/**
 * `answer` settles when the answer to the completion is there, or when the first try fails.
 *
 * @typedef {{actionId: string, wanted: Required<NextAction>, answer: Promise<unknown>, until: number}} Prefetch
 */
/** @typedef {{action: Action, key: string, arrivedAt: number}} Waiting `arrivedAt` by the device's clock, ms */

/** A user may have five open actions by default; the rounds being played in two tabs need some of them. */
const MAX_WAITING = 2;
/** A prefetch is for the round that follows at once. A completion that is sent later than this brings no action. */
const PREFETCH_MS = 60_000;
/** The longest wait of `start` for an answer that may bring the action. Most answers take a tenth of it. */
const ANSWER_MS = 2_000;
/** After this the page tries `next` again: a newer service may have replaced the one that refused it. */
const UNKNOWN_MS = 600_000;
/** The statuses of the same refusals of a request; 400 for all others. */
const STATUSES = /** @type {Record<string, number>} */ ({
  INVALID_TOKEN: 401,
  ACCOUNT_BANNED: 403,
  RATE_LIMIT_EXCEEDED: 429,
  TOO_MANY_OPEN_ACTIONS: 429,
  INTERNAL_ERROR: 500,
  SERVICE_UNAVAILABLE: 503,
});

export class NextActions {
  /** The newest completion that prefetches. @type {Prefetch | null} */
  #prefetch = null;
  /** Newest first. @type {Waiting[]} */
  #waiting = [];
  /** The kind that the completion on its way prefetches; null once another user has signed in. @type {NextAction | null} */
  #asked = null;
  /** One for all kinds: limits count a user's requests together. @type {{error: ApiError, until: number} | null} */
  #refusal = null;
  #unknownUntil = 0;
  #isTakenOver = false;

  /**
   * @param {{baseUrl: string, clock: import("./clock.js").Clock, userId: () => string | undefined}} setup
   */
  constructor(setup) {
    this.setup = setup;
    this.onPageHide = this.onPageHide.bind(this);
    this.onPageShow = this.onPageShow.bind(this);
    window.addEventListener("pagehide", this.onPageHide);
    window.addEventListener("pageshow", this.onPageShow);
  }

  close() {
    window.removeEventListener("pagehide", this.onPageHide);
    window.removeEventListener("pageshow", this.onPageShow);
  }

  /** Forget the last user's actions and refusal. */
  clear() {
    this.#prefetch = this.#asked = this.#refusal = null;
    this.#waiting = [];
  }

  /**
   * Let the completion of this action prefetch.
   *
   * @param {string} actionId
   * @param {NextAction} wanted
   * @param {Promise<unknown>} answer to the completion
   */
  prefetchWith(actionId, { actionType, metadata = {} }, answer) {
    this.#takeOver();
    this.#prune();
    this.#prefetch = null;
    const now = performance.now();
    if (this.#waiting.length >= MAX_WAITING || now < this.#unknownUntil) return;
    this.#prefetch = { actionId, wanted: { actionType, metadata }, answer, until: now + PREFETCH_MS };
  }

  /** The kind of action that this action's completion prefetches, if any. @param {string} actionId */
  wantedWith(actionId) {
    const prefetch = this.#prefetch;
    if (prefetch?.actionId !== actionId || performance.now() > prefetch.until) return undefined;
    this.#asked = prefetch.wanted;
    return prefetch.wanted;
  }

  /**
   * Take the next action, or its refusal, from an answer.
   *
   * @param {Required<NextAction>} wanted
   * @param {any} told the answer's `next`; undefined from a service that does not know it
   * @returns {Action | ApiError | undefined} undefined when the answer has neither
   */
  answered(wanted, told) {
    if (wanted !== this.#asked) return undefined;
    this.#prefetch = null;
    if (told?.error) {
      const error = refusalOf(told.error);
      if (error.retryAfterMs) this.#refusal = { error, until: performance.now() + error.retryAfterMs };
      return error;
    }
    if (!told?.actionToken) return undefined; // A repeated completion whose next action has been played, or expired.
    this.setup.clock.learn(told.issuedAt);
    const action = { ...told, ...wanted, startedAt: performance.now() };
    this.#refusal = null;
    this.forget(action.actionId);
    this.#waiting.unshift({ action, key: keyOf(wanted), arrivedAt: Date.now() });
    return action;
  }

  /**
   * Whether an older service refused the completion because it does not know `next`. Then no completion prefetches for a
   * while, and this one may be sent again without it.
   *
   * @param {unknown} error
   */
  isUnknown(error) {
    const fields = error instanceof ApiError && error.status === 400 ? Object.keys(error.details.fields ?? {}) : [];
    if (!fields.some((field) => field === "next" || field.startsWith("next."))) return false;
    this.#prefetch = null;
    this.#unknownUntil = performance.now() + UNKNOWN_MS;
    return true;
  }

  /**
   * A round begins. Resolves when the answer that may bring its action is there, or after a bounded wait.
   *
   * @param {NextAction} wanted
   */
  async begin(wanted) {
    this.#takeOver();
    const prefetch = this.#prefetch;
    if (prefetch && keyOf(prefetch.wanted) === keyOf(wanted)) {
      await Promise.race([prefetch.answer, sleep(ANSWER_MS)]).catch(() => {}); // The caller of `finish` handles a refusal.
    }
    this.#prefetch = null;
  }

  /**
   * Remove and return the newest waiting action of this kind.
   *
   * @param {NextAction} wanted
   * @param {number} [maxWaitedMs] pass over actions that have waited for longer
   * @returns {Action | undefined}
   */
  take(wanted, maxWaitedMs = Infinity) {
    this.#prune();
    const key = keyOf(wanted);
    const found = this.#waiting.find((waiting) => waiting.key === key && this.#waitedMs(waiting) <= maxWaitedMs);
    if (!found) return undefined;
    this.forget(found.action.actionId);
    return { ...found.action, startedAt: performance.now(), waitedMs: this.#waitedMs(found) };
  }

  /** Throw the refusal of the last prefetch until its wait is over: a request would meet the same one. */
  check() {
    const leftMs = (this.#refusal?.until ?? 0) - performance.now();
    if (!this.#refusal || leftMs <= 0) return;
    const { status, code, message, details } = this.#refusal.error;
    throw new ApiError(status, code, message, details, leftMs);
  }

  /** Remove an action, however the caller got it. @param {string} actionId */
  forget(actionId) {
    this.#waiting = this.#waiting.filter(({ action }) => action.actionId !== actionId);
  }

  /**
   * How long the action's clock has run, ms. The monotonic clock may stand still while the device sleeps, and users set the
   * device's clock. The longest time counts, because an old action that is taken for a new one loses a round.
   *
   * @param {Waiting} waiting
   */
  #waitedMs({ action, arrivedAt }) {
    const byService = this.setup.clock.now() - Date.parse(action.issuedAt);
    return Math.max(0, performance.now() - action.startedAt, Date.now() - arrivedAt, byService);
  }

  /** Drop actions with less than half of their life left: a round has to fit in. */
  #prune() {
    this.#waiting = this.#waiting.filter((waiting) => {
      const { issuedAt, expiresAt } = waiting.action;
      return this.#waitedMs(waiting) < (Date.parse(expiresAt) - Date.parse(issuedAt)) / 2;
    });
  }

  // -- over a reload -----------------------------------------------------------------

  get #storageKey() {
    return `scoreboard:next:${this.setup.baseUrl}`;
  }

  /**
   * Store the waiting actions for the next page in this tab. Not earlier: a duplicated tab copies the storage, and two tabs
   * that play the same action lose a round.
   */
  onPageHide() {
    const userId = this.setup.userId();
    try {
      if (userId && this.#waiting.length) {
        sessionStorage.setItem(this.#storageKey, JSON.stringify({ userId, waiting: this.#waiting }));
      }
    } catch {
      // Storage is refused: the actions expire unplayed.
    }
  }

  /**
   * A page that returns from the back-forward cache keeps the actions that no other page has taken.
   *
   * @param {PageTransitionEvent} event
   */
  onPageShow({ persisted }) {
    if (!persisted) return;
    const left = new Set(this.#unstore().map(({ action }) => action.actionId));
    this.#waiting = this.#waiting.filter(({ action }) => left.has(action.actionId));
  }

  /** Take the actions that the last page in this tab stored. Their age needs the service's clock. */
  #takeOver() {
    if (this.#isTakenOver || !this.setup.clock.isSet) return;
    this.#isTakenOver = true;
    for (const { action, key, arrivedAt } of this.#unstore()) {
      const waitedMs = Math.max(0, this.setup.clock.now() - Date.parse(action.issuedAt));
      this.#waiting.push({ key, arrivedAt, action: { ...action, startedAt: performance.now() - waitedMs } });
    }
  }

  /** @returns {Waiting[]} */
  #unstore() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.#storageKey) ?? "null");
      sessionStorage.removeItem(this.#storageKey);
      return kept?.userId === this.setup.userId() ? kept.waiting : [];
    } catch {
      return [];
    }
  }
}

/** Identifies the type and metadata of an action. @param {NextAction} wanted */
function keyOf({ actionType, metadata = {} }) {
  return JSON.stringify([actionType, metadata]);
}

/** @param {{code: string, message: string, details?: Record<string, any>}} error */
function refusalOf({ code, message, details = {} }) {
  const retryAfterMs = typeof details.retryAfter === "number" ? details.retryAfter * 1_000 : null;
  return new ApiError(STATUSES[code] ?? 400, code, message, details, retryAfterMs);
}
