/** Number trail: rounds that earn points through the service, and what is said about them. */

import { animate, byId, make, setText } from "./page/dom.js";
import { pointsText, rankChangeText, refusalText, secondsText, UNREACHABLE, untilText } from "./page/texts.js";
import { Trail } from "./page/trail.js";

/** @typedef {import("./scoreboard/types.js").Action} Action */
/** @typedef {import("./scoreboard/types.js").Outcome} Outcome */
/** @typedef {import("./scoreboard.js").ApiError} ApiError */

const ACTION_TYPE = "TAP_NUMBERS";
const SIZES = /** @type {Record<string, number>} */ ({ easy: 3, medium: 4, hard: 5 });
/** An action begun and given up is played again instead of a new one, while it has this much of its time left. */
const REUSE_LEFT_MS = 150_000;
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
  /** @type {any} */
  #type = null;
  /** @type {Action | null} null in a practice round */
  #action = null;
  /** Given-up actions by difficulty: open ones are few per user. @type {Map<string, Action>} */
  #spare = new Map();
  #spareOwner = "";
  #difficulty = "easy";
  /** The difficulty of the round being played; the choice may have moved on. */
  #played = "easy";
  /** Why the note stands there. */
  #noteCode = "";
  /** The action whose outcome the page still waits for. */
  #awaited = "";
  /** Whether the answer to the completion is still to come; it says more than the event that may overtake it. */
  #isAsking = false;
  /** @type {Outcome | null} the event that did */
  #early = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #countdown;

  /** @param {GameSetup} setup */
  constructor({ scoreboard, announcer }) {
    this.scoreboard = scoreboard;
    this.announcer = announcer;
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
      if (actionId === this.#awaited && !this.#isAsking) this.#showRefusal(code, message);
    });
    this.#on("state", ({ state }) => {
      const isBack = state === "live" || state === "polling";
      if (isBack && UNREACHABLE.includes(this.#noteCode)) this.#note("");
    });
    this.#choose();
    this.#userChanged();
    try {
      const types = await this.scoreboard.types();
      this.#type = types.find(({ code }) => code === ACTION_TYPE) ?? null;
      this.#showPoints();
    } catch {
      // Without the catalogue the labels lack their points; a round says what it is worth when it starts.
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
      if (this.trail.isRunning) this.#giveUp("");
      byId("outcome").replaceChildren();
    }
    this.#note(userId ? "" : "You can try it without an account; points need one.");
  }

  #choose() {
    const chosen = /** @type {HTMLInputElement | null} */ (document.querySelector("input[name=difficulty]:checked"));
    this.#difficulty = chosen?.value ?? "easy";
    if (this.trail.isRunning) return this.#giveUp("");
    this.trail.preview(SIZES[this.#difficulty]);
  }

  /** What each difficulty is worth, as far as the catalogue says; the service decides when a round starts. */
  #showPoints() {
    const points = this.#type?.points;
    for (const label of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-points]"))) {
      const name = label.dataset.points ?? "";
      const factor = points?.multiply?.difficulty?.[name];
      const worth = points?.base && factor ? points.base * factor : points?.value;
      if (label.dataset.exact) continue;
      if (worth) label.textContent = pointsText(worth);
      else if (points?.maximum) label.textContent = `up to ${points.maximum}`;
    }
  }

  async #begin() {
    const difficulty = this.#difficulty;
    this.#awaited = "";
    this.#action = null;
    byId("outcome").replaceChildren();
    this.#note("");
    if (this.scoreboard.user) {
      this.button.disabled = true;
      this.button.textContent = "Getting ready …";
      try {
        this.#action = await this.#obtain(difficulty);
      } catch (error) {
        return this.#notStarted(/** @type {ApiError} */ (error));
      }
      this.#showWorth(difficulty, this.#action.maxPoints);
    }
    this.#play(difficulty);
  }

  /** @param {string} difficulty @returns {Promise<Action>} */
  async #obtain(difficulty) {
    const spare = this.#spare.get(difficulty);
    this.#spare.delete(difficulty);
    if (spare && performance.now() - spare.startedAt < this.#lifeMs(spare) - REUSE_LEFT_MS) return spare;
    return this.scoreboard.start(ACTION_TYPE, { difficulty });
  }

  /** How long an action lives, by the service's own clock. @param {Action} action */
  #lifeMs(action) {
    return Date.parse(action.expiresAt) - Date.parse(action.issuedAt);
  }

  /** @param {string} difficulty @param {number} points */
  #showWorth(difficulty, points) {
    const label = /** @type {HTMLElement | null} */ (document.querySelector(`[data-points="${difficulty}"]`));
    if (!label) return;
    label.dataset.exact = "true";
    label.textContent = pointsText(points);
  }

  /** @param {string} difficulty */
  #play(difficulty) {
    this.#played = difficulty;
    byId("curtain").hidden = true;
    this.button.disabled = false;
    this.trail.deal(SIZES[difficulty]);
    const limit = this.#type?.maxTimeMs ?? 300_000;
    clearInterval(this.#clock);
    this.#clock = setInterval(() => {
      setText("clock", secondsText(this.trail.elapsedMs));
      if (this.trail.elapsedMs > limit) this.#giveUp("The time for this round is over.");
    }, CLOCK_MS);
  }

  /** @param {string} buttonText */
  #curtain(buttonText) {
    clearInterval(this.#clock);
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
    this.#curtain("Play again");
    setText("clock", secondsText(ms));
    const action = this.#action;
    this.#action = null;
    if (!action) return this.#practised(ms);
    this.#awaited = action.actionId;
    this.#show("Done", `${secondsText(ms)}, asking the service`);
    this.#isAsking = true;
    this.#early = null;
    try {
      const outcome = await this.scoreboard.finish(action, { completionTime: ms });
      if (this.#awaited !== action.actionId) return;
      this.#isAsking = false;
      const isOpen = outcome.status === "accepted" || outcome.status === "queued";
      this.#showOutcome(isOpen ? this.#early ?? outcome : outcome);
    } catch (error) {
      const { code, message } = /** @type {ApiError} */ (error);
      if (this.#awaited !== action.actionId) return;
      this.#isAsking = false;
      this.#showRefusal(code, message);
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
    this.#show(secondsText(ms), "A fine trail.");
    byId("outcome").append(make("a", { href: "#account" }, "Create an account to earn points"));
  }

  /** @param {Outcome} outcome */
  #showOutcome({ status, reason, scoreIncrement, rank, rankChange, sendsForMs }) {
    const place = rank ? `Rank ${rank}` : "";
    if (status === "applied") {
      const text = [place, rankChangeText(rankChange)].filter(Boolean).join(", ");
      this.#show(`+${scoreIncrement}`, text || "Counted.", "good");
    } else if (status === "held") {
      this.#show("Held", "Waiting for review. If it is approved, the points are yours.");
    } else if (status === "queued") {
      this.#show("Kept", `${refusalText(reason)} The round is kept, and sends itself${untilText(sendsForMs)}.`);
    } else if (status === "accepted") {
      this.#show("Sent", "The points come in a moment.");
    } else {
      this.#showRefusal(reason);
    }
  }

  /** @param {string | null | undefined} code @param {string} [message] */
  #showRefusal(code, message) {
    this.#show("No points", refusalText(code, message), "bad");
  }

  /** @param {string} headline @param {string} text @param {string} [mood] */
  #show(headline, text, mood = "") {
    const outcome = byId("outcome");
    const big = make("strong", { "data-testid": "outcome-headline" }, headline);
    outcome.dataset.mood = mood;
    outcome.replaceChildren(big, make("span", { "data-testid": "outcome-text" }, text));
    // Said apart: what was hidden a moment ago, as the outcome was, is not reliably read out by itself.
    this.announcer.say(`${headline}. ${text}`, true);
    if (mood !== "good") return;
    animate(big, [
      { transform: "translateY(18px) scale(.7)", opacity: 0 },
      { transform: "translateY(-4px) scale(1.12)", opacity: 1, offset: 0.6 },
      { transform: "none", opacity: 1 },
    ], { duration: 620, easing: "cubic-bezier(.2, .8, .2, 1)" });
  }

  /** @param {ApiError} error */
  #notStarted(error) {
    this.#curtain("Start");
    if (!error.retryAfterMs) return this.#note(refusalText(error.code, error.message), error.code);
    this.#waitFor(error);
  }

  /** Count down to when a new round may be asked for. @param {ApiError} error */
  #waitFor(error) {
    const until = performance.now() + (error.retryAfterMs ?? 0);
    const show = () => {
      const seconds = Math.ceil((until - performance.now()) / 1000);
      this.button.disabled = seconds > 0;
      this.button.textContent = seconds > 0 ? `Wait ${seconds} s` : "Start";
      if (seconds <= 0) clearInterval(this.#countdown);
    };
    clearInterval(this.#countdown);
    this.#countdown = setInterval(show, 250);
    this.#note(refusalText(error.code, error.message));
    show();
  }

  /** @param {string} text @param {string} [code] why, where it was a refusal */
  #note(text, code = "") {
    this.#noteCode = code;
    setText("game-note", text);
    if (text) this.announcer.say(text, true);
  }
}
