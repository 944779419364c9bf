/** The outcome of a round, shown and celebrated over the grid, where the player looks. */

import { byId, make } from "./dom.js";
import { animate, reveal } from "./motion.js";

const SPARKS = 14;

export class OutcomeView {
  /** @param {import("./announcer.js").Announcer} announcer */
  constructor(announcer) {
    this.announcer = announcer;
    this.box = byId("outcome");
  }

  clear() {
    this.box.replaceChildren();
    this.box.dataset.mood = "";
  }

  /** @param {string} headline @param {string} text @param {string} [mood] @param {string} [detail] */
  show(headline, text, mood = "", detail = "") {
    const big = make("strong", { "data-testid": "outcome-headline" }, headline);
    this.box.dataset.mood = mood;
    this.box.replaceChildren(big, make("span", { "data-testid": "outcome-text" }, text));
    if (detail) this.box.append(make("small", { "data-testid": "outcome-detail" }, detail));
    reveal(byId("curtain"), this.box);
    // Announced separately: screen readers do not reliably read an element that was hidden a moment ago.
    this.announcer.say([headline, text, detail].filter(Boolean).join(". "), true);
    if (mood !== "good") return;
    animate(big, [
      { transform: "translateY(18px) scale(.7)", opacity: 0 },
      { transform: "translateY(-4px) scale(1.12)", opacity: 1, offset: 0.6 },
      { transform: "none", opacity: 1 },
    ], { duration: 620, easing: "cubic-bezier(.2, .8, .2, 1)" });
  }

  /** Celebrate here, because the board may be out of view. @param {boolean} isInTopTen whether the player entered it */
  celebrate(isInTopTen) {
    if (this.box.dataset.mood !== "good" || this.box.querySelector(".feat")) return;
    if (isInTopTen) {
      this.box.append(make("b", { class: "feat", "data-testid": "outcome-feat" }, "Into the top ten!"));
      this.announcer.say("You are in the top ten.", false, "me");
    }
    if (this.box.querySelector(".spark")) return;
    for (let index = 0; index < SPARKS; index += 1) this.#spark((index / SPARKS) * 2 * Math.PI);
  }

  /** @param {number} angle */
  #spark(angle) {
    const spark = make("i", { class: "spark", "aria-hidden": "true" });
    const end = `translate(${Math.cos(angle) * 8}rem, ${Math.sin(angle) * 6}rem) rotate(${angle}rad)`;
    const frames = [{ transform: "none", opacity: 1 }, { transform: end, opacity: 0 }];
    this.box.append(spark);
    const flying = animate(spark, frames, { duration: 900, easing: "cubic-bezier(.1, .7, .3, 1)" });
    if (flying) flying.onfinish = flying.oncancel = () => spark.remove();
    else spark.remove();
  }

  /** The service is back: a round that was kept is being sent now. */
  connected() {
    const text = this.box.querySelector("span");
    if (text && this.box.dataset.mood === "kept") text.textContent = "The round is being sent.";
  }
}
