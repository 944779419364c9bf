/**
 * The session: the signed-in user, and calls as that user.
 *
 * On the service's own origin the tokens are HttpOnly cookies; scripts can read only their CSRF tokens. On other
 * origins, and where the browser keeps no cookies, they are bearer tokens in memory, gone with the page.
 */

import { ApiError, call } from "./http.js";
import { exclusively } from "./locks.js";
import { remove, read, write } from "./storage.js";

/** @typedef {import("./types.js").User} User */
/** @typedef {import("./http.js").CallOptions & {anonymous?: boolean}} SessionCallOptions */

const ACCESS_CSRF = "csrf_access_token";
const REFRESH_CSRF = "csrf_refresh_token";
/** Timers hold 31 bits of milliseconds. A session that lasts longer is checked again then. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** In production the names start with __Host-, so no other host of the domain can set them. @param {string} name */
function cookie(name) {
  const pairs = cookies().split("; ");
  const find = (/** @type {string} */ start) => pairs.find((entry) => entry.startsWith(`${start}=`));
  const pair = find(`__Host-${name}`) ?? find(name);
  return pair ? decodeURIComponent(pair.slice(pair.indexOf("=") + 1)) : "";
}

function cookies() {
  try {
    return document.cookie;
  } catch {
    return ""; // A sandboxed page has none.
  }
}

/** The end of a token, ms since 1970 by the service's clock, unverified; NaN when it has none. */
function expiryOf(/** @type {string} */ token) {
  return claim(token, "exp") * 1000;
}

/** @param {string} token @param {string} name @returns {any} the claim, unverified; undefined when absent */
export function claim(token, name) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(atob(payload))[name];
  } catch {
    return undefined;
  }
}

/** The reason in the event `auth` for a session that ends. @param {unknown} error */
function ending(error) {
  return error instanceof ApiError && error.code === "ACCOUNT_BANNED" ? "banned" : "expired";
}

export class Session {
  /** @type {User | null} */
  user = null;
  #accessToken = "";
  #refreshToken = "";
  /** The end of the session unless it is refreshed, by the service's clock; NaN when not known. */
  #endsAt = NaN;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #endTimer;
  /** @type {Promise<void> | null} */
  #refreshing = null;

  /**
   * @param {{baseUrl: string, mode: "cookies" | "bearer", timeoutMs: number, clock: import("./clock.js").Clock,
   *   onChange: (user: User | null, reason: string) => void,
   *   onTokens: (tokens: import("./types.js").Tokens) => void}} setup
   */
  constructor(setup) {
    this.baseUrl = setup.baseUrl;
    this.mode = setup.mode;
    this.timeoutMs = setup.timeoutMs;
    this.clock = setup.clock;
    this.onChange = setup.onChange;
    this.onTokens = setup.onTokens;
    this.userKey = `scoreboard:user:${setup.baseUrl}`;
    this.endKey = `scoreboard:session-end:${setup.baseUrl}`;
    this.onStorage = this.onStorage.bind(this);
    this.onWake = () => this.checkEnd();
    if (this.mode === "cookies") window.addEventListener("storage", this.onStorage);
    document.addEventListener("visibilitychange", this.onWake);
  }

