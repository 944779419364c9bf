/**
 * Animations: only of transform and opacity, which the compositor does alone; always with an end; none for readers who
 * prefer reduced motion; and within a budget, so that an open page costs next to nothing however busy the board is.
 */

/** A browser that cannot tell the reader's preference, or cannot animate, shows a page without movement. */
const stillness = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)") ?? { matches: true };
/** Measured without a graphics card: a change of the board takes 50 ms of a core with movement, and 10 without. */
const AT_ONCE = 3;
const AGAIN_MS = 15_000;

/**
 * Animate unless the reader prefers reduced motion.
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
 * Scroll an element into view unless its important part is in view; without movement if the reader prefers that.
 *
 * @param {HTMLElement} element
 * @param {HTMLElement} part
 */
export function reveal(element, part) {
  const { top, bottom } = part.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  element.scrollIntoView({ block: "center", behavior: stillness.matches ? "instant" : "smooth" });
}

/** A budget of moves: a few at once, then one every few seconds. Changes over it are shown without movement. */
export class MotionBudget {
  #left = AT_ONCE;
  #at = performance.now();

  /** @returns {boolean} whether a move was left */
  take() {
    const now = performance.now();
    this.#left = Math.min(AT_ONCE, this.#left + (now - this.#at) / AGAIN_MS);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
