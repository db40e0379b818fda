"""Without root: the keys belong to the user as whom flows run, and only a passphrase keeps them apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.harness import Person


@pytest.mark.parametrize("protected", [True, False])
def test_keys_without_a_passphrase_are_found(tmp_path: Path, protected: bool) -> None:
    """Found as what lets somebody in, and not where there is a passphrase."""
    person = Person.create(tmp_path)
    word = tmp_path / "word"
    word.write_text("correct horse battery\n")
    word.chmod(0o600)
    options = [] if protected else ["--no-passphrase"]
    up = person.run("up", "--user-dir", "node-red", "--yes", *options, REDLATCH_PASSPHRASE_FILE=str(word))
    assert up.returncode == 0, up.stderr
    done = person.run("check", "--only", "keys-unprotected", "--json")
    findings = json.loads(done.stdout)["findings"]
    assert [(one["code"], one["severity"]) for one in findings] == (
        [] if protected else [("keys-unprotected", "open")]
    )
    assert done.returncode == (0 if protected else 3)
