/** The page at `/`: connects board, account, standing and game. */

import { Scoreboard } from "./scoreboard.js";
import { startGame } from "./game.js";
import { AccountForm } from "./page/account.js";
import { Announcer } from "./page/announcer.js";
import { BoardView } from "./page/board.js";
import { ConnectionView } from "./page/connection.js";
import { byId, setText } from "./page/dom.js";
import { Standing } from "./page/standing.js";
import { agoText } from "./page/texts.js";

const NOT_SIGNED_OUT = "The service cannot be reached, so you are still signed in. Try again.";

const scoreboard = new Scoreboard();
const announcer = new Announcer(byId("announcer"));
const board = new BoardView(announcer);
const standing = new Standing(scoreboard, board);
const account = new AccountForm(scoreboard);
new ConnectionView(scoreboard, announcer);
let updatedAt = /** @type {string | null} */ (null);

scoreboard.addEventListener("board", (event) => {
  const { detail } = /** @type {CustomEvent} */ (event);
  updatedAt = detail.updatedAt;
  board.show(detail);
  standing.boardChanged(detail);
  showAge();
});

scoreboard.addEventListener("auth", (event) => {
  const { user, reason } = /** @type {CustomEvent} */ (event).detail;
  showUser(user);
  account.userChanged(user, reason);
});

function showUser(/** @type {import("./scoreboard/types.js").User | null} */ user) {
  byId("whoami").hidden = !user;
  byId("account").hidden = Boolean(user);
  byId("go-sign-in").hidden = Boolean(user);
  setText("whoami-name", user?.username ?? "");
  board.setMe(user?.id ?? null);
  standing.userChanged(user);
}

function showAge() {
  setText("updated", agoText(updatedAt && scoreboard.now() - Date.parse(updatedAt)));
}

byId("sign-out").addEventListener("click", async () => {
  try {
    await scoreboard.logout();
  } catch {
    announcer.say(NOT_SIGNED_OUT, true);
    standing.note(NOT_SIGNED_OUT, "NETWORK");
  }
});

byId("go-sign-in").addEventListener("click", () => account.show("login"));
// For developer tools and tests.
Object.assign(window, { scoreboard });

await scoreboard.open();
showUser(scoreboard.user);
startGame({ scoreboard, announcer });
setInterval(showAge, 1_000);
document.documentElement.dataset.ready = "true";
