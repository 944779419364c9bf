/**
 * The shapes of the API and of the module's public interface, as JSDoc types only.
 *
 * @typedef {{id: string, username: string, role?: string, score?: number}} User
 *
 * @typedef {{accessToken: string, refreshToken: string, user: User | null}} Tokens
 *
 * @typedef {{rank: number, userId: string, username: string, score: number, updatedAt: string | null}} Row
 *
 * @typedef {object} Board
 * @property {Row[]} leaderboard the visible top, best first
 * @property {number} version only grows; older boards are dropped
 * @property {string | null} updatedAt
 * @property {number} [totalPlayers]
 * @property {{userId: string, oldRank: number | null, newRank: number | null, scoreChange: number} | null} [updatedUser]
 * @property {"stream" | "poll" | "tab"} [source]
 *
 * @typedef {object} Action an issued action, and the time of its arrival in this page
 * @property {string} actionId
 * @property {string} actionToken
 * @property {string} proofKey
 * @property {string} issuedAt
 * @property {string} expiresAt
 * @property {number} maxPoints
 * @property {string} actionType
 * @property {Record<string, unknown>} [metadata]
 * @property {number} startedAt `performance.now()` when it arrived, or when `start` returned it
 * @property {number} [waitedMs] how long it waited for `start`, while its clock ran
 *
 * @typedef {object} NextAction the kind of action that `finish` prefetches
 * @property {string} actionType
 * @property {Record<string, unknown>} [metadata]
 *
 * @typedef {object} Outcome the state of a completion; the score fields are null unless it is applied
 * @property {string} actionId
 * @property {"queued" | "issued" | "accepted" | "applied" | "held" | "rejected" | "expired" | "failed"} status
 * @property {string | null} [reason]
 * @property {{clock: "server" | "client", bound: "minimum" | "maximum", boundMs: number, actualMs: number} | null} [reasonDetails]
 * @property {number | null} [scoreIncrement]
 * @property {number | null} [previousScore]
 * @property {number | null} [newScore]
 * @property {number | null} [previousRank]
 * @property {number | null} [rank]
 * @property {number | null} [rankChange]
 * @property {string} [statusUrl]
 * @property {Action | import("./http.js").ApiError} [next] the action that `start` will return, or the refusal
 * @property {number} [sendsForMs] while queued: for how long it is still sent, until its action expires
 *
 * @typedef {"connecting" | "live" | "polling" | "paused" | "offline" | "refused" | "closed"} State
 *
 * @typedef {object} Options
 * @property {string} [baseUrl] the service's origin; default: the page's own
 * @property {"cookies" | "bearer"} [auth] default: cookies on the service's own origin, bearer elsewhere
 * @property {{accessToken: string, refreshToken?: string, user?: User}} [tokens] tokens that the site already has
 * @property {boolean} [shareTabs] one stream for all tabs of the origin; default true
 * @property {number} [heartbeatMs] time between the service's heartbeats; default 15000, longer ones are learnt
 * @property {number} [pollMs] least time between two polls; default 5000
 * @property {number} [pauseAfterMs] time in the background after which the stream is closed; default 120000
 * @property {number} [requestTimeoutMs] default 15000
 */

export {};
