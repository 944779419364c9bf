/** Fails to compile when scoreboard.d.ts and the module differ. */

import * as declared from "../../scoreboard/web/static/scoreboard.js";
import { Scoreboard, connect } from "../../scoreboard/web/static/scoreboard/client.js";
import { checksum } from "../../scoreboard/web/static/scoreboard/hmac.js";
import { ApiError } from "../../scoreboard/web/static/scoreboard/http.js";
import type * as shapes from "../../scoreboard/web/static/scoreboard/types.js";

// The module has all that is declared, with these types. Listeners are EventTarget's own; their events are declared only,
// and a test holds those against docs/embedding.md.
type Members = Omit<declared.Scoreboard, "addEventListener" | "removeEventListener" | "open">;
declare const scoreboard: Scoreboard;
export const members: Members = scoreboard;
export const opens: () => Promise<Members> = scoreboard.open;
export const module: Omit<typeof declared, "Scoreboard" | "connect"> = { ApiError, checksum };
export const connects: (...given: Parameters<typeof declared.connect>) => Promise<Members> = connect;
export const makes: new (...given: ConstructorParameters<typeof declared.Scoreboard>) => Members = Scoreboard;

// What it has beside is its own parts.
type Parts = "clock" | "session" | "optimistic" | "completions" | "live" | "next";
type Undeclared = Exclude<keyof Scoreboard, keyof declared.Scoreboard | Parts>;
export const nothing: [Undeclared] extends [never] ? true : Undeclared = true;

// The shapes are the same both ways.
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
export const same: [
  Same<declared.Action, shapes.Action>,
  Same<declared.Board, shapes.Board>,
  Same<declared.NextAction, shapes.NextAction>,
  Same<declared.Options, shapes.Options>,
  Same<declared.Outcome, shapes.Outcome>,
  Same<declared.Row, shapes.Row>,
  Same<declared.State, shapes.State>,
  Same<declared.Tokens, shapes.Tokens>,
  Same<declared.User, shapes.User>,
] = [true, true, true, true, true, true, true, true, true];
