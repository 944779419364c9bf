/**
 * Completed actions on their way to the service.
 *
 * Each is written down before the first try and sent with the very same body until there is an answer: the service
 * counts an action once, so repeating is safe. One entry per storage key, so that tabs do not overwrite each other.
 */

import { ApiError } from "./http.js";
import { asked, backoff, sleep } from "./backoff.js";
import { keys, read, remove, write } from "./storage.js";

/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {{actionId: string, actionToken: string, proof: object, onBehalfOf?: string}} Body */
/** @typedef {{body: Body, points: number, addedAt: number, tab: string}} Entry */

/** A user may have a few open actions at a time; more than this in the queue cannot be honest play. */
const MAX_QUEUED = 20;
/** No action token lives longer than a day. */
const MAX_AGE_MS = 86_400_000;
/** The tab that wrote an entry sends it; left alone for so long, any tab does. */
const ORPHAN_MS = 60_000;
/** The service takes one completion a second from a user. */
const SPACING_MS = 1_100;
const RETRY_BASE_MS = 1_500;
const RETRY_CAP_MS = 60_000;
/** `Prefer: wait=5`, and the network's share. */
const ANSWER_MS = 15_000;
const WAIT_S = 5;
/** An accepted action is settled within seconds; asking stops after about two minutes, the stream still tells. */
const STATUS_TRIES = 6;
/** Refusals that another try with a fresh token or cookie can cure. */
const CURABLE = new Set(["CSRF_FAILED"]);

export class Completions {
  #tab = tabName();
  #isDraining = false;
  #failures = 0;
  #lastSentAt = 0;
  /** No try before this time, which the service named; a network that comes back does not shorten it. */
  #notBefore = 0;
  #refusedWith = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Map<string, {resolve: (outcome: Outcome) => void, reject: (error: unknown) => void, outcome?: Outcome}>} */
  #waiting = new Map();
  /** @type {Set<string>} */
  #unsettled = new Set();

  /**
   * @param {{session: import("./session.js").Session, emit: (type: string, detail: any) => void,
   *   onOutcome: (outcome: Outcome) => void}} setup
   */
  constructor(setup) {
    this.setup = setup;
    this.flush = this.flush.bind(this);
    window.addEventListener("online", this.flush);
  }

