/** The form to create an account or to sign in. */

import { byId, countDown, setText } from "./dom.js";
import { durationText, isAway } from "./texts.js";

/** @typedef {import("../scoreboard.js").ApiError} ApiError */

const FIELDS = ["username", "email", "password"];
const OPTIONAL = "email";
const TAKEN = /** @type {Record<string, [string, string]>} */ ({
  USERNAME_TAKEN: ["username", "This name is taken. Try another one."],
  EMAIL_TAKEN: ["email", "An account with this address exists. Sign in instead?"],
});
const AFTER = /** @type {Record<string, string>} */ ({
  expired: "Your session has ended. Sign in again.",
  banned: "This account is banned.",
});

/** @param {string} name @returns {HTMLInputElement} */
function input(name) {
  return /** @type {HTMLInputElement} */ (byId(name));
}

export class AccountForm {
  /** @type {"register" | "login"} */
  #mode = "register";
  /** Whether the form's error says that the service cannot be reached. */
  #isAboutNetwork = false;
  #stopWaiting = () => {};

  /** @param {import("../scoreboard.js").Scoreboard} scoreboard */
  constructor(scoreboard) {
    this.scoreboard = scoreboard;
    byId("mode-register").addEventListener("click", () => this.#setMode("register"));
    byId("mode-login").addEventListener("click", () => this.#setMode("login"));
    byId("account-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    for (const name of FIELDS) input(name).addEventListener("input", () => this.#fieldError(name, ""));
    scoreboard.addEventListener("state", (event) => {
      const { state } = /** @type {CustomEvent} */ (event).detail;
      if (this.#isAboutNetwork && (state === "live" || state === "polling")) this.#formError("");
    });
  }

  /** Scroll to the form and focus it. @param {"register" | "login"} mode */
  show(mode) {
    this.#setMode(mode);
    byId("account").scrollIntoView({ block: "nearest" });
    input("username").focus();
  }

  /** @param {import("../scoreboard/types.js").User | null} user @param {string} reason */
  userChanged(user, reason) {
    // The next user of this screen gets an empty form.
    for (const name of FIELDS) input(name).value = "";
    this.#clearErrors();
    if (user) {
      if (reason === "signed-in") byId("start").focus({ preventScroll: true });
    } else if (AFTER[reason]) {
      this.#setMode("login");
      setText("account-title", "Signed out");
      this.#formError(AFTER[reason]);
      // The reader may be looking elsewhere, and the whole page changes.
      byId("account").scrollIntoView({ block: "nearest" });
    }
  }

  /** @param {"register" | "login"} mode */
  #setMode(mode) {
    this.#mode = mode;
    const isNew = mode === "register";
    byId("mode-register").setAttribute("aria-pressed", String(isNew));
    byId("mode-login").setAttribute("aria-pressed", String(!isNew));
    byId("email-row").hidden = !isNew;
    byId("password-hint").hidden = !isNew;
    input("password").autocomplete = isNew ? "new-password" : "current-password";
    setText("submit", isNew ? "Create account" : "Sign in");
    setText("account-title", isNew ? "Play for points" : "Welcome back");
    this.#clearErrors();
  }

  async #submit() {
    this.#clearErrors();
    const username = input("username").value.trim();
    const email = input("email").value.trim();
    const password = input("password").value;
    const isNew = this.#mode === "register";
    if (!this.#check(isNew ? { username, email, password } : { username, password })) return;
    const submit = /** @type {HTMLButtonElement} */ (byId("submit"));
    submit.disabled = true;
    try {
      if (isNew) await this.scoreboard.register({ username, password, ...(email && { email }) });
      else await this.scoreboard.login({ username, password });
    } catch (error) {
      this.#explain(/** @type {ApiError} */ (error));
    } finally {
      submit.disabled = false;
    }
  }

  /** Checks that need no call. @param {Record<string, string>} values */
  #check(values) {
    for (const [name, value] of Object.entries(values)) {
      if (!value && name !== OPTIONAL) this.#fieldError(name, "Please fill this in.");
      else if (name === "email" && !input("email").validity.valid) this.#fieldError(name, "This is not an e-mail address.");
    }
    return this.#focusFirstError();
  }

  /** @param {ApiError} error */
  #explain(error) {
    const fields = /** @type {Record<string, string>} */ (error.details?.fields ?? {});
    const unknown = [];
    for (const [path, problem] of Object.entries(fields)) {
      const name = path.split(".").at(-1) ?? "";
      if (FIELDS.includes(name)) this.#fieldError(name, sentence(problem));
      else unknown.push(`${path}: ${problem}`);
    }
    const taken = TAKEN[error.code];
    if (taken) this.#fieldError(...taken);
    const isExplained = taken || Object.keys(fields).length > 0;
    if (unknown.length) this.#formError(unknown.join("; "));
    else if (!isExplained) this.#explainAll(error);
    this.#focusFirstError();
  }

  /** Show an error that concerns no single field, with the time to wait, until that is over. @param {ApiError} error */
  #explainAll(error) {
    this.#formError(this.#message(error));
    this.#isAboutNetwork = isAway(error.code);
    const waitMs = error.retryAfterMs;
    if (!waitMs) return;
    // Screen readers read the wait once, with the alert; the visible text counts down.
    const words = (/** @type {number} */ seconds) => ` Try again in ${durationText(seconds)}.`;
    setText("form-error-said", words(Math.ceil(waitMs / 1_000)));
    this.#stopWaiting = countDown(waitMs, (seconds) => {
      if (seconds) setText("form-error-wait", words(seconds));
      else this.#formError("");
    });
  }

  /** @param {ApiError} error */
  #message(error) {
    if (error.status !== 503 && isAway(error.code)) return "The service cannot be reached. Check your connection and try again.";
    if (error.status === 503) return "The service is busy.";
    if (error.status !== 429) return error.message;
    return this.#mode === "login" ? "Too many tries to sign in." : "Too many new accounts from this network just now.";
  }

  /** @param {string} name @param {string} text empty clears it */
  #fieldError(name, text) {
    setText(`${name}-error`, text);
    if (text) input(name).setAttribute("aria-invalid", "true");
    else input(name).removeAttribute("aria-invalid");
  }

  /** @param {string} text empty clears it */
  #formError(text) {
    this.#stopWaiting();
    this.#isAboutNetwork = false;
    setText("form-error-text", text);
    setText("form-error-said", "");
    setText("form-error-wait", "");
    byId("form-error").hidden = !text;
  }

  #clearErrors() {
    for (const name of FIELDS) this.#fieldError(name, "");
    this.#formError("");
  }

  /** @returns {boolean} whether there is no error */
  #focusFirstError() {
    const wrong = FIELDS.find((name) => input(name).hasAttribute("aria-invalid"));
    if (wrong) input(wrong).focus();
    return !wrong;
  }
}

/** @param {string} text the service's words for a field's problem */
function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
