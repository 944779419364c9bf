"""Write a CycloneDX bill of materials of what a deployment installs, and check its licences.

Versions and licences are what is installed, hashes are those of the lock file, any one of which pip lets in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from supply.audit import DEPLOYED, ROOT, canonical, pinned

MAKE_WAIT_S = 120  # takes a few seconds
ASKED = "requirements/service.in"
_ASKED = re.compile(r"^[A-Za-z0-9._-]+", re.MULTILINE)
# Licences under which we may run and pass on unchanged packages beside our own code. The LGPL and MPL ask for the
# source of changes to the packages themselves, and we make none.
ACCEPTED = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense", "ZPL-2.1"),
    *("LGPL-3.0-or-later", "MPL-2.0"),
}
# How packages that don't use SPDX's names put it.
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0-or-later",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Packages whose metadata name none, with what the licence file beside them says.
READ_BY_HAND = {"protobuf": "BSD-3-Clause"}


def merge(installed: dict[str, Any], locked: Mapping[str, Any], direct: Collection[str] = ()) -> dict[str, Any]:
    """The bill of what is installed with the hashes of the lock file and the licences that were read by hand.

    ``direct`` names the packages that the application itself asks for.
    """
    hashes = {canonical(part["name"]): part["externalReferences"] for part in locked["components"]}
    for part in installed["components"]:
        name = canonical(part["name"])
        part.setdefault("externalReferences", []).extend(hashes[name])
        if not part.get("licenses") and name in READ_BY_HAND:
            part["licenses"] = [{"license": {"id": READ_BY_HAND[name], "acknowledgement": "concluded"}}]
    used = sorted(part["bom-ref"] for part in installed["components"] if canonical(part["name"]) in direct)
    for node in installed.get("dependencies", []):
        if node["ref"] == installed["metadata"]["component"]["bom-ref"]:
            node["dependsOn"] = used
    return installed


def problems(bill: Mapping[str, Any], wanted: Mapping[str, str]) -> list[str]:
    """What is wrong with a bill: packages missing or of another version, without a hash, under another licence."""
    found = {canonical(part["name"]): part for part in bill["components"]}
    lines = [f"{name} {wanted[name]} is locked, but not in the bill" for name in wanted if name not in found]
    for name, part in found.items():
        if wanted.get(name) != part["version"]:
            lines.append(f"{name} {part['version']} is installed, locked is {wanted.get(name)}")
        if not any(reference.get("hashes") for reference in part.get("externalReferences", [])):
            lines.append(f"{name} has no hash")
        strange = licences(part) - ACCEPTED
        if strange or not licences(part):
            lines.append(f"{name} is under {', '.join(sorted(strange)) or 'no stated licence'}")
    return lines


def licences(part: Mapping[str, Any]) -> set[str]:
    """All licences that a component names, those of which one may be chosen too."""
    named: set[str] = set()
    for entry in part.get("licenses", []):
        licence = entry.get("license", {})
        text = entry.get("expression") or licence.get("id") or licence.get("name")
        text = CLASSIFIERS.get(text, text)
        named.update(word.strip() for word in re.split(r"[()]|\bAND\b|\bOR\b", text) if word.strip())
    return named


def make_bill(*arguments: str) -> dict[str, Any]:
    """One bill by cyclonedx-py."""
    # It warns that the application has no dependencies; those are filled in afterwards.
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", *arguments, "--output-reproducible"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=MAKE_WAIT_S, check=True, cwd=ROOT)
    bill: dict[str, Any] = json.loads(answer.stdout)
    return bill


def schema_error(text: str) -> str | None:
    """What keeps a text from being CycloneDX 1.6; None when it is."""
    # Only the tools' environment has it; the rest of this module is tested without.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return str(error) if error else None


def main(environment: str, target: str) -> int:
    """Write the bill of an environment made from the lock file; 1 when something about it is wrong."""
    installed = make_bill("environment", "--pyproject", "pyproject.toml", environment)
    direct = {canonical(name) for name in _ASKED.findall((ROOT / ASKED).read_text(encoding="utf-8"))}
    bill = merge(installed, make_bill("requirements", DEPLOYED), direct)
    text = json.dumps(bill, indent=1, ensure_ascii=False) + "\n"
    lines = problems(bill, pinned((ROOT / DEPLOYED).read_text(encoding="utf-8")))
    if error := schema_error(text):
        lines.append(f"not valid CycloneDX 1.6: {error}")
    Path(target).write_text(text, encoding="utf-8")
    print(*lines, f"{target}: {len(bill['components'])} components, {len(lines)} problems", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
