/** The live board: stream or polling, shared between tabs, paused in the background. Decides which, and says so. */

import { ApiError } from "./http.js";
import { Poller } from "./poller.js";
import { BLOCKED_AFTER, Stream } from "./stream.js";
import { Tabs } from "./tabs.js";

/** @typedef {import("./types.js").Board} Board */
/** @typedef {import("./types.js").State} State */

/** A poll may meet a cache older than the stream was; more old answers than this mean that the numbering began anew. */
const OLD_POLLS = 3;
/** A stream that has not spoken by now may be held back on its way, by a proxy that buffers: the board is read beside it. */
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
        this.#become("live"); // Whatever the browser said of the network.
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
      onDepose: () => this.#quieten(),
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

  /** Begin anew as another user: events of the last one must not be resumed. */
  restart() {
    if (this.state === "closed") return;
    this.stream.lastEventId = "";
    this.#quieten();
    if (this.state !== "paused") this.#join();
  }

  /** Try the stream now instead of at the end of the wait. */
  retry() {
    this.stream.forgive();
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

  /** A stream may outlive the network that calls failed on: without a change, the state is told once more. */
  onOnline() {
    this.resume();
    if (this.state === "live" || this.state === "polling") this.#tell(this.state);
  }

  onOffline() {
    if (this.tabs.isLeader) this.#become("offline");
  }

  /** A page that holds connections or locks cannot be kept for the back button. */
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
    this.#pollSoon(BESIDE_MS); // Also while no other tab answers.
    this.tabs.join(this.setup.channel());
  }

  /** @param {State} state */
  #leave(state) {
    this.#quieten();
    this.tabs.leave();
    this.#become(state);
  }

  #lead() {
    this.#hasPaused = false;
    this.stream.forgive();
    this.stream.open();
  }

  #quieten() {
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

  /** What the leading tab says. @param {any} message */
  #follow(message) {
    this.#stopPolling(); // One tab reads for all.
    if (message.id) this.stream.lastEventId = message.id;
    if (message.kind === "event") return this.#apply(message.type, message.data, "tab");
    if (message.board) this.#offer(message.board, "tab");
    if (message.kind === "snapshot" && this.#hasPaused) {
      // What happened to this user meanwhile was told to the tabs that were awake only.
      this.#hasPaused = false;
      this.setup.emit("reset", { reason: "paused" });
    }
    this.#become(message.state);
  }

  /** @param {string} type @param {any} data @param {"stream" | "tab"} source */
  #apply(type, data, source) {
    if (type === "heartbeat") return;
    if (type.startsWith("leaderboard:")) return this.#offer(data, source);
    // After a reset the service knows nothing of our version: the snapshot that follows counts, whatever its number.
    if (type === "reset") this.board = null;
    this.setup.emit(type, data);
  }

  /** Show a board unless a newer one was seen. @param {Board} board @param {"stream" | "poll" | "tab"} source */
  #offer(board, source) {
    if (this.board && board.version < this.board.version) return false;
    // A player who joins below the top changes the total only.
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
    // The service was gone and answers again: streams may work too.
    if (this.state === "offline") this.retry();
    this.#become("polling");
    this.tabs.publish({ kind: "board", state: this.state, board: this.board });
  }

  /** @param {unknown} error @param {number} retryInMs */
  #pollFailed(error, retryInMs) {
    // The board is for signed-in players only, and nobody is signed in.
    if (error instanceof ApiError && error.status === 401) return this.#become("refused", error, retryInMs);
    const isUnreachable = error instanceof ApiError && error.status === 0;
    this.#become(isUnreachable || navigator.onLine === false ? "offline" : "connecting", error, retryInMs);
  }

  /** @param {number} failures @param {number} retryInMs @param {ApiError | null} error */
  #streamDown(failures, retryInMs, error) {
    // A wait that the service asked for may be minutes: the board moves on meanwhile.
    if (failures >= BLOCKED_AFTER || retryInMs > this.setup.pollMs) this.poller.start();
    // Ten thousand pages that lost the same server do not ask for the board in the same instant either.
    else this.#pollSoon(BESIDE_MS * (1 + Math.random()));
    // The board goes on without a stream; the page hears why there is none.
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
