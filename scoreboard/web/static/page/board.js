/** The table of the top ten: rows move to their new rank, new rows light up, the reader's own row is marked. */

import { byId, make, setFigure } from "./dom.js";
import { animate, isStill, MotionBudget } from "./motion.js";

/** @typedef {import("../scoreboard/types.js").Row} Row */
/** @typedef {import("../scoreboard/types.js").Board} Board */

const MOVE = { duration: 420, easing: "cubic-bezier(.2, .8, .2, 1)" };
/** How long a row shows its change of rank. */
const MOVED_MS = 4_000;
const WELCOME_MS = 1_600;

export class BoardView {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** @type {Map<string, Row>} */
  #entries = new Map();
  /** @type {string | null} */
  #me = null;
  /** The reader's own score as the rest of the page shows it. @type {number | null} */
  #ownScore = null;
  #isFirst = true;
  #isInView = true;
  #budget = new MotionBudget();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #marks;

  /** @param {import("./announcer.js").Announcer} announcer */
  constructor(announcer) {
    this.announcer = announcer;
    this.body = byId("rows");
    this.own = byId("own-row");
    const Observer = globalThis.IntersectionObserver; // Absent in some browsers.
    if (Observer) new Observer(([{ isIntersecting }]) => { this.#isInView = isIntersecting; }).observe(this.body);
  }

  /** @param {string} userId @returns {Row | undefined} the row of a player among the ten */
  find(userId) {
    return this.#entries.get(userId);
  }

  /** Whether a board has come yet. */
  get isKnown() {
    return !this.#isFirst;
  }

  get size() {
    return this.#entries.size;
  }

  /** @param {string | null} userId */
  setMe(userId) {
    this.#me = userId;
    this.#ownScore = null;
    for (const [id, row] of this.#rows) this.#mark(row, id);
    this.showOwn(null);
  }

  /** The reader's score may be known before the board has it: both show the same. @param {number | null} score */
  setOwnScore(score) {
    this.#ownScore = score;
    const row = this.#me ? this.#rows.get(this.#me) : undefined;
    if (row && score !== null) fillCell(row, ".score b", score.toLocaleString("en"));
  }

  /** @param {Board} board */
  show({ leaderboard }) {
    const before = this.#entries;
    const tops = this.#mayMove(leaderboard, before) ? this.#tops() : null;
    this.body.classList.toggle("moving", tops !== null);
    this.#forgetMoves();
    this.#entries = new Map(leaderboard.map((entry) => [entry.userId, entry]));
    this.#place(leaderboard);
    if (!this.#isFirst) {
      for (const entry of leaderboard) this.#tell(entry, before.get(entry.userId));
      if (tops) for (const entry of leaderboard) this.#move(entry, before.get(entry.userId), tops);
      this.#announce(leaderboard, before);
    }
    this.#isFirst = false;
    this.body.style.setProperty("--count", String(Math.min(10, leaderboard.length)));
    byId("board-empty").hidden = leaderboard.length > 0;
  }

  /** The reader's own row below the ten; null hides it. @param {Row | null} entry */
  showOwn(entry) {
    this.own.hidden = !entry;
    byId("chase").hidden = Boolean(entry) || !this.#me;
    if (!entry) return this.own.replaceChildren();
    const row = this.own.firstElementChild ?? this.own.appendChild(makeRow());
    this.#fill(/** @type {HTMLElement} */ (row), entry, null);
  }

  /** @param {number} rank @returns {Row | undefined} */
  at(rank) {
    return [...this.#entries.values()][rank - 1];
  }

  /** @param {Row[]} leaderboard @param {Map<string, Row>} before @returns {boolean} whether the rows may move */
  #mayMove(leaderboard, before) {
    if (this.#isFirst || isStill() || !this.#isInView) return false;
    const ids = [...before.keys()];
    const isNews = leaderboard.some(
      ({ userId, score }, index) => ids[index] !== userId || before.get(userId)?.score !== score,
    );
    return isNews && this.#budget.take();
  }

  /** The rows' present positions, also in the middle of a move. @returns {Map<string, number>} */
  #tops() {
    return new Map([...this.#rows].map(([id, row]) => [id, row.getBoundingClientRect().top]));
  }

  /** @param {Row[]} leaderboard */
  #place(leaderboard) {
    const best = leaderboard[0]?.score || 1;
    for (const [id, row] of this.#rows) {
      if (this.#entries.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    leaderboard.forEach((entry, index) => {
      const row = this.#rows.get(entry.userId) ?? makeRow();
      this.#rows.set(entry.userId, row);
      this.#fill(row, entry, best);
      // Move only misplaced rows: a moved row loses the reader's selection.
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    });
  }

  /** @param {HTMLElement} row @param {Row} entry @param {number | null} best */
  #fill(row, entry, best) {
    const score = (entry.userId === this.#me ? this.#ownScore : null) ?? entry.score;
    const share = best === null ? "0" : Math.max(0, entry.score / best).toFixed(4);
    row.dataset.userId = entry.userId;
    if (row.dataset.rank !== String(entry.rank)) row.dataset.rank = String(entry.rank);
    fillCell(row, ".rank b", entry.rank.toLocaleString("en"));
    fillCell(row, ".score b", score.toLocaleString("en"));
    const name = /** @type {HTMLElement} */ (row.querySelector(".name"));
    if (name.textContent !== entry.username) name.textContent = name.title = entry.username;
    if (row.style.getPropertyValue("--share") !== share) row.style.setProperty("--share", share);
    this.#mark(row, entry.userId);
  }

  /** @param {HTMLElement} row @param {string} userId */
  #mark(row, userId) {
    const isMe = userId === this.#me;
    row.classList.toggle("me", isMe);
    if (isMe) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
    /** @type {HTMLElement} */ (row.querySelector(".you")).hidden = !isMe;
  }

  /** Show the change of rank beside the rank. @param {Row} entry @param {Row | undefined} before */
  #tell(entry, before) {
    if (before?.rank === entry.rank) return;
    const change = before ? before.rank - entry.rank : 0;
    const row = /** @type {HTMLElement} */ (this.#rows.get(entry.userId));
    const mark = /** @type {HTMLElement} */ (row.querySelector(".moved"));
    mark.textContent = before ? `${change > 0 ? "▲" : "▼"}${Math.abs(change)}` : "new";
    mark.dataset.way = !before ? "new" : change > 0 ? "up" : "down";
    mark.dataset.until = String(performance.now() + MOVED_MS);
    clearTimeout(this.#marks);
    this.#marks = setTimeout(() => this.#forgetMoves(), MOVED_MS + 50);
  }

  /** Clear old marks. Done together with other changes where possible: each change of the page is drawn. */
  #forgetMoves() {
    for (const mark of /** @type {NodeListOf<HTMLElement>} */ (this.body.querySelectorAll(".moved:not(:empty)"))) {
      if (performance.now() >= Number(mark.dataset.until)) mark.textContent = "";
    }
  }

  /**
   * Move a row from its old position, or welcome a new one.
   *
   * @param {Row} entry
   * @param {Row | undefined} before
   * @param {Map<string, number>} tops
   */
  #move(entry, before, tops) {
    const row = /** @type {HTMLElement} */ (this.#rows.get(entry.userId));
    const oldTop = tops.get(entry.userId);
    if (!before || oldTop === undefined) return this.#welcome(row);
    const distance = oldTop - row.getBoundingClientRect().top;
    if (distance) {
      row.classList.toggle("rising", entry.rank < before.rank);
      const frames = [{ transform: `translateY(${distance}px)` }, { transform: "none" }];
      animate(row, frames, MOVE);
    }
    if (entry.score === before.score) return;
    const score = /** @type {Element} */ (row.querySelector(".score b"));
    animate(score, [{ transform: "scale(1.22)" }, { transform: "none" }], MOVE);
  }

  /** @param {HTMLElement} row */
  #welcome(row) {
    animate(row, [
      { transform: "translateX(-14px) scale(.98)", opacity: 0 },
      { transform: "none", opacity: 1 },
    ], MOVE);
    const glow = make("span", { class: "glow", "aria-hidden": "true" });
    /** @type {Element} */ (row.querySelector(".player")).append(glow);
    const fading = animate(glow, [{ opacity: 1 }, { opacity: 1, offset: 0.35 }, { opacity: 0 }], { duration: WELCOME_MS });
    if (fading) fading.onfinish = fading.oncancel = () => glow.remove();
    else glow.remove();
  }

  /** @param {Row[]} leaderboard @param {Map<string, Row>} before */
  #announce(leaderboard, before) {
    const [leader] = leaderboard;
    const oldLeader = [...before.values()][0];
    if (leader && leader.userId !== oldLeader?.userId) {
      this.announcer.say(`${leader.username} leads with ${leader.score.toLocaleString("en")}.`, false, "leader");
    }
    const mine = this.#me ? this.#entries.get(this.#me) : undefined;
    const old = this.#me ? before.get(this.#me) : undefined;
    if (mine && !old) this.announcer.say(`You are in the top ten, rank ${mine.rank}.`, false, "me");
    else if (mine && old && mine.rank !== old.rank) this.announcer.say(`You are rank ${mine.rank}.`, false, "me");
  }
}

function makeRow() {
  return make("tr", { role: "row", "data-testid": "row" },
    make("td", { role: "cell", class: "rank" }, make("b"), make("span", { class: "moved", "aria-hidden": "true" })),
    make("td", { role: "cell", class: "player" },
      make("bdi", { class: "name", dir: "auto" }), make("span", { class: "you", hidden: "" }, "you")),
    make("td", { role: "cell", class: "score number" }, make("b")));
}

/** @param {HTMLElement} row @param {string} selector @param {string} text */
function fillCell(row, selector, text) {
  setFigure(/** @type {HTMLElement} */ (row.querySelector(selector)), text);
}