  close() {
    window.removeEventListener("storage", this.onStorage);
    document.removeEventListener("visibilitychange", this.onWake);
    clearTimeout(this.#endTimer);
  }

  /** Another tab signed in or out: all tabs share the cookies. @param {StorageEvent} event */
  onStorage(event) {
    if (event.key !== this.userKey || event.newValue === event.oldValue) return;
    const user = /** @type {User | null} */ (read(this.userKey));
    if (user?.id === this.user?.id) return;
    this.user = user;
    this.onChange(user, "other-tab");
  }

  /**
   * Check whether the tokens of an earlier visit, or those that the site handed over, are still valid. If not, `user`
   * becomes null. Without an answer `user` stays unless the session has ended by the clock at hand.
   */
  async restore() {
    if (this.mode === "cookies") {
      if (!(cookie(ACCESS_CSRF) || cookie(REFRESH_CSRF))) return;
      this.user = /** @type {User | null} */ (read(this.userKey));
    } else if (!this.user) {
      return;
    }
    try {
      // The answer to a refresh has the user, for when none is stored.
      if (this.user) await this.call("GET", "/v1/users/me/score");
      else await this.refresh();
      this.checkEnd();
    } catch (error) {
      // A service that is down says nothing about the session: keep it, later calls will tell.
      if (!(error instanceof ApiError) || !error.isTransient) this.#forget(ending(error));
      else this.checkEnd(true);
    }
  }

  /**
   * End the session when the tokens have expired or the browser has dropped the cookies.
   *
   * @param {boolean} [byDevice] use the device's clock if the service has not told its own
   */
  checkEnd(byDevice = false) {
    clearTimeout(this.#endTimer);
    if (!this.user || !(this.clock.isSet || byDevice)) return;
    // Another tab may have refreshed the session.
    if (this.mode === "cookies") this.#endsAt = Number(read(this.endKey) ?? NaN);
    const left = this.#endsAt - this.clock.now();
    const isGone = this.mode === "cookies" && !cookie(ACCESS_CSRF) && !cookie(REFRESH_CSRF);
    if (left <= 0 || isGone) return this.#forget("expired");
    if (left > 0) this.#endTimer = setTimeout(() => this.checkEnd(), Math.min(left, LONGEST_TIMER_MS));
  }

  /** @param {{username: string, email?: string | null, password: string}} account */
  register(account) {
    return this.#enter("/v1/auth/register", account);
  }

  /** @param {{username: string, password: string}} credentials */
  login(credentials) {
    return this.#enter("/v1/auth/login", credentials);
  }

  /** @param {string} path @param {object} fields */
  async #enter(path, fields) {
    const body = this.mode === "cookies" ? { ...fields, cookies: true } : fields;
    const { data } = await this.#send("POST", path, { body });
    // The browser took no cookies: use the tokens in the answer, for as long as the page lives.
    if (this.mode === "cookies" && !cookie(ACCESS_CSRF)) this.mode = "bearer";
    this.adopt(data, "signed-in", true);
    return /** @type {User} */ (this.user);
  }

  /**
   * Use a pair of tokens and their user from now on.
   *
   * @param {{accessToken?: string, refreshToken?: string, user?: User}} tokens
   * @param {string} [reason]
   * @param {boolean} [isNews] whether the service issued them just now; the site did otherwise
   */
  adopt({ accessToken = "", refreshToken = "", user }, reason = "signed-in", isNews = false) {
    if (this.mode === "bearer") {
      this.#accessToken = accessToken;
      this.#refreshToken = refreshToken || this.#refreshToken;
    }
    const before = this.user?.id;
    this.user = user ?? this.user;
    this.#endsAt = expiryOf(refreshToken || this.#refreshToken || accessToken);
    if (this.mode === "cookies" && this.user) {
      write(this.userKey, this.user);
      write(this.endKey, this.#endsAt);
    }
    // Before all other events: the pair that the site has stored is dead by now.
    if (isNews && this.mode === "bearer") this.onTokens({ accessToken, refreshToken, user: this.user });
    if (this.user?.id !== before) this.onChange(this.user, reason);
    this.checkEnd();
  }

  /** Revoke the session. Throws ApiError when the service cannot be reached: then the session is still valid. */
  async logout() {
    try {
      await this.call("POST", "/v1/auth/logout");
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTransient) throw error;
    }
    this.#forget("signed-out");
  }

  /**
   * Call as the signed-in user. Refreshes once when the access token has expired.
   *
   * @param {string} method
   * @param {string} path
   * @param {SessionCallOptions} [options]
   * @returns {Promise<{data: any, response: Response}>}
   */
  async call(method, path, options = {}) {
    const mark = this.#mark();
    try {
      return await this.#send(method, path, options);
    } catch (error) {
      if (!(error instanceof ApiError) || !this.user || options.anonymous) throw error;
      if (error.code === "ACCOUNT_BANNED") this.#forget("banned");
      if (error.status !== 401) throw error;
      await this.refresh(mark);
      return this.#send(method, path, options);
    }
  }

  /**
   * Get a new pair of tokens. One refresh at a time in this page and, where the browser has locks, in all its tabs: a
   * refresh token that is used twice revokes the whole session.
   *
   * @param {string} [mark] the token that was refused; another one by now means that another tab has refreshed
   * @returns {Promise<void>}
   */
  refresh(mark = this.#mark()) {
    this.#refreshing ??= this.#exclusively(() => this.#refreshNow(mark)).finally(() => { this.#refreshing = null; });
    return this.#refreshing;
  }

  /** @param {() => Promise<void>} work @returns {Promise<void>} */
  #exclusively(work) {
    return this.mode === "cookies" ? exclusively(`scoreboard:refresh:${this.baseUrl}`, work) : work();
  }

  /** @param {string} mark */
  async #refreshNow(mark) {
    if (mark !== this.#mark()) return;
    try {
      const body = this.mode === "bearer" ? { refreshToken: this.#refreshToken } : undefined;
      /** @type {Record<string, string>} */
      const headers = this.mode === "cookies" ? { "X-CSRF-TOKEN": cookie(REFRESH_CSRF) } : {};
      const anonymous = this.mode === "bearer"; // The access token has expired; the refresh token suffices.
      const { data } = await this.#send("POST", "/v1/auth/refresh", { body, headers, anonymous });
      this.adopt(data, "signed-in", true);
    } catch (error) {
      if (error instanceof ApiError && !error.isTransient) this.#forget(ending(error));
      throw error;
    }
  }

  /** @param {string} reason */
  #forget(reason) {
    this.#accessToken = this.#refreshToken = "";
    this.#endsAt = NaN;
    clearTimeout(this.#endTimer);
    if (this.mode === "cookies") for (const key of [this.userKey, this.endKey]) remove(key);
    if (!this.user) return;
    this.user = null;
    this.onChange(null, reason);
  }

  /** Identifies the present access token; empty when signed out. */
  #mark() {
    return this.mode === "cookies" ? cookie(ACCESS_CSRF) : this.#accessToken;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {SessionCallOptions} options
   */
  #send(method, path, { anonymous = false, headers = {}, ...rest }) {
    const isAuth = path.startsWith("/v1/auth/");
    /** @type {Record<string, string>} */
    const identity = {};
    const isBearer = this.mode === "bearer" && this.#accessToken && !anonymous;
    if (isBearer) identity.Authorization = `Bearer ${this.#accessToken}`;
    if (this.mode === "cookies" && method !== "GET") identity["X-CSRF-TOKEN"] = cookie(ACCESS_CSRF);
    // Dead cookies would turn even public reads into 401, and scripts cannot delete them: do not send them.
    const withCookies = this.mode === "cookies" && !anonymous && (isAuth || this.user !== null);
    return call(this.baseUrl + path, method, {
      timeoutMs: this.timeoutMs,
      onResponse: (response) => this.clock.learn(response.headers.get("Date")),
      ...rest,
      headers: { ...identity, ...headers },
      credentials: withCookies ? "same-origin" : "omit",
    });
  }
}
