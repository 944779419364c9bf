"""Traces and error reports, taken in by a receiver on this machine that stands where a collector and Sentry would."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from config import ROOT, environment_with
from scoreboard.local.servers import free_port
from tests.conftest import StartService
from tests.functional.client import QUICK, completion, data_of, eventually, register, registration
from tests.service import Service, start_process

# Spans wait two seconds for company; a stopping worker gives its last ones two more.
ARRIVAL_S = 30.0


class Receiver(ThreadingHTTPServer):
    """Keeps every body that is posted, unpacked, by path; answers after ``delay_s``."""

    daemon_threads = True

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.delay_s = delay_s
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_port}/1"

    def everything(self) -> bytes:
        return b"\n".join(body for _, body in self.bodies)

    def spans(self) -> list[tuple[str, Span]]:
        """Each span with the name of the service that it came from."""
        found = []
        for path, body in list(self.bodies):
            if path != "/v1/traces":
                continue
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {each.key: each.value.string_value for each in resource_spans.resource.attributes}
                assert resource["service.version"]
                assert resource["deployment.environment.name"] == "development"
                found += [
                    (resource["service.name"], span) for part in resource_spans.scope_spans for span in part.spans
                ]
        return found

    def reports(self) -> list[dict[str, Any]]:
        """The events in Sentry's envelopes: a header, then pairs of an item's header and its payload."""
        found = []
        for path, body in list(self.bodies):
            if not path.startswith("/api/1/envelope"):
                continue
            lines = body.split(b"\n")[1:]
            for header, payload in zip(lines[::2], lines[1::2], strict=False):
                if json.loads(header)["type"] == "event":
                    found.append(json.loads(payload))
        return found


class _Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.bodies.append((self.path, body))
        time.sleep(self.server.delay_s)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Says nothing."""


@contextmanager
def receiving(delay_s: float = 0.0) -> Iterator[Receiver]:
    receiver = Receiver(delay_s)
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def test_a_trace_goes_from_the_request_through_the_message_to_the_settlement(
    receiver: Receiver, start_service: StartService
) -> None:
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    body = registration()
    player = register(service.url, **body)
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    with httpx.stream(
        "GET", f"{service.url}/v1/leaderboard/stream", params={"ticket": ticket, "lastEventId": "17-abc"}, timeout=10
    ) as stream:
        assert next(stream.iter_lines())
        action = player.request_action()
        completed = completion(action)
        response = player.send(completed)
    assert data_of(response)["status"] == "applied"
    httpx.get(f"{service.url}/nowhere/{player.access_token[-12:]}", cookies={"access_token_cookie": "a-cookie-value"})

    def of_settlement() -> list[tuple[str, Span]]:
        wanted = response.headers["X-Request-ID"]
        ids = {span.trace_id for _, span in receiver.spans() if attribute(span, "scoreboard.request_id") == wanted}
        return [(name, span) for name, span in receiver.spans() if span.trace_id in ids]

    def is_whole(spans: list[tuple[str, Span]]) -> bool:
        roots, missing = parents(spans)
        return "run/scoreboard.settle" in {span.name for _, span in spans} and bool(roots) and not missing

    trace = eventually(of_settlement, is_whole, ARRIVAL_S)

    assert {name for name, _ in trace} == {"scoreboard-web", "scoreboard-worker"}
    assert [span.name for span in parents(trace)[0]] == ["POST /v1/actions/complete"]
    by_name = {span.name: (name, span) for name, span in trace}
    assert by_name["ring scoreboard.settle"][0] == "scoreboard-web"
    in_worker = {attribute(span, "db.system") for name, span in trace if name == "scoreboard-worker"}
    assert {"postgresql", "redis"} <= in_worker

    assert_says_nothing_of(
        receiver,
        [
            *(body[each] for each in ("username", "email", "password")),
            player.access_token,
            player.refresh_token,
            player.access_token[-12:],
            ticket,
            "17-abc",
            "a-cookie-value",
            action["actionToken"],
            action["proofKey"],
            completed["proof"]["checksum"],
        ],
    )
    assert_is_logged(service, trace[0][1].trace_id.hex())


def parents(spans: list[tuple[str, Span]]) -> tuple[list[Span], list[Span]]:
    """The spans without a parent, and those whose parent is none of these spans."""
    ids = {span.span_id for _, span in spans}
    roots = [span for _, span in spans if not span.parent_span_id]
    return roots, [span for _, span in spans if span.parent_span_id and span.parent_span_id not in ids]


def attribute(span: Span, name: str) -> str | None:
    return next((each.value.string_value for each in span.attributes if each.key == name), None)


def assert_says_nothing_of(receiver: Receiver, secrets: list[str]) -> None:
    sent = receiver.everything()
    assert sent
    assert [secret for secret in secrets if secret.encode() in sent] == []


def assert_is_logged(service: Service, trace_id: str) -> None:
    """The line of the request carries the trace's id."""
    lines = [line for line in service.lines if trace_id in line]
    assert any('"path":"/v1/actions/complete"' in line and '"request_id"' in line for line in lines), lines


def test_without_its_settings_nothing_of_it_is_imported() -> None:
    # redis-py imports a part of OpenTelemetry for metrics of its own, which stay off.
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.instrumentation", "sentry_sdk")
    code = (
        "import sys; from app import create_app; create_app(); import workers.tasks\n"
        f"print([name for name in sys.modules if name.startswith({(*ours, 'scoreboard.tracing.')})])"
    )
    urls = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
    unset = {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "SENTRY_DSN": ""}
    environment = environment_with(**urls, **unset)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_waiting_for_work_makes_no_spans(receiver: Receiver, start_service: StartService) -> None:
    """The hub's own reading goes on all day, in a thread that the first stream started."""
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    with httpx.stream("GET", f"{service.url}/v1/leaderboard/stream", timeout=10) as stream:
        assert next(stream.iter_lines())
        stream_spans = eventually(lambda: web_spans(receiver), lambda spans: bool(spans), ARRIVAL_S)
        time.sleep(5)
        assert len(web_spans(receiver)) == len(stream_spans)


