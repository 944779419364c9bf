"""Environments as they are: proxies for everything, marks in front of files, narrow encodings, pasted spaces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from config import ROOT, environment_with
from tests.functional.client import PASSWORD, Api, data_of, new_name, register
from tests.service import Service

# Nothing listens there: whoever asks it gets no answer.
PROXY = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")


def probe(service: Service, path: str) -> int:
    return subprocess.run(
        [sys.executable, "deploy/probe.py", path, str(urlsplit(service.url).port)],
        cwd=ROOT,
        env=environment_with(**PROXY),
        capture_output=True,
        timeout=20,
        check=False,
    ).returncode


def test_the_images_health_check_asks_no_proxy(service: Service) -> None:
    assert probe(service, "/health/live") == 0
    assert probe(service, "/no/such/path") == 1


def test_a_log_edited_elsewhere_is_replayed_past_proxies_and_narrow_encodings(service: Service, tmp_path: Path) -> None:
    lines = [
        {"kind": "team", "team": "1", "name": f"Zoë 名 {new_name()}"},
        {"kind": "submission", "team": "1", "problem": "A", "atMs": 1_000, "accepted": True},
    ]
    log = tmp_path / "log.jsonl"
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    log.write_bytes(b"\xef\xbb\xbf" + text.encode())
    done = service.run("replay", str(log), "--url", service.url, PYTHONIOENCODING="latin-1", **PROXY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_is_found_with_the_spaces_that_were_pasted_around_it(service: Service) -> None:
    player = register(service.url)
    for name in (f"{player.username} ", f" \t{player.username}\u00a0"):
        body = {"username": name, "password": PASSWORD}
        assert data_of(Api(service.url).post("/v1/auth/login", body))["user"]["id"] == player.id


def test_localhost_is_reached_by_both_of_its_addresses(service: Service) -> None:
    port = urlsplit(service.url).port
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{port}/health/live", timeout=10, trust_env=False).status_code == 200
