"""Players' accounts: registering them, and keeping each one's access token fresh."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from .client import Client, GaveUp, Json, Refused, ReplayError, text_of
from .names import fallback_username, number_username

# A replay against a database of earlier replays meets its own names; a few numbers, then a random mark.
NUMBERED_TRIES, RANDOM_TRIES = 5, 3


@dataclass
class Account:
    """A signed-in player; its calls renew the access token when that has run out. One call at a time."""

    client: Client
    user_id: str
    username: str
    password: str
    access_token: str
    refresh_token: str

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: dict[str, int] | None = None,
        label: str = "",
    ) -> Json:
        """As :meth:`Client.call`, as this player; a refused token is renewed once."""
        try:
            return await self.client.call(method, path, body=body, params=params, token=self.access_token, label=label)
        except Refused as refusal:
            if refusal.status != 401:
                raise
        await self._renew()
        return await self.client.call(method, path, body=body, params=params, token=self.access_token, label=label)

    async def _renew(self) -> None:
        self.client.stats.refreshes += 1
        try:
            data = await self.client.call("POST", "/v1/auth/refresh", body={"refreshToken": self.refresh_token})
        except Refused:
            # The answer to an earlier refresh got lost, and its repetition ended the family.
            data = await log_in(self.client, self.username, self.password)
        self.access_token, self.refresh_token = text_of(data, "accessToken"), text_of(data, "refreshToken")


async def log_in(client: Client, username: str, password: str) -> Json:
    return await client.call("POST", "/v1/auth/login", body={"username": username, "password": password})


class Registrar:
    """Registers players under the wished name, or the nearest one that is free."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # The number that earlier players of this run ended with: the others start there, not at 1.
        self._number = 1

    async def register(self, team: str, wish: str) -> Account:
        """A new account; raises ReplayError when no name is accepted."""
        number, name, fallback = self._number, wish, fallback_username(team)
        for attempt in range(NUMBERED_TRIES + RANDOM_TRIES):
            mark = number if attempt < NUMBERED_TRIES else secrets.token_hex(3)
            username = name if mark == 1 else number_username(name, mark)
            try:
                account = await self._register(username)
            except Refused as refusal:
                if refusal.code == "USERNAME_TAKEN":
                    number = max(number + 1, self._number)
                elif refusal.code == "VALIDATION_FAILED" and name != fallback:
                    name = fallback
                else:
                    raise ReplayError(f"can't register {username!r}: {refusal}") from None
            except GaveUp as error:
                raise ReplayError(f"can't register {username!r}: {error}") from None
            else:
                self._number = max(self._number, number)
                return account
        raise ReplayError(f"can't register {wish!r}: no free name among {NUMBERED_TRIES + RANDOM_TRIES} variants")

    async def _register(self, username: str) -> Account:
        password = secrets.token_urlsafe(18)
        body = {"username": username, "password": password}
        try:
            data = await self._client.call("POST", "/v1/auth/register", body=body, label="register")
        except Refused as refusal:
            if not (refusal.repeated and refusal.code == "USERNAME_TAKEN"):
                raise
            # Perhaps taken by ourselves a moment ago; the password tells.
            try:
                data = await log_in(self._client, username, password)
            except Refused:
                raise refusal from None
        user: Json = data.get("user") or {}
        tokens = text_of(data, "accessToken"), text_of(data, "refreshToken")
        return Account(self._client, text_of(user, "id"), text_of(user, "username"), password, *tokens)
