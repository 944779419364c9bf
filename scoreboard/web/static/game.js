/** The game "Number trail": rounds that earn points through the service, and their outcomes. */

import { byId, countDown, make, setText } from "./page/dom.js";
import { OutcomeView } from "./page/outcome.js";
import {
  durationText, isAway, pointsText, rankChangeText, refusalText, secondsText, timeText, untilText,
} from "./page/texts.js";
import { Trail } from "./page/trail.js";
import { Worth } from "./page/worth.js";

/** @typedef {import("./scoreboard/types.js").Action} Action */
/** @typedef {import("./scoreboard/types.js").Outcome} Outcome */
/** @typedef {import("./scoreboard.js").ApiError} ApiError */

const ACTION_TYPE = "TAP_NUMBERS";
const SIZES = /** @type {Record<string, number>} */ ({ easy: 3, medium: 4, hard: 5 });
/** If too many actions are open, a round uses a given-up one again that has at least so much time left. */
const REUSE_LEFT_MS = 60_000;
/** A new action costs a call of up to this time, so a waiting action of this age is as good. */
const CALL_MS = 1_000;
const CLOCK_MS = 100;

/**
 * @typedef {object} GameSetup
 * @property {import("./scoreboard.js").Scoreboard} scoreboard
 * @property {import("./page/announcer.js").Announcer} announcer
 */

/** @param {GameSetup} setup */
export function startGame(setup) {
  return new Game(setup).open();
}

class Game {
  #worth = new Worth(null);
  /** Whether the catalogue lacks this game. */
  #isPractice = false;
  /** @type {Action | null} null in a practice round */
  #action = null;
  /** Given-up actions by difficulty; they still count as open. @type {Map<string, Action>} */
  #spare = new Map();
  #spareOwner = "";
  #difficulty = "easy";
  /** The difficulty of the present or last round; another one may be chosen by now. */
  #played = "easy";
  /** The time of the last round, ms. */
  #tookMs = 0;
  /** The action whose outcome is still to come. */
  #awaited = "";
  /** Whether the last round brought the player into the top ten. */
  #hasEntered = false;
  /** Whether the answer to the completion is still to come. It has more fields than the event, which may be earlier. */
  #isAsking = false;
  /** @type {Outcome | null} the earlier event */
  #early = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  #stopWaiting = () => {};
  /** The code of the refusal in the note. */
  #noteCode = "";
  /** @type {OutcomeView} */
  #outcome;

  /** @param {GameSetup} setup */
  constructor({ scoreboard, announcer }) {
    this.scoreboard = scoreboard;
    this.announcer = announcer;
    this.#outcome = new OutcomeView(announcer);
    this.button = /** @type {HTMLButtonElement} */ (byId("start"));
    this.trail = new Trail({
      onDone: (ms) => this.#done(ms),
      onGiveUp: () => this.#giveUp("Given up."),
      onMiss: (next) => announcer.say(`Next is ${next}.`, true),
    });
  }

  async open() {
    this.button.addEventListener("click", () => this.#begin());
    byId("levels").addEventListener("change", () => this.#choose());
    this.#on("auth", () => this.#userChanged());
    this.#on("result", (outcome) => this.#settled(outcome));
    this.#on("dropped", ({ actionId, code, message }) => {
      if (actionId === this.#awaited && !this.#isAsking) this.#showRefusal(code, { message });
    });
    this.#on("rank:change", (change) => { this.#entered(change); });
    this.#on("state", ({ state }) => {
      if (state !== "live" && state !== "polling") return;
      this.#outcome.connected();
      if (isAway(this.#noteCode)) this.#note("");
    });
    this.#choose();
    this.#userChanged();
    try {
      const types = await this.scoreboard.types();
      const type = types.find(({ code }) => code === ACTION_TYPE);
      this.#worth = new Worth(type ?? null);
      this.#isPractice = !type;
      this.#invite();
      this.#showPoints();
    } catch {
      // Without the catalogue the labels lack their points; a round shows them when it starts.
    }
  }

  /** @param {string} type @param {(detail: any) => void} listener */
  #on(type, listener) {
    this.scoreboard.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  #userChanged() {
    const userId = this.scoreboard.user?.id ?? "";
    if (userId !== this.#spareOwner) {
      this.#spareOwner = userId;
      this.#spare.clear();
      this.#action = null;
      this.#awaited = "";
      this.#endWait();
      if (this.trail.isRunning) this.#giveUp("");
      this.#outcome.clear();
      setText("clock", secondsText(0));
    }
    this.#invite();
  }

  #invite() {
    if (this.#isPractice) this.#note("Just for practice: this service gives points for other things.");
    else this.#note(this.scoreboard.user ? "" : "You can try it without an account; points need one.");
  }

