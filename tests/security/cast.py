"""Who calls in these tests: one account of each kind, and what must be the same after everything refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property

from tests.functional.client import Admin, Api, Json, Player, create_staff, data_of, login, register
from tests.security.forge import Forge
from tests.service import Service


@dataclass
class Cast:
    """The accounts of one service, each made when it is first asked for."""

    service: Service

    @property
    def url(self) -> str:
        return self.service.url

    @cached_property
    def forge(self) -> Forge:
        return Forge.of(self.service)

    @cached_property
    def admin(self) -> Admin:
        return create_staff(self.service)

    @cached_property
    def game_server(self) -> Player:
        return create_staff(self.service, "system")

    @cached_property
    def player(self) -> Player:
        return register(self.url)

    @cached_property
    def flagged(self) -> Player:
        player = register(self.url)
        self.admin.act(player.id, "flag")
        return player

    @cached_property
    def banned(self) -> Player:
        player = register(self.url)
        self.admin.act(player.id, "ban")
        return player

    @cached_property
    def logged_out(self) -> Player:
        player = register(self.url)
        data_of(player.api.post("/v1/auth/logout"))
        return player

    @cached_property
    def expired(self) -> str:
        """An access token of a session that lives, an hour too old."""
        return self.forge.stale_access(register(self.url).access_token)

    @cached_property
    def victim(self) -> Player:
        """Whose things the others try to reach: with points, a history, an open and a completed action."""
        player = register(self.url)
        self.admin.adjust(player, 100)
        player.score_point()
        return player

    @cached_property
    def open_action(self) -> Json:
        """Of the victim."""
        return self.victim.request_action()

    @cached_property
    def done_action(self) -> str:
        """The id of an action that the victim has completed."""
        return str(self.victim.score_point()["actionId"])

    def at(self, service: Service) -> Cast:
        """Other accounts on another web process of the same data, but the same staff, which takes a command to make."""
        there = Cast(service)
        for name in ("admin", "game_server"):
            staff: Admin = getattr(self, name)
            signed_in = login(service.url, staff.username)
            tokens = signed_in.access_token, signed_in.refresh_token
            vars(there)[name] = Admin(service.url, staff.id, staff.username, staff.email, *tokens)
        return there

    def with_another_victim(self) -> Cast:
        """The same accounts but for the victim, for those who may do with it what they like."""
        return self._without("victim", "open_action", "done_action")

    def with_another_flagged(self) -> Cast:
        """The same accounts but for the flagged one, whose one completion a minute another test may have made."""
        return self._without("flagged")

    def _without(self, *names: str) -> Cast:
        other = copy(self)
        for name in names:
            vars(other).pop(name, None)
        return other

    def again(self, player: Player) -> Player:
        """One more session of the same account."""
        return login(player.url, player.username, player.password)

    def snapshot(self) -> list[Json]:
        """All that somebody could have wanted to change about the victim: account, score, what is open."""
        action = f"/v1/actions/{self.open_action['actionId']}"
        return [data_of(self.admin.api.get(path)) for path in (f"/v1/admin/users/{self.victim.id}", action)]


# Role → its access token; None without one.
ROLES: dict[str, Callable[[Cast], str | None]] = {
    "nobody": lambda _: None,
    "player": lambda cast: cast.player.access_token,
    "flagged": lambda cast: cast.flagged.access_token,
    "game server": lambda cast: cast.game_server.access_token,
    "admin": lambda cast: cast.admin.access_token,
    "banned": lambda cast: cast.banned.access_token,
    "expired": lambda cast: cast.expired,
    "logged out": lambda cast: cast.logged_out.access_token,
}


def caller(cast: Cast, role: str) -> Api:
    return Api(cast.url, ROLES[role](cast))
