/** The reader's own score, rank and percentile, and their row below the ten. */

import { animate, byId, setText } from "./dom.js";
import { refusalText, UNREACHABLE, untilText } from "./texts.js";

/** Own scores may be read 30 times a minute; own rounds end seldom enough. */
const READ_GAP_MS = 3_000;
/** Others move this rank all the time, on every open page at once: the service should not feel it. */
const DRIFT_MS = 30_000;
/** A reset reaches all pages in the same instant. */
const RESET_SPREAD_MS = 10_000;

export class Standing {
  /** @type {{score: number, rank: number | null, percentile: number | null} | null} */
  #mine = null;
  #total = 0;
  #readAt = -READ_GAP_MS;
  #dueAt = Infinity;
  /** Why the note stands there. */
  #noteCode = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {import("../scoreboard.js").Scoreboard} scoreboard
   * @param {import("./board.js").BoardView} board
   */
  constructor(scoreboard, board) {
    this.scoreboard = scoreboard;
    this.board = board;
    this.#on("score", (detail) => this.#showScore(detail));
    this.#on("queue", (detail) => this.#showQueue(detail));
    this.#on("state", ({ state }) => {
      const isBack = state === "live" || state === "polling";
      if (isBack && UNREACHABLE.includes(this.#noteCode)) this.note("");
    });
    this.#on("rank:change", ({ userId, newRank }) => userId === this.#id && this.#setRank(newRank));
    this.#on("score:update", ({ userId, newRank }) => userId === this.#id && this.#setRank(newRank));
    this.#on("result", ({ rank, status }) => {
      if (status !== "applied") return;
      this.#setRank(rank);
      this.#readIn(0);
    });
    this.#on("reset", () => this.#readIn(Math.random() * RESET_SPREAD_MS));
  }

  get #id() {
    return this.scoreboard.user?.id;
  }

  /** @param {string} type @param {(detail: any) => void} listener */
  #on(type, listener) {
    this.scoreboard.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {import("../scoreboard/types.js").User | null} user */
  userChanged(user) {
    byId("standing").hidden = !user;
    this.#mine = null;
    this.#readAt = -READ_GAP_MS;
    setText("my-score", "–");
    setText("my-rank", "–");
    setText("my-percentile", "–");
    if (user) this.#readIn(0);
  }

  /** Others moving moves this rank too. @param {number | undefined} total players on the board */
  boardChanged(total) {
    this.#total = total ?? this.#total;
    if (!this.scoreboard.user) return;
    this.#showOwnRow();
    this.#readIn(DRIFT_MS * (0.75 + Math.random() / 2));
  }

  /** @param {string} text @param {string} [code] why, where it was a refusal */
  note(text, code = "") {
    this.#noteCode = code;
    byId("queue").hidden = !text;
    setText("queue", text);
  }

  /** Read the figures after a while; an earlier appointment stands. @param {number} ms */
  #readIn(ms) {
    const at = performance.now() + Math.max(ms, this.#readAt + READ_GAP_MS - performance.now());
    if (at >= this.#dueAt) return;
    this.#dueAt = at;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#dueAt = Infinity;
      if (this.scoreboard.user && document.visibilityState === "visible") this.#read();
    }, at - performance.now());
  }

  async #read() {
    this.#readAt = performance.now();
    const user = this.scoreboard.user;
    try {
      const mine = await this.scoreboard.me();
      if (this.scoreboard.user?.id !== user?.id) return;
      this.#mine = mine;
      if (typeof mine.percentile === "number") setText("my-percentile", `${Math.floor(mine.percentile)} %`);
      this.#setRank(mine.rank);
    } catch {
      // The figures stay as they were; the connection's state is shown elsewhere.
    }
  }

  /** @param {number | null} rank */
  #setRank(rank) {
    if (rank === null || rank === undefined) return;
    if (this.#mine) this.#mine.rank = rank;
    this.#showRank(rank);
    this.#showOwnRow();
  }

  /** @param {number} rank */
  #showRank(rank) {
    setText("my-rank", rank.toLocaleString("en"));
    if (!this.#total) return;
    // As the service counts it, but in step with the rank; a total that lags behind must not make it negative.
    const below = Math.max(0, this.#total - rank);
    const percentile = this.#total > 1 ? (below / (this.#total - 1)) * 100 : 100;
    setText("my-percentile", `${Math.floor(percentile)} %`);
  }

  /** @param {{score: number | null, pending: number, rolledBack: {points: number} | null}} detail */
  #showScore({ score, pending, rolledBack }) {
    const before = byId("my-score").textContent;
    setText("my-score", score === null ? "–" : score.toLocaleString("en"));
    setText("my-pending", pending ? ` ${pending} pending` : "");
    if (score !== null && before !== byId("my-score").textContent) {
      const from = rolledBack ? "translateY(6px)" : "translateY(-6px)";
      const frames = [{ transform: from, opacity: 0.3 }, { transform: "none", opacity: 1 }];
      animate(byId("my-score"), frames, { duration: 260 });
    }
    this.#showOwnRow();
  }

  #showOwnRow() {
    const user = this.scoreboard.user;
    const rank = this.#mine?.rank;
    const isBelow = user && rank && rank > 10 && !this.board.find(user.id);
    const score = this.scoreboard.score ?? this.#mine?.score ?? 0;
    this.board.showOwn(isBelow ? { rank, userId: user.id, username: user.username, score, updatedAt: null } : null);
    const onBoard = user && this.board.find(user.id);
    if (onBoard) this.#showRank(onBoard.rank);
  }

  /** @param {{size: number, unconfirmed: number, sendsForMs: number | null, code?: string}} detail */
  #showQueue({ size, unconfirmed, sendsForMs, code }) {
    if (!size) return this.note("");
    if (!code) return;
    const waiting = size - unconfirmed;
    const texts = [];
    if (waiting) texts.push(`${waiting} ${waiting === 1 ? "round waits" : "rounds wait"} to be sent${untilText(sendsForMs)}.`);
    if (unconfirmed) texts.push(`Whether ${unconfirmed === 1 ? "a round" : `${unconfirmed} rounds`} counted is not known yet.`);
    this.note([...texts, refusalText(code)].join(" "), code);
  }
}
