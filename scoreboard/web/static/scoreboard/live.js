/** The live board: chooses between stream, another tab's stream and polling, and reports the connection's state. */

import { ApiError } from "./http.js";
import { Poller } from "./poller.js";
import { BLOCKED_AFTER, Stream } from "./stream.js";
import { Tabs } from "./tabs.js";

/** @typedef {import("./types.js").Board} Board */
/** @typedef {import("./types.js").State} State */

/** A cache may answer a poll with an older version. After so many old answers the service has restarted its versions. */
const OLD_POLLS = 3;
/** A proxy may be buffering a stream without an event by now, so the board is polled beside it. */
const BESIDE_MS = 3_000;

/**
 * @typedef {object} LiveSetup
 * @property {(lastEventId: string) => Promise<string>} target
 * @property {(url: string) => Promise<ApiError | null>} probe
 * @property {() => Promise<void>} reauthenticate
 * @property {() => Promise<{data: any, response: Response}>} fetchBoard
 * @property {() => string} channel name under which tabs of the same user share
 * @property {(type: string, detail: any) => void} emit
 * @property {() => number} now the time at the service, ms since 1970
 * @property {boolean} isShared
 * @property {number} heartbeatMs
 * @property {number} pollMs
 * @property {number} pauseAfterMs
 */

export class Live {
  /** @type {State} */
  state = "closed";
  /** @type {Board | null} */
  board = null;
  #oldPolls = 0;
  #hasPaused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pauseTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #besideTimer;

  /** @param {LiveSetup} setup */
  constructor(setup) {
    this.setup = setup;
    this.stream = new Stream({
      target: setup.target,
      probe: setup.probe,
      reauthenticate: setup.reauthenticate,
      heartbeatMs: setup.heartbeatMs,
      onEvent: (type, data, id) => {
        this.#become("live"); // Even if the browser reports no network.
        this.#apply(type, data, "stream");
        this.tabs.publish({ kind: "event", type, data, id });
      },
      onLive: () => this.#stopPolling(),
      onDown: (failures, retryInMs, error) => this.#streamDown(failures, retryInMs, error),
    });
    this.poller = new Poller({
      fetchBoard: setup.fetchBoard,
      pollMs: setup.pollMs,
      onBoard: (board) => this.#polled(board),
      onFailure: (error, retryInMs) => this.#pollFailed(error, retryInMs),
    });
    this.tabs = new Tabs({
      isShared: setup.isShared,
      onLead: () => this.#lead(),
      onDepose: () => this.#stop(),
      onMessage: (message) => this.#follow(message),
      snapshot: () => ({ state: this.state, board: this.board, id: this.stream.lastEventId }),
    });
    this.onVisibility = this.onVisibility.bind(this);
    this.onOffline = this.onOffline.bind(this);
    this.onPageHide = this.onPageHide.bind(this);
    this.onOnline = this.onOnline.bind(this);
    this.resume = this.resume.bind(this);
  }

  start() {
    document.addEventListener("visibilitychange", this.onVisibility);
    window.addEventListener("offline", this.onOffline);
    window.addEventListener("pagehide", this.onPageHide);
    window.addEventListener("online", this.onOnline);
    window.addEventListener("pageshow", this.resume);
    this.#join();
    this.onVisibility();
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    window.removeEventListener("offline", this.onOffline);
    window.removeEventListener("pagehide", this.onPageHide);
    window.removeEventListener("online", this.onOnline);
    window.removeEventListener("pageshow", this.resume);
    clearTimeout(this.#pauseTimer);
    this.#leave("closed");
  }

  /** Start again as another user, without resuming the last user's events. */
  restart() {
    if (this.state === "closed") return;
    this.stream.lastEventId = "";
    this.#stop();
    if (this.state !== "paused") this.#join();
  }

  /** Try the stream now instead of at the end of the wait. */
  retry() {
    this.stream.resetFailures();
    if (this.tabs.isLeader && this.state !== "live") this.stream.open();
  }

  onVisibility() {
    clearTimeout(this.#pauseTimer);
    if (document.visibilityState === "hidden") {
      this.#pauseTimer = setTimeout(() => this.#pause(), this.setup.pauseAfterMs);
    } else {
      this.resume();
    }
  }

  resume() {
    if (this.state === "paused") this.#join();
    else if (this.state === "offline") this.retry();
  }

  /** A stream may stay open while calls fail. The state is emitted once more even if it has not changed. */
  onOnline() {
    this.resume();
    if (this.state === "live" || this.state === "polling") this.#tell(this.state);
  }

  onOffline() {
    if (this.tabs.isLeader) this.#become("offline");
  }

  /** Browsers keep no page for the back button that holds connections or locks. */
  onPageHide() {
    this.#pause();
  }

  #pause() {
    if (this.state === "closed" || this.state === "paused") return;
    this.#hasPaused = true;
    this.#leave("paused");
  }

  #join() {
    this.#become("connecting");
    this.#pollSoon(BESIDE_MS); // Also when no other tab answers.
    this.tabs.join(this.setup.channel());
  }

