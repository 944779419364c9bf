/** The connection's state: live or not, the cause, and the time of the next try. */

import { byId, countDown, setText } from "./dom.js";
import { connectionCause, durationText, stateText } from "./texts.js";

export class ConnectionView {
  #hasBeenLive = false;
  #cause = "";
  /** @type {{code: string | null, reason: string | null}} the failure of the last try, until the board is live again */
  #refusal = { code: null, reason: null };
  #seconds = 0;
  #stop = () => {};

  /** @param {import("../scoreboard.js").Scoreboard} scoreboard @param {import("./announcer.js").Announcer} announcer */
  constructor(scoreboard, announcer) {
    this.announcer = announcer;
    scoreboard.addEventListener("state", (event) => this.#show(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {{state: string, code: string | null, reason: string | null, retryInMs: number | null}} detail */
  #show({ state, code, reason, retryInMs }) {
    this.#hasBeenLive ||= state === "live";
    if (code || state === "live") this.#refusal = { code, reason };
    byId("connection").dataset.state = state;
    setText("connection-text", stateText(state, this.#hasBeenLive));
    const cause = connectionCause(state, this.#refusal);
    if (cause && cause !== this.#cause) this.announcer.say(cause, false, "connection");
    this.#cause = cause;
    if (retryInMs || state === "live") {
      this.#stop();
      this.#stop = countDown(retryInMs ?? 0, (seconds) => this.#note(seconds));
    } else {
      this.#note(this.#seconds);
    }
  }

  /** @param {number} seconds until the next try; 0 when none is due */
  #note(seconds) {
    this.#seconds = seconds;
    byId("board-note").dataset.kind = this.#cause ? "cause" : "rule";
    setText("connection-cause", this.#cause || "Equal scores: first come, first ranked.");
    setText("connection-wait", this.#cause && seconds ? ` Next try in ${durationText(seconds)}.` : "");
  }
}
