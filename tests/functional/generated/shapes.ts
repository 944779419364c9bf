// What scoreboard.js hands on from the service, as its types declare it: every field, with all that it may be.
import type { components } from "./api.d.ts";
import type { Action, Board, Outcome, Row, ScoreboardEvents } from "./scoreboard.js";

type Served = components["schemas"];
type Lacks<Told, Declared> = Exclude<keyof Told, keyof Declared>;
/** The fields that are declared nowhere, or the types where they do not fit. */
type Fits<Told, Declared> = [Lacks<Told, Declared>] extends [never]
  ? ([Told] extends [Declared] ? true : [Told, "is no", Declared])
  : Lacks<Told, Declared>;

export const fits: [
  Fits<Omit<Served["Outcome"], "next">, Outcome>,
  Fits<Served["ActionResultEvent"], ScoreboardEvents["action:result"]>,
  Fits<Served["ScoreUpdateEvent"], ScoreboardEvents["score:update"]>,
  Fits<Served["RankChangeEvent"], ScoreboardEvents["rank:change"]>,
  Fits<Served["ResetEvent"], ScoreboardEvents["reset"]>,
  Fits<Served["LeaderboardInitialEvent"], Board>,
  Fits<Served["LeaderboardUpdateEvent"], Board>,
  Fits<Served["BoardRow"], Row>,
  Fits<Served["IssuedAction"] & Pick<Action, "actionType" | "startedAt">, Action>,
] = [true, true, true, true, true, true, true, true, true];
