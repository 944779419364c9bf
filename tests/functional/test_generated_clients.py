"""Clients that others make of the service's description by generators: one plays a flow, one is type-checked."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from jsonschema import Draft202012Validator

from config import ROOT
from tests.functional.client import eventually, new_name, register
from tests.functional.contract import Schema, contract_of
from tests.service import Service

HERE = Path(__file__).parent / "generated"
# Two generators and a type checker on busy cores.
GENERATE_S = 120


@pytest.fixture(scope="module")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_bytes(httpx.get(f"{service.url}/openapi.json", timeout=10).raise_for_status().content)
    return path


def run(*command: str, cwd: Path) -> None:
    # The generators call each other by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=GENERATE_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def python_client(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("python")
    name = "generated_scoreboard"
    config = ("--config", str(ROOT / "tests/functional/generated/python.yml"))
    options = ("--output-path", str(folder / name), "--meta", "none", "--fail-on-warning", *config)
    run("openapi-python-client", "generate", "--path", str(document), *options, cwd=folder)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def module(client: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{client.__name__}.{name}")


def test_the_generated_python_client_plays_a_flow(service: Service, python_client: ModuleType) -> None:
    models = module(python_client, "models")
    anybody = python_client.Client(base_url=service.url, raise_on_unexpected_status=True)
    create = module(python_client, "api.accounts.accounts_create_account")
    body = models.Register(username=new_name("generated"), password="a long enough pass phrase")
    signed_in = create.sync(client=anybody, body=body).data
    assert create.sync(client=anybody, body=body).error.code is models.ErrorCode.USERNAME_TAKEN

    player = python_client.AuthenticatedClient(base_url=service.url, token=signed_in.access_token)
    ask = module(python_client, "api.actions.actions_request_action")
    action = ask.sync(client=player, body=models.ActionRequest(action_type="SOLVE_PROBLEM")).data
    checksum = hmac.new(action.proof_key.encode(), f"{action.action_id}:0::lap 3".encode(), hashlib.sha256).hexdigest()
    proof = models.ProofBody(completion_time=0, checksum=checksum, data="lap 3")
    completion = models.ActionCompletion(action_id=action.action_id, action_token=action.action_token, proof=proof)
    complete = module(python_client, "api.actions.actions_complete_action")
    outcome = complete.sync(client=player, body=completion, prefer="wait=10").data
    assert (outcome.status, outcome.score_increment, outcome.reason_details) == ("applied", 1, None)

    look = module(python_client, "api.actions.actions_show_action")
    assert look.sync(client=player, action_id=action.action_id).data.data == "lap 3"
    around = module(python_client, "api.leaderboard.leaderboard_show_around_me")
    rows = around.sync(client=player, radius=1).data.leaderboard
    assert signed_in.user.id in [row.user_id for row in rows]
    board = module(python_client, "api.leaderboard.leaderboard_show_top")
    first = board.sync_detailed(client=anybody)
    eventually(
        lambda: board.sync_detailed(client=anybody, if_none_match=board.sync_detailed(client=anybody).headers["ETag"]),
        lambda answer: answer.status_code == 304,
    )
    assert first.parsed.data.total_players >= 1


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generator, the type checker, the flow and the browser module's own types."""
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("npm is needed")
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "scoreboard" / "web" / "static" / "scoreboard.d.ts", folder)
    run("npm", "ci", "--no-fund", "--no-audit", "--ignore-scripts", cwd=folder)
    return folder


def test_the_generated_types_fit_what_a_site_writes(document: Path, typescript: Path) -> None:
    run("npx", "--no-install", "openapi-typescript", str(document), "--output", "api.d.ts", cwd=typescript)
    run("npx", "--no-install", "tsc", "--project", "tsconfig.json", cwd=typescript)


# -- the description itself ----------------------------------------------------------------


@pytest.fixture(scope="module")
def description(service: Service) -> Schema:
    return contract_of(service.url).document


def fields(description: Schema) -> Iterator[tuple[str, Schema]]:
    for name, schema in description["components"]["schemas"].items():
        yield from ((f"{name}.{field}", shape) for field, shape in schema.get("properties", {}).items())
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for parameter in operation["parameters"]:
                shape = {**parameter["schema"], "description": parameter["description"]}
                if "example" in parameter:
                    shape["examples"] = [parameter["example"]]
                yield f"{method} {path} {parameter['name']}", shape


def test_every_field_and_parameter_has_words_and_an_example_that_fits(service: Service, description: Schema) -> None:
    contract = contract_of(service.url)
    for name, shape in fields(description):
        assert shape.get("description"), name
        if "$ref" not in shape:
            assert shape.get("examples"), name
        for example in shape.get("examples", []):
            assert contract.problems({key: each for key, each in shape.items() if key != "examples"}, example) == [], (
                name
            )


def test_no_field_has_a_default_and_no_parameter_a_null(description: Schema) -> None:
    """Generators take a field with a default for one that is always sent, and a null for a value."""
    for name, shape in fields(description):
        if " " in name:
            assert {"type": "null"} not in shape.get("anyOf", []), name
            assert shape.get("default", ...) is not None, name
        else:
            assert "default" not in shape, name


def test_the_headers_are_described(description: Schema) -> None:
    def taken(path: str, method: str) -> set[str]:
        parameters = description["paths"][path][method]["parameters"]
        return {each["name"] for each in parameters if each["in"] == "header"}

    def given(path: str, method: str, status: str) -> set[str]:
        return set(description["paths"][path][method]["responses"][status]["headers"])

    assert description["servers"][0]["url"] == "/"
    assert taken("/v1/actions/complete", "post") == {"X-Request-ID", "Prefer", "X-CSRF-TOKEN"}
    assert taken("/v1/leaderboard/stream", "get") == {"X-Request-ID", "Last-Event-ID"}
    assert taken("/v1/leaderboard", "get") == {"X-Request-ID", "If-None-Match"}
    assert taken("/v1/admin/users/{userId}/adjust", "post") == {"X-Request-ID", "X-CSRF-TOKEN", "Idempotency-Key"}
    limits = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
    assert given("/v1/leaderboard", "get", "200") == {"X-Request-ID", "Date", "ETag", *limits}
    assert given("/v1/leaderboard", "get", "429") == {"X-Request-ID", "Date", "Retry-After", *limits}
    assert given("/v1/actions/complete", "post", "503") == {"X-Request-ID", "Date", "Retry-After"}


def test_the_answers_carry_the_headers_that_are_described(service: Service, description: Schema) -> None:
    described = description["paths"]["/v1/leaderboard"]["get"]["responses"]["200"]["headers"]
    answer = httpx.get(f"{service.url}/v1/leaderboard", timeout=10)
    assert {name for name in described if name not in answer.headers} == set()


def test_the_events_of_the_stream_are_as_described(service: Service, description: Schema) -> None:
    described = description["paths"]["/v1/leaderboard/stream"]["get"]["responses"]["200"]["content"]
    schemas = {
        name: Draft202012Validator({**shape, "components": description["components"]})
        for name, shape in described["text/event-stream"]["x-events"].items()
    }
    player = register(service.url)
    with player.stream() as stream:
        player.score_point()
        for kind in ("leaderboard:initial", "action:result", "score:update"):
            event = stream.wait_for(kind)
            assert [error.message for error in schemas[kind].iter_errors(event.json())] == [], kind
    assert {"leaderboard:update", "rank:change", "reset", "heartbeat", "refused"} <= set(schemas)
