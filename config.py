"""Settings of the service, read from the environment and checked at start.

This module is the only reader of ``os.environ``. Everything else receives a
:class:`Settings` object. ``Settings.load()`` raises :class:`SettingsError`
with one line per wrong setting; production refuses defaults that are secrets.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.fernet import Fernet
from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from scoreboard import setting_values
from scoreboard.redis_url import read_redis_url

ROOT = Path(__file__).resolve().parent
# Development keys are derived from a fixed phrase so that a restarted development
# server still accepts yesterday's tokens; production refuses to start with them.
_DEVELOPMENT_PHRASE = b"development only, refused in production"


def _development_secret(purpose: str) -> str:
    return hashlib.sha256(_DEVELOPMENT_PHRASE + purpose.encode()).hexdigest()


def _development_action_key() -> str:
    import base64

    digest = hashlib.sha256(_DEVELOPMENT_PHRASE + b"action tokens").digest()
    return base64.urlsafe_b64encode(digest).decode()


def _split(value: object) -> object:
    """Accept ``a,b c`` as a list, the way lists are written in the environment."""
    if isinstance(value, str):
        return tuple(part for part in value.replace(",", " ").split() if part)
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _check_rate(value: str) -> str:
    try:
        parse_many(value)
    except ValueError as error:
        raise ValueError(f"not in the rate-limit notation, e.g. '10/minute;100/hour': {value!r}") from error
    return value


def _check_redis_url(value: str) -> str:
    read_redis_url(value)
    return value


def _check_action_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    for key in keys:
        try:
            Fernet(key)
        except (ValueError, TypeError) as error:
            raise ValueError(
                "each key must be 32 bytes in URL-safe base64; make one with `scoreboard keys rotate`"
            ) from error
    return keys


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        # A pattern, or one with a path, would let in other sites than it seems to, or none.
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin):
            raise ValueError(
                f"each must be scheme, host and port as browsers send them (https://a.example): {origin!r}"
            )
    return origins


Rate = Annotated[str, AfterValidator(_check_rate)]
PostgresUrl = Annotated[str, AfterValidator(setting_values.postgres_url)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class SettingsError(Exception):
    """One or more settings are wrong; the message names each, a line apiece."""


class Settings(BaseSettings):
    """All settings; each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore", frozen=True, env_ignore_empty=True)

    # Servers. Unset means: `scoreboard run` starts its own, and writes their addresses into SCOREBOARD_DATA.
    database_url: PostgresUrl | None = Field(None, description="PostgreSQL 14 or later; unset: an embedded server")
    database_replica_url: PostgresUrl | None = Field(None, description="read replica for board and history reads")
    database_pooler: Literal["session", "transaction"] = Field(
        "session", description="how a pooler such as PgBouncer in front of PostgreSQL pools; session: also without one"
    )
    redis_url: RedisUrl | None = Field(None, description="Redis 7 or Valkey; unset: an embedded server")
    celery_broker_url: RedisUrl | None = Field(None, description="Celery broker; default REDIS_URL")
    bind: Annotated[Words, AfterValidator(setting_values.bind_addresses)] = Field(
        (), description="addresses the web server listens on; unset: this machine only, in production all IPv4"
    )
    port: int = Field(8000, ge=1, le=65535, description="port the web server listens on")
    web_concurrency: int = Field(2, ge=1, le=64, description="web processes")
    worker_concurrency: int = Field(1, ge=1, le=64, description="processes of one Celery worker")
    database_pool_size: int = Field(10, ge=2, le=200, description="connections to PostgreSQL per process")
    max_requests_at_once: int = Field(
        200, ge=1, le=10_000, description="requests a web process works on at a time; more get 503"
    )
    scoreboard_data: Path = Field(ROOT / "var", description="folder of the embedded servers and logs")
    environment: Literal["development", "production"] = Field(
        "development", description="production refuses default secrets"
    )

    # Identity.
    jwt_secret: str | None = Field(None, min_length=32, description="HS256 secret, at least 32 characters")
    jwt_private_key: Annotated[str, AfterValidator(setting_values.private_key)] | None = Field(
        None, description="RS256 private key, PEM"
    )
    jwt_public_keys: Annotated[str, AfterValidator(setting_values.public_keys)] | None = Field(
        None, description="RS256 public keys, JSON object kid → PEM; the first signs"
    )
    jwt_access_ttl_s: int = Field(3600, ge=1, le=86_400, description="life of an access token")
    jwt_refresh_ttl_s: int = Field(604_800, ge=1, le=31_536_000, description="life of a refresh token")
    operator_token: str | None = Field(
        None, min_length=16, description="bearer token for /metrics and /health/detailed"
    )

    # Actions.
    action_token_keys: Annotated[Words, AfterValidator(_check_action_keys)] = Field(
        (), description="keys of action tokens, the current one first"
    )
    action_token_ttl_s: int = Field(300, ge=1, le=86_400, description="life of an action token")
    action_catalogue: Path | None = Field(None, description="TOML file of action types; unset: the one in the package")
    max_open_actions: int = Field(5, ge=1, le=1000, description="open action tokens per user")

    # The live stream.
    broadcast_interval_ms: int = Field(1000, ge=0, le=60_000, description="least time between two board events")
    heartbeat_s: float = Field(15, gt=0, le=300, description="time between heartbeats on a stream")
    max_streams_per_user: int = Field(5, ge=1, le=100_000, description="concurrent streams per user")
    # 300 people who watch, twice: a network that breaks leaves its streams until they are noticed to be dead.
    max_streams_per_ip: int = Field(
        600, ge=1, le=100_000, description="concurrent anonymous streams per address; ten times as many of its players"
    )
    stream_ticket_ttl_s: int = Field(60, ge=1, le=600, description="life of a stream ticket")

    # Who may call, how often.
    public_leaderboard: bool = Field(True, description="false: reading the board needs a signed-in caller")
    trusted_proxies: int = Field(0, ge=0, le=10, description="proxies in front whose forwarded headers are believed")
    trusted_proxy_header: Annotated[Literal["x-forwarded-for", "forwarded"], BeforeValidator(_lower)] = Field(
        "x-forwarded-for", description="header to which these proxies append: X-Forwarded-For or Forwarded (RFC 7239)"
    )
    cors_origins: Annotated[Words, AfterValidator(_check_origins)] = Field(
        (), description="origins of other sites whose pages may call, separated by commas"
    )
    rate_limit_login: Rate = Field("5/15 minutes", description="logins per user name and address")
    # A class of 60 who each mistype twice, and a quarter more.
    rate_limit_login_address: Rate = Field("150/15 minutes", description="failed logins per address over all names")
    rate_limit_register: Rate = Field("1000/hour", description="new accounts, tried or made, per address")
    rate_limit_refresh: Rate = Field("1000/hour", description="failed refreshes per address")
    rate_limit_request: Rate = Field("20/minute", description="action requests per user")
    rate_limit_complete: Rate = Field("1/second;10/minute;100/hour;500/day", description="completions per user")
    rate_limit_complete_flagged: Rate = Field("1/minute", description="completions of a flagged user, in addition")
    # A hundred a second, of up to 200 actions each: more than the workers of one machine settle.
    rate_limit_batch: Rate = Field("6000/minute", description="batches of finished actions per game server")
    # 300 who can only poll, every five seconds as the page does, and half as much again.
    rate_limit_read: Rate = Field("6000/minute", description="reads of board and catalogue per address, anonymous")
    rate_limit_read_user: Rate = Field("120/minute", description="the same per account, signed in")
    rate_limit_score: Rate = Field("30/minute", description="own-score reads per user")
    rate_limit_anonymous: Rate = Field(
        "1000/hour", description="all other requests of anonymous callers per address: those that need a token"
    )
    # 300 pages, each loaded or reconnected every half minute.
    rate_limit_stream: Rate = Field("3000/5 minutes", description="openings of a stream per address, anonymous")
    rate_limit_stream_user: Rate = Field("60/5 minutes", description="the same per account, signed in")

    # Watching it run.
    prometheus_multiproc_dir: Annotated[Path, AfterValidator(setting_values.metrics_folder)] | None = Field(
        None, description="folder through which processes share metrics"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    worker_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port on which a worker shows its own metrics; needs PROMETHEUS_MULTIPROC_DIR"
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(setting_values.collector_url)] | None = Field(
        None, description="OpenTelemetry collector; unset: no tracing"
    )
    sentry_dsn: Annotated[str, AfterValidator(setting_values.sentry_dsn)] | None = Field(
        None, description="Sentry project; unset: no reports"
    )

    @model_validator(mode="before")
    @classmethod
    def _strip(cls, values: object) -> object:
        """What an editor or a paste leaves around a value: spaces, a carriage return."""
        if not isinstance(values, dict):
            return values
        return {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}

    @model_validator(mode="after")
    def _check_production(self) -> Self:
        if self.environment == "production":
            missing = []
            if not (self.jwt_secret or self.jwt_private_key):
                missing.append("JWT_SECRET (or JWT_PRIVATE_KEY and JWT_PUBLIC_KEYS)")
            if not self.action_token_keys:
                missing.append("ACTION_TOKEN_KEYS")
            if not self.database_url:
                missing.append("DATABASE_URL")
            if not self.redis_url:
                missing.append("REDIS_URL")
            if missing:
                raise ValueError("production refuses to start without " + ", ".join(missing))
        if self.worker_metrics_port and not self.prometheus_multiproc_dir:
            raise ValueError("WORKER_METRICS_PORT needs PROMETHEUS_MULTIPROC_DIR")
        if bool(self.jwt_private_key) != bool(self.jwt_public_keys):
            raise ValueError("JWT_PRIVATE_KEY and JWT_PUBLIC_KEYS go together")
        if self.jwt_private_key and self.jwt_public_keys:
            setting_values.check_key_pair(self.jwt_private_key, self.jwt_public_keys)
        return self

    @classmethod
    def load(cls, **overrides: object) -> Settings:
        """Settings from the environment; ``overrides`` win. Raises SettingsError."""
        try:
            return cls(**overrides)  # type: ignore[arg-type]  # pydantic checks them
        except ValidationError as error:
            raise SettingsError("\n".join(_explain(error))) from None

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def jwt_signing_secret(self) -> str:
        """The HS256 secret in force; outside production a fixed development one."""
        return self.jwt_secret or _development_secret("jwt")

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Action token keys in force, the current one first."""
        return self.action_token_keys or (_development_action_key(),)

    @property
    def broker_url(self) -> str | None:
        """The broker in force."""
        return self.celery_broker_url or self.redis_url

    @property
    def catalogue_path(self) -> Path:
        return self.action_catalogue or ROOT / "scoreboard" / "catalogue.toml"


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        name = "_".join(str(part) for part in item["loc"][:1]).upper()
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if name else message)
    return lines


def environment_with(**values: str) -> dict[str, str]:
    """A copy of the process environment with ``values`` set, for child processes."""
    return {**os.environ, **values}
