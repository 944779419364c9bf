/**
 * The service's clock, learnt from its answers. A device's clock may be wrong, and may be set while the page is open. So
 * the module measures waits and ages by `performance.now()`, and compares the service's stamps with this clock.
 *
 * `performance.now()` may stand still while the device sleeps. Waits are then longer by the sleep, which is harmless,
 * and the first answer afterwards corrects this clock.
 */
export class Clock {
  /** Service's time minus `performance.now()`, ms. Every stamp is a lower bound: caches and latency only delay it. */
  #offset = -Infinity;
  /** Whether an answer of the service has set the clock. */
  isSet = false;

  /** Learn from a stamp that was the service's present time. @param {string | null | undefined} stamp a date */
  learn(stamp) {
    if (this.atLeast(stamp)) this.isSet = true;
  }

  /** Learn from a stamp that is past at the service, perhaps for long. @param {string | null | undefined} stamp */
  atLeast(stamp) {
    const ms = Date.parse(stamp ?? "");
    if (!Number.isFinite(ms)) return false;
    this.#offset = Math.max(this.#offset, ms - performance.now());
    return true;
  }

  /** The time at the service, ms since 1970; before the first answer the device's own. */
  now() {
    const known = this.#offset + performance.now();
    return this.isSet ? known : Math.max(known, Date.now());
  }
}
