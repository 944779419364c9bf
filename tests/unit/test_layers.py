"""The layers' imports: nothing points back up, and only config.py reads the environment."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from config import ROOT

# Helpers of every process: logs, metrics, tracing, the version.
SHARED = {
    "scoreboard",
    "scoreboard.coalesce",
    "scoreboard.logs",
    "scoreboard.metrics",
    "scoreboard.metric_values",
    "scoreboard.scheduling",
    "scoreboard.tracing",
}
# What the settings are checked by, and what is made of them.
NOTATIONS = {"scoreboard.redis_url", "scoreboard.setting_values"}
# The start of the processes that serve.
START = {"scoreboard.start", "scoreboard.listening"}
BELOW_WEB = {
    *("scoreboard.services", "scoreboard.store", "scoreboard.live", "scoreboard.wire", "scoreboard.domain", "config"),
    *SHARED,
}
# Layer → what of this project it may import, itself understood.
ALLOWED: dict[str, set[str]] = {
    "config": NOTATIONS,
    "scoreboard.redis_url": set(),
    "scoreboard.setting_values": set(),
    "scoreboard.listening": {"config"},
    "scoreboard.start": {"config", "scoreboard.listening", "scoreboard.services"},
    "scoreboard.domain": set(),
    "scoreboard.wire": {"scoreboard.domain"},
    "scoreboard.store": {"scoreboard.domain"},
    "scoreboard.live": {"scoreboard.domain", "scoreboard.wire", *NOTATIONS},
    "scoreboard.services": {
        *("scoreboard.store", "scoreboard.live", "scoreboard.domain", "scoreboard.wire", "scoreboard.coalesce"),
    },
    "scoreboard.web": BELOW_WEB,
    "scoreboard.cli": {*BELOW_WEB, *START, "scoreboard.local", "scoreboard.replay", "app"},
    "scoreboard.local": {"config", *NOTATIONS},
    "scoreboard.replay": set(),
    # A caller that waited for too long is refused in the domain's words.
    "scoreboard.coalesce": {"scoreboard.domain"},
    "scoreboard.logs": {"config"},
    "scoreboard.metrics": {"scoreboard.metric_values"},
    "scoreboard.metric_values": set(),
    "scoreboard.scheduling": set(),
    "scoreboard.tracing": {"config", "scoreboard"},
    "scoreboard.__main__": {"scoreboard.cli"},
    "scoreboard": set(),
    "workers": {*BELOW_WEB, *START},
    "app": {*BELOW_WEB, "scoreboard.web"},
}
# Room of web → the rooms that it may import, itself understood. ``app.py`` may import them all.
WEB_ROOMS: dict[str, set[str]] = {
    "api": set(),
    "server": {"api"},
    "door": {"api"},
    "static_files": set(),
    "bootstrap": {"door", "server"},
    "application": {"api", "door", "static_files"},
    "views": {"api", "door", "server", "bootstrap", "static_files"},
}
# Third parties that stay where they belong: package → layers and modules that may import it.
HOMES: dict[str, set[str]] = {
    "gevent": {"scoreboard.web"},
    "psycogreen": {"scoreboard.web"},
    # Tracing instruments Flask and Celery, so it names them.
    "flask": {"scoreboard.web", "app", "scoreboard.cli.seed", "scoreboard.tracing"},
    "flask_jwt_extended": {"scoreboard.web"},
    "flask_limiter": {"scoreboard.web"},
    "flask_sse": {"scoreboard.web"},
    "flask_cors": {"scoreboard.web"},
    "werkzeug": {"scoreboard.web"},
    "celery": {"workers", "scoreboard.live.queue", "scoreboard.web.bootstrap", "scoreboard.tracing"},
    "psycopg2": {"scoreboard.store", "scoreboard.local", "scoreboard.setting_values"},
    "alembic": {"scoreboard.store"},
    "argon2": {"scoreboard.services.accounts.passwords"},
    "click": {"scoreboard.cli"},
    "regex": {"scoreboard.domain.characters"},
    "idna": {"scoreboard.domain.characters"},
}


@dataclass
class Module:
    """A source file: what it imports, by full names, and whether it reads the environment."""

    name: str
    path: Path
    imports: set[str] = field(default_factory=set)
    reads_environment: bool = False


@cache
def modules() -> dict[str, Module]:
    """Every module of the service, with what it imports anywhere in its text, also inside functions."""
    paths = [
        ROOT / "app.py",
        ROOT / "config.py",
        *(ROOT / "scoreboard").rglob("*.py"),
        *(ROOT / "workers").rglob("*.py"),
    ]
    found = {name_of(path): Module(name_of(path), path) for path in sorted(paths)}
    for module in found.values():
        tree = ast.parse(module.path.read_text(encoding="utf-8"))
        module.reads_environment = any(map(is_environment, ast.walk(tree)))
        module.imports = set(imported(module, tree, set(found)))
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(module: Module, tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in known else source


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package.pop()
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def is_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") == "os"


def is_within(name: str, package: str) -> bool:
    # The top package is no layer: only the module itself is meant.
    return name == package or (package != "scoreboard" and name.startswith(package + "."))


def layer_of(name: str) -> str:
    return max((layer for layer in ALLOWED if is_within(name, layer)), key=len, default="")


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in {"app", "config", "scoreboard", "workers", "tests", "benchmarks"}


def third_parties(module: Module) -> set[str]:
    tops = {name.partition(".")[0] for name in module.imports if not is_ours(name)}
    return tops - sys.stdlib_module_names


def in_layer(layer: str) -> list[Module]:
    found = [module for module in modules().values() if layer_of(module.name) == layer]
    assert found, f"{layer} has no modules: the layout has changed"
    return found


def test_every_module_belongs_to_a_layer() -> None:
    assert [module.name for module in modules().values() if not layer_of(module.name)] == []


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_is_below_it(layer: str) -> None:
    wrong = [
        f"{module.name} imports {name}"
        for module in in_layer(layer)
        for name in sorted(module.imports)
        if is_ours(name) and layer_of(name) not in {layer, *ALLOWED[layer]}
    ]
    assert wrong == []


def test_the_domain_needs_the_standard_library_only() -> None:
    needed = {module.name: third_parties(module) for module in in_layer("scoreboard.domain") if third_parties(module)}
    # Unicode's own tables, which the standard library has in part.
    assert needed == {"scoreboard.domain.characters": {"regex", "idna"}}


def test_the_replay_needs_only_a_client_and_a_progress_bar() -> None:
    needed = {each for module in in_layer("scoreboard.replay") for each in third_parties(module)}
    assert needed <= {"httpx", "tqdm"}


@pytest.mark.parametrize("package", HOMES)
def test_a_third_party_stays_where_it_belongs(package: str) -> None:
    wrong = [
        module.name
        for module in modules().values()
        if package in third_parties(module) and not any(is_within(module.name, home) for home in HOMES[package])
    ]
    assert wrong == []


def reachable(*starts: str) -> set[str]:
    """All modules that importing these brings in, packages on the way included, and third parties by top name."""
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in modules():
            waiting += modules()[name].imports
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return seen


def test_workers_reach_neither_the_web_nor_gevent() -> None:
    reached = reachable(*(module.name for module in in_layer("workers")))
    assert {"scoreboard.services.actions.settle", "scoreboard.store.engine"} <= reached
    assert not {name for name in reached if is_within(name, "scoreboard.web") or is_within(name, "app")}
    assert not reached & {"gevent", "psycogreen", "flask_limiter", "flask_sse"}


def room_of(name: str) -> str:
    """The room of web that this module lies in; a module beside the rooms is one of its own."""
    return next((room for room in WEB_ROOMS if is_within(name, f"scoreboard.web.{room}")), "")


@pytest.mark.parametrize("room", sorted(WEB_ROOMS))
def test_a_room_of_web_imports_only_the_rooms_below_it(room: str) -> None:
    here = [module for module in modules().values() if room_of(module.name) == room]
    assert here, f"there is no {room}: the layout has changed"
    wrong = [
        f"{module.name} imports {name}"
        for module in here
        for name in sorted(module.imports)
        if is_within(name, "scoreboard.web") and room_of(name) not in {room, *WEB_ROOMS[room]}
    ]
    assert wrong == []


def circles() -> list[set[str]]:
    """Modules that import each other, also over others, and for types alone."""
    known = modules()
    reached = {name: below(name) for name in known}
    return [
        {name, other}
        for name in known
        for other in reached[name]
        if name < other and other in known and name in reached[other]
    ]


def below(start: str) -> set[str]:
    """All modules that this one imports, directly or by others; packages on the way are left out."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in modules()[waiting.pop()].imports & modules().keys():
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


def test_no_modules_import_each_other() -> None:
    assert circles() == []


def test_only_the_application_puts_the_web_together() -> None:
    users = {
        module.name
        for module in modules().values()
        if any(is_within(name, "scoreboard.web") for name in module.imports)
        and layer_of(module.name) != "scoreboard.web"
    }
    assert users == {"app"}
    assert {module.name for module in modules().values() if "app" in module.imports} <= {"scoreboard.cli.seed"}


def test_only_the_settings_read_the_environment() -> None:
    assert {module.name for module in modules().values() if module.reads_environment} == {"config"}


def test_start_up_files_read_no_environment_either() -> None:
    for path in (ROOT / "deploy").rglob("*.py"):
        assert not any(map(is_environment, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))), path


@pytest.mark.parametrize("name", ["scoreboard.services.actions.settle", "scoreboard.cli.seed", "workers.tasks"])
def test_the_walk_sees_imports(name: str) -> None:
    """So that a rule that finds nothing has really looked."""
    assert any(is_ours(each) for each in modules()[name].imports)
    assert "scoreboard.replay.client" in modules()["scoreboard.replay.play"].imports
