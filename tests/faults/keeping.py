"""The checks of backup, restore, heads, clocks and upgrades; each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_BACKUP = "integration/keeping/test_backup.py"
_RESTORE = "integration/keeping/test_restore.py"
_HEADS = "integration/keeping/test_heads.py"
_HEAD = "unit/test_audit_head.py"
_CLOCK = "integration/keeping/test_clock.py"
_UPGRADE = "integration/keeping/test_store_upgrade.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("names in a backup that are on the list", "operations/archive.py", "    if not most:\n", "    if False:\n", _BACKUP, "slipped_in"),
        ("plain files only in a backup", "operations/archive.py", "if header.type != tarfile.REGTYPE:", "if False:", _BACKUP, "slipped_in"),
        ("what the manifest says of each file", "operations/archive.py", 'if said != {"size": len(content), "sha256": _sha256(content)}:', "if False:", _BACKUP, "in_any_place"),
        ("a backup's audit chain", "operations/backup.py", "if not verified.ok:", "if False:", _BACKUP, "store_that_was_changed"),
        ("a backup is the one that its manifest names", "operations/backup.py", "if row.uuid != said.site or view.audit_head() != said.head:", "if False:", _BACKUP, "store_that_was_changed"),
        ("a CA's key in a backup is its own", "operations/backup.py", "    if not matches:\n", "    if False:\n", _BACKUP, "another_ones"),
        ("nothing in a store runs by itself", "store/database.py", "    if odd is not None:\n", "    if False:\n", _BACKUP, "store_that_was_changed"),
        ("a passphrase that is not guessed at once", "operations/sealing.py", "if len(passphrase) < SHORTEST_PASSPHRASE:", "if False:", _BACKUP, "passphrase_comes"),
        ("unencrypted keys go to a program", "cli/backup.py", "    if plain:\n        _check_plain(session, file)\n", "", _BACKUP, "another_program"),
        ("a site that is there", "operations/restore.py", "        if not replace_present:\n", "        if False:\n", _RESTORE, "not_touched"),
        ("a store that is in use", "operations/restore.py", "if one.samefile(database):", "if False:", _RESTORE, "in_use"),
        ("who was shut out since stays out", "operations/restore.py", "                back.append(device)\n", "                pass\n", _RESTORE, "carried_over"),
        ("links that were open", "operations/restore.py", "        tx.withdraw_link(link.id, now)\n", "        pass\n", _RESTORE, "carried_over"),
        ("above the revision of before", "operations/restore.py", "present.revision if present is not None and same else 0", "0", _RESTORE, "carried_over"),
        ("what was published after the backup", "operations/publishing.py", 'since <= found["version"] <= made.version', 'found["version"] <= made.version', _RESTORE, "not_believed"),
        ("another program runs when it was named here", "operations/restore.py", "notify = Notify(None, notify.webhook, notify.audit_head)", "pass", _RESTORE, "old_machine"),
        ("one step to the new site", "operations/restore.py", "    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), flag) != 0:", '    other.rename(f"{one}.x")\n    one.rename(other)\n    if libc is None:', _RESTORE, "while_replacing"),
        ("the site of before has its name before the exchange", "operations/restore.py", "        built.rename(kept)\n        try:\n            _exchange(kept, present)\n", "        try:\n            _exchange(built, present)\n            built.rename(kept)\n", _RESTORE, "interruption"),
        ("a site that changed meanwhile", "operations/restore.py", "if _look(database, plan.proved) != plan.present:", "if False:", _RESTORE, "while_somebody_is_asked"),
        ("a site that was made meanwhile", "operations/restore.py", "        if os.path.lexists(database):\n            raise Conflict(f\"a site was made", "        if False:\n            raise Conflict(f\"a site was made", _RESTORE, "while_somebody_is_asked"),
        ("newer than what engines were told", "operations/restore.py", "max(known, tx.site().revision, *told)", "max(known, tx.site().revision)", _RESTORE, "overtaken"),
        ("a phone is shut out without a clock", "operations/site.py", "if shuts_out and newest:", "if False:", "integration/keeping/test_clock.py", "shut_out_whatever"),
        ("a restored site that a head had seen", "audit.py", " and entry.event.at >= noted.at:", ":", _HEAD, "explanation"),
        ("the noted event is in the chain", "audit.py", "same = held == noted.hash and later in (None, noted.at)", "same = True", _HEAD, "rewritten_with_all"),
        ("a chain that is shorter", "audit.py", "    if chain.count < noted.seq:\n", "    if False:\n", _HEAD, "cut_off"),
        ("a chain that is broken has no head", "audit.py", "        return HeadCheck(BROKEN, chain, restored)\n", "        pass\n", _HEAD, "not_called_whole"),
        ("a head of another site", "audit.py", "    if noted.site != site:\n", "    if False:\n", _HEAD, "another_site"),
        ("a head's signature", "operations/heads.py", "noted.signature and not _is_signed(view, noted)", "False", _HEADS, "signature"),
        ("no statement is a certificate", "pki/statements.py", "if not statement or statement[0] == _DER_SEQUENCE:", "if False:", _HEAD, "no_certificate"),
        ("a clock behind the release", "operations/site.py", "    if now < datetime.fromisoformat(RELEASED).replace(tzinfo=UTC):\n", "    if False:\n", _CLOCK, "not_made"),
        ("a clock that jumped ahead", "operations/site.py", "if newest and now > newest[0] + CLOCK_AHEAD and not clock_is_right:", "if False:", _CLOCK, "within_reason"),
        ("a clock behind the backup", "operations/restore.py", "    if now < proved.manifest.at - timedelta(hours=1):\n", "    if False:\n", _RESTORE, "behind_restores"),
        ("the store of before an upgrade", "store/database.py", "before=before if keep else None", "before=None", _UPGRADE, "only_one"),
        ("whoever was faster has kept it", "store/database.py", "if _version(self._connection) == version:", "if True:", _UPGRADE, "two_commands"),
        ("a store of a newer redlatch", "store/database.py", "elif version.isdecimal() and int(version) > int(VERSIONS[-1]):", "elif False:", _UPGRADE, "newer_store"),
    )
]  # fmt: skip
