"""The servers of this run are of the releases that it says it is for."""

from __future__ import annotations

import redis
import sqlalchemy as sa

from scoreboard.store.engine import Database
from tests.servers import Release, Releases, asked_releases
from tests.service import Service

# What the wheels hold.
OWN = Releases(Release("postgresql", 18), Release("valkey", 9))


def redis_release(client: redis.Redis) -> Release:
    info = client.info("server")
    # Valkey says it is a Redis 7.2 for those who only know that one, and tells the truth beside it.
    name = info.get("server_name", "redis")
    return Release(name, int(info[f"{name}_version"].partition(".")[0]))


def test_the_servers_are_of_the_asked_releases(database: Database, client: redis.Redis) -> None:
    asked = asked_releases() or OWN
    with database.read() as connection:
        number = connection.scalar(sa.text("SELECT current_setting('server_version_num')::int"))
    assert Releases(Release("postgresql", number // 10_000), redis_release(client)) == asked


def test_a_whole_service_runs_on_them_too(service: Service) -> None:
    with redis.Redis.from_url(service.redis_url) as client:
        assert redis_release(client) == (asked_releases() or OWN).redis
    engine = sa.create_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        number = connection.scalar(sa.text("SELECT current_setting('server_version_num')::int"))
    engine.dispose()
    assert number // 10_000 == (asked_releases() or OWN).postgres.major
