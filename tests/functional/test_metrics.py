"""Metrics on real processes: a full disk costs no request, and workers' counts are shown wherever the workers are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scoreboard.domain.errors import NotFound
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from tests.conftest import StartService
from tests.functional.client import Api, eventually, metric, register
from tests.service import open_folder, rerouted_service

SIZE = 64 * 1024
WELL_S = 30.0


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of its own, of the size of a few files."""
    with open_folder() as folder:
        options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=0700"]
        mounted = subprocess.run(["mount", *options, "tmpfs", str(folder)], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("this machine lets nobody mount a small file system")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Not a byte is left."""
    with (folder / "filling").open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    assert os.statvfs(folder).f_bavail == 0


def test_a_full_disk_costs_metrics_not_requests(small: Path, start_service: StartService) -> None:
    service = start_service(PROMETHEUS_MULTIPROC_DIR=str(small), WEB_CONCURRENCY="2")
    pids = service.web.pids()
    fill(small)
    api = Api(service.url)
    answers = [api.get(path) for _ in range(15) for path in ("/v1/actions/types", "/v1/leaderboard", "/nothing", "/")]
    assert {answer.status_code for answer in answers} == {200, 404}
    player = register(service.url)
    player.score_point()
    shown = api.get("/metrics")
    assert shown.status_code == 200
    assert "scoreboard_requests_total{" in shown.text
    assert metric(service.url, "scoreboard_refusals_total", code=NotFound.code) > 0
    assert service.web.pids() == pids
    assert not service.web.ended()
    # And it starts there, beside what else may lie around.
    for number, content in enumerate((b"", b"\xff" * 100, b"\0" * 100)):
        (small / "filling").unlink(missing_ok=True)
        (small / f"{number}.series").unlink(missing_ok=True)
        (small / f"{number}.series").write_bytes(content)
    fill(small)
    service.stop_web()
    service.start_web()
    assert player.score()["score"] == 1
    assert api.get("/metrics").status_code == 200


def test_counts_of_workers_on_machines_of_their_own_are_shown(start_service: StartService, tmp_path: Path) -> None:
    """None of the processes knows of a common folder, as on a host where each has a disk of its own."""
    service = start_service(PROMETHEUS_MULTIPROC_DIR="", TMPDIR=str(tmp_path))
    register(service.url).score_point()
    applied = eventually(lambda: metric(service.url, "scoreboard_settled_actions_total", state="applied"), bool, WELL_S)
    assert applied == 1
    assert metric(service.url, "scoreboard_settle_seconds_count") >= 1
    text = httpx.get(f"{service.url}/metrics").text
    assert "# HELP scoreboard_settled_actions_total " in text
    # However often it starts, web leaves one folder, and goes on with the counts in it.
    requests = metric(service.url, "scoreboard_requests_total", method="POST", route="/v1/auth/register", status="201")
    assert requests == 1
    service.stop_web()
    service.start_web()
    assert len(list(tmp_path.glob("scoreboard-metrics-*"))) == 1
    assert metric(service.url, "scoreboard_requests_total", method="POST", route="/v1/auth/register", status="201") == 1


def test_a_worker_with_a_port_shows_its_own_counts_there(local_servers: LocalServers) -> None:
    port = free_port()
    with open_folder() as folder:
        own = {"worker": {"WORKER_METRICS_PORT": str(port), "PROMETHEUS_MULTIPROC_DIR": str(folder)}}
        with rerouted_service(local_servers, {}, process_env=own) as service:
            register(service.url).score_point()
            counted = 'scoreboard_settled_actions_total{state="applied"} 1.0'
            eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/metrics").text, lambda text: counted in text, WELL_S)
            # Prometheus adds them up: they must not be in two places.
            assert metric(service.url, "scoreboard_settled_actions_total", state="applied") == 0
