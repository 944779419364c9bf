/**
 * Who is signed in, and calls made as that user.
 *
 * On the service's own origin the tokens are HttpOnly cookies; only their CSRF companions can be read here.
 * Elsewhere they are bearer tokens in memory, gone with the page.
 */

import { ApiError, call } from "./http.js";
import { remove, read, write } from "./storage.js";

/** @typedef {import("./types.js").User} User */
/** @typedef {import("./http.js").CallOptions & {anonymous?: boolean}} SessionCallOptions */

const ACCESS_CSRF = "csrf_access_token";
const REFRESH_CSRF = "csrf_refresh_token";

/** In production the names have a prefix, under which no other host of the domain can set one. @param {string} name */
function cookie(name) {
  const pairs = document.cookie.split("; ");
  const find = (/** @type {string} */ start) => pairs.find((entry) => entry.startsWith(`${start}=`));
  const pair = find(`__Host-${name}`) ?? find(name);
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
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
  /** @type {Promise<void> | null} */
  #refreshing = null;

  /**
   * @param {{baseUrl: string, mode: "cookies" | "bearer", timeoutMs: number,
   *   onChange: (user: User | null, reason: string) => void}} setup
   */
  constructor(setup) {
    this.baseUrl = setup.baseUrl;
    this.mode = setup.mode;
    this.timeoutMs = setup.timeoutMs;
    this.onChange = setup.onChange;
    this.userKey = `scoreboard:user:${setup.baseUrl}`;
    this.onStorage = this.onStorage.bind(this);
    if (this.mode === "cookies") window.addEventListener("storage", this.onStorage);
  }

  close() {
    window.removeEventListener("storage", this.onStorage);
  }

  /** Another tab signed in or out; the cookies are common to all tabs. @param {StorageEvent} event */
  onStorage(event) {
    if (event.key !== this.userKey || event.newValue === event.oldValue) return;
    const user = /** @type {User | null} */ (read(this.userKey));
    if (user?.id === this.user?.id) return;
    this.user = user;
    this.onChange(user, "other-tab");
  }

  /** Find out whether the cookies of an earlier visit still hold. Leaves `user` null when not, or nobody answers. */
  async restore() {
    if (this.mode !== "cookies" || !(cookie(ACCESS_CSRF) || cookie(REFRESH_CSRF))) return;
    this.user = /** @type {User | null} */ (read(this.userKey));
    try {
      // Without a note of who it was, a refresh is the call whose answer says so.
      if (this.user) await this.call("GET", "/v1/users/me/score");
      else await this.refresh();
    } catch (error) {
      // A service that is down says nothing about the session: keep it, calls will show.
      if (!(error instanceof ApiError) || !error.isTransient) this.#forget(ending(error));
    }
  }

  /** @param {{username: string, email: string, password: string}} account */
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
    this.adopt(data);
    return /** @type {User} */ (this.user);
  }

  /**
   * Take over a pair of tokens and their user.
   *
   * @param {{accessToken?: string, refreshToken?: string, user?: User}} tokens
   * @param {string} [reason]
   */
  adopt({ accessToken = "", refreshToken = "", user }, reason = "signed-in") {
    if (this.mode === "bearer") {
      this.#accessToken = accessToken;
      this.#refreshToken = refreshToken || this.#refreshToken;
    }
    const before = this.user?.id;
    this.user = user ?? this.user;
    if (this.mode === "cookies" && this.user) write(this.userKey, this.user);
    if (this.user?.id !== before) this.onChange(this.user, reason);
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
    if (this.mode !== "cookies" || !navigator.locks) return work();
    return navigator.locks.request(`scoreboard:refresh:${this.baseUrl}`, work);
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
      this.adopt(data);
    } catch (error) {
      if (error instanceof ApiError && !error.isTransient) this.#forget(ending(error));
      throw error;
    }
  }

  /** @param {string} reason */
  #forget(reason) {
    this.#accessToken = this.#refreshToken = "";
    if (this.mode === "cookies") remove(this.userKey);
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
      ...rest,
      headers: { ...identity, ...headers },
      credentials: withCookies ? "same-origin" : "omit",
    });
  }
}
