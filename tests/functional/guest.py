"""A page of another site that uses ``scoreboard.js``, as tests drive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.functional import client
from tests.functional.browser import Page
from tests.functional.client import Json, Player
from tests.functional.proxy import BLANK, REFRESH, Proxy

WAIT_S = 40.0

OPEN = """
const [options, credentials] = given;
const { Scoreboard } = await import("/static/scoreboard.js");
const scoreboard = new Scoreboard(options);
Object.assign(window, { scoreboard, told: [] });
const heard = ["state", "board", "auth", "tokens", "score", "queue", "result", "dropped", "score:update", "reset"];
for (const type of heard) {
  scoreboard.addEventListener(type, ({ detail }) => window.told.push([type, detail]));
}
await scoreboard.open();
if (credentials) await scoreboard.login(credentials);
"""
START = "window.action = await scoreboard.start(...given); return window.action.actionId"
FINISH = "return await scoreboard.finish(window.action, given[0])"


@dataclass
class Guest:
    """A page that uses the module, in one browser that reaches the service through a proxy."""

    page: Page
    proxy: Proxy

    def open(self, player: Player | None = None, **options: object) -> None:
        """Load the page in the present tab, and sign in if a player is given."""
        self.page.driver.get(self.proxy.url + BLANK)
        account = player and {"username": player.username, "password": player.password}
        assert self.page.run_async(OPEN, options, account) is None

    def open_live(self, player: Player | None = None, **options: object) -> None:
        self.open(player, **options)
        self.wait_state("live")

    def open_tab(self, **options: int) -> None:
        """One more tab, in front; signed in as the others are."""
        self.page.driver.switch_to.new_window("tab")
        self.open_live(None, **options)

    # -- looking ---------------------------------------------------------------------

    def read(self, expression: str) -> Any:
        return self.page.driver.execute_script(f"return {expression}")

    def told(self, kind: str) -> list[Json]:
        """What the events of this type carried, oldest first."""
        return [detail for type_, detail in self.read("window.told") if type_ == kind]

    @property
    def scores(self) -> list[int]:
        """The scores of the private events, in the order of their coming."""
        return [update["newScore"] for update in self.told("score:update")]

    # -- waiting ---------------------------------------------------------------------

    def wait(self, is_right: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
        try:
            self.page.wait(is_right, what, timeout_s)
        except AssertionError as error:
            states = [state["state"] for state in self.told("state")]
            raise AssertionError(f"{error}; states {states}, the last events {self.read('told.slice(-5)')}") from None

    def wait_state(self, state: str, timeout_s: float = WAIT_S) -> None:
        self.wait(lambda: self.read("scoreboard.state") == state, f"the state {state}", timeout_s)

    def wait_told(self, kind: str, **wanted: object) -> None:
        self.wait(lambda: any(wanted.items() <= detail.items() for detail in self.told(kind)), f"{kind} with {wanted}")

    def wait_scores(self, *scores: int) -> None:
        """Wait until so many private events have come; they have to be these."""
        self.wait(lambda: len(self.scores) >= len(scores), f"the scores {scores}")
        assert self.scores == list(scores), self.scores

    def wait_board(self, player: Player, score: int) -> None:
        """Wait until the board has the player with this score."""
        row = f"scoreboard.board?.leaderboard.find(({{ userId }}) => userId === '{player.id}')?.score"
        self.wait(lambda: self.read(row) == score, f"{player.username} with {score} points")

    # -- doing -----------------------------------------------------------------------

    def start(self, action_type: str = client.QUICK, metadata: Json | None = None, **options: object) -> str:
        """Begin an action; its id, or the refusal."""
        return str(self.page.run_async(START, action_type, metadata or {}, options))

    def finish(self, **result: object) -> Json:
        """Complete the action begun last; what the module says first."""
        answer: Json = self.page.run_async(FINISH, result)
        return answer

    def watch(self, tab: str) -> None:
        """Ask this tab from now on; the driver also brings it to the front."""
        self.page.driver.switch_to.window(tab)

    def show(self, tab: str) -> None:
        """Bring a tab to the front, as a click on it does; the one that is asked stays the same."""
        self.page.driver.execute_cdp_cmd("Target.activateTarget", {"targetId": tab})

    def be_offline(self, is_offline: bool, *, keeps_stream: bool = False) -> None:
        """Take the network away from the browser, or give it back, as the system would.

        The browser by itself takes it from new calls only. A stream that it keeps says "live" at the next event.
        """
        conditions = {"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.page.driver.execute_cdp_cmd("Network.enable", {})
        self.page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
        if is_offline and not keeps_stream:
            self.proxy.cut_streams()

    def spoil_cookie(self, name: str) -> None:
        """Put a token in the cookie's place that no service ever signed."""
        found = self.page.driver.execute_cdp_cmd("Network.getCookies", {"urls": [self.proxy.url + REFRESH]})
        (cookie,) = [kept for kept in found["cookies"] if kept["name"] == name]
        kept = {key: cookie[key] for key in ("name", "domain", "path", "httpOnly")}
        self.page.driver.execute_cdp_cmd("Network.setCookie", {**kept, "value": "spoilt"})
