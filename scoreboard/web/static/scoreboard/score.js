/** The user's score as it will probably be: what is confirmed plus what is on its way, rolled back when refused. */

/** One answer and one event tell of the same change; telling once they have both come avoids a flicker. */
const GATHER_MS = 30;

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
    this.#tell();
  }

  /** @param {number | null | undefined} score */
  confirm(score) {
    if (typeof score === "number") this.confirmed = score;
    this.#tell();
  }

  /** @param {string} actionId @param {number} points */
  expect(actionId, points) {
    this.#expected.set(actionId, points);
    this.#tell();
  }

  /**
   * An action is settled: its points are in the score now, or will never be (a held one may come back much later).
   *
   * @param {string} actionId
   * @param {{status: string, reason?: string | null, newScore?: number | null}} outcome
   */
  settle(actionId, { status, reason = null, newScore }) {
    const points = this.#expected.get(actionId);
    this.#expected.delete(actionId);
    if (status === "applied") return this.confirm(newScore);
    if (points) this.#rolledBack = { actionId, points, reason: reason ?? status };
    this.#tell();
  }

  #tell() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.emit({ score: this.score, pending: this.pending, rolledBack: this.#rolledBack });
      this.#rolledBack = null;
    }, GATHER_MS);
  }
}
