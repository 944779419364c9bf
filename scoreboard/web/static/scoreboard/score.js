/** The optimistic score: the confirmed score plus pending points, which are rolled back when refused. */

/** An answer and an event bring the same change; one emit for both avoids a flicker. */
const DEBOUNCE_MS = 30;

export class OptimisticScore {
  /** @type {number | null} */
  confirmed = null;
  /** @type {Map<string, number>} expected points by action */
  #expected = new Map();
  /** @type {{actionId: string, points: number, reason: string | null} | null} */
  #rolledBack = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(detail: {score: number | null, pending: number, rolledBack: object | null}) => void} emit */
  constructor(emit) {
    this.emit = emit;
  }

  get pending() {
    return [...this.#expected.values()].reduce((sum, points) => sum + points, 0);
  }

  get score() {
    return this.confirmed === null ? null : this.confirmed + this.pending;
  }

  clear() {
    this.confirmed = null;
    this.#expected.clear();
    this.#emitSoon();
  }

  /** @param {number | null | undefined} score */
  confirm(score) {
    if (typeof score === "number") this.confirmed = score;
    this.#emitSoon();
  }

  /** @param {string} actionId @param {number} points */
  expect(actionId, points) {
    this.#expected.set(actionId, points);
    this.#emitSoon();
  }

  /**
   * An action is settled: its points are in the score now, or are rolled back (a held action may come back much later).
   *
   * @param {string} actionId
   * @param {{status: string, reason?: string | null, newScore?: number | null}} outcome
   */
  settle(actionId, { status, reason = null, newScore }) {
    const points = this.#expected.get(actionId);
    this.#expected.delete(actionId);
    if (status === "applied") return this.confirm(newScore);
    if (points) this.#rolledBack = { actionId, points, reason: reason ?? status };
    this.#emitSoon();
  }

  #emitSoon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.emit({ score: this.score, pending: this.pending, rolledBack: this.#rolledBack });
      this.#rolledBack = null;
    }, DEBOUNCE_MS);
  }
}