  #choose() {
    const chosen = /** @type {HTMLInputElement | null} */ (document.querySelector("input[name=difficulty]:checked"));
    this.#difficulty = chosen?.value ?? "easy";
    if (this.trail.isRunning) return this.#giveUp("");
    this.trail.preview(SIZES[this.#difficulty]);
  }

  /** Show the points of each difficulty by the catalogue. The service decides when a round starts. */
  #showPoints() {
    for (const label of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-points]"))) {
      const difficulty = label.dataset.points ?? "";
      const [least, most] = [this.#worth.after(difficulty, Infinity), this.#worth.most(difficulty)];
      if (most) label.textContent = `${least < most ? `${least}–` : ""}${pointsText(most)}`;
    }
    if (this.#worth.rewardsSpeed) setText("lead", "Tap the numbers in order, from 1 up. The quicker, the more points.");
  }

  /** Time since the service issued the action, a given-up round included. */
  get #elapsedMs() {
    return this.#action ? ageMs(this.#action) : this.trail.elapsedMs;
  }

  /** The points of the present round if it ended now. */
  get #present() {
    return this.#worth.after(this.#played, this.#elapsedMs, this.#action?.maxPoints);
  }

  async #begin() {
    const difficulty = this.#difficulty;
    this.#awaited = "";
    this.#action = null;
    this.#endWait();
    this.#outcome.clear();
    this.#note("");
    if (this.scoreboard.user && !this.#isPractice) {
      this.button.disabled = true;
      this.button.textContent = "Getting ready …";
      try {
        this.#action = await this.#obtain(difficulty);
      } catch (error) {
        return this.#notStarted(/** @type {ApiError} */ (error));
      }
      // The reader signed out, or in as another user, meanwhile.
      if (this.#spareOwner !== (this.scoreboard.user?.id ?? "")) return this.#curtain("Start");
    }
    this.#play(difficulty);
  }

  /** @param {string} difficulty @returns {Promise<Action>} */
  async #obtain(difficulty) {
    try {
      return await this.scoreboard.start(ACTION_TYPE, { difficulty }, { maxWaitedMs: this.#maxWaitedMs(difficulty) });
    } catch (error) {
      // A given-up action is worth less, because its clock has run: use it only if no new one is issued.
      const spare = this.#spare.get(difficulty);
      this.#spare.delete(difficulty);
      const isTooMany = /** @type {ApiError} */ (error).code === "TOO_MANY_OPEN_ACTIONS";
      if (!isTooMany || !spare || this.#leftMs(spare) < REUSE_LEFT_MS) throw error;
      return spare;
    }
  }

  /** A waiting action's clock runs. After this wait a round as quick as the last one still brings as many points. */
  #maxWaitedMs(/** @type {string} */ difficulty) {
    const freeMs = difficulty === this.#played ? this.#worth.freeMs(difficulty, this.#tookMs) : 0;
    return Math.max(CALL_MS, freeMs);
  }

  /** How long the round of an action may still take, by the service's clock. @param {Action} action */
  #leftMs(action) {
    const lifeMs = Date.parse(action.expiresAt) - Date.parse(action.issuedAt);
    return Math.min(lifeMs, this.#worth.maxTimeMs) - ageMs(action);
  }

  /** @param {string} difficulty */
  #play(difficulty) {
    this.#played = difficulty;
    byId("curtain").hidden = true;
    this.button.disabled = false;
    this.trail.deal(SIZES[difficulty]);
    const limit = this.#action ? this.#leftMs(this.#action) : this.#worth.maxTimeMs;
    const tick = () => {
      setText("clock", secondsText(this.trail.elapsedMs));
      setText("worth", this.#present ? pointsText(this.#present) : "");
      if (this.trail.elapsedMs > limit) this.#giveUp("The time for this round is over.");
    };
    clearInterval(this.#clock);
    this.#clock = setInterval(tick, CLOCK_MS);
    tick();
  }

  /** @param {string} buttonText */
  #curtain(buttonText) {
    clearInterval(this.#clock);
    setText("worth", "");
    byId("curtain").hidden = false;
    this.button.textContent = buttonText;
    this.button.disabled = false;
    setText("next-number", "1");
    this.button.focus({ preventScroll: true });
  }

  /** @param {string} text */
  #giveUp(text) {
    this.trail.stop();
    if (this.#action) this.#spare.set(this.#played, this.#action);
    this.#action = null;
    this.#curtain("Start");
    this.#note(text);
    this.trail.preview(SIZES[this.#difficulty]);
  }

  /** @param {number} ms */
  async #done(ms) {
    const worth = this.#present;
    const action = this.#action;
    this.#curtain("Play again");
    setText("clock", secondsText(ms));
    this.#tookMs = ms;
    this.#hasEntered = false;
    this.#action = null;
    if (!action) return this.#practised(ms);
    this.#awaited = action.actionId;
    this.#outcome.show("Done", `${secondsText(ms)}, asking the service`);
    this.#isAsking = true;
    this.#early = null;
    try {
      // The pending points are those that the time leaves, not the maximum.
      const outcome = await this.scoreboard.finish({ ...action, maxPoints: worth }, { completionTime: ms, next: true });
      if (this.#awaited !== action.actionId) return;
      this.#isAsking = false;
      const isOpen = outcome.status === "accepted" || outcome.status === "queued";
      this.#showOutcome(isOpen ? this.#early ?? outcome : outcome);
    } catch (error) {
      const { code, message } = /** @type {ApiError} */ (error);
      if (this.#awaited !== action.actionId) return;
      this.#isAsking = false;
      this.#showRefusal(code, { message });
    }
  }

  /** @param {Outcome} outcome */
  #settled(outcome) {
    if (outcome.actionId !== this.#awaited) return;
    if (this.#isAsking) this.#early = outcome;
    else this.#showOutcome(outcome);
  }

  /** @param {number} ms */
  #practised(ms) {
    const worth = this.#worth.after(this.#played, ms);
    this.#outcome.show(secondsText(ms), worth ? `A fine trail. It would be worth ${pointsText(worth)}.` : "A fine trail.");
    if (!this.#isPractice) byId("outcome").append(make("a", { href: "#account" }, "Create an account to earn points"));
  }

  /** @param {Outcome} outcome */
  #showOutcome(outcome) {
    const { status, reason, scoreIncrement, rank, rankChange, sendsForMs } = outcome;
    if (status === "applied") {
      const place = rank ? `Rank ${rank.toLocaleString("en")}` : "";
      const text = [place, rankChangeText(rankChange)].filter(Boolean).join(", ");
      this.#outcome.show(`+${(scoreIncrement ?? 0).toLocaleString("en")}`, text || "Counted.", "good", this.#timeNote(scoreIncrement ?? 0));
      if ((rankChange ?? 0) > 0 || this.#hasEntered) this.#outcome.celebrate(this.#hasEntered);
    } else if (status === "held") {
      this.#outcome.show("Held", "Waiting for review. If it is approved, the points are yours.");
    } else if (status === "queued") {
      this.#outcome.show("Kept", `${refusalText(reason)} The page keeps the round and goes on sending it${untilText(sendsForMs)}.`, "kept");
    } else if (status === "accepted") {
      this.#outcome.show("Sent", "The points come in a moment.");
    } else {
      this.#showRefusal(reason, /** @type {any} */ (outcome));
    }
  }

  /** The round's time, and the time for all points. @param {number} points */
  #timeNote(points) {
    const [took, most] = [secondsText(this.#tookMs), this.#worth.most(this.#played)];
    if (!this.#worth.rewardsSpeed || points >= most) return took;
    return `${took}. All ${most} are for ${this.#worth.fullMs(this.#played) / 1000} s and less.`;
  }

  /**
   * @param {string | null | undefined} code
   * @param {{message?: string, reasonDetails?: any}} [told] the service's message and figures
   */
  #showRefusal(code, { message, reasonDetails } = {}) {
    const known = { minTimeMs: this.#worth.minTimeMs(this.#played), maxTimeMs: this.#worth.maxTimeMs };
    const text = code === "COMPLETION_TIME" && this.#worth.type
      ? timeText(reasonDetails, { tookMs: this.#tookMs, ...known })
      : refusalText(code, message);
    this.#outcome.show("No points", text, "bad");
  }

  /** @param {{enteredTop10: boolean}} change of the player's own rank */
  #entered({ enteredTop10 }) {
    if (!enteredTop10 || !this.#awaited) return;
    this.#hasEntered = true;
    this.#outcome.celebrate(true);
  }

  /** @param {ApiError} error */
  #notStarted(error) {
    this.#curtain("Start");
    if (!error.retryAfterMs) return this.#note(refusalText(error.code, error.message), error.code);
    this.#waitFor(error);
  }

  /** Count down until a new round may be requested. @param {ApiError} error */
  #waitFor(error) {
    this.#note(refusalText(error.code, error.message));
    this.#stopWaiting = countDown(error.retryAfterMs ?? 0, (seconds) => {
      this.button.disabled = seconds > 0;
      this.button.textContent = seconds > 0 ? `Wait ${durationText(seconds)}` : "Start";
      if (!seconds) this.#note("");
    });
  }

  /** End the wait: it is over, or was another user's. */
  #endWait() {
    this.#stopWaiting();
    this.#stopWaiting = () => {};
    this.button.disabled = false;
    if (!this.trail.isRunning) this.button.textContent = "Start";
  }

  /** @param {string} text @param {string} [code] of the refusal, if it is one */
  #note(text, code = "") {
    this.#noteCode = code;
    setText("game-note", text);
    if (text) this.announcer.say(text, true);
  }
}

/** How long an action's clock has run. @param {Action} action */
function ageMs({ startedAt, waitedMs = 0 }) {
  return performance.now() - startedAt + waitedMs;
}
