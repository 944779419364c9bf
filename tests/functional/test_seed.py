"""``scoreboard seed``: players, sessions, tokens and the board."""

from __future__ import annotations

from pathlib import Path

import jwt

from tests.functional.client import Api, data_of, login, register
from tests.service import Service

# What COPY, SQL and JSON read as something else.
PREFIX = 'O\'Hara \\ "Ünal" \\N 龍'


def test_seeded_players_are_like_registered_ones(service: Service, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.tsv"
    arguments = ["--users", "12", "--tokens", str(tokens), "--prefix", PREFIX, "--password", "seeded, all of them"]
    done = service.run("seed", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    api = Api(service.url)
    lines = [line.split("\t") for line in tokens.read_text(encoding="utf-8").splitlines()]
    assert len({user_id for user_id, _ in lines}) == 12
    names = set()
    for user_id, token in lines:
        row = next(
            entry
            for entry in data_of(api.get(f"/v1/leaderboard/around/{user_id}"))["leaderboard"]
            if entry["userId"] == user_id
        )
        names.add(row["username"])
        own = data_of(Api(service.url, token).get("/v1/users/me/score"))
        assert (own["score"], own["rank"]) == (0, row["rank"])
    tags = {name.removeprefix(PREFIX.casefold() + "-")[:6] for name in names}
    assert len(tags) == 1
    assert names == {f"{PREFIX.casefold()}-{tags.copy().pop()}-{number:06d}" for number in range(1, 13)}
    assert login(service.url, names.pop(), "seeded, all of them").access_token
    verified = service.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_a_seeded_token_is_made_like_any_other(service: Service, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.tsv"
    assert service.run("seed", "--users", "2", "--tokens", str(tokens)).returncode == 0
    seeded = [line.split("\t")[1] for line in tokens.read_text(encoding="utf-8").splitlines()]
    usual = register(service.url).access_token
    assert all(jwt.get_unverified_header(each) == jwt.get_unverified_header(usual) for each in seeded)
    claims, others, expected = (jwt.decode(each, options={"verify_signature": False}) for each in (*seeded, usual))
    assert claims.keys() == expected.keys()
    own = {"sub", "sid", "jti", "csrf"}
    moments = {"iat", "nbf", "exp"}
    assert all(claims[name] != others[name] for name in own)
    assert {name: claims[name] for name in claims.keys() - own - moments} == {
        name: expected[name] for name in expected.keys() - own - moments
    }
    assert claims["exp"] - claims["iat"] == expected["exp"] - expected["iat"]
