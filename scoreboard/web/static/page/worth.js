/** The points and time bounds of a round by the catalogue. The service's own decision counts. */

/** @param {any} times `{difficulty: {easy: 1000}}` or null @param {number} otherwise @param {string} difficulty */
function timeOf(times, otherwise, difficulty) {
  return times?.difficulty?.[difficulty] ?? otherwise;
}

export class Worth {
  /** @param {any} type an entry of the catalogue; null when not known */
  constructor(type) {
    this.type = type;
  }

  get rewardsSpeed() {
    return Boolean(this.type?.speed);
  }

  get maxTimeMs() {
    return this.type?.maxTimeMs ?? 300_000;
  }

  /** @param {string} difficulty */
  minTimeMs(difficulty) {
    return timeOf(this.type?.minTimeMsBy, this.type?.minTimeMs ?? 0, difficulty);
  }

  /** The time up to which all points count. @param {string} difficulty @returns {number} */
  fullMs(difficulty) {
    const speed = this.type?.speed;
    return speed ? timeOf(speed.fullMsBy, speed.fullMs, difficulty) : Infinity;
  }

  /** @param {string} difficulty @returns {number} the most points of a round; 0 when not known */
  most(difficulty) {
    const points = this.type?.points;
    const factor = points?.multiply?.difficulty?.[difficulty];
    const worth = points?.base && factor ? points.base * factor : points?.value ?? points?.maximum;
    return Math.min(worth ?? 0, points?.maximum ?? 0);
  }

  /** @param {string} difficulty @param {number} ms @param {number} [most] by the service's answer for this round */
  after(difficulty, ms, most = this.most(difficulty)) {
    const speed = this.type?.speed;
    if (!speed) return most;
    const full = this.fullMs(difficulty);
    const least = timeOf(speed.leastMsBy, speed.leastMs, difficulty);
    const late = (Math.min(Math.max(ms, full), least) - full) / (least - full);
    return Math.floor(most * (1 - (1 - speed.least) * late));
  }

  /**
   * How much longer a round of this time may take without fewer points; 0 when not known.
   *
   * @param {string} difficulty
   * @param {number} ms
   */
  freeMs(difficulty, ms) {
    const speed = this.type?.speed;
    if (!speed) return this.type ? Infinity : 0;
    const most = this.most(difficulty);
    const full = this.fullMs(difficulty);
    const late = (1 - this.after(difficulty, ms) / most) / (1 - speed.least);
    return late >= 1 ? Infinity : full + late * (timeOf(speed.leastMsBy, speed.leastMs, difficulty) - full) - ms;
  }
}
