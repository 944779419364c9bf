/**
 * The next action, which the answer to a completion brings: so play after play is one call each.
 *
 * A completion asks for it only while nobody has begun the next round in another way, and never from the stored queue: an
 * action that nobody plays would hold one of the player's few open actions until it expires. What came waits for `start`,
 * its clock running. It belongs to one tab; over a reload it is handed to the next page in that tab.
 */

import { sleep } from "./backoff.js";
import { ApiError } from "./http.js";

/** @typedef {import("./types.js").Action} Action */
/** @typedef {import("./types.js").NextAction} NextAction */
/** @typedef {{actionId: string, wanted: Required<NextAction>, until: number}} Wish */
/** @typedef {{action: Action, key: string, arrivedAt: number}} Waiting `arrivedAt` by the device's clock, ms */

/** A user may have five open actions by default; the rounds being played in two tabs need some of them. */
const MAX_WAITING = 2;
/** A wish is for the round that follows at once; a completion that gets through later than this brings no action. */
const WISH_MS = 60_000;
/** `start` waits so long for an answer that is on the road and may bring the action. Most answers take a tenth of it. */
const ANSWER_MS = 2_000;
/** A service without `next` is asked again after this: it may have been replaced by a newer one. */
const UNKNOWN_MS = 600_000;
/** With which status `request` refuses so; 400 for all others. */
const STATUSES = /** @type {Record<string, number>} */ ({
  INVALID_TOKEN: 401,
  ACCOUNT_BANNED: 403,
  RATE_LIMIT_EXCEEDED: 429,
  TOO_MANY_OPEN_ACTIONS: 429,
  INTERNAL_ERROR: 500,
  SERVICE_UNAVAILABLE: 503,
});

export class NextActions {
  /** What the newest completion asks for. @type {Wish | null} */
  #wish = null;
  /** The completion that is being sent; its answer settles once it is there or will not come now. */
  #coming = { actionId: "", answer: /** @type {Promise<unknown>} */ (Promise.resolve()) };
  /** Newest first. @type {Waiting[]} */
  #waiting = [];
  /** Limits count a user's requests of all kinds together. @type {{error: ApiError, until: number} | null} */
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

  /** Forget everything: it was another user's. */
  clear() {
    this.#wish = null;
    this.#waiting = [];
    this.#refusal = null;
  }

  /** Have the completion of this action ask for one. @param {string} actionId @param {Required<NextAction>} wanted */
  wish(actionId, wanted) {
    this.#takeOver();
    this.#prune();
    const now = performance.now();
    const isFull = this.#waiting.length >= MAX_WAITING;
    this.#wish = isFull || now < this.#unknownUntil ? null : { actionId, wanted, until: now + WISH_MS };
  }

  /** What the completion of this action asks for now. @param {string} actionId */
  wishOf(actionId) {
    const wish = this.#wish;
    return wish?.actionId === actionId && performance.now() < wish.until ? wish.wanted : undefined;
  }

  /** Have `start` wait for the answer to this completion. @param {string} actionId @param {Promise<unknown>} answer */
  expect(actionId, answer) {
    this.#coming = { actionId, answer };
  }

  /**
   * Take up what an answer said of the next action.
   *
   * @param {Required<NextAction>} wanted
   * @param {any} told the answer's `next`; undefined from a service that does not know it
   * @returns {Action | ApiError | undefined} undefined where there is neither an action nor a refusal
   */
  answered(wanted, told) {
    this.#wish = null;
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
   * Whether a completion was refused because this service does not know `next`, as an older one beside it may not: then
   * none asks for a while, and the completion may be sent again without.
   *
   * @param {unknown} error
   */
  isUnknown(error) {
    const fields = error instanceof ApiError && error.status === 400 ? Object.keys(error.details.fields ?? {}) : [];
    if (!fields.some((field) => field === "next" || field.startsWith("next."))) return false;
    this.#wish = null;
    this.#unknownUntil = performance.now() + UNKNOWN_MS;
    return true;
  }

  /**
   * A round begins: resolves once no answer on the road may bring its action. One that comes later need not.
   *
   * @param {NextAction} wanted
   */
  async begin(wanted) {
    this.#takeOver();
    const wish = this.#wish;
    const isComing = wish?.actionId === this.#coming.actionId && keyOf(wish.wanted) === keyOf(wanted);
    if (isComing) await Promise.race([this.#coming.answer, sleep(ANSWER_MS)]);
    this.#wish = null;
  }

  /**
   * The action that waits for a round of this kind, the newest first; from now on it is the caller's.
   *
   * @param {NextAction} wanted
   * @param {number} [maxWaitedMs] pass over those that have waited for longer
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

  /** Throw the refusal that came in an action's place, while it holds: a request would meet the same. */
  check() {
    const leftMs = (this.#refusal?.until ?? 0) - performance.now();
    if (!this.#refusal || leftMs <= 0) return;
    const { status, code, message, details } = this.#refusal.error;
    throw new ApiError(status, code, message, details, leftMs);
  }

  /** It is being completed, by whatever way it came to the caller. @param {string} actionId */
  forget(actionId) {
    this.#waiting = this.#waiting.filter(({ action }) => action.actionId !== actionId);
  }

  /**
   * How long its clock has run. The monotonic clock may stand still while the device sleeps and the device's own may be
   * set: the clock that says most is believed, because taking an old action for a new one would lose a round.
   *
   * @param {Waiting} waiting
   */
  #waitedMs({ action, arrivedAt }) {
    const byService = this.setup.clock.now() - Date.parse(action.issuedAt);
    return Math.max(0, performance.now() - action.startedAt, Date.now() - arrivedAt, byService);
  }

  /** Drop those with less than half of their life left: a round has to fit in. */
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
   * Leave what waits to the next page in this tab. Only now: the storage of a tab is copied with the tab, and two tabs that
   * play one action lose a round.
   */
  onPageHide() {
    const userId = this.setup.userId();
    try {
      if (userId && this.#waiting.length) {
        sessionStorage.setItem(this.#storageKey, JSON.stringify({ userId, waiting: this.#waiting }));
      }
    } catch {
      // Then they expire unplayed.
    }
  }

  /** A page that comes back as it was has what no other page took meanwhile. @param {PageTransitionEvent} event */
  onPageShow({ persisted }) {
    if (!persisted) return;
    const left = new Set(this.#unstore().map(({ action }) => action.actionId));
    this.#waiting = this.#waiting.filter(({ action }) => left.has(action.actionId));
  }

  /** Take over what the last page in this tab left; how old that is only the service's clock can say. */
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

/** What tells one kind of round from another. @param {NextAction} wanted */
function keyOf({ actionType, metadata = {} }) {
  return JSON.stringify([actionType, metadata]);
}

/** @param {{code: string, message: string, details?: Record<string, any>}} error */
function refusalOf({ code, message, details = {} }) {
  const retryAfterMs = typeof details.retryAfter === "number" ? details.retryAfter * 1_000 : null;
  return new ApiError(STATUSES[code] ?? 400, code, message, details, retryAfterMs);
}
