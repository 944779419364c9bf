/**
 * One stream for all tabs of an origin: HTTP/1.1 lets a browser have six connections to a host, and five streams
 * would leave one for everything else.
 *
 * The tab that holds a Web Lock leads: it has the stream and passes on what comes. When it closes, pauses or dies the
 * browser gives the lock to the next one. Without locks or channels (plain http, blocked cookies) every tab has its own
 * stream; so has one that hears nothing from the tab that should lead.
 */

/** A leader is alive when it says something this often; it does so by itself. */
const BEAT_MS = 15_000;
const SILENCE_MS = BEAT_MS * 2.5;
/** A lock that is taken by force is granted at once, or not at all. */
const STEAL_MS = 3_000;

export class Tabs {
  isLeader = false;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #generation = 0;
  /** Whether any tab was heard since joining. */
  #hasHeard = false;
  /** @type {() => void} */
  #release = () => {};
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #beat;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;

  /**
   * @param {{onLead: () => void, onDepose: () => void, onMessage: (message: any) => void, snapshot: () => any,
   *   isShared: boolean}} setup `snapshot` is what a tab that comes later is told
   */
  constructor(setup) {
    this.setup = setup;
  }

  /** Take part; calls `onLead` at once or when it is this tab's turn. @param {string} name */
  join(name) {
    this.leave();
    if (!this.setup.isShared) return this.#standAlone();
    const generation = this.#generation;
    try {
      this.#channel = new BroadcastChannel(name);
      this.#channel.onmessage = (event) => this.#receive(event.data, name);
      this.#request(name, generation, {});
      this.#channel.postMessage({ kind: "hello" });
    } catch {
      return this.#standAlone();
    }
    this.#watch(SILENCE_MS, () => this.#takeOver(name));
  }

  /** Have a stream of one's own, until the next `join`. */
  #standAlone() {
    this.leave();
    this.isLeader = true;
    this.setup.onLead();
  }

  leave() {
    this.#generation += 1;
    this.#hasHeard = false;
    this.isLeader = false;
    clearInterval(this.#beat);
    clearTimeout(this.#watchdog);
    this.#release();
    this.#release = () => {};
    this.#channel?.close();
    this.#channel = null;
  }

  /** Pass on to the tabs that follow; does nothing unless this one leads. @param {object} message */
  publish(message) {
    if (!this.isLeader) return;
    try {
      this.#channel?.postMessage(message);
    } catch {
      // The channel is gone; the other tabs miss this one's beat, and help themselves.
    }
  }

  /** @param {string} name @param {number} generation @param {LockOptions} options */
  #request(name, generation, options) {
    const lead = () => {
      if (generation !== this.#generation) return undefined;
      clearTimeout(this.#watchdog);
      this.isLeader = true;
      this.#beat = setInterval(() => this.publish({ kind: "beat" }), BEAT_MS);
      this.setup.onLead();
      return new Promise((/** @type {(value?: unknown) => void} */ resolve) => { this.#release = resolve; });
    };
    navigator.locks.request(name, options, lead).catch(() => {
      if (generation !== this.#generation) return;
      if (this.isLeader) this.#depose(name);
      else this.#standAlone(); // Locks are there and refused.
    });
  }

  /** Another tab took the lock by force, believing this one dead: follow it. @param {string} name */
  #depose(name) {
    this.setup.onDepose();
    this.join(name);
  }

  /** @param {any} message @param {string} name */
  #receive(message, name) {
    if (message.kind === "hello") {
      this.publish({ kind: "snapshot", ...this.setup.snapshot() });
    } else if (!this.isLeader) {
      this.#hasHeard = true;
      this.#watch(SILENCE_MS, () => this.#takeOver(name));
      if (message.kind !== "beat") this.setup.onMessage(message);
    }
  }

  /** The leader is silent. One that was heard before has died; otherwise no word may get through at all. */
  #takeOver(/** @type {string} */ name) {
    if (!this.#hasHeard) return this.#standAlone();
    this.#request(name, this.#generation, { steal: true });
    this.#watch(STEAL_MS, () => this.#standAlone());
  }

  /** @param {number} ms @param {() => void} onSilence */
  #watch(ms, onSilence) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(onSilence, ms);
  }
}