  close() {
    window.removeEventListener("online", this.flush);
    clearTimeout(this.#timer);
  }

  get size() {
    return this.#entries().length;
  }

  /** Expected points of what an earlier page left, by action. @returns {[string, number][]} */
  expected() {
    return this.#entries().map(({ body, points }) => [body.actionId, points]);
  }

  /**
   * Write down and send. Resolves with the first answer, or with status `queued` when there is none now.
   *
   * @param {Body} body
   * @param {number} points expected, for the optimistic score
   * @returns {Promise<Outcome>}
   */
  add(body, points) {
    if (!this.setup.session.user) throw new ApiError(401, "INVALID_TOKEN", "Nobody is signed in.");
    if (this.size >= MAX_QUEUED) throw new ApiError(0, "QUEUE_FULL", "Too many completions are waiting to be sent.");
    write(this.#key(body.actionId), { body, points, addedAt: Date.now(), tab: this.#tab });
    this.setup.emit("queue", { size: this.size });
    const answer = new Promise((resolve, reject) => this.#waiting.set(body.actionId, { resolve, reject }));
    this.flush();
    return /** @type {Promise<Outcome>} */ (answer);
  }

  /** An event or an answer says how an action ended. @param {Outcome} outcome */
  settled(outcome) {
    this.#unsettled.delete(outcome.actionId);
    const waiting = this.#waiting.get(outcome.actionId);
    if (waiting) waiting.outcome = outcome;
    this.#drop(outcome.actionId);
  }

  /** Send what waits, oldest first, one at a time. */
  async flush() {
    if (this.#isDraining || !this.setup.session.user) return;
    const early = this.#notBefore - Date.now();
    if (early > 0) {
      this.#again(early + 1); // Timers drop the fraction of a millisecond: the last one may have come a hair too soon.
      return this.#postpone(this.#refusedWith, early);
    }
    this.#isDraining = true;
    clearTimeout(this.#timer);
    try {
      for (let entry = this.#next(); entry; entry = this.#next()) {
        if (!(await this.#send(entry))) return;
      }
    } finally {
      this.#isDraining = false;
      if (this.size && !this.#failures) this.#again(ORPHAN_MS);
    }
  }

  /** @param {Entry} entry @returns {Promise<boolean>} whether the next may be sent */
  async #send(entry) {
    const { actionId } = entry.body;
    await sleep(Math.max(0, this.#lastSentAt + SPACING_MS - Date.now()));
    this.#lastSentAt = Date.now();
    try {
      const { data } = await this.setup.session.call("POST", "/v1/actions/complete", {
        body: entry.body,
        headers: { Prefer: `wait=${WAIT_S}` },
        timeoutMs: ANSWER_MS,
      });
      this.#failures = 0;
      this.#answered({ ...data, actionId });
      return true;
    } catch (error) {
      return this.#failed(entry, error);
    }
  }

  /** @param {Outcome} outcome */
  #answered(outcome) {
    this.#drop(outcome.actionId);
    this.#waiting.get(outcome.actionId)?.resolve(outcome);
    this.#waiting.delete(outcome.actionId);
    if (outcome.status === "accepted") this.#follow(outcome);
    else this.setup.onOutcome(outcome);
  }

  /** @param {Entry} entry @param {unknown} error @returns {boolean} whether the next may be sent */
  #failed(entry, error) {
    const { actionId } = entry.body;
    const isPermanent = error instanceof ApiError && error.status !== 401 && !error.isTransient;
    if (isPermanent && !(CURABLE.has(error.code) && this.#failures < 3)) {
      this.#drop(actionId);
      this.#waiting.get(actionId)?.reject(error);
      this.#waiting.delete(actionId);
      this.setup.emit("dropped", { actionId, code: error.code, message: error.message, details: error.details });
      return true;
    }
    this.#failures += 1;
    const own = backoff(this.#failures, RETRY_BASE_MS, RETRY_CAP_MS) + SPACING_MS;
    const told = error instanceof ApiError ? error.retryAfterMs : null;
    const wait = told ? Math.max(own, asked(told)) : own;
    this.#notBefore = told ? Date.now() + wait : 0;
    this.#refusedWith = error instanceof ApiError ? error.code : "NETWORK";
    this.#again(wait);
    this.#postpone(this.#refusedWith, wait);
    return false;
  }

  /** Tell those who wait for an answer that it will come as an event. @param {string} code @param {number} wait */
  #postpone(code, wait) {
    for (const [actionId, { resolve, outcome }] of this.#waiting) {
      resolve(outcome ?? { actionId, status: "queued", reason: code });
    }
    this.#waiting.clear();
    this.setup.emit("queue", { size: this.size, code, retryInMs: wait });
  }

  /** Ask for the outcome of an accepted action until it is settled. @param {Outcome} outcome */
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
  #again(ms) {
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

  /** @param {string} actionId */
  #drop(actionId) {
    remove(this.#key(actionId));
    this.setup.emit("queue", { size: this.size });
  }

  /** @returns {Entry[]} oldest first; too old ones are removed */
  #entries() {
    if (!this.setup.session.user) return [];
    const entries = [];
    for (const key of keys(this.#prefix)) {
      const entry = /** @type {Entry | null} */ (read(key));
      if (entry?.body?.actionId && Date.now() - entry.addedAt < MAX_AGE_MS) entries.push(entry);
      else remove(key);
    }
    return entries.sort((one, other) => one.addedAt - other.addedAt);
  }

  #next() {
    return this.#entries().find(({ tab, addedAt }) => tab === this.#tab || Date.now() - addedAt > ORPHAN_MS);
  }
}

/** A name that this tab keeps when it is reloaded, so that it goes on sending what it wrote down. */
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
