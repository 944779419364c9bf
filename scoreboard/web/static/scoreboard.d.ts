/**
 * Types of scoreboard.js, for sites that use TypeScript or an editor that reads types. docs/embedding.md shows how to
 * take them up; a test holds them against the module.
 */

export interface User {
  id: string;
  /** Empty when only tokens were handed over. */
  username: string;
  role?: string;
  score?: number;
}

export interface Row {
  rank: number;
  userId: string;
  /** Written by a stranger: show it as text, never as HTML. */
  username: string;
  score: number;
  updatedAt: string | null;
}

export interface Board {
  /** The visible top, best first. */
  leaderboard: Row[];
  /** Only grows; older boards are dropped. */
  version: number;
  updatedAt: string | null;
  totalPlayers?: number;
  updatedUser?: { userId: string; oldRank: number | null; newRank: number | null; scoreChange: number } | null;
  source?: "stream" | "poll" | "tab";
}

/** What the service issued, and when this page got it. */
export interface Action {
  actionId: string;
  actionToken: string;
  proofKey: string;
  issuedAt: string;
  expiresAt: string;
  maxPoints: number;
  actionType: string;
  metadata?: Record<string, unknown>;
  /** `performance.now()` when it arrived, or when `start` handed it out. */
  startedAt: number;
  /** How long it had waited for `start`, ms; its clock ran meanwhile. */
  waitedMs?: number;
}

/** The kind of action that `finish` asks for. */
export interface NextAction {
  actionType: string;
  metadata?: Record<string, unknown>;
}

/** Where a completion stands; the score fields are null unless it is applied. */
export interface Outcome {
  actionId: string;
  status: "queued" | "issued" | "accepted" | "applied" | "held" | "rejected" | "expired" | "failed";
  reason?: string | null;
  /** Which bound the time broke, as `clock` measured it, ms; null unless the reason is `COMPLETION_TIME`. */
  reasonDetails?: {
    clock: "server" | "client";
    bound: "minimum" | "maximum";
    boundMs: number;
    actualMs: number;
  } | null;
  scoreIncrement?: number | null;
  previousScore?: number | null;
  newScore?: number | null;
  previousRank?: number | null;
  rank?: number | null;
  rankChange?: number | null;
  statusUrl?: string;
  /** Where `finish` asked for it: the action that `start` will hand out, or the refusal in its place. */
  next?: Action | ApiError;
  /** While queued: for how many ms it goes on being sent; then its action's time is over. */
  sendsForMs?: number;
}

export interface Tokens {
  accessToken: string;
  refreshToken: string;
  user: User | null;
}

export type State = "connecting" | "live" | "polling" | "paused" | "offline" | "refused" | "closed";

export interface Options {
  /** Where the service is; default: where the page comes from. */
  baseUrl?: string;
  /** Default: cookies on the service's own origin, bearer elsewhere. */
  auth?: "cookies" | "bearer";
  /** Tokens that the site already has (bearer only). */
  tokens?: { accessToken: string; refreshToken?: string; user?: User };
  /** One stream for all tabs of the origin; default true. */
  shareTabs?: boolean;
  /** Time between the service's heartbeats, ms; default 15000, longer ones are learnt. */
  heartbeatMs?: number;
  /** Least time between two polls, ms; default 5000. */
  pollMs?: number;
  /** Time in the background after which the stream is closed, ms; default 120000. */
  pauseAfterMs?: number;
  /** Longest wait for an answer, ms; default 15000. */
  requestTimeoutMs?: number;
}

