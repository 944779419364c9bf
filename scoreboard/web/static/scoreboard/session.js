/**
 * Who is signed in, and calls made as that user.
 *
 * On the service's own origin the tokens are HttpOnly cookies; only their CSRF companions can be read here.
 * Elsewhere, and where the browser keeps no cookies, they are bearer tokens in memory, gone with the page.
 */

import { ApiError, call } from "./http.js";
import { exclusively } from "./locks.js";
import { remove, read, write } from "./storage.js";

/** @typedef {import("./types.js").User} User */
/** @typedef {import("./http.js").CallOptions & {anonymous?: boolean}} SessionCallOptions */

const ACCESS_CSRF = "csrf_access_token";
const REFRESH_CSRF = "csrf_refresh_token";
/** Timers hold 31 bits of milliseconds; a session that lasts longer is looked at again then. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** In production the names have a prefix, under which no other host of the domain can set one. @param {string} name */
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
    return ""; // A page in a sandbox has none.
  }
}

/** When a token ends, ms since 1970 by the service's clock, unverified; NaN when it does not say. */
function expiryOf(/** @type {string} */ token) {
  return claim(token, "exp") * 1000;
}

/** @param {string} token @param {string} name @returns {any} what the token says, unverified; undefined when nothing */
export function claim(token, name) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(atob(payload))[name];
  } catch {
    return undefined;
  }
}

/** Why a session is over. @param {unknown} error */
function ending(error) {
  return error instanceof ApiError && error.code === "ACCOUNT_BANNED" ? "banned" : "expired";
}

export class Session {
  /** @type {User | null} */
  user = null;
  #accessToken = "";
  #refreshToken = "";
  /** When the session ends unless it is refreshed before, by the service's clock; NaN when that is not known. */
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

  /** Another tab signed in or out; the cookies are common to all tabs. @param {StorageEvent} event */
  onStorage(event) {
    if (event.key !== this.userKey || event.newValue === event.oldValue) return;
    const user = /** @type {User | null} */ (read(this.userKey));
    if (user?.id === this.user?.id) return;
    this.user = user;
    this.onChange(user, "other-tab");
  }

  /**
   * Find out whether the tokens of an earlier visit, or those that the site handed over, still hold. Leaves `user` null
   * when not; when nobody answers, it is kept unless its time is over by the clock that there is.
   */
  async restore() {
    if (this.mode === "cookies") {
      if (!(cookie(ACCESS_CSRF) || cookie(REFRESH_CSRF))) return;
      this.user = /** @type {User | null} */ (read(this.userKey));
    } else if (!this.user) {
      return;
    }
    try {
      // Without a note of who it was, a refresh is the call whose answer says so.
      if (this.user) await this.call("GET", "/v1/users/me/score");
      else await this.refresh();
      this.checkEnd();
    } catch (error) {
      // A service that is down says nothing about the session: keep it, calls will show.
      if (!(error instanceof ApiError) || !error.isTransient) this.#forget(ending(error));
      else this.checkEnd(true);
    }
  }

  /**
   * Tell when nothing is left that could sign a call: the tokens' time is over, or the browser let the cookies go.
   *
   * @param {boolean} [byDevice] believe the device's clock where the service has not told its own
   */
  checkEnd(byDevice = false) {
    clearTimeout(this.#endTimer);
    if (!this.user || !(this.clock.isSet || byDevice)) return;
    // Another tab may have refreshed.
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
    // The browser took no cookies: the tokens in the answer do as well, for as long as the page lives.
    if (this.mode === "cookies" && !cookie(ACCESS_CSRF)) this.mode = "bearer";
    this.adopt(data, "signed-in", true);
    return /** @type {User} */ (this.user);
  }

  /**
   * Take over a pair of tokens and their user.
   *
   * @param {{accessToken?: string, refreshToken?: string, user?: User}} tokens
   * @param {string} [reason]
   * @param {boolean} [isNews] whether the service gave them to us, and not the site
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
    // First of all: a pair that the site has kept is dead by now.
    if (isNews && this.mode === "bearer") this.onTokens({ accessToken, refreshToken, user: this.user });
    if (this.user?.id !== before) this.onChange(this.user, reason);
    this.checkEnd();
  }

  /** Revoke the session and forget it. Raises ApiError when the service cannot be told: then it still holds. */
  async logout() {
    try {
      await this.call("POST", "/v1/auth/logout");
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTransient) throw error;
    }
    this.#forget("signed-out");
  }

  /**
   * Call as the signed-in user; refreshes once when the access token has expired.
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
   * Get a new pair. One at a time in this page and, where the browser has locks, in all its tabs:
   * a refresh token that is used twice revokes the whole session.
   *
   * @param {string} [mark] the token that was refused; when it is no longer the present one, somebody refreshed already
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
      const anonymous = this.mode === "bearer"; // The refresh token is all it takes; the access token has expired.
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

  /** What tells this access token from the next one; empty when signed out. */
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
    // Dead cookies would turn even public reads into 401, and scripts cannot delete them: they stay at home.
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
