/** Polls the board where streams are blocked. */

import { ApiError } from "./http.js";
import { asked, backoff } from "./backoff.js";

const FAILURE_CAP_MS = 60_000;

export class Poller {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #failures = 0;
  #run = 0;

  /**
   * @param {{fetchBoard: () => Promise<{data: any, response: Response}>, pollMs: number,
   *   onBoard: (board: any) => void, onFailure: (error: unknown, retryInMs: number) => void}} setup
   */
  constructor(setup) {
    this.setup = setup;
  }

  get isRunning() {
    return this.#run % 2 === 1;
  }

  start() {
    if (this.isRunning) return;
    this.#run += 1;
    this.#poll(this.#run);
  }

  stop() {
    if (this.isRunning) this.#run += 1;
    clearTimeout(this.#timer);
  }

  /** @param {number} run */
  async #poll(run) {
    const wait = await this.#once(run);
    if (run === this.#run) this.#timer = setTimeout(() => this.#poll(run), wait);
  }

  /** @param {number} run @returns {Promise<number>} the wait before the next poll, ms */
  async #once(run) {
    try {
      const { data, response } = await this.setup.fetchBoard();
      this.#failures = 0;
      if (run === this.#run) this.setup.onBoard(data);
      return asked(Math.max(this.setup.pollMs, maxAge(response)));
    } catch (error) {
      this.#failures += 1;
      const own = this.setup.pollMs + backoff(this.#failures, this.setup.pollMs, FAILURE_CAP_MS);
      const told = error instanceof ApiError ? error.retryAfterMs : null;
      const wait = told ? Math.max(own, asked(told)) : own;
      if (run === this.#run) this.setup.onFailure(error, wait);
      return wait;
    }
  }
}

/** The answer's max-age, ms; at most a minute, so that a wrong header cannot freeze the board. */
function maxAge(/** @type {Response} */ response) {
  const seconds = /max-age=(\d+)/.exec(response.headers.get("Cache-Control") ?? "")?.[1];
  return Math.min(Number(seconds ?? 0) * 1000, 60_000);
}
