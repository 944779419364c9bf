/** The module's public object: it connects, signs in, earns points and dispatches events. */

import { Clock } from "./clock.js";
import { Completions } from "./completions.js";
import { checksum } from "./hmac.js";
import { ApiError, refusal } from "./http.js";
import { Live } from "./live.js";
import { NextActions } from "./next.js";
import { OptimisticScore } from "./score.js";
import { claim, Session } from "./session.js";

/** @typedef {import("./types.js").Action} Action */
/** @typedef {import("./types.js").NextAction} NextAction */
/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").Outcome} Outcome */

/** The number of outcomes kept to dispatch each one once: the answer and the stream's event both bring it. */
const REMEMBERED_OUTCOMES = 200;
const TOO_MANY_OPEN = "TOO_MANY_OPEN_ACTIONS";

/** Create a Scoreboard and open it. @param {Options} [options] */
export async function connect(options) {
  const scoreboard = new Scoreboard(options);
  await scoreboard.open();
  return scoreboard;
}

/**
 * Events (all CustomEvent, with their data in `detail`): state, board, auth, tokens, score, queue, result, dropped,
 * score:update, rank:change, action:result, reset.
 */
export class Scoreboard extends EventTarget {
  /** @type {string[]} */
  #dispatched = [];
  /** The last `score:update`, to dispatch it once. */
  #lastChange = "";

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    const base = new URL(options.baseUrl ?? "", document.baseURI);
    this.baseUrl = options.baseUrl ? base.href.replace(/\/+$/, "") : location.origin;
    // A sandboxed page has the service's address, but not its origin and cookies.
    const isHome = new URL(this.baseUrl).origin === globalThis.origin;
    const timeoutMs = options.requestTimeoutMs ?? 15_000;
    const emit = (/** @type {string} */ type, /** @type {any} */ detail) => this.#emit(type, detail);
    this.clock = new Clock();
    this.session = new Session({
      baseUrl: this.baseUrl,
      mode: options.auth ?? (isHome ? "cookies" : "bearer"),
      timeoutMs,
      clock: this.clock,
      onChange: (user, reason) => this.#userChanged(user, reason),
      onTokens: (tokens) => emit("tokens", tokens),
    });
    this.optimistic = new OptimisticScore((detail) => emit("score", { ...detail, userId: this.user?.id ?? null }));
    this.next = new NextActions({ baseUrl: this.baseUrl, clock: this.clock, userId: () => this.user?.id });
    this.completions = new Completions({
      session: this.session,
      next: this.next,
      clock: this.clock,
      emit,
      onOutcome: (outcome) => this.#settled(outcome),
      onLapse: (actionId) => this.optimistic.settle(actionId, { status: "unconfirmed", reason: "UNCONFIRMED" }),
    });
    this.live = new Live({
      emit: (type, detail) => this.#fromStream(type, detail),
      now: () => this.clock.now(),
      target: (lastEventId) => this.#streamUrl(lastEventId),
      probe: (url) => this.#probe(url, timeoutMs),
      reauthenticate: () => (this.user ? this.session.refresh() : Promise.resolve()),
      // no-cache: the browser asks with its stored ETag and hides the 304, without a preflight on other origins.
      fetchBoard: () => this.session.call("GET", "/v1/leaderboard?limit=10&offset=0", { cache: "no-cache" }),
      channel: () => `scoreboard:live:${this.baseUrl}:${this.user?.id ?? "anonymous"}`,
      isShared: options.shareTabs ?? true,
      heartbeatMs: options.heartbeatMs ?? 15_000,
      pollMs: options.pollMs ?? 5_000,
      pauseAfterMs: options.pauseAfterMs ?? 120_000,
    });
    if (options.tokens) this.setTokens(options.tokens);
  }

  /** Restore the session of an earlier visit and connect. Never rejects: without a network the module goes on trying. */
  async open() {
    await this.session.restore();
    this.live.start();
    if (this.user) this.#userChanged(this.user, "restored");
    return this;
  }

  /** Close the stream and remove all listeners. The object cannot be used again. */
  close() {
    this.live.close();
    this.completions.close();
    this.next.close();
    this.session.close();
  }

  get state() {
    return this.live.state;
  }

  get board() {
    return this.live.board;
  }

  get user() {
    return this.session.user;
  }

  /** The score to show, pending points included; null when not known. */
  get score() {
    return this.optimistic.score;
  }

  get queued() {
    return this.completions.size;
  }

  /** The time at the service, ms since 1970, whatever the device's clock shows. Compute ages of its stamps with it. */
  now() {
    return this.clock.now();
  }

  /** @param {{username: string, email?: string | null, password: string}} account */
  register(account) {
    return this.session.register(account);
  }

  /** @param {{username: string, password: string}} credentials */
  login(credentials) {
    return this.session.login(credentials);
  }

  logout() {
    return this.session.logout();
  }

  refresh() {
    return this.session.refresh();
  }

  /**
   * Use tokens that the site obtained itself.
   *
   * @param {{accessToken: string, refreshToken?: string, user?: import("./types.js").User}} tokens
   */
  setTokens(tokens) {
    this.session.adopt({ user: { id: String(claim(tokens.accessToken, "sub") ?? "me"), username: "" }, ...tokens });
  }

  /** Try to connect now. */
  retry() {
    this.live.retry();
    this.completions.flush();
  }

  /** @returns {Promise<any[]>} the catalogue of action types */
  async types() {
    return (await this.session.call("GET", "/v1/actions/types")).data.types;
  }

  /** @param {{limit?: number, offset?: number}} [page] */
  async leaderboard({ limit = 10, offset = 0 } = {}) {
    return (await this.session.call("GET", `/v1/leaderboard?limit=${limit}&offset=${offset}`)).data;
  }

  /** @param {string} [userId] @param {number} [radius] */
  async around(userId = "me", radius = 5) {
    const path = `/v1/leaderboard/around/${encodeURIComponent(userId)}?radius=${radius}`;
    return (await this.session.call("GET", path)).data;
  }

  /** The user's own score, rank and percentile, fresh from the service. */
  async me() {
    const { data } = await this.session.call("GET", "/v1/users/me/score");
    this.optimistic.confirm(data.score);
    return data;
  }

  /** @param {{cursor?: string, limit?: number}} [page] */
  async history({ cursor, limit = 20 } = {}) {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor && { cursor }) });
    return (await this.session.call("GET", `/v1/users/me/history?${query}`)).data;
  }

  /**
   * Begin an action: the one that came with the answer to `finish`, else a newly requested one. Rejects with ApiError.
   *
   * @param {string} actionType
   * @param {Record<string, unknown>} [metadata]
   * @param {{maxWaitedMs?: number}} [options] pass over an action that has waited for longer
   * @returns {Promise<Action>}
   */
  async start(actionType, metadata = {}, { maxWaitedMs } = {}) {
    const wanted = { actionType, metadata };
    await this.next.begin(wanted);
    const waiting = this.next.take(wanted, maxWaitedMs);
    if (waiting) return waiting;
    try {
      this.next.check();
      const { data } = await this.session.call("POST", "/v1/actions/request", { body: wanted });
      this.clock.learn(data.issuedAt);
      return { ...data, ...wanted, startedAt: performance.now() };
    } catch (error) {
      // An action that was passed over counts among the open ones, and can still be played.
      const older = error instanceof ApiError && error.code === TOO_MANY_OPEN ? this.next.take(wanted) : undefined;
      if (older) return older;
      throw error;
    }
  }

  /**
   * Complete an action. Resolves with its outcome, with status `accepted` when it is settled later (event `result`),
   * or `queued` when the service cannot be reached now. Rejects with ApiError when the service refuses it for good.
   *
   * With `next` the answer also brings the action of the next round, of the same kind (`true`) or of another. `start` then
   * returns it without a call.
   *
   * @param {Action} action
   * @param {{completionTime?: number, points?: number, data?: string, next?: boolean | NextAction}} [result]
   *   completionTime in ms since start
   * @returns {Promise<Outcome>}
   */
  finish(action, { next, ...result } = {}) {
    const { actionId, actionType, metadata } = action;
    const answer = this.#complete(action, result);
    this.next.forget(actionId);
    const wanted = next === true ? { actionType, metadata } : next;
    if (wanted) this.next.prefetchWith(actionId, wanted, answer);
    return answer;
  }

  /**
   * @param {Action} action
   * @param {{completionTime?: number, points?: number, data?: string}} result
   * @returns {Promise<Outcome>}
   */
  async #complete(action, { completionTime = performance.now() - action.startedAt, points, data }) {
    const proof = { completionTime: Math.round(completionTime), points, data };
    const { actionId, actionToken, proofKey } = action;
    const signature = await checksum(proofKey, { actionId, ...proof });
    const expected = points ?? action.maxPoints;
    const body = { actionId, actionToken, proof: { ...proof, checksum: signature } };
    // The token's life by the service's stamps, its age by the monotonic clock.
    const lifeMs = Date.parse(action.expiresAt) - Date.parse(action.issuedAt);
    const leftMs = lifeMs - (performance.now() - action.startedAt) - (action.waitedMs ?? 0);
    const answer = this.completions.add(body, { points: expected, leftMs });
    if (leftMs > 0) this.optimistic.expect(actionId, expected);
    return answer;
  }

  /** @param {string} lastEventId */
  async #streamUrl(lastEventId) {
    this.session.checkEnd();
    const query = new URLSearchParams({ refusals: "event" });
    if (lastEventId) query.set("lastEventId", lastEventId);
    if (this.session.mode === "bearer" && this.user) {
      query.set("ticket", (await this.session.call("POST", "/v1/stream/ticket")).data.ticket);
    }
    return `${this.baseUrl}/v1/leaderboard/stream?${query}`;
  }

  /**
   * Fetch the stream to see the status and Retry-After that EventSource hides, for refusals that a proxy made.
   *
   * @param {string} url
   * @param {number} timeoutMs
   */
  async #probe(url, timeoutMs) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), timeoutMs);
    try {
      const response = await fetch(url.replace("refusals=event", ""), {
        headers: { Accept: "text/event-stream" },
        credentials: this.session.mode === "cookies" ? "same-origin" : "omit",
        cache: "no-store",
        signal: abort.signal,
      });
      this.clock.learn(response.headers.get("Date"));
      return response.ok ? null : refusal(response, await response.json().catch(() => null));
    } catch {
      return abort.signal.aborted ? new ApiError(0, "TIMEOUT", "The service did not answer in time.")
        : new ApiError(0, "NETWORK", "The service cannot be reached.");
    } finally {
      clearTimeout(timer);
      abort.abort(); // A stream that opened would stay open.
    }
  }

  /** @param {import("./types.js").User | null} user @param {string} reason */
  #userChanged(user, reason) {
    this.optimistic.clear();
    this.next.clear();
    if (user) {
      if (typeof user.score === "number" && reason === "signed-in") this.optimistic.confirm(user.score);
      for (const [actionId, points] of this.completions.expected()) this.optimistic.expect(actionId, points);
      this.completions.flush();
    }
    if (reason !== "restored") this.live.restart();
    this.#emit("auth", { user, reason });
    this.#emit("queue", { size: this.queued });
  }

  /** @param {string} type @param {any} detail */
  #fromStream(type, detail) {
    if (type === "reset") this.#lastChange = ""; // Missed events are unknown.
    if (type === "score:update" && this.#isRepeated(detail)) return;
    const isMine = detail.userId === undefined || detail.userId === this.user?.id;
    if (type === "score:update" && isMine) this.optimistic.confirm(detail.newScore);
    if (type === "action:result") this.#settled(detail);
    if (type === "state" && detail.state === "live") this.completions.flush();
    this.#emit(type, detail);
  }

  /**
   * The service may publish a change twice, under two ids. The same change cannot happen twice in a row.
   *
   * @param {{userId: string, oldScore: number, newScore: number}} change
   */
  #isRepeated({ userId, oldScore, newScore }) {
    const change = `${userId}:${oldScore}:${newScore}`;
    const isRepeated = oldScore !== newScore && change === this.#lastChange;
    this.#lastChange = change;
    return isRepeated;
  }

  /** @param {Outcome} outcome */
  #settled(outcome) {
    // A review settles a held action again. Each status is dispatched once.
    const key = `${outcome.actionId}:${outcome.status}`;
    if (this.#dispatched.includes(key)) return;
    this.#dispatched = [...this.#dispatched.slice(1 - REMEMBERED_OUTCOMES), key];
    this.completions.settled(outcome);
    this.optimistic.settle(outcome.actionId, outcome);
    this.#emit("result", outcome);
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    if (type === "board") this.clock.atLeast(detail.updatedAt);
    if (type === "dropped") this.optimistic.settle(detail.actionId, { status: "dropped", reason: detail.code });
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
