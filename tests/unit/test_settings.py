"""Settings: their defaults, and what a wrong one says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from limits import parse_many

from config import ROOT, Settings, SettingsError, environment_with

KEY, OTHER_KEY = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2))
PRODUCTION = {
    "ENVIRONMENT": "production",
    "JWT_SECRET": "x" * 32,
    "ACTION_TOKEN_KEYS": KEY,
    "DATABASE_URL": "postgresql://db/x",
    "REDIS_URL": "redis://cache",
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load_from(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return load_from


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings.load()
    expected = {
        "port": 8000,
        "scoreboard_data": ROOT / "var",
        "environment": "development",
        "jwt_access_ttl_s": 3600,
        "jwt_refresh_ttl_s": 604_800,
        "action_token_ttl_s": 300,
        "broadcast_interval_ms": 1000,
        "heartbeat_s": 15,
        "public_leaderboard": True,
        "trusted_proxies": 0,
        "max_streams_per_user": 5,
        "max_streams_per_ip": 600,
        "database_url": None,
        "database_replica_url": None,
        "redis_url": None,
        "broker_url": None,
        "cors_origins": (),
        "is_production": False,
        "catalogue_path": ROOT / "scoreboard" / "catalogue.toml",
    }
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("login", ["5 per 15 minute"]),
        ("login_address", ["150 per 15 minute"]),
        ("register", ["1000 per 1 hour"]),
        ("refresh", ["1000 per 1 hour"]),
        ("request", ["20 per 1 minute"]),
        ("complete", ["1 per 1 second", "10 per 1 minute", "100 per 1 hour", "500 per 1 day"]),
        ("complete_flagged", ["1 per 1 minute"]),
        ("read", ["6000 per 1 minute"]),
        ("read_user", ["120 per 1 minute"]),
        ("score", ["30 per 1 minute"]),
        ("anonymous", ["1000 per 1 hour"]),
        ("stream", ["3000 per 5 minute"]),
        ("stream_user", ["60 per 5 minute"]),
    ],
)
def test_the_default_limits_are_those_of_the_contract(name: str, limits: list[str]) -> None:
    assert [str(item) for item in parse_many(getattr(Settings.load(), f"rate_limit_{name}"))] == limits


def test_the_development_secrets_are_stable_and_of_their_purpose() -> None:
    one, other = Settings.load(), Settings.load()
    assert one.jwt_signing_secret == other.jwt_signing_secret
    assert len(one.jwt_signing_secret) >= 32
    assert one.action_keys == other.action_keys
    assert one.action_keys[0] != one.jwt_signing_secret
    Fernet(one.action_keys[0])


def test_a_setting_comes_from_the_variable_of_its_name(load: Any) -> None:
    settings = load(PORT="9000", PUBLIC_LEADERBOARD="false", HEARTBEAT_S="0.5", SCOREBOARD_DATA="/srv/x")
    assert (settings.port, settings.public_leaderboard, settings.heartbeat_s) == (9000, False, 0.5)
    assert settings.scoreboard_data == Path("/srv/x")


def test_an_empty_variable_is_an_unset_one(load: Any) -> None:
    settings = load(PORT="", DATABASE_URL="", JWT_SECRET="", ACTION_TOKEN_KEYS="")
    assert (settings.port, settings.database_url, settings.jwt_secret) == (8000, None, None)


def test_what_an_editor_leaves_around_a_value_is_no_part_of_it(load: Any) -> None:
    settings = load(PORT="9000\r", ENVIRONMENT=" development\r\n", REDIS_URL="redis://cache \r")
    assert (settings.port, settings.environment, settings.redis_url) == (9000, "development", "redis://cache")


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert Settings.load(port=9001).port == 9001


@pytest.mark.parametrize(
    "raw", ["postgres://u:p@db/x?sslmode=require", "postgresql://u:p@db/x?sslmode=require",
            "postgresql+psycopg2://u:p@db/x?sslmode=require"]
)  # fmt: skip
def test_every_spelling_of_a_postgres_address_is_accepted(load: Any, raw: str) -> None:
    settings = load(DATABASE_URL=raw, DATABASE_REPLICA_URL=raw)
    assert settings.database_url == "postgresql+psycopg2://u:p@db/x?sslmode=require" == settings.database_replica_url


@pytest.mark.parametrize(
    "raw",
    [
        "postgresql:///x?host=a:1&host=b:2&target_session_attrs=read-write",
        "postgresql:///x?host=/run/postgresql&port=6432",
        "postgresql://u:p%40%2F@[::1]:5433/x?connect_timeout=5",
        "postgresql://u@db/x?hostaddr=192.0.2.1",
    ],
)
def test_what_libpq_takes_is_accepted(load: Any, raw: str) -> None:
    assert load(DATABASE_URL=raw).database_url == raw.replace("postgresql://", "postgresql+psycopg2://")


def test_the_broker_is_redis_unless_it_is_named(load: Any) -> None:
    assert load(REDIS_URL="rediss://cache:6379/0").broker_url == "rediss://cache:6379/0"
    assert load(CELERY_BROKER_URL="redis://broker").broker_url == "redis://broker"


def test_lists_are_split_at_commas_and_spaces(load: Any) -> None:
    settings = load(CORS_ORIGINS="https://a.example, https://b.example  https://c.example,", ACTION_TOKEN_KEYS=KEY)
    assert settings.cors_origins == ("https://a.example", "https://b.example", "https://c.example")
    assert settings.action_keys == (KEY,)


def test_several_action_keys_keep_their_order(load: Any) -> None:
    assert load(ACTION_TOKEN_KEYS=f"{OTHER_KEY},{KEY}").action_keys == (OTHER_KEY, KEY)


@pytest.mark.parametrize("rate", ["5/minute", "5 per 15 minutes", "1/second;10/minute", "5/15 minutes; 50/day"])
def test_the_rate_notation_is_flask_limiters(load: Any, rate: str) -> None:
    assert load(RATE_LIMIT_LOGIN=rate).rate_limit_login == rate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("WEB_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "0"),
        ("DATABASE_POOL_SIZE", "1"),
        ("DATABASE_URL", "mysql://db/x"),
        ("DATABASE_URL", "db"),
        ("DATABASE_REPLICA_URL", "sqlite:///x"),
        ("REDIS_URL", "http://cache"),
        ("REDIS_URL", "cache:6379"),
        ("REDIS_URL", "redis://["),
        ("ENVIRONMENT", "staging"),
        ("JWT_SECRET", "x" * 31),
        ("JWT_ACCESS_TTL_S", "0"),
        ("JWT_REFRESH_TTL_S", "-1"),
        ("OPERATOR_TOKEN", "short"),
        ("ACTION_TOKEN_KEYS", "not-a-key"),
        ("ACTION_TOKEN_KEYS", f"{KEY},{KEY[:-4]}"),
        ("ACTION_TOKEN_KEYS", "ключ"),
        ("ACTION_TOKEN_TTL_S", "0"),
        ("MAX_OPEN_ACTIONS", "0"),
        ("BROADCAST_INTERVAL_MS", "-1"),
        ("HEARTBEAT_S", "0"),
        ("HEARTBEAT_S", "nan"),
        ("HEARTBEAT_S", "inf"),
        ("MAX_STREAMS_PER_USER", "0"),
        ("MAX_STREAMS_PER_IP", "0"),
        ("STREAM_TICKET_TTL_S", "0"),
        ("PUBLIC_LEADERBOARD", "perhaps"),
        ("TRUSTED_PROXIES", "-1"),
        ("RATE_LIMIT_LOGIN", "often"),
        ("RATE_LIMIT_REQUEST", "10"),
        ("RATE_LIMIT_COMPLETE", "1/second;"),
        ("RATE_LIMIT_COMPLETE_FLAGGED", "-1/minute"),
        ("RATE_LIMIT_READ", "1/fortnight"),
        ("RATE_LIMIT_SCORE", "x 1/minute"),
        ("RATE_LIMIT_ANONYMOUS", "1/minute and more"),
        ("RATE_LIMIT_STREAM", "30/minutely/"),
        ("LOG_LEVEL", "LOUD"),
        ("CELERY_BROKER_URL", "nonsense"),
        ("DATABASE_URL", "postgresql://db/x?no_such_option=1"),
        ("DATABASE_URL", "postgresql://db/x?sslmode=banana"),
        ("DATABASE_URL", "postgresql://db:99999/x"),
        ("DATABASE_URL", "postgresql:///x?host=a&host=b&port=1,2,3"),
        ("DATABASE_REPLICA_URL", "postgresql://db/x?target_session_attrs=writable"),
        ("DATABASE_POOLER", "statement"),
        ("BIND", "localhost:8000"),
        ("BIND", "1.2.3"),
        ("PROMETHEUS_MULTIPROC_DIR", "/nowhere/at/all"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[x"),
        ("SENTRY_DSN", "not a dsn"),
        ("SENTRY_DSN", "https://sentry.example/1"),
    ],
)
def test_a_wrong_setting_is_named_on_a_line(load: Any, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert len(line) > len(name) + 10


def test_every_wrong_setting_has_its_line(load: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load(PORT="x", REDIS_URL="x", RATE_LIMIT_READ="x")
    names = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(names) == ["PORT", "RATE_LIMIT_READ", "REDIS_URL"]


def test_production_starts_with_its_secrets(load: Any) -> None:
    settings = load(**PRODUCTION)
    assert settings.is_production
    assert (settings.jwt_signing_secret, settings.action_keys) == ("x" * 32, (KEY,))


@pytest.mark.parametrize("missing", ["JWT_SECRET", "ACTION_TOKEN_KEYS", "DATABASE_URL", "REDIS_URL"])
def test_production_refuses_to_start_without(load: Any, missing: str) -> None:
    with pytest.raises(SettingsError, match=f"production refuses to start without {missing}"):
        load(**{**PRODUCTION, missing: ""})


def test_production_names_all_that_is_missing(load: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ENVIRONMENT="production")
    for name in ("JWT_SECRET", "ACTION_TOKEN_KEYS", "DATABASE_URL", "REDIS_URL"):
        assert name in str(caught.value)


@pytest.mark.parametrize("alone", ["JWT_PRIVATE_KEY", "JWT_PUBLIC_KEYS"])
def test_the_two_keys_of_rs256_go_together(load: Any, alone: str) -> None:
    with pytest.raises(SettingsError, match="JWT_PRIVATE_KEY and JWT_PUBLIC_KEYS go together"):
        load(**{alone: {"JWT_PRIVATE_KEY": private_pem(RSA), "JWT_PUBLIC_KEYS": key_set(RSA)}[alone]})


def private_pem(key: Any, passphrase: bytes | None = None) -> str:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode())


def key_set(*keys: Any) -> str:
    pems = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in keys]
    return json.dumps({f"key {number}": pem for number, pem in enumerate(pems)})


RSA, OTHER_RSA = rsa.generate_private_key(65_537, 2048), rsa.generate_private_key(65_537, 2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
WEAK = rsa.generate_private_key(65_537, 1024)  # noqa: S505  # it is refused


def test_a_key_pair_is_accepted_on_several_lines_and_on_one(load: Any) -> None:
    for pem in (private_pem(RSA), private_pem(RSA).replace("\n", "\\n")):
        settings = load(JWT_PRIVATE_KEY=pem, JWT_PUBLIC_KEYS=key_set(RSA, OTHER_RSA))
        assert settings.jwt_private_key.strip() == private_pem(RSA).strip()


@pytest.mark.parametrize(
    ("private", "public", "name", "words"),
    [
        ("x", key_set(RSA), "JWT_PRIVATE_KEY", "not a private key in PEM"),
        (private_pem(RSA)[:-100], key_set(RSA), "JWT_PRIVATE_KEY", "not a private key in PEM"),
        (private_pem(RSA, b"secret"), key_set(RSA), "JWT_PRIVATE_KEY", "encrypted"),
        (private_pem(ELLIPTIC), key_set(RSA), "JWT_PRIVATE_KEY", "not an RSA key"),
        (private_pem(WEAK), key_set(RSA), "JWT_PRIVATE_KEY", "1024 bits"),
        (private_pem(RSA), "x", "JWT_PUBLIC_KEYS", "not JSON"),
        (private_pem(RSA), "{}", "JWT_PUBLIC_KEYS", "at least one"),
        (private_pem(RSA), "[]", "JWT_PUBLIC_KEYS", "at least one"),
        (private_pem(RSA), '{"a": 1}', "JWT_PUBLIC_KEYS", "at least one"),
        (private_pem(RSA), '{"a": "x"}', "JWT_PUBLIC_KEYS", "'a' is not a public key in PEM"),
        (private_pem(RSA), key_set(ELLIPTIC), "JWT_PUBLIC_KEYS", "not an RSA key"),
        (private_pem(RSA), key_set(OTHER_RSA, RSA), "JWT_PUBLIC_KEYS", "not the public half"),
    ],
)
def test_keys_are_tried_at_start(load: Any, private: str, public: str, name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load(JWT_PRIVATE_KEY=private, JWT_PUBLIC_KEYS=public)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")


def test_an_address_to_bind_is_written_as_a_port_may_follow(load: Any) -> None:
    assert load(BIND="127.0.0.2, ::,[::1]").bind == ("127.0.0.2", "[::]", "[::1]")


def test_settings_do_not_change() -> None:
    settings = Settings.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # that it is refused is the point


def test_child_processes_get_our_environment_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://ours")
    environment = environment_with(PORT="1")
    assert (environment["REDIS_URL"], environment["PORT"]) == ("redis://ours", "1")
    assert environment_with(REDIS_URL="redis://theirs")["REDIS_URL"] == "redis://theirs"