def web_spans(receiver: Receiver) -> list[str]:
    return [span.name for name, span in receiver.spans() if name == "scoreboard-web"]


@pytest.mark.timeout(240)  # two services are started, and stopped as slowly as they may
def test_a_dead_collector_slows_nothing(start_service: StartService) -> None:
    """One that refuses and one that takes a connection and never answers."""
    with receiving(delay_s=60) as hanging:
        refusing = f"http://127.0.0.1:{free_port()}"
        services = [start_service(OTEL_EXPORTER_OTLP_ENDPOINT=url) for url in (refusing, hanging.url)]
        players = [register(service.url) for service in services]
        deadline = time.monotonic() + 9
        slowest = 0.0
        while time.monotonic() < deadline:
            for player in players:
                slowest = max(slowest, seconds(player.score_point))
                for _ in range(10):
                    slowest = max(slowest, seconds(partial(player.api.get, "/v1/leaderboard")))
            # Nine completions within ten seconds would be held as a burst.
            time.sleep(1.3)
        # At most two requests, the second waiting for its settlement; a dead collector is waited for 3 s.
        assert slowest < 2.8
        for service in services:
            complaints = [line for line in service.lines if "export" in line and "spans" in line]
            # Two web processes and one worker, once a minute each.
            assert 1 <= len(complaints) <= 3, complaints
            # Before gunicorn's graceful time-out, at which it would kill.
            assert seconds(service.stop_web) < 11


def seconds(call: Callable[[], object]) -> float:
    started_at = time.monotonic()
    call()
    return time.monotonic() - started_at


def test_errors_of_web_and_worker_are_reported_without_secrets(
    receiver: Receiver, start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(SENTRY_DSN=receiver.dsn)
    player = register(service.url)
    action = player.request_action()
    completed = completion(action)
    # A worker with another catalogue, as after half a deployment: it can't settle what web has accepted.
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(
        '[actions.ANOTHER]\ntitle = "Another"\nmin_time_ms = 0\nmax_time_ms = 1000\n'
        'points = { kind = "fixed", value = 1 }\nmetadata = { type = "object" }\n'
    )
    service.supervisor.stop()
    for name in ("worker", "beat"):
        start_process(service.supervisor, name, {**service.settings_env, "ACTION_CATALOGUE": str(catalogue)})
    player.send(completed, wait_s=None)
    [of_worker] = eventually(lambda: reports_of(receiver, "worker"), bool, ARRIVAL_S)

    assert of_worker["logentry"]["message"] == "action_failed"
    assert of_worker["tags"]["action_id"] == action["actionId"]
    assert of_worker["tags"]["task"] == "scoreboard.settle"
    assert of_worker["release"].startswith("scoreboard@")
    assert of_worker["environment"] == "development"
    [error] = of_worker["exception"]["values"]
    assert (error["type"], error["value"]) == ("LookupError", f"the catalogue has no {QUICK}")
    assert error["stacktrace"]["frames"][-1]["function"] == "_judge"

    # SQLAlchemy's errors quote the statement and its values.
    alter(service, "ALTER TABLE users ADD CONSTRAINT nothing_fits CHECK (username = '') NOT VALID")
    body = registration()
    failed = httpx.post(
        f"{service.url}/v1/auth/register?ticket=a-ticket-value&lastEventId=17-abc",
        json=body,
        headers={
            "Authorization": "Bearer a-bearer-value",
            "X-CSRF-TOKEN": "a-csrf-value",
            "Cookie": "a=a-cookie-value",
        },
    )
    assert failed.status_code == 500, failed.text
    [of_web] = eventually(lambda: reports_of(receiver, "web"), bool, ARRIVAL_S)
    assert of_web["logentry"]["message"] == "request_failed"
    assert of_web["tags"]["request_id"] == failed.headers["X-Request-ID"]
    assert of_web["request"] == {"method": "POST", "url": f"{service.url}/v1/auth/register"}
    assert of_web["exception"]["values"][-1]["type"] == "IntegrityError"

    # A task that breaks is reported by Celery's integration, not by a log line.
    alter(service, "ALTER TABLE settlements ALTER settled_at DROP DEFAULT, ALTER settled_at TYPE text")
    broken = eventually(lambda: broken_tasks(receiver), bool, ARRIVAL_S)
    assert broken[0]["tags"]["celery_task_id"]

    made_up = ["a-ticket-value", "17-abc", "a-bearer-value", "a-csrf-value", "a-cookie-value", "$argon2"]
    credentials = [body[each] for each in ("username", "email", "password")]
    of_action = [action["actionToken"], action["proofKey"], completed["proof"]["checksum"], player.access_token]
    assert_says_nothing_of(receiver, [*made_up, *credentials, *of_action])


def reports_of(receiver: Receiver, process: str) -> list[dict[str, Any]]:
    return [report for report in receiver.reports() if report["tags"].get("process") == process]


def broken_tasks(receiver: Receiver) -> list[dict[str, Any]]:
    return [
        report
        for report in reports_of(receiver, "worker")
        if report.get("exception", {}).get("values", [{}])[-1].get("mechanism", {}).get("type") == "celery"
    ]


def alter(service: Service, statement: str) -> None:
    engine = sa.create_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
