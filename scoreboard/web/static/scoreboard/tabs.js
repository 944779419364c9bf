/**
 * One stream for all tabs of an origin. A browser opens six HTTP/1.1 connections to a host: five streams would leave one
 * for everything else.
 *
 * The tab that holds a Web Lock leads: it opens the stream and passes its events on. When it closes, pauses or crashes the
 * browser grants the lock to the next tab. Without locks or channels (plain http, blocked cookies) every tab opens its own
 * stream. A tab that hears nothing from a leader does so too.
 */

/** A leader sends a beat this often to show that it is alive. */
const BEAT_MS = 15_000;
const SILENCE_MS = BEAT_MS * 2.5;
/** A stolen lock is granted at once, or not at all. */
const STEAL_MS = 3_000;

export class Tabs {
  isLeader = false;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #generation = 0;
  /** Whether a message of another tab has come since joining. */
  #hasHeard = false;
  /** @type {() => void} */
  #release = () => {};
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #beat;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;

  /**
   * @param {{onLead: () => void, onDepose: () => void, onMessage: (message: any) => void, snapshot: () => any,
   *   isShared: boolean}} setup `snapshot` is sent to a tab that joins later
   */
  constructor(setup) {
    this.setup = setup;
  }

  /** Join the tabs of this name. Calls `onLead` when this tab becomes the leader, perhaps at once. @param {string} name */
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

  /** Lead without others until the next `join`. */
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

  /** Send a message to the following tabs; does nothing unless this tab leads. @param {object} message */
  publish(message) {
    if (!this.isLeader) return;
    try {
      this.#channel?.postMessage(message);
    } catch {
      // The channel is closed. The other tabs miss the beat and take over.
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
      else this.#standAlone(); // Locks exist and are refused.
    });
  }

  /** Another tab stole the lock because this one was silent: follow it. @param {string} name */
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

  /** The leader is silent. If it was heard before, it has died; otherwise messages may not arrive at all. */
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
