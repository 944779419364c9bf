/**
 * One EventSource and its reconnecting.
 *
 * An EventSource stops for good on any status but 200, and a new one does not know the last event id. This class handles
 * both. The browser itself reconnects once after a stream that worked breaks, because only the browser knows the `retry:`
 * time by which a stopping server spreads its readers.
 *
 * EventSource hides the status and Retry-After of a refusal. So the module asks the service (`refusals=event`) to send a
 * refusal as a stream of one event, `refused`. A second call with fetch would count against the same limits.
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

/** After so many failures in a row streams count as blocked, and the tries become rare. */
export const BLOCKED_AFTER = 3;
/** Time for the browser's own reconnect, the server's `retry:` included, and for the first event of a new stream. */
const OPENING_MS = 15_000;
const RETRY_BASE_MS = 1_000;
const RETRY_CAP_MS = 10_000;
/** While polling: an address, which several browsers may share, may open 30 streams in 5 min. */
const BLOCKED_BASE_MS = 20_000;
const BLOCKED_CAP_MS = 180_000;
/** 2.5 times the longest heartbeat of a service, 300 s. */
const SILENCE_CAP_MS = 750_000;
const SILENT_HEARTBEATS = 2.5;

/**
 * @typedef {object} StreamSetup
 * @property {(lastEventId: string) => Promise<string>} target the URL to open; may fetch a ticket
 * @property {(url: string) => Promise<ApiError | null>} probe why the URL was refused; null if it was not
 * @property {() => Promise<void>} reauthenticate called once after a refusal of the user
 * @property {(type: string, data: any, id: string) => void} onEvent
 * @property {() => void} onLive
 * @property {(failures: number, retryInMs: number, error: ApiError | null) => void} onDown
 * @property {number} heartbeatMs a stream without an event for 2.5 of these is dead
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

  /** Open now, instead of any earlier stream or wait. */
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
      // EventSource is absent or forbidden, which will not change soon.
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

  /** Count failures from zero again: the network came back, or the user changed. */
  resetFailures() {
    this.#failures = 0;
    this.#mayReauthenticate = true;
  }

  /** @param {EventSource} source @param {string} url */
  #attach(source, url) {
    let isLive = false;
    const generation = this.#generation;
    this.#source = source;
    this.#heartbeatAt = 0;
    this.#watch(OPENING_MS, url);
    const receive = (/** @type {MessageEvent} */ event) => {
      if (!isLive) {
        isLive = true;
        this.resetFailures();
        this.setup.onLive();
      }
      if (event.type === "heartbeat") this.#learnHeartbeat();
      this.#watch(this.silenceMs, url, true);
      if (event.lastEventId) this.lastEventId = event.lastEventId;
      this.#dispatch(event);
    };
    for (const name of EVENTS) source.addEventListener(name, receive);
    source.addEventListener("refused", (event) => this.#refused(event, generation));
    source.onerror = () => {
      const isBrowserRetrying = source.readyState === EventSource.CONNECTING && isLive;
      isLive = false;
      if (!isBrowserRetrying) return void this.#fail(url);
      this.#watch(OPENING_MS, url);
      this.setup.onDown(this.#failures, 0, null);
    };
  }

  /** @param {MessageEvent} event @param {number} generation */
  #refused(event, generation) {
    if (generation !== this.#generation) return;
    this.close();
    const { status, retryAfter, ...error } = JSON.parse(event.data);
    const retryAfterMs = typeof retryAfter === "number" ? retryAfter * 1000 : null;
    this.#refuse(new ApiError(status, error.code, error.message, error.details, retryAfterMs));
  }

  /** @param {MessageEvent} event */
  #dispatch(event) {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // A truncated event is skipped: the next board is complete.
    }
    this.setup.onEvent(event.type, data, event.lastEventId);
  }

  /** @param {number} ms @param {string} url @param {boolean} [wasLive] */
  #watch(ms, url, wasLive = false) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      // The service's heartbeats may be farther apart than `heartbeatMs`: wait longer until two have come.
      if (wasLive) this.silenceMs = Math.min(this.silenceMs * 2, SILENCE_CAP_MS);
      // A stream without any event is buffered by a proxy, and two more such waits would show the same.
      else this.#failures = Math.max(this.#failures, BLOCKED_AFTER - 1);
      this.#fail(url);
    }, ms);
  }

  #learnHeartbeat() {
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
    if (generation === this.#generation) await this.#refuse(error);
  }

  /** @param {ApiError | null} error why there is no stream, if known */
  async #refuse(error) {
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
