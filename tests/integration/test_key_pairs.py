"""Access tokens signed with a private key, checked with public ones by their ids."""

from __future__ import annotations

import json
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient

from app import create_app
from config import Settings
from scoreboard.local import LocalServers


def key_pair() -> tuple[str, str]:
    """A private and its public key, PEM."""
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private_pem.decode(), public_pem.decode()


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return [key_pair(), key_pair()]


def client_of(servers: LocalServers, database_url: str, private_key: str, public_keys: dict[str, str]) -> FlaskClient:
    settings = Settings.load(
        database_url=database_url,
        redis_url=servers.redis_url,
        jwt_private_key=private_key,
        jwt_public_keys=json.dumps(public_keys),
    )
    return create_app(settings).test_client()


def sign_up(client: FlaskClient) -> str:
    name = f"keyed {uuid4().hex[:8]}"
    body = {"username": name, "email": f"{name[6:]}@example.org", "password": "a long enough pass phrase"}
    answer = client.post("/v1/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json["data"]["accessToken"]) if answer.json else ""


def status(client: FlaskClient, token: str) -> int:
    return client.get("/v1/users/me/score", headers={"Authorization": f"Bearer {token}"}).status_code


def test_tokens_outlive_a_rotation_and_name_their_key(
    local_servers: LocalServers, database_url: str, pairs: list[tuple[str, str]]
) -> None:
    (old_private, old_public), (new_private, new_public) = pairs
    before = client_of(local_servers, database_url, old_private, {"old": old_public})
    token = sign_up(before)
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": "old", "typ": "JWT"}
    after = client_of(local_servers, database_url, new_private, {"new": new_public, "old": old_public})
    assert status(after, token) == 200
    assert jwt.get_unverified_header(sign_up(after))["kid"] == "new"
    assert status(client_of(local_servers, database_url, new_private, {"new": new_public}), token) == 401


def test_another_key_or_algorithm_opens_nothing(
    local_servers: LocalServers, database_url: str, pairs: list[tuple[str, str]]
) -> None:
    (private, public), (foreign, _) = pairs
    client = client_of(local_servers, database_url, private, {"ours": public})
    token = sign_up(client)
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = [
        jwt.encode(claims, foreign, "RS256", {"kid": "ours"}),
        jwt.encode(claims, private, "RS256", {"kid": "unknown"}),
        jwt.encode(claims, private, "RS256"),
        jwt.encode(claims, "public keys are known to all, and no secret", "HS256", {"kid": "ours"}),
        jwt.encode(claims, "", "none", {"kid": "ours"}),
    ]
    assert [status(client, each) for each in forged] == [401] * len(forged)
    assert status(client, token) == 200
