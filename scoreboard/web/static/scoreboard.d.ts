/**
 * Types of scoreboard.js, for sites in TypeScript and editors that read types. docs/embedding.md shows how to use them; a
 * test compares them with the module.
 */

export interface User {
  id: string;
  /** Empty when the site handed over tokens without a user. */
  username: string;
  role?: string;
  score?: number;
}

export interface Row {
  rank: number;
  userId: string;
  /** Text from a stranger: show it as text, never as HTML. */
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

/** An issued action, and the time of its arrival in this page. */
export interface Action {
  actionId: string;
  actionToken: string;
  proofKey: string;
  issuedAt: string;
  expiresAt: string;
  maxPoints: number;
  actionType: string;
  metadata?: Record<string, unknown>;
  /** `performance.now()` when it arrived, or when `start` returned it. */
  startedAt: number;
  /** How long it waited for `start`, ms, while its clock ran. */
  waitedMs?: number;
}

/** The kind of action that `finish` prefetches. */
export interface NextAction {
  actionType: string;
  metadata?: Record<string, unknown>;
}

/** The state of a completion; the score fields are null unless it is applied. */
export interface Outcome {
  actionId: string;
  status: "queued" | "issued" | "accepted" | "applied" | "held" | "rejected" | "expired" | "failed";
  reason?: string | null;
  /** The bound that the time broke, as `clock` measured it, ms; null unless the reason is `COMPLETION_TIME`. */
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
  /** If `finish` asked for it: the action that `start` will return, or the refusal. */
  next?: Action | ApiError;
  /** While queued: for how many ms it is still sent, until its action expires. */
  sendsForMs?: number;
}

export interface Tokens {
  accessToken: string;
  refreshToken: string;
  user: User | null;
}

export type State = "connecting" | "live" | "polling" | "paused" | "offline" | "refused" | "closed";

export interface Options {
  /** The service's origin; default: the page's own. */
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

/** The `detail` of each event. */
export interface ScoreboardEvents {
  state: {
    state: State;
    previous: State;
    /** The service's code of a refusal; `NETWORK` or `TIMEOUT` without an answer. */
    code: string | null;
    /** The same as a sentence. */
    reason: string | null;
    retryInMs: number | null;
    /** The time of the next try, ms since 1970 by the service's clock; compare it with `now()`. */
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
    /** The number of them that are too late, and may have been counted before. */
    unconfirmed: number;
    /** For how many ms the first of the others is still sent. */
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

/** A refusal by the service, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(status: number, code: string, message: string, details?: Record<string, any>, retryAfterMs?: number | null);
  /** 0 when the service did not answer. */
  status: number;
  /** The service's stable code; `NETWORK`, `TIMEOUT`, or `HTTP_502` and the like for a gateway's own page. */
  code: string;
  details: Record<string, any>;
  retryAfterMs: number | null;
  /** Whether the very same call may succeed later. */
  readonly isTransient: boolean;
}

export class Scoreboard extends EventTarget {
  constructor(options?: Options);
  readonly baseUrl: string;
  readonly state: State;
  readonly board: Board | null;
  readonly user: User | null;
  /** The score to show, pending points included; null when not known. */
  readonly score: number | null;
  /** The number of completions that wait to be sent. */
  readonly queued: number;

  /** Restore the session of an earlier visit and connect. Never rejects. */
  open(): Promise<this>;
  /** Close the stream and remove all listeners. The object cannot be used again. */
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
   * Begin an action: the one that came with the answer to `finish`, else a newly requested one. Rejects with ApiError.
   * `maxWaitedMs`: pass over an action that has waited for longer.
   */
  start(actionType: string, metadata?: Record<string, unknown>, options?: { maxWaitedMs?: number }): Promise<Action>;
  /**
   * Complete an action. Rejects with ApiError when the service refuses it for good. With `next` the answer also brings the
   * action of the next round, of the same type and metadata (`true`) or of others.
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
