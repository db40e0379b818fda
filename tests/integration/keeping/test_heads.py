"""Heads of a real store's audit chain: somebody rewrites all of it, and a head kept elsewhere shows that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.keeping.test_backup import Shell
from tests.support.home import small_site
from tests.support.keeping import back_up, put_back

from redlatch import audit
from redlatch.errors import EngineError, PassphraseNeeded
from redlatch.operations import devices, heads, notices
from redlatch.operations.heads import HeadMismatch
from redlatch.operations.site import Site
from redlatch.pki.keys import load_private_key, private_key_pem


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = small_site(tmp_path)
    with closing(made.store):
        devices.add(made, "Phone")
        devices.add(made, "Mallory's phone")
        yield made


def rewrite(path: Path, *, without: str = "", upto: int = 10**9) -> None:
    """What who owns the machine can do: events changed or cut off, every hash made anew, the recorded end too."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        uuid = db.execute("SELECT uuid FROM site").fetchone()[0]
        db.execute("DELETE FROM audit WHERE seq > ?", (upto,))
        last, seq = audit.genesis(uuid), 0
        for seq, at, actor, kind, data in db.execute("SELECT seq, at, actor, kind, data FROM audit").fetchall():
            said = json.loads(data)
            if without and said.get("name") == without:
                said["name"] = "A lamp"
            event = audit.Event(seq, datetime.fromtimestamp(at, UTC), actor, kind, said)
            last = audit.chain_hash(last, event)
            db.execute(
                "UPDATE audit SET data = ?, hash = ? WHERE seq = ?", (audit.canonical_json(said), last, seq)
            )
        db.execute("UPDATE site SET audit_seq = ?, audit_hash = ?", (seq, last))


def verified(site: Site) -> bool:
    with site.store.read() as view:
        return view.verify_audit().ok


def test_a_chain_that_was_rewritten_whole_is_found_by_a_head_only(site: Site) -> None:
    """Plain --verify says whole; the head says rewritten. Heads of before the change still fit."""
    early = heads.note(site)
    devices.add(site, "Another")
    note = heads.note(site)
    assert heads.check(site, note).outcome == audit.CONTAINED
    rewrite(site.settings.database)
    assert heads.check(site, note).outcome == audit.CONTAINED  # made anew of the same events it is the same
    rewrite(site.settings.database, without="Another")
    assert verified(site)
    with pytest.raises(HeadMismatch, match=f"rewritten: event {note.seq}"):
        heads.check(site, note)
    assert heads.check(site, early).outcome == audit.CONTAINED
    rewrite(site.settings.database, upto=early.seq - 1)
    assert verified(site)
    with pytest.raises(HeadMismatch, match="shorter"):
        heads.check(site, note)


def test_a_head_of_later_events_holds_for_all_before(site: Site) -> None:
    """Old events rewritten: every head since then shows it."""
    note = heads.note(site)
    rewrite(site.settings.database, without="Mallory's phone")
    assert verified(site)
    with pytest.raises(HeadMismatch, match="rewritten"):
        heads.check(site, note)


def test_a_signature_says_that_this_site_said_so(site: Site, tmp_path: Path) -> None:
    """Good for the head that was signed; for a changed one, or of another site's CA, it is not."""
    note = heads.note(site, sign=True)
    assert heads.check(site, audit.parse_head(note.text)).outcome == audit.CONTAINED
    with pytest.raises(HeadMismatch, match="signature"):
        heads.check(site, replace(note, seq=note.seq - 1))
    with pytest.raises(HeadMismatch, match="signature"):
        heads.check(site, replace(note, signature=note.signature[:-1] + bytes([note.signature[-1] ^ 1])))
    (tmp_path / "other").mkdir()
    other = small_site(tmp_path / "other")
    with closing(other.store):
        foreign = heads.note(other, sign=True)
        with pytest.raises(HeadMismatch, match="another site's"):
            heads.check(site, foreign)
        with pytest.raises(HeadMismatch, match="signature"):
            heads.check(site, replace(note, signature=foreign.signature))


