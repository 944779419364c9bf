/** Says news to screen readers, seldom enough that they can be listened to. */

/** A busy board changes every second; reading one sentence takes a few. */
const LEAST_GAP_MS = 8_000;
/** Only the latest of each kind is worth hearing after a wait, and no more than these together. */
const MAX_WAITING = 3;

export class Announcer {
  /** @type {Map<string, string>} */
  #waiting = new Map();
  #lastAt = -LEAST_GAP_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {HTMLElement} region an aria-live region */
  constructor(region) {
    this.region = region;
  }

  /**
   * @param {string} text
   * @param {boolean} [isUrgent] an answer to what the user just did: said at once
   * @param {string} [kind] a later text of the same kind replaces one that still waits
   */
  say(text, isUrgent = false, kind = text) {
    if (isUrgent) return this.#speak(text);
    this.#waiting.set(kind, text);
    this.#timer ??= setTimeout(() => {
      const texts = [...this.#waiting.values()].slice(-MAX_WAITING);
      this.#speak(texts.join(" "));
    }, Math.max(0, this.#lastAt + LEAST_GAP_MS - performance.now()));
  }

  /** @param {string} text */
  #speak(text) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting.clear(); // What waited is older than what is said now.
    this.#lastAt = performance.now();
    this.region.textContent = text;
  }
}
