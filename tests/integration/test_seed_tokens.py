"""Seeded players' tokens where the service signs with a private key."""

from __future__ import annotations

import json

from app import create_app, make_access_token
from config import Settings
from scoreboard.cli.seed_tokens import AccessTokens
from scoreboard.local import LocalServers
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.upkeep.seed import seed_players
from scoreboard.store.engine import Database
from tests.integration.conftest import add_user
from tests.integration.test_key_pairs import key_pair, status


def test_tokens_of_a_key_pair_are_taken(local_servers: LocalServers, database: Database, database_url: str) -> None:
    private_key, public_key = key_pair()
    settings = Settings.load(
        database_url=database_url,
        redis_url=local_servers.redis_url,
        jwt_private_key=private_key,
        jwt_public_keys=json.dumps({"june": public_key}),
    )
    application = create_app(settings)
    somebody = add_user(database).id
    signer = AccessTokens(make_access_token(application, somebody, somebody), settings)
    seeding = seed_players(
        database,
        Passwords(),
        count=2,
        prefix="p",
        password="a long enough one",
        session_ttl_s=settings.jwt_refresh_ttl_s,
    )
    tokens = [token for batch in seeding for token in signer.sign(batch)]
    assert [status(application.test_client(), token) for token in tokens] == [200, 200]
