/**
 * The queue of completions that have no answer yet.
 *
 * Each completion is stored before the first try and sent with the very same body until there is an answer. The service
 * counts an action once, so a repeat is safe. Each entry has its own storage key, so tabs do not overwrite each other.
 *
 * The service takes a completion only while its action's token lives, by its own clock. A completion that was never sent
 * by then is dropped. A completion that was sent without an answer may have been taken: its points are no longer pending,
 * but the module goes on sending the same body for a day, which brings the first answer.
 */

import { ApiError } from "./http.js";
import { asked, backoff, sleep } from "./backoff.js";
import { keys, read, remove, write } from "./storage.js";

/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {{actionId: string, actionToken: string, proof: object, onBehalfOf?: string}} Body */
/**
 * `addedAt` and `expiresAt` in ms since 1970 by the service's clock. `isInDoubt`: the entry was sent, and no answer says
 * that the service did not take it.
 *
 * @typedef {{body: Body, points: number, addedAt: number, expiresAt: number, tab: string, isInDoubt?: boolean}} Entry
 */

/** A user has a few open actions at a time: more than this in the queue is no honest play. */
const MAX_QUEUED = 20;
/** No action token lives longer than a day. The module asks for the first answer that long. */
const MAX_AGE_MS = 86_400_000;
/** The last try is this long before the end: latency, and the difference between the two clocks. */
const LAST_TRY_MS = 3_000;
/** The tab that stored an entry sends it. After this time any tab does. */
const ORPHAN_MS = 60_000;
/** The service takes one completion a second from a user. */
const SPACING_MS = 1_100;
const RETRY_BASE_MS = 1_500;
const RETRY_CAP_MS = 60_000;
/** `Prefer: wait=5` and the network's latency. */
const ANSWER_MS = 15_000;
const WAIT_S = 5;
/** An accepted action is settled within seconds. Polling stops after about two minutes; the stream may still tell. */
const STATUS_TRIES = 6;
export const EXPIRED = "ACTION_TOKEN_EXPIRED";
/** Refusals that another try with a fresh token or cookie may pass. */
const CURABLE = new Set(["CSRF_FAILED"]);

export class Completions {
  #tab = tabName();
  #isDraining = false;
  #failures = 0;
  #lastSentAt = -SPACING_MS;
  /** No try before this time, which the service named, even if the network comes back earlier. */
  #notBefore = 0;
  #refusedWith = "";
  /** The action whose completion is being sent. */
  #sending = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Map<string, {resolve: (outcome: Outcome) => void, reject: (error: unknown) => void, outcome?: Outcome}>} */
  #waiting = new Map();
  /** @type {Set<string>} */
  #unsettled = new Set();
  /** When actions of this page's own life expire, by `performance.now()`. @type {Map<string, number>} */
  #deadlines = new Map();
  /** Actions whose points are no longer pending. @type {Set<string>} */
  #lapsed = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #lapseTimer;

  /**
   * @param {{session: import("./session.js").Session, clock: import("./clock.js").Clock,
   *   next: import("./next.js").NextActions, emit: (type: string, detail: any) => void,
   *   onOutcome: (outcome: Outcome) => void, onLapse: (actionId: string) => void}} setup `onLapse`: too late, and it is
   *   unknown whether the service took the completion
   */
  constructor(setup) {
    this.setup = setup;
    this.flush = this.flush.bind(this);
    window.addEventListener("online", this.flush);
  }

