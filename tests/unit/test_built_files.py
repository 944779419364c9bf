"""What the pages load is built from the sources beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from flask import Flask

from frontend.build import BUILT, FRONTEND, STATIC, build, digest
from scoreboard.web.static_files import StaticFiles

STALE = "the browser's files changed since they were built: run `make assets`"


def test_the_built_files_are_those_of_the_sources() -> None:
    manifest = json.loads((BUILT / "manifest.json").read_text(encoding="utf-8"))
    found = {name: digest(STATIC / name) if (STATIC / name).is_file() else None for name in manifest["sources"]}
    assert found == manifest["sources"], STALE


def test_building_anew_brings_the_very_same_files(tmp_path: Path) -> None:
    require_frontend_tools()
    build(tmp_path)

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert contents(tmp_path) == contents(BUILT), STALE


def require_frontend_tools() -> None:
    """Skip where npm's packages were not installed; in CI that is a mistake."""
    if (FRONTEND / "node_modules" / ".installed").is_file():
        return
    if os.environ.get("CI"):
        pytest.fail("run `make frontend/node_modules/.installed` first")
    pytest.skip("needs npm: make frontend/node_modules/.installed")


def test_an_edited_source_is_what_a_page_in_development_loads(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(STATIC, folder)
    site = Flask("site", static_folder=str(folder))
    development, production = (StaticFiles(folder, is_production=each) for each in (False, True))
    with site.test_request_context():
        built = production.url("page.js")
        assert built.startswith("/static/built/page-")
        assert development.url("page.js") == built
        module = development.send("scoreboard.js").get_data()
        (folder / "scoreboard" / "client.js").write_text("export const edited = true;\n", encoding="utf-8")
        assert development.url("page.js") == "/static/page.js"
        assert development.send("scoreboard.js").get_data() == (folder / "scoreboard.js").read_bytes() != module
        assert production.url("page.js") == built
        assert production.send("scoreboard.js").get_data() == module
