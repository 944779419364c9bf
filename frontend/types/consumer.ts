/** A site in TypeScript, as docs/embedding.md shows it: wrong use does not compile. */

import { ApiError, connect, type ScoreboardEvents } from "https://scores.example/static/scoreboard.js";

const scoreboard = await connect({ baseUrl: "https://scores.example", pollMs: 10_000 });
scoreboard.addEventListener("board", ({ detail }) => {
  const names: string[] = detail.leaderboard.map((row) => row.username);
  document.title = names.join(", ");
});
scoreboard.addEventListener("tokens", ({ detail: { accessToken, refreshToken } }) => {
  sessionStorage.setItem("tokens", JSON.stringify({ accessToken, refreshToken }));
});
const showState = ({ detail }: CustomEvent<ScoreboardEvents["state"]>) => {
  if (detail.retryAt !== null) console.log(detail.reason, Math.round((detail.retryAt - scoreboard.now()) / 1000));
};
scoreboard.addEventListener("state", showState);
scoreboard.removeEventListener("state", showState);
try {
  const outcome = await scoreboard.finish(await scoreboard.start("COMPLETE_LEVEL", { difficulty: "easy" }));
  if (outcome.status === "queued") console.log(outcome.sendsForMs);
  const again = await scoreboard.start("COMPLETE_LEVEL", { difficulty: "easy" }, { maxWaitedMs: 5_000 });
  const { next } = await scoreboard.finish(again, { next: true });
  if (next instanceof ApiError) console.log(next.retryAfterMs);
  else console.log(next?.maxPoints);
  await scoreboard.finish(again, { next: { actionType: "SOLVE_PROBLEM" } });
} catch (error) {
  if (error instanceof ApiError && error.isTransient) console.log(error.retryAfterMs);
}

// @ts-expect-error an option that there is not
await connect({ url: "https://scores.example" });
// @ts-expect-error a number is no action
await scoreboard.finish(1);
// @ts-expect-error of which type?
await scoreboard.finish(await scoreboard.start("SOLVE_PROBLEM"), { next: { metadata: {} } });
// @ts-expect-error read only
scoreboard.score = 1;
// @ts-expect-error not a state
export const wrong: typeof scoreboard.state = "asleep";
