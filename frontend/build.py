"""Builds what the pages load from the sources in scoreboard/web/static: one script, one style sheet, named by content.

``make assets`` runs it; docs/adr/0023-browser-build.md says why its output is committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent
STATIC = FRONTEND.parent / "scoreboard" / "web" / "static"
BUILT = STATIC / "built"
# Named by content, so that browsers may keep them for good.
HASHED = ("page.js", "page.css", "docs.css", "favicon.svg")
# The module for other sites: one file as well, but under an address that stays.
MODULE = "scoreboard.js"
# What browsers of 2022 understand without translation; private fields are the newest thing in the sources.
_OPTIONS = ("--bundle", "--format=esm", "--minify", "--charset=utf8", "--target=es2022,chrome100,firefox100,safari15.4")


def build(into: Path) -> None:
    """Fill a folder with the files and their manifest. Raises CalledProcessError with esbuild's own words."""
    metafile = into / "meta.json"
    sources: set[str] = set()
    files: dict[str, str] = {}
    runs = ((HASHED, "--entry-names=[name]-[hash]"), ((MODULE,), "--entry-names=[name]"))
    for entries, names in runs:
        esbuild(*entries, *_OPTIONS, names, "--loader:.svg=copy", f"--outdir={into}", f"--metafile={metafile}")
        meta = json.loads(metafile.read_text(encoding="utf-8"))
        sources |= set(meta["inputs"])
        for path, output in meta["outputs"].items():
            entry = output.get("entryPoint") or next(iter(output["inputs"]))
            files[entry] = Path(path).name
    metafile.unlink()
    digests = {name: digest(STATIC / name) for name in sorted(sources)}
    manifest = {"files": dict(sorted(files.items())), "sources": digests}
    (into / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def esbuild(*arguments: str) -> None:
    program = FRONTEND / "node_modules" / ".bin" / "esbuild"
    subprocess.run([program, "--log-level=warning", *arguments], cwd=STATIC, check=True, timeout=60)


def digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "built"
        built.mkdir()
        build(built)
        shutil.rmtree(BUILT, ignore_errors=True)
        shutil.copytree(built, BUILT)


if __name__ == "__main__":
    main()