def test_a_key_under_a_passphrase_signs_when_it_is_given(site: Site) -> None:
    """Unasked, as in the daily refresh, the head goes out unsigned."""
    with site.store.read() as view:
        path = site.settings.keys / view.authorities("device")[-1].key_file
    path.write_bytes(private_key_pem(load_private_key(path.read_bytes()), b"secret"))
    with pytest.raises(PassphraseNeeded):
        heads.note(site, sign=True)
    assert heads.note(replace(site, passphrase=lambda: b"secret"), sign=True).signature
    assert heads.note_unasked(replace(site, passphrase=lambda: pytest.fail("nobody is asked"))).signature == b""


def test_a_restored_site_explains_heads_of_the_time_that_is_lost(site: Site, tmp_path: Path) -> None:
    """A rollback by restoring is visible: the head of before does not fit, and the answer names the event."""
    data = back_up(site)
    devices.add(site, "Lost")
    note = heads.note(site)
    back = put_back(data, tmp_path / "new")
    with closing(back.store):
        with pytest.raises(HeadMismatch, match="shorter"):
            heads.check(back, note)
        for number in range(3):
            devices.add(back, f"New {number}")
        with pytest.raises(HeadMismatch) as caught:
            heads.check(back, note)
        assert "restored from a backup" in caught.value.hint


def test_it_goes_out_with_the_daily_refresh_where_that_was_asked_for(site: Site, tmp_path: Path) -> None:
    """To the command, signed, as the line that --head prints; and nothing where nobody asked."""
    program = tmp_path / "tell"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/said; exit $(cat {tmp_path}/code)\n")
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    notices.configure(site, command=str(program), webhook=None)
    assert notices.send_head(site) is None
    notices.configure(site, command=str(program), webhook=None, audit_head=True)
    assert notices.send_head(site) is not None
    said = json.loads((tmp_path / "said").read_text())
    assert said["event"] == "audit-head"
    note = audit.parse_head((tmp_path / "said").read_text())
    assert note == replace(heads.note(site), signature=note.signature)
    assert note.signature
    assert heads.check(site, note).outcome == audit.CONTAINED
    (tmp_path / "code").write_text("3")
    with pytest.raises(EngineError):
        notices.send_head(site)


def test_the_command_prints_and_compares(tmp_path: Path) -> None:
    """As text, as a file and on standard input; what does not fit ends with 1, what is no head with 2."""
    shell = Shell(tmp_path)
    line = shell.run("audit", "--head", "--sign").stdout.decode().strip()
    assert json.loads(shell.run("audit", "--head", "--json").stdout)["text"] == line.rsplit(" signed:", 1)[0]
    (tmp_path / "note.txt").write_text(f"printed in November:\n{line}\n")
    for told in (line, "note.txt"):
        done = shell.run("audit", "--verify", "--head", told, "--json")
        assert (done.returncode, json.loads(done.stdout)["signed"]) == (0, True), done.stderr
    digits = line.split()[4][:8]
    wrong = line.rsplit(" signed:", 1)[0].replace(digits, "0" * 8, 1)
    done = shell.run("audit", "--verify", "--head", wrong, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "head-mismatch")
    for words in (["--verify", "--head", "redlatch-head/1"], ["--head", line], ["--sign"], ["--verify", "--head"]):
        assert shell.run("audit", *words).returncode == 2
    assert shell.run("audit", "--verify", "--head", "missing.txt").returncode == 1


def test_a_head_is_of_the_future_for_nobody(site: Site) -> None:
    """Its time is its event's; with another one it is not that event's head."""
    note = heads.note(site)
    with pytest.raises(HeadMismatch):
        heads.check(site, replace(note, at=note.at + timedelta(days=1)))
