/**
 * The shapes that cross the wire and the module's edge, as JSDoc types only.
 *
 * @typedef {{id: string, username: string, role?: string, score?: number}} User
 *
 * @typedef {{accessToken: string, refreshToken: string, user: User | null}} Tokens
 *
 * @typedef {{rank: number, userId: string, username: string, score: number, updatedAt: string | null}} Row
 *
 * @typedef {object} Board
 * @property {Row[]} leaderboard the visible top, best first
 * @property {number} version only grows; an older one than the last is dropped
 * @property {string | null} updatedAt
 * @property {number} [totalPlayers]
 * @property {{userId: string, oldRank: number | null, newRank: number | null, scoreChange: number} | null} [updatedUser]
 * @property {"stream" | "poll" | "tab"} [source]
 *
 * @typedef {object} Action what the service issued, and when this page got it
 * @property {string} actionId
 * @property {string} actionToken
 * @property {string} proofKey
 * @property {string} issuedAt
 * @property {string} expiresAt
 * @property {number} maxPoints
 * @property {string} actionType
 * @property {Record<string, unknown>} [metadata]
 * @property {number} startedAt `performance.now()` when it arrived, or when `start` handed it out
 * @property {number} [waitedMs] how long it had waited for `start`; its clock ran meanwhile
 *
 * @typedef {object} NextAction the kind of action that `finish` asks for
 * @property {string} actionType
 * @property {Record<string, unknown>} [metadata]
 *
 * @typedef {object} Outcome where a completion stands; the score fields are null unless it is applied
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
 * @property {Action | import("./http.js").ApiError} [next] what `start` will hand out, or why it came to nothing
 * @property {number} [sendsForMs] while queued: for how long it goes on being sent; then its action's time is over
 *
 * @typedef {"connecting" | "live" | "polling" | "paused" | "offline" | "refused" | "closed"} State
 *
 * @typedef {object} Options
 * @property {string} [baseUrl] where the service is; default: where the page comes from
 * @property {"cookies" | "bearer"} [auth] default: cookies on the service's own origin, bearer elsewhere
 * @property {{accessToken: string, refreshToken?: string, user?: User}} [tokens] a pair that the site already has
 * @property {boolean} [shareTabs] one stream for all tabs of the origin; default true
 * @property {number} [heartbeatMs] time between the service's heartbeats; default 15000, longer ones are learnt
 * @property {number} [pollMs] least time between two polls; default 5000
 * @property {number} [pauseAfterMs] time in the background after which the stream is closed; default 120000
 * @property {number} [requestTimeoutMs] default 15000
 */

export {};
