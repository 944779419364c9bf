/**
 * Scoreboard for the browser: live board, sign-in and completed actions, without dependencies.
 *
 * The one module that other sites import; docs/embedding.md shows how.
 *
 *     import { connect } from "https://scores.example/static/scoreboard.js";
 *     const board = await connect({ baseUrl: "https://scores.example" });
 *     board.addEventListener("board", (event) => draw(event.detail.leaderboard));
 */

export { ApiError } from "./scoreboard/http.js";
export { Scoreboard, connect } from "./scoreboard/client.js";
export { checksum } from "./scoreboard/hmac.js";
