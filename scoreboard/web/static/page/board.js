/** The table of the top ten: rows move to their new places, newcomers are welcomed, the own row is marked. */

import { animate, byId, isStill, make } from "./dom.js";

/** @typedef {import("../scoreboard/types.js").Row} Row */
/** @typedef {import("../scoreboard/types.js").Board} Board */

const MOVE_MS = 520;
/** How long a row shows where it came from. */
const MOVED_MS = 4_000;
const EASE = "cubic-bezier(.2, .8, .2, 1)";

export class BoardView {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** @type {Map<string, Row>} */
  #entries = new Map();
  /** @type {string | null} */
  #me = null;
  #isFirst = true;

  /** @param {import("./announcer.js").Announcer} announcer */
  constructor(announcer) {
    this.announcer = announcer;
    this.body = byId("rows");
    this.own = byId("own-row");
  }

  /** @param {string} userId @returns {Row | undefined} the row of a player among the ten */
  find(userId) {
    return this.#entries.get(userId);
  }

  get size() {
    return this.#entries.size;
  }

  /** @param {string | null} userId */
  setMe(userId) {
    this.#me = userId;
    for (const [id, row] of this.#rows) this.#mark(row, id);
    if (!userId) this.showOwn(null);
  }

  /** @param {Board} board */
  show({ leaderboard }) {
    const before = this.#entries;
    const tops = new Map([...this.#rows].map(([id, row]) => [id, row.getBoundingClientRect().top]));
    this.#entries = new Map(leaderboard.map((entry) => [entry.userId, entry]));
    this.#place(leaderboard);
    if (!this.#isFirst) {
      for (const entry of leaderboard) this.#move(entry, before.get(entry.userId), tops.get(entry.userId));
      this.#announce(leaderboard, before);
    }
    this.#isFirst = false;
    byId("board-empty").hidden = leaderboard.length > 0;
  }

  /** The reader's own row below the ten; null hides it. @param {Row | null} entry */
  showOwn(entry) {
    this.own.hidden = !entry;
    if (!entry) return this.own.replaceChildren();
    const row = this.own.firstElementChild ?? this.own.appendChild(makeRow());
    this.#fill(/** @type {HTMLElement} */ (row), entry, null);
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
      // Only rows that are not in their place are moved: a moved row would lose the reader's selection.
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    });
  }

  /** @param {HTMLElement} row @param {Row} entry @param {number | null} best */
  #fill(row, entry, best) {
    row.dataset.userId = entry.userId;
    row.dataset.rank = String(entry.rank);
    fillCell(row, ".rank b", entry.rank.toLocaleString("en"));
    fillCell(row, ".name", entry.username);
    fillCell(row, ".score b", entry.score.toLocaleString("en"));
    /** @type {HTMLElement} */ (row.querySelector(".name")).title = entry.username;
    row.style.setProperty("--share", best === null ? "0" : String(Math.max(0, entry.score / best)));
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

  /**
   * Let a row travel from where it was; one that was not here before is welcomed.
   *
   * @param {Row} entry
   * @param {Row | undefined} before
   * @param {number | undefined} oldTop
   */
  #move(entry, before, oldTop) {
    const row = /** @type {HTMLElement} */ (this.#rows.get(entry.userId));
    if (!before || oldTop === undefined) return this.#welcome(row);
    const distance = oldTop - row.getBoundingClientRect().top;
    if (distance) {
      const isUp = entry.rank < before.rank;
      row.classList.toggle("rising", isUp);
      const frames = [{ transform: `translateY(${distance}px)` }, { transform: "none" }];
      animate(row, frames, { duration: MOVE_MS, easing: EASE });
    }
    if (entry.rank !== before.rank) this.#showMove(row, before.rank - entry.rank);
    if (entry.score !== before.score) {
      const score = /** @type {Element} */ (row.querySelector(".score b"));
      animate(score, [{ transform: "scale(1.22)" }, { transform: "none" }], { duration: 420, easing: EASE });
    }
  }

  /** @param {HTMLElement} row @param {number} change positive is up */
  #showMove(row, change) {
    const mark = /** @type {HTMLElement} */ (row.querySelector(".moved"));
    mark.textContent = `${change > 0 ? "▲" : "▼"}${Math.abs(change)}`;
    mark.dataset.way = change > 0 ? "up" : "down";
    clearTimeout(Number(mark.dataset.timer));
    mark.dataset.timer = String(window.setTimeout(() => { mark.textContent = ""; }, MOVED_MS));
  }

  /** @param {HTMLElement} row */
  #welcome(row) {
    const mark = /** @type {HTMLElement} */ (row.querySelector(".moved"));
    mark.textContent = "new";
    mark.dataset.way = "new";
    mark.dataset.timer = String(window.setTimeout(() => { mark.textContent = ""; }, MOVED_MS));
    if (isStill()) return;
    row.classList.add("newcomer");
    row.addEventListener("animationend", () => row.classList.remove("newcomer"), { once: true });
    animate(row, [
      { transform: "translateX(-14px) scale(.98)", opacity: 0 },
      { transform: "none", opacity: 1 },
    ], { duration: MOVE_MS, easing: EASE });
  }

  /** @param {Row[]} leaderboard @param {Map<string, Row>} before */
  #announce(leaderboard, before) {
    const [leader] = leaderboard;
    const oldLeader = [...before.values()][0];
    if (leader && leader.userId !== oldLeader?.userId) {
      this.announcer.say(`${leader.username} leads with ${leader.score}.`, false, "leader");
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
  const cell = /** @type {HTMLElement} */ (row.querySelector(selector));
  if (cell.textContent !== text) cell.textContent = text;
}