  /** @param {State} state */
  #leave(state) {
    this.#stop();
    this.tabs.leave();
    this.#become(state);
  }

  #lead() {
    this.#hasPaused = false;
    this.stream.resetFailures();
    this.stream.open();
  }

  #stop() {
    this.stream.close();
    this.#stopPolling();
  }

  /** @param {number} ms */
  #pollSoon(ms) {
    this.#besideTimer ??= setTimeout(() => this.poller.start(), ms);
  }

  #stopPolling() {
    clearTimeout(this.#besideTimer);
    this.#besideTimer = undefined;
    this.poller.stop();
  }

  /** Handle a message of the leading tab. @param {any} message */
  #follow(message) {
    this.#stopPolling(); // The leading tab polls for all.
    if (message.id) this.stream.lastEventId = message.id;
    if (message.kind === "event") return this.#apply(message.type, message.data, "tab");
    if (message.board) this.#offer(message.board, "tab");
    if (message.kind === "snapshot" && this.#hasPaused) {
      // Private events of the meantime went to the other tabs only.
      this.#hasPaused = false;
      this.setup.emit("reset", { reason: "paused" });
    }
    this.#become(message.state);
  }

  /** @param {string} type @param {any} data @param {"stream" | "tab"} source */
  #apply(type, data, source) {
    if (type === "heartbeat") return;
    if (type.startsWith("leaderboard:")) return this.#offer(data, source);
    // After a reset our version means nothing: the next snapshot counts, whatever its version.
    if (type === "reset") this.board = null;
    this.setup.emit(type, data);
  }

  /** Emit a board unless it is older than the present one. @param {Board} board @param {"stream" | "poll" | "tab"} source */
  #offer(board, source) {
    if (this.board && board.version < this.board.version) return false;
    // A new player below the top changes only the total.
    const isNews = board.version !== this.board?.version || board.totalPlayers !== this.board?.totalPlayers;
    this.board = { ...board, source };
    if (isNews || source === "poll") this.setup.emit("board", this.board);
    return true;
  }

  /** @param {any} data */
  #polled(data) {
    const board = { ...data, updatedAt: data.lastUpdated ?? null };
    if (this.#offer(board, "poll")) this.#oldPolls = 0;
    else if ((this.#oldPolls += 1) >= OLD_POLLS) this.board = null;
    // The service answers again, so streams may work too.
    if (this.state === "offline") this.retry();
    this.#become("polling");
    this.tabs.publish({ kind: "board", state: this.state, board: this.board });
  }

  /** @param {unknown} error @param {number} retryInMs */
  #pollFailed(error, retryInMs) {
    // The board is for signed-in players only, and no player is signed in.
    if (error instanceof ApiError && error.status === 401) return this.#become("refused", error, retryInMs);
    const isUnreachable = error instanceof ApiError && error.status === 0;
    this.#become(isUnreachable || navigator.onLine === false ? "offline" : "connecting", error, retryInMs);
  }

  /** @param {number} failures @param {number} retryInMs @param {ApiError | null} error */
  #streamDown(failures, retryInMs, error) {
    // The service may have asked for a wait of minutes: poll the board meanwhile.
    if (failures >= BLOCKED_AFTER || retryInMs > this.setup.pollMs) this.poller.start();
    // Jitter: ten thousand pages that lost the same server should not poll at the same instant.
    else this.#pollSoon(BESIDE_MS * (1 + Math.random()));
    // Polling goes on; the event says why there is no stream.
    if (this.state === "polling" || this.state === "refused") return this.#become(this.state, error, retryInMs);
    const isUnreachable = navigator.onLine === false || (error?.status === 0 && failures > 1);
    this.#become(isUnreachable ? "offline" : "connecting", error, retryInMs);
  }

  /** @param {State} state @param {unknown} [error] @param {number} [retryInMs] */
  #become(state, error, retryInMs) {
    if (state !== this.state || retryInMs) this.#tell(state, error, retryInMs);
  }

  /** @param {State} state @param {unknown} [error] @param {number} [retryInMs] */
  #tell(state, error, retryInMs) {
    const previous = this.state;
    this.state = state;
    const why = error instanceof ApiError ? { code: error.code, reason: error.message } : { code: null, reason: null };
    const retry = { retryInMs: retryInMs ?? null, retryAt: retryInMs ? this.setup.now() + retryInMs : null };
    this.setup.emit("state", { state, previous, ...why, ...retry });
    this.tabs.publish({ kind: "state", state });
  }
}