/** What each event carries in `detail`. */
export interface ScoreboardEvents {
  state: {
    state: State;
    previous: State;
    /** Why, where it was a refusal or no answer: the service's code, `NETWORK` or `TIMEOUT`. */
    code: string | null;
    /** The same in words. */
    reason: string | null;
    retryInMs: number | null;
    /** When the next try is, ms since 1970 by the service's clock; compare it with `now()`. */
    retryAt: number | null;
  };
  board: Board;
  auth: {
    user: User | null;
    reason: "signed-in" | "restored" | "other-tab" | "signed-out" | "expired" | "banned";
  };
  tokens: Tokens;
  score: {
    score: number | null;
    pending: number;
    rolledBack: { actionId: string; points: number; reason: string } | null;
    userId: string | null;
  };
  queue: {
    size: number;
    /** How many of them are past their time, and may have been counted before it. */
    unconfirmed: number;
    /** For how many ms the first of the others goes on being sent. */
    sendsForMs: number | null;
    code?: string;
    retryInMs?: number;
    retryAt?: number;
  };
  result: Outcome;
  dropped: { actionId: string; code: string; message: string; details: Record<string, any> };
  "score:update": { userId: string; oldScore: number; newScore: number; increment: number; newRank: number | null };
  "rank:change": {
    userId: string;
    oldRank: number | null;
    newRank: number | null;
    enteredTop10: boolean;
    leftTop10: boolean;
  };
  "action:result": Outcome;
  reset: { reason: string };
}

/** A refusal by the service, or (status 0) no answer at all. */
export class ApiError extends Error {
  constructor(status: number, code: string, message: string, details?: Record<string, any>, retryAfterMs?: number | null);
  /** 0 when the service could not be reached. */
  status: number;
  /** The service's stable code; `NETWORK`, `TIMEOUT`, or `HTTP_502` and the like for the page of a gateway. */
  code: string;
  details: Record<string, any>;
  retryAfterMs: number | null;
  /** Whether the very same call may well succeed later. */
  readonly isTransient: boolean;
}

export class Scoreboard extends EventTarget {
  constructor(options?: Options);
  readonly baseUrl: string;
  readonly state: State;
  readonly board: Board | null;
  readonly user: User | null;
  /** The score to show, points on their way included; null when not known. */
  readonly score: number | null;
  /** How many completions wait to be sent. */
  readonly queued: number;

  /** Take up the session of an earlier visit and connect. Never rejects. */
  open(): Promise<this>;
  /** End everything; the object cannot be used again. */
  close(): void;
  /** Try to connect now. */
  retry(): void;
  /** The time at the service, ms since 1970. */
  now(): number;

  register(account: { username: string; email?: string | null; password: string }): Promise<User>;
  login(credentials: { username: string; password: string }): Promise<User>;
  logout(): Promise<void>;
  refresh(): Promise<void>;
  setTokens(tokens: { accessToken: string; refreshToken?: string; user?: User }): void;

  /**
   * An action: one that came with the answer to `finish` and waits, else a new one. Rejects with ApiError.
   * `maxWaitedMs`: request a new one where the waiting one's clock has run for longer.
   */
  start(actionType: string, metadata?: Record<string, unknown>, options?: { maxWaitedMs?: number }): Promise<Action>;
  /**
   * Rejects with ApiError when it is refused for good. With `next` the answer also brings the next action, of the same type
   * and metadata (`true`) or of others.
   */
  finish(
    action: Action,
    result?: { completionTime?: number; points?: number; data?: string; next?: boolean | NextAction },
  ): Promise<Outcome>;

  /** The catalogue of action types. */
  types(): Promise<any[]>;
  leaderboard(page?: { limit?: number; offset?: number }): Promise<any>;
  around(userId?: string, radius?: number): Promise<any>;
  me(): Promise<any>;
  history(page?: { cursor?: string; limit?: number }): Promise<any>;

  addEventListener<K extends keyof ScoreboardEvents>(
    type: K,
    listener: (event: CustomEvent<ScoreboardEvents[K]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof ScoreboardEvents>(
    type: K,
    listener: (event: CustomEvent<ScoreboardEvents[K]>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** Create a Scoreboard and open it. Never rejects. */
export function connect(options?: Options): Promise<Scoreboard>;

/** Lower-case hex HMAC-SHA256 of a proof; `finish` computes it by itself. */
export function checksum(
  proofKey: string,
  proof: { actionId: string; completionTime: number; points?: number; data?: string },
): Promise<string>;
