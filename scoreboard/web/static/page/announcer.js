/** Announces news to screen readers, rarely enough to be listened to. */

/** A busy board changes every second; reading a sentence aloud takes a few. */
const LEAST_GAP_MS = 8_000;
/** After a wait only the latest text of each kind is announced, and at most so many. */
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
   * @param {boolean} [isUrgent] the answer to an input of the reader: announced at once
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
    this.#waiting.clear(); // Waiting texts are older than this one.
    this.#lastAt = performance.now();
    this.region.textContent = text;
  }
}
