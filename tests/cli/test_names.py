"""DNS names in networks, looked up by this machine's own resolver: its hosts file stands for the name servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.harness import AS_SOMEBODY, Person

# In a mount namespace of its own, in which /etc/hosts is the test's.
ALONE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
AGAIN = AS_SOMEBODY or ["unshare", "--user", f"--map-user={os.geteuid()}"]


def run(person: Person, hosts: Path, *arguments: str) -> dict[str, Any]:
    call = [*AGAIN, sys.executable, "-m", "redlatch", *arguments, "--json"]
    done = subprocess.run(
        [*ALONE, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, *call],
        cwd=person.cwd, env=person.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_names_are_what_the_resolver_says(tmp_path: Path) -> None:
    """Both families; not this machine itself; refused when it does not resolve; followed when it changes."""
    person = Person.create(tmp_path)
    assert person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase").returncode == 0
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "127.0.0.1 localhost\n203.0.113.7 ada.example.org\n2001:db8::7 ada.example.org\n"
        "127.0.1.1 here.example.org\n203.0.113.8 here.example.org\n"
    )
    added = run(person, hosts, "network", "add", "away", "ada.example.org # Ada", "here.example.org")
    assert {one["name"]: one["addresses"] for one in added["names"]} == {
        "ada.example.org": ["203.0.113.7", "2001:db8::7"],
        "here.example.org": ["203.0.113.8"],
    }
    refused = run(person, hosts, "network", "add", "away", "bob.example.org")
    assert refused["error"]["code"] == "not-found"
    assert "bob.example.org does not resolve" in refused["error"]["message"]
    hosts.write_text("127.0.0.1 localhost\n203.0.113.9 ada.example.org\n203.0.113.8 here.example.org\n")
    assert run(person, hosts, "network", "resolve")["changes"] == ["ada.example.org in away: 203.0.113.9"]
    assert run(person, hosts, "refresh")["changes"] == []
    shown = run(person, hosts, "network", "list", "away")["networks"][0]
    assert shown["names"][0]["addresses"] == ["203.0.113.9"]
    assert shown["names"][0]["failing_since"] is None
    hosts.write_text("127.0.0.1 localhost\n203.0.113.8 here.example.org\n")
    done = run(person, hosts, "refresh")
    assert done["changes"] == ["ada.example.org in away does not resolve"]
    warnings = run(person, hosts, "status")["warnings"]
    assert any(text.startswith("ada.example.org in the network away does not resolve since") for text in warnings)
