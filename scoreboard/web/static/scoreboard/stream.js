/**
 * One EventSource and its reconnecting.
 *
 * An EventSource gives up for good on any status but 200 and forgets its last id with the object, so both are
 * looked after here. A plain break of a stream that worked is left to the browser once: only it knows the `retry:`
 * time by which a stopping server spreads its readers.
 *
 * The service is asked (`refusals=event`) to put a refusal into a stream of one event, `refused`, which ends then: the
 * status and Retry-After of a plain refusal are hidden from EventSource, and asking again with fetch would cost a second
 * call, which counts against the same limits.
 */

import { ApiError } from "./http.js";
import { asked, backoff } from "./backoff.js";

export const EVENTS = [
  "leaderboard:initial",
  "leaderboard:update",
  "score:update",
  "rank:change",
  "action:result",
  "reset",
  "heartbeat",
];

/** After so many failures in a row streams count as blocked; the tries go on, seldom. */
export const BLOCKED_AFTER = 3;
/** Time for the browser's own reconnect, which includes the server's `retry:`, and for an opening stream to speak. */
const OPENING_MS = 15_000;
const RETRY_BASE_MS = 1_000;
const RETRY_CAP_MS = 10_000;
/** While polling: opening streams is limited to 30 in 5 min per address, which several browsers may share. */
const BLOCKED_BASE_MS = 20_000;
const BLOCKED_CAP_MS = 180_000;
/** The longest heartbeat a service may be set to is 300 s; 2.5 of them. */
const SILENCE_CAP_MS = 750_000;
const SILENT_HEARTBEATS = 2.5;

/**
 * @typedef {object} StreamSetup
 * @property {(lastEventId: string) => Promise<string>} target the address to open; may fetch a ticket
 * @property {(url: string) => Promise<ApiError | null>} probe why the address was refused; null if it was not
 * @property {() => Promise<void>} reauthenticate called once after a refusal of the user
 * @property {(type: string, data: any, id: string) => void} onEvent
 * @property {() => void} onLive
 * @property {(failures: number, retryInMs: number, error: ApiError | null) => void} onDown
 * @property {number} heartbeatMs a stream without any event for 2.5 of these is dead
 */

export class Stream {
  lastEventId = "";
  #failures = 0;
  #generation = 0;
  #mayReauthenticate = true;
  #heartbeatAt = 0;
  /** @type {EventSource | null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;

  /** @param {StreamSetup} setup */
  constructor(setup) {
    this.setup = setup;
    this.silenceMs = setup.heartbeatMs * SILENT_HEARTBEATS;
  }

  /** Open now, whatever was before. */
  async open() {
    this.close();
    const generation = this.#generation;
    let url;
    try {
      url = await this.setup.target(this.lastEventId);
    } catch (error) {
      if (generation === this.#generation) this.#retryLater(error instanceof ApiError ? error : null);
      return;
    }
    if (generation !== this.#generation) return;
    try {
      this.#attach(new EventSource(url), url);
    } catch {
      // Absent or forbidden here: that will not change soon.
      this.#failures = Math.max(this.#failures, BLOCKED_AFTER - 1);
      this.#retryLater(null);
    }
  }

  close() {
    this.#generation += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#source?.close();
    this.#source = null;
  }

  /** Forget failures, so that the next ones count from one again (the network came back, the user changed). */
  forgive() {
    this.#failures = 0;
    this.#mayReauthenticate = true;
  }

  /** @param {EventSource} source @param {string} url */
  #attach(source, url) {
    let isLive = false;
    const generation = this.#generation;
    this.#source = source;
    this.#heartbeatAt = 0;
    this.#expect(OPENING_MS, url);
    const receive = (/** @type {MessageEvent} */ event) => {
      if (!isLive) {
        isLive = true;
        this.forgive();
        this.setup.onLive();
      }
      if (event.type === "heartbeat") this.#learnRhythm();
      this.#expect(this.silenceMs, url, true);
      if (event.lastEventId) this.lastEventId = event.lastEventId;
      this.#hand(event);
    };
    for (const name of EVENTS) source.addEventListener(name, receive);
    source.addEventListener("refused", (event) => this.#refused(event, generation));
    source.onerror = () => {
      const isBrowserRetrying = source.readyState === EventSource.CONNECTING && isLive;
      isLive = false;
      if (!isBrowserRetrying) return void this.#fail(url);
      this.#expect(OPENING_MS, url);
      this.setup.onDown(this.#failures, 0, null);
    };
  }

  /** @param {MessageEvent} event @param {number} generation */
  #refused(event, generation) {
    if (generation !== this.#generation) return;
    this.close();
    const { status, retryAfter, ...error } = JSON.parse(event.data);
    const retryAfterMs = typeof retryAfter === "number" ? retryAfter * 1000 : null;
    this.#meet(new ApiError(status, error.code, error.message, error.details, retryAfterMs));
  }

  /** @param {MessageEvent} event */
  #hand(event) {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // Half an event is none: the next board is whole.
    }
    this.setup.onEvent(event.type, data, event.lastEventId);
  }

  /** @param {number} ms @param {string} url @param {boolean} [wasLive] */
  #expect(ms, url, wasLive = false) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      // Perhaps the service's heartbeats are farther apart than we were told: be more patient until we have seen two.
      if (wasLive) this.silenceMs = Math.min(this.silenceMs * 2, SILENCE_CAP_MS);
      // What says nothing at all is held back on its way, and two more such waits would show the same.
      else this.#failures = Math.max(this.#failures, BLOCKED_AFTER - 1);
      this.#fail(url);
    }, ms);
  }

  #learnRhythm() {
    const now = performance.now();
    const gap = this.#heartbeatAt ? now - this.#heartbeatAt : 0;
    const seen = Math.min(gap * SILENT_HEARTBEATS, SILENCE_CAP_MS);
    if (gap) this.silenceMs = Math.max(this.setup.heartbeatMs * SILENT_HEARTBEATS, seen);
    this.#heartbeatAt = now;
  }

  /** @param {string} url */
  async #fail(url) {
    this.close();
    const generation = this.#generation;
    const error = navigator.onLine === false ? null : await this.setup.probe(url);
    if (generation === this.#generation) await this.#meet(error);
  }

  /** @param {ApiError | null} error why there is no stream, as far as it is known */
  async #meet(error) {
    const generation = this.#generation;
    const isAboutUser = error?.status === 401 || error?.code === "ACCOUNT_BANNED";
    if (!isAboutUser || !this.#mayReauthenticate) return this.#retryLater(error);
    this.#mayReauthenticate = false;
    await this.setup.reauthenticate().catch(() => {});
    if (generation === this.#generation) this.open();
  }

  /** @param {ApiError | null} error */
  #retryLater(error) {
    this.#failures += 1;
    const wait = this.#wait(error);
    this.#retry = setTimeout(() => this.open(), wait);
    this.setup.onDown(this.#failures, wait, error);
  }

  /** @param {ApiError | null} error */
  #wait(error) {
    const blockedFor = this.#failures - BLOCKED_AFTER;
    const own = blockedFor < 0
      ? backoff(this.#failures, RETRY_BASE_MS, RETRY_CAP_MS)
      : BLOCKED_BASE_MS + backoff(blockedFor, BLOCKED_BASE_MS, BLOCKED_CAP_MS);
    return error?.retryAfterMs ? Math.max(own, asked(error.retryAfterMs)) : own;
  }
}
