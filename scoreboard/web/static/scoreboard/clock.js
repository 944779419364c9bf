/**
 * The service's clock, as its answers tell it. People set the clocks of their devices, and those may be set again while
 * the page is open: so waits and ages in here go by `performance.now()`, and what the service stamped is compared with
 * this clock.
 *
 * `performance.now()` may stand still while the device sleeps. Waits are then longer by the sleep, which harms nothing,
 * and the first answer afterwards sets this clock right.
 */
export class Clock {
  /** Service's time less `performance.now()`, ms. Every stamp is a lower bound, whatever caches and roads delayed. */
  #offset = -Infinity;
  /** Whether the service has told. */
  isSet = false;

  /** Take up a time that the service gave as its present one. @param {string | null | undefined} stamp a date */
  learn(stamp) {
    if (this.atLeast(stamp)) this.isSet = true;
  }

  /** Take up a time that has passed at the service, perhaps long ago. @param {string | null | undefined} stamp */
  atLeast(stamp) {
    const ms = Date.parse(stamp ?? "");
    if (!Number.isFinite(ms)) return false;
    this.#offset = Math.max(this.#offset, ms - performance.now());
    return true;
  }

  /** The time at the service, ms since 1970; the device's own before the service said anything. */
  now() {
    const known = this.#offset + performance.now();
    return this.isSet ? known : Math.max(known, Date.now());
  }
}