  close() {
    window.removeEventListener("online", this.flush);
    clearTimeout(this.#timer);
    clearTimeout(this.#lapseTimer);
  }

  get size() {
    return this.#entries().length;
  }

  /** Pending points by action. @returns {[string, number][]} */
  expected() {
    const deliverable = this.#entries().filter((entry) => this.#leftMs(entry) > 0);
    return deliverable.map(({ body, points }) => [body.actionId, points]);
  }

  /**
   * Store and send. Resolves with the first answer, or with status `queued` when there is none now. Throws ApiError when
   * no user is signed in or the queue is full.
   *
   * @param {Body} body
   * @param {{points: number, leftMs: number}} expected points for the optimistic score; the rest of the token's life
   * @returns {Promise<Outcome>}
   */
  add(body, { points, leftMs }) {
    if (!this.setup.session.user) throw new ApiError(401, "INVALID_TOKEN", "No user is signed in.");
    if (this.size >= MAX_QUEUED) throw new ApiError(0, "QUEUE_FULL", "Too many completions are waiting to be sent.");
    const now = this.setup.clock.now();
    this.#deadlines.set(body.actionId, performance.now() + leftMs);
    this.#keep({ body, points, addedAt: now, expiresAt: now + leftMs, tab: this.#tab });
    this.#emitQueue();
    const answer = new Promise((resolve, reject) => this.#waiting.set(body.actionId, { resolve, reject }));
    this.flush();
    return /** @type {Promise<Outcome>} */ (answer);
  }

  /** An event or an answer brings an outcome. @param {Outcome} outcome */
  settled(outcome) {
    this.#unsettled.delete(outcome.actionId);
    const waiting = this.#waiting.get(outcome.actionId);
    if (waiting) waiting.outcome = outcome;
    this.#drop(outcome.actionId);
  }

  /** Send the queue, oldest first, one at a time. */
  async flush() {
    if (this.#isDraining || !this.setup.session.user) return;
    this.#lapse();
    const early = this.#notBefore - performance.now();
    if (early > 0) {
      this.#schedule(early + 1); // Timers drop fractions of a millisecond, so the last one may have come too early.
      return this.#postpone(this.#refusedWith, early);
    }
    this.#isDraining = true;
    clearTimeout(this.#timer);
    try {
      for (let entry = this.#nextEntry(); entry; entry = this.#nextEntry()) {
        if (!(await this.#send(entry))) return;
      }
    } finally {
      this.#isDraining = false;
      if (this.size && !this.#failures) this.#schedule(ORPHAN_MS);
    }
  }

  /** @param {Entry} entry @returns {Promise<boolean>} whether the next may be sent */
  async #send(entry) {
    const { actionId } = entry.body;
    await sleep(Math.max(0, this.#lastSentAt + SPACING_MS - performance.now()));
    this.#lastSentAt = performance.now();
    // Before sending: the page may be closed before the answer.
    this.#markInDoubt(entry, true);
    this.#sending = actionId;
    // `next` is not stored: for the service a completion is the same with and without it.
    const next = this.setup.next.wantedWith(actionId);
    try {
      const { data } = await this.setup.session.call("POST", "/v1/actions/complete", {
        body: next ? { ...entry.body, next } : entry.body,
        headers: { Prefer: `wait=${WAIT_S}` },
        timeoutMs: ANSWER_MS,
      });
      this.#failures = 0;
      const { next: told, ...outcome } = data;
      this.#answered({ ...outcome, actionId }, next && this.setup.next.answered(next, told));
      return true;
    } catch (error) {
      this.#markInDoubt(entry, Boolean(entry.isInDoubt) || !isUntaken(error));
      this.#sending = "";
      if (next && this.setup.next.isUnknown(error)) return true; // The same entry is sent again, without it.
      return this.#failed(entry, error);
    } finally {
      this.#sending = "";
    }
  }

  /** @param {Outcome} outcome @param {Outcome["next"]} next */
  #answered(outcome, next) {
    this.#drop(outcome.actionId);
    this.#waiting.get(outcome.actionId)?.resolve(next ? { ...outcome, next } : outcome);
    this.#waiting.delete(outcome.actionId);
    if (outcome.status === "accepted") this.#follow(outcome);
    else this.setup.onOutcome(outcome);
  }

  /** @param {Entry} entry @param {unknown} error @returns {boolean} whether the next may be sent */
  #failed(entry, error) {
    const { actionId } = entry.body;
    const isPermanent = error instanceof ApiError && error.status !== 401 && !error.isTransient;
    if (isPermanent && !(CURABLE.has(error.code) && this.#failures < 3)) {
      this.#giveUp(actionId, error);
      return true;
    }
    this.#failures += 1;
    const isTold = error instanceof ApiError && error.retryAfterMs;
    this.#refusedWith = error instanceof ApiError ? error.code : "NETWORK";
    const wait = this.#nextWait(entry, error);
    this.#notBefore = isTold ? performance.now() + wait : 0;
    // The limit lasts longer than the token: drop the completion now.
    if (error instanceof ApiError && error.status === 429) this.#lapse(wait, error);
    else this.#lapse();
    this.#schedule(wait);
    this.#postpone(this.#refusedWith, wait);
    return false;
  }

  /** @param {Entry} entry @param {unknown} error @returns {number} ms before the next try */
  #nextWait(entry, error) {
    const own = backoff(this.#failures, RETRY_BASE_MS, RETRY_CAP_MS) + SPACING_MS;
    const told = error instanceof ApiError ? error.retryAfterMs : null;
    const wait = told ? Math.max(own, asked(told)) : own;
    const isLimited = error instanceof ApiError && error.status === 429;
    // A busy or unreachable service may be back just in time.
    const last = this.#leftMs(entry) - LAST_TRY_MS;
    return last > SPACING_MS && !isLimited ? Math.min(wait, last) : wait;
  }

  /** The service refused the completion for good. @param {string} actionId @param {ApiError} error */
  #giveUp(actionId, error) {
    this.#drop(actionId);
    this.#waiting.get(actionId)?.reject(error);
    this.#waiting.delete(actionId);
    this.setup.emit("dropped", { actionId, code: error.code, message: error.message, details: error.details });
  }

  /**
   * Drop the completions that are too late, and make the points of those in doubt no longer pending.
   *
   * @param {number} [withinMs] also those that have no more than this of their life left
   * @param {ApiError} [why]
   */
  #lapse(withinMs = 0, why = new ApiError(400, EXPIRED, "The completion did not reach the service in time.")) {
    for (const entry of this.#entries()) {
      const { actionId } = entry.body;
      const isOver = this.#leftMs(entry) <= withinMs && this.#isMine(entry) && !this.#lapsed.has(actionId);
      // The answer to the present try will tell.
      if (!isOver || actionId === this.#sending) continue;
      // After a reload only the device's clock is known, which may be wrong: ask the service.
      const isSure = this.#deadlines.has(actionId) || this.setup.clock.isSet;
      if (isSure && !entry.isInDoubt) {
        this.#giveUp(actionId, why);
      } else {
        this.#lapsed.add(actionId);
        this.setup.onLapse(actionId);
      }
    }
    const left = this.#entries().map((entry) => this.#leftMs(entry)).filter((ms) => ms > 0);
    clearTimeout(this.#lapseTimer);
    // A timer may fire a fraction of a millisecond too early. No token lives longer than a day.
    if (left.length) this.#lapseTimer = setTimeout(() => this.#lapse(), Math.min(...left, MAX_AGE_MS) + 1);
  }

  /** How long the service still takes the completion, ms. @param {Entry} entry */
  #leftMs({ body, expiresAt }) {
    const deadline = this.#deadlines.get(body.actionId);
    return deadline === undefined ? expiresAt - this.setup.clock.now() : deadline - performance.now();
  }

  /** Resolve waiting calls with `queued`: the outcome comes as an event. @param {string} code @param {number} wait */
  #postpone(code, wait) {
    const left = new Map(this.#entries().map((entry) => [entry.body.actionId, this.#leftMs(entry)]));
    for (const [actionId, { resolve, outcome }] of this.#waiting) {
      const sendsForMs = Math.max(0, left.get(actionId) ?? 0);
      resolve(outcome ?? { actionId, status: "queued", reason: code, sendsForMs });
    }
    this.#waiting.clear();
    this.#emitQueue({ code, retryInMs: wait, retryAt: this.setup.clock.now() + wait });
  }

  /** @param {{code?: string, retryInMs?: number, retryAt?: number}} [why] */
  #emitQueue(why) {
    const left = this.#entries().map((entry) => this.#leftMs(entry));
    const open = left.filter((ms) => ms > 0);
    const sendsForMs = open.length ? Math.min(...open) : null;
    this.setup.emit("queue", { size: left.length, unconfirmed: left.length - open.length, sendsForMs, ...why });
  }

  /** Poll an accepted action until it is settled. @param {Outcome} outcome */
  async #follow({ actionId }) {
    this.#unsettled.add(actionId);
    for (let tries = 0; tries < STATUS_TRIES; tries += 1) {
      await sleep(2_000 * 2 ** tries);
      if (!this.#unsettled.has(actionId)) return;
      const answer = await this.setup.session.call("GET", `/v1/actions/${actionId}`).catch(() => null);
      const status = answer?.data.status;
      if (status && status !== "accepted" && this.#unsettled.has(actionId)) return this.setup.onOutcome(answer.data);
    }
  }

  /** @param {number} ms */
  #schedule(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.flush, ms);
  }

  /** @param {string} actionId */
  #key(actionId) {
    return `${this.#prefix}${actionId}`;
  }

  get #prefix() {
    const { baseUrl, user } = this.setup.session;
    return `scoreboard:completion:${baseUrl}:${user?.id ?? ""}:`;
  }

  /** @param {Entry} entry */
  #keep(entry) {
    write(this.#key(entry.body.actionId), entry);
  }

  /** Store whether the service may have taken the completion, unless an event has settled it meanwhile. */
  #markInDoubt(/** @type {Entry} */ entry, /** @type {boolean} */ isInDoubt) {
    if (read(this.#key(entry.body.actionId))) this.#keep({ ...entry, isInDoubt });
  }

  /** @param {string} actionId */
  #drop(actionId) {
    remove(this.#key(actionId));
    this.#deadlines.delete(actionId);
    this.#lapsed.delete(actionId);
    this.#emitQueue();
  }

  /** @returns {Entry[]} oldest first; old entries are removed */
  #entries() {
    if (!this.setup.session.user) return [];
    const entries = [];
    for (const key of keys(this.#prefix)) {
      const entry = /** @type {Entry | null} */ (read(key));
      // The device's clock alone is no proof of age: a user who sets it would lose a stored round.
      const isOld = this.setup.clock.isSet && this.setup.clock.now() - (entry?.addedAt ?? 0) >= MAX_AGE_MS;
      if (entry?.body?.actionId && !isOld) entries.push(entry);
      else remove(key);
    }
    return entries.sort((one, other) => one.addedAt - other.addedAt);
  }

  #nextEntry() {
    return this.#entries().find((entry) => this.#isMine(entry));
  }

  /** @param {Entry} entry */
  #isMine({ tab, addedAt }) {
    return tab === this.#tab || this.setup.clock.now() - addedAt > ORPHAN_MS;
  }
}

/** Whether an error proves that the service took nothing. @param {unknown} error */
function isUntaken(error) {
  if (!(error instanceof ApiError)) return false;
  // Without a network nothing was sent. A 5xx may come from a proxy, or from a commit whose answer was lost.
  return error.status === 0 ? navigator.onLine === false : error.status < 500;
}

/** The tab's name, which it keeps over a reload, so that it goes on sending its own entries. */
function tabName() {
  const fresh = Math.random().toString(36).slice(2);
  try {
    const name = sessionStorage.getItem("scoreboard:tab") ?? fresh;
    sessionStorage.setItem("scoreboard:tab", name);
    return name;
  } catch {
    return fresh;
  }
}
