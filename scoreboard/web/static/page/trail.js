/** The grid of the number trail: shuffles, handles taps and keys, and reports the end. Points are not its concern. */

import { byId, make, setText } from "./dom.js";
import { animate } from "./motion.js";

/** The longest time between the two digits of a typed number. */
const TYPING_MS = 1_200;
const STEPS = /** @type {Record<string, [number, number]>} */ ({
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
});

/** Fisher and Yates. @param {number} count @returns {number[]} 1…count in random order */
function shuffled(count) {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [numbers[last], numbers[other]] = [numbers[other], numbers[last]];
  }
  return numbers;
}

export class Trail {
  #size = 0;
  #next = 0;
  #typed = "";
  #typedAt = 0;
  #startedAt = 0;
  /** @type {HTMLElement[]} */
  #cells = [];

  /** @param {{onDone: (ms: number) => void, onGiveUp: () => void, onMiss: (next: number) => void}} setup */
  constructor(setup) {
    this.setup = setup;
    this.grid = byId("grid");
    this.grid.addEventListener("click", (event) => {
      const cell = /** @type {HTMLElement} */ (event.target).closest("[data-number]");
      if (cell) this.#tap(/** @type {HTMLElement} */ (cell));
    });
    this.grid.addEventListener("keydown", (event) => this.#key(event));
  }

  get isRunning() {
    return this.#next > 0;
  }

  get elapsedMs() {
    return performance.now() - this.#startedAt;
  }

  /** Show a grid without numbers. @param {number} size */
  preview(size) {
    this.#lay(size, Array.from({ length: size * size }, () => 0));
  }

  /** Deal the numbers and start the clock. @param {number} size */
  deal(size) {
    this.#lay(size, shuffled(size * size));
    this.#next = 1;
    this.#typed = "";
    this.#startedAt = performance.now();
    setText("next-number", "1");
    this.#cells[0].focus({ preventScroll: true });
    // The clock runs, so all numbers have to be in view. If both do not fit, the grid does: it scrolls last.
    for (const id of ["grid-help", "grid"]) byId(id).scrollIntoView({ block: "nearest" });
  }

  stop() {
    this.#next = 0;
  }

  /** @param {number} size @param {number[]} numbers 0 for an empty cell */
  #lay(size, numbers) {
    this.#size = size;
    this.#next = 0;
    this.grid.dataset.size = String(size);
    this.#cells = numbers.map((number, index) => {
      if (!number) return make("span", { class: "blank", "aria-hidden": "true" });
      const tabindex = index === 0 ? "0" : "-1";
      return make("button", { type: "button", "data-number": String(number), tabindex }, String(number));
    });
    this.grid.replaceChildren(...this.#cells);
  }

  /** @param {HTMLElement} cell */
  #tap(cell) {
    if (!this.isRunning || cell.dataset.done) return;
    if (Number(cell.dataset.number) !== this.#next) return this.#miss(cell);
    cell.dataset.done = "true";
    cell.setAttribute("aria-disabled", "true");
    animate(cell, [{ transform: "scale(.86)" }, { transform: "none" }], { duration: 180 });
    this.#focus(cell);
    if (this.#next === this.#cells.length) return this.#finish();
    this.#next += 1;
    setText("next-number", String(this.#next));
  }

  #finish() {
    const ms = this.elapsedMs;
    this.stop();
    this.setup.onDone(ms);
  }

  /** @param {HTMLElement} cell */
  #miss(cell) {
    const frames = [0, -5, 5, -3, 0].map((x) => ({ transform: `translateX(${x}px)` }));
    animate(cell, frames, { duration: 240 });
    cell.dataset.missed = "true";
    setTimeout(() => delete cell.dataset.missed, 350);
    this.setup.onMiss(this.#next);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.isRunning || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (event.key === "Escape") this.setup.onGiveUp();
    else if (step) this.#walk(step);
    else if (/^[0-9]$/.test(event.key)) this.#type(event.key);
    else return;
    event.preventDefault();
  }

  /** @param {[number, number]} step */
  #walk([dx, dy]) {
    const at = this.#cells.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (at < 0) return;
    const x = Math.min(this.#size - 1, Math.max(0, (at % this.#size) + dx));
    const y = Math.min(this.#size - 1, Math.max(0, Math.floor(at / this.#size) + dy));
    this.#focus(this.#cells[y * this.#size + x]);
  }

  /** @param {HTMLElement} cell */
  #focus(cell) {
    for (const other of this.#cells) other.tabIndex = other === cell ? 0 : -1;
    cell.focus({ preventScroll: true });
  }

  /** @param {string} digit */
  #type(digit) {
    const now = performance.now();
    this.#typed = now - this.#typedAt > TYPING_MS ? digit : this.#typed + digit;
    this.#typedAt = now;
    const wanted = String(this.#next);
    if (wanted !== this.#typed && wanted.startsWith(this.#typed)) return;
    const cell = this.#cells.find(({ dataset }) => dataset.number === this.#typed);
    this.#typed = "";
    if (cell) this.#tap(cell);
    else this.setup.onMiss(this.#next);
  }
}
