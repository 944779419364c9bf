/** The reader's own score, rank and percentile, their row below the ten, and who is next. */

import { byId, make, setFigure, setText } from "./dom.js";
import { animate } from "./motion.js";
import { isAway, pointsText, refusalText, untilText } from "./texts.js";

/** Own scores may be read 30 times a minute; own rounds end seldom enough. */
const READ_GAP_MS = 3_000;
/** Others move this rank all the time, on every open page at once: the service should not feel it. */
const DRIFT_MS = 30_000;
/** A reset reaches all pages in the same instant. */
const RESET_SPREAD_MS = 10_000;

/** @typedef {import("../scoreboard/types.js").Board} Board */

export class Standing {
  /** As last shown, everywhere on the page the same. @type {number | null} */
  #score = null;
  #pending = 0;
  /** @type {number | null} */
  #rank = null;
  #total = 0;
  /** What the module last confirmed; it repeats it when points come or go. @type {number | null} */
  #confirmed = null;
  /** Why the note stands there. */
  #noteCode = "";
  /** When the own entry of the last board was reached: tells news from an older board. */
  #reachedAt = "";
  #readAt = -READ_GAP_MS;
  #dueAt = Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether it was time to read while nobody looked. */
  #isOverdue = false;

  /**
   * @param {import("../scoreboard.js").Scoreboard} scoreboard
   * @param {import("./board.js").BoardView} board
   */
  constructor(scoreboard, board) {
    this.scoreboard = scoreboard;
    this.board = board;
    this.#on("score", (detail) => this.#scored(detail));
    this.#on("queue", (detail) => this.#showQueue(detail));
    this.#on("state", ({ state }) => {
      const isBack = state === "live" || state === "polling";
      if (isBack && isAway(this.#noteCode)) this.note("");
    });
    this.#on("rank:change", ({ userId, newRank }) => userId === this.#id && this.#ranked(newRank));
    this.#on("score:update", ({ userId, newRank }) => userId === this.#id && this.#ranked(newRank));
    this.#on("result", ({ rank, status }) => {
      if (status !== "applied") return;
      this.#ranked(rank);
      this.#readIn(0);
    });
    this.#on("reset", () => this.#readIn(Math.random() * RESET_SPREAD_MS));
    document.addEventListener("visibilitychange", () => {
      if (this.#isOverdue) this.#readIn(0);
    });
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
    this.#score = this.#confirmed = this.#rank = null;
    this.#pending = 0;
    this.#reachedAt = "";
    this.#readAt = -READ_GAP_MS;
    this.note("");
    this.#render();
    if (user) this.#readIn(0);
  }

  /** Others moving moves this rank too. @param {Board} board */
  boardChanged({ totalPlayers }) {
    this.#total = totalPlayers ?? this.#total;
    const mine = this.#id ? this.board.find(this.#id) : undefined;
    if (mine) {
      // An own score may be told before the board that has it: only a later one than the last board's is news.
      const isNews = (mine.updatedAt ?? "") > this.#reachedAt;
      if (this.#score === null || (isNews && this.#reachedAt)) this.#score = mine.score;
      if (isNews) this.#reachedAt = mine.updatedAt ?? "";
      this.#rank = mine.rank;
    }
    this.#render();
    if (this.#id) this.#readIn(DRIFT_MS * (0.75 + Math.random() / 2));
  }

  /** @param {string} text empty hides it @param {string} [code] why, where it was a refusal */
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
      this.#isOverdue = document.visibilityState === "hidden";
      if (this.scoreboard.user && !this.#isOverdue) this.#read();
    }, at - performance.now());
  }

  async #read() {
    this.#readAt = performance.now();
    const user = this.scoreboard.user;
    try {
      const { rank } = await this.scoreboard.me(); // The score comes as an event.
      if (this.#id === user?.id) this.#ranked(rank);
    } catch {
      // The figures stay as they were; the connection's state is shown elsewhere.
    }
  }

  /** @param {number | null | undefined} rank */
  #ranked(rank) {
    if (rank === null || rank === undefined) return;
    this.#rank = rank;
    this.#render();
  }

  /** @param {{score: number | null, pending: number, rolledBack: {points: number} | null}} detail */
  #scored({ score, pending, rolledBack }) {
    const before = this.#score;
    const confirmed = score === null ? null : score - pending;
    if (confirmed !== this.#confirmed) this.#score = this.#confirmed = confirmed;
    this.#pending = pending;
    this.#render();
    if (before === null || (before === this.#score && !rolledBack)) return;
    const from = rolledBack ? "translateY(6px)" : "translateY(-6px)";
    animate(byId("my-score"), [{ transform: from, opacity: 0.3 }, { transform: "none", opacity: 1 }], { duration: 260 });
  }

  /** Everything from the same figures, so that no two places disagree. */
  #render() {
    const rank = this.#shownRank();
    // A rank proves that so many players are there, whatever the last board said of their number.
    const total = Math.max(this.#total, rank ?? 0);
    if (total || this.board.isKnown) {
      setText("total-players", total.toLocaleString("en"));
      setText("total-unit", total === 1 ? "player" : "players");
    }
    setFigure(byId("my-score"), this.#score === null ? "–" : this.#score.toLocaleString("en"));
    setText("my-pending", this.#pending ? `+${this.#pending.toLocaleString("en")} pending` : "");
    setFigure(byId("my-rank"), rank === null ? "–" : rank.toLocaleString("en"));
    setFigure(byId("my-percentile"), aheadText(rank, total));
    this.#renderOwn(rank);
  }

  /** Ten and better is what the board shows; who is not on it is below. @returns {number | null} */
  #shownRank() {
    if (this.#rank === null || !this.#id || !this.board.isKnown || this.board.find(this.#id)) return this.#rank;
    return Math.max(this.#rank, this.board.size + 1);
  }

  /** @param {number | null} rank */
  #renderOwn(rank) {
    const user = this.scoreboard.user;
    const isBelow = user && rank && !this.board.find(user.id) && this.board.size >= 10;
    this.board.setOwnScore(this.#score);
    const row = isBelow && { rank, userId: user.id, username: user.username, score: this.#score ?? 0, updatedAt: null };
    this.board.showOwn(row || null);
    byId("chase").replaceChildren(make("span", {}, ...(user && rank && !isBelow ? this.#chase(rank) : [])));
  }

  /** How far it is to the next place, or how far ahead the leader is. @param {number} rank @returns {(Node | string)[]} */
  #chase(rank) {
    const [next, gap] = rank === 1 ? [this.board.at(2), -1] : [this.board.at(rank - 1), 1];
    if (!next) return ["The board is yours. Invite somebody."];
    const points = Math.max(0, gap * (next.score - (this.#score ?? 0)));
    const name = make("bdi", {}, next.username);
    if (rank === 1) return [points ? `${pointsText(points)} ahead of ` : "Level with ", name];
    return points ? [`${pointsText(points)} behind `, name] : ["Level with ", name, ", who was there first"];
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

/** The share of the others that the reader is ahead of. @param {number | null} rank @param {number} total */
function aheadText(rank, total) {
  if (rank === null || !total) return "–";
  if (total === 1) return "nobody yet";
  return `${Math.floor(((total - rank) / (total - 1)) * 100)} %`;
}
