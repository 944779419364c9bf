/**
 * Movement: only what the compositor does alone (transform, opacity), never without an end, none for readers who asked
 * for stillness, and within a budget, so that a page left open costs next to nothing however busy the board is.
 */

/** A browser that cannot say what the reader prefers, or cannot animate, shows a page without movement. */
const stillness = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)") ?? { matches: true };
/** Measured without a graphics card: a move of the board takes some 50 ms of a core, a change without one 10. */
const AT_ONCE = 3;
const AGAIN_MS = 15_000;

/**
 * Animate unless the reader asked for stillness.
 *
 * @param {Element} element
 * @param {Keyframe[]} frames
 * @param {KeyframeAnimationOptions} options
 */
export function animate(element, frames, options) {
  if (stillness.matches) return null;
  try {
    return element.animate(frames, options);
  } catch {
    return null; // Decoration only.
  }
}

export function isStill() {
  return stillness.matches;
}

/**
 * Scroll something into view unless the part that matters is; at once for readers who asked for stillness.
 *
 * @param {HTMLElement} element
 * @param {HTMLElement} part
 */
export function reveal(element, part) {
  const { top, bottom } = part.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  element.scrollIntoView({ block: "center", behavior: stillness.matches ? "instant" : "smooth" });
}

/** How many moves are left: a few at once, then one every some seconds; other changes are simply there. */
export class MotionBudget {
  #left = AT_ONCE;
  #at = performance.now();

  /** @returns {boolean} whether one was left */
  take() {
    const now = performance.now();
    this.#left = Math.min(AT_ONCE, this.#left + (now - this.#at) / AGAIN_MS);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
