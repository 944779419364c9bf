/** The reader's own score, rank and percentile, their row below the ten, and the distance to the next player. */

import { byId, make, setFigure, setText } from "./dom.js";
import { animate } from "./motion.js";
import { isAway, pointsText, refusalText, untilText } from "./texts.js";

/** The service allows 30 reads of the own score a minute. Rounds end less often than this. */
const READ_GAP_MS = 3_000;
/** Other players change this rank all the time, on every open page at once. Rare reads spare the service. */
const DRIFT_MS = 30_000;
/** A reset reaches all pages at the same instant. */
const RESET_SPREAD_MS = 10_000;

/** @typedef {import("../scoreboard/types.js").Board} Board */

export class Standing {
  /** The score as shown, the same everywhere on the page. @type {number | null} */
  #score = null;
  #pending = 0;
  /** @type {number | null} */
  #rank = null;
  #total = 0;
  /** The score that the module last confirmed; it repeats it when pending points change. @type {number | null} */
  #confirmed = null;
  /** The code of the refusal in the note. */
  #noteCode = "";
  /** The time of the own entry on the last board, to recognise an older board. */
  #reachedAt = "";
  #readAt = -READ_GAP_MS;
  #dueAt = Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether a read was due while the page was hidden. */
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

  /** A change of other players' ranks may change this one too. @param {Board} board */
  boardChanged({ totalPlayers }) {
    this.#total = totalPlayers ?? this.#total;
    const mine = this.#id ? this.board.find(this.#id) : undefined;
    if (mine) {
      // The own score may come before the board that has it: only a later time than the last board's is news.
      const isNews = (mine.updatedAt ?? "") > this.#reachedAt;
      if (this.#score === null || (isNews && this.#reachedAt)) this.#score = mine.score;
      if (isNews) this.#reachedAt = mine.updatedAt ?? "";
      this.#rank = mine.rank;
    }
    this.#render();
    if (this.#id) this.#readIn(DRIFT_MS * (0.75 + Math.random() / 2));
  }

  /** @param {string} text empty hides it @param {string} [code] of the refusal, if it is one */
  note(text, code = "") {
    this.#noteCode = code;
    byId("queue").hidden = !text;
    setText("queue", text);
  }

  /** Read the figures after this time, or earlier if a read is due. @param {number} ms */
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
      // The figures stay; the page shows the connection's state elsewhere.
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

  /** Render everything from the same figures, so that no two places disagree. */
  #render() {
    const rank = this.#shownRank();
    // A rank proves that there are so many players, even if the last board said fewer.
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

  /** A player who is not among the ten on the board has a rank below them. @returns {number | null} */
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

  /** The distance to the next rank, or the leader's lead. @param {number} rank @returns {(Node | string)[]} */
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
    if (unconfirmed) texts.push(`It is not known yet whether ${unconfirmed === 1 ? "a round" : `${unconfirmed} rounds`} counted.`);
    this.note([...texts, refusalText(code)].join(" "), code);
  }
}

/** The share of the other players who are below the reader. @param {number | null} rank @param {number} total */
function aheadText(rank, total) {
  if (rank === null || !total) return "–";
  if (total === 1) return "nobody yet";
  return `${Math.floor(((total - rank) / (total - 1)) * 100)} %`;
}
