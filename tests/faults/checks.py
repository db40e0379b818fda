"""What `redlatch check` must not miss, hide or tell twice; each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_RUN = "unit/checks/test_checks_run.py"
_INSIDE = "integration/checks/test_inside.py"
_TELLING = "integration/checks/test_telling.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("an effect waits for its cause", "checks/run.py", "for check in checks if causes[check.code] is None for one", "for check in checks for one", _RUN, "hidden_while"),
        ("what causes each other does not vanish", "checks/run.py", "if one in found and not set(causes_of(one, checks)) & set(found)), None)", "if one in found), None)", _RUN, "vanish"),
        ("a check that fails stops no other", "checks/run.py", "except Exception as error:", "except KeyError as error:", _RUN, "stops_nobody"),
        ("mended is what is not found again", "checks/run.py", '("it is still there" if one.key in left else "")', '""', _RUN, "mended"),
        ("a note is not wrong", "checks/run.py", "one.check.severity > Severity.NOTE", "one.check.severity >= Severity.NOTE", _RUN, "good_to_know"),
        ("a thing is told once", "checks/report.py", "if one.key not in now.told and one.code", "if one.code", _TELLING, "told_once"),
        ("what is hidden is not over", "checks/report.py", " - set(report.covered)", "", _TELLING, "not_over"),
        ("what cannot be seen now is not forgotten", "checks/report.py", "set(report.looked) - {one.check.code for one in report.unknown}\n    others", "set(report.looked)\n    others", _TELLING, "stays_in_the_report"),
        ("a report that can be read again", "checks/report.py", "if counts[one.check.code] <= _OF_ONE:", "if True:", _TELLING, "do_not_spoil"),
        ("a report that can be shown", "checks/report.py", "subject=printable(one.found.subject, _LONGEST)", "subject=one.found.subject", _TELLING, "do_not_spoil"),
        ("a web hook is a web address", "operations/notices.py", "    if not is_webhook(url):\n        raise EngineError", "    if False:\n        raise EngineError", "integration/operations/test_notices.py", "not_judged"),
        ("no link is followed when rights are mended", "files.py", "flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC\n        descriptor = os.open(path.name", "flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC\n        descriptor = os.open(path.name", "unit/test_files.py", "symlink"),
        ("a link of somebody else's leads root nowhere", "files.py", "if error.errno != errno.ELOOP or not links or not _is_trusted(place, path.name):", "if error.errno != errno.ELOOP or not links:", "unit/test_files.py", "somebody_elses"),
        ("nor does a name of somebody else's for root's file", "files.py", "if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:\n                raise FileProblem(f\"{path} is no plain file with one", "if not stat.S_ISREG(state.st_mode):\n                raise FileProblem(f\"{path} is no plain file with one", "unit/test_files.py", "somebody_elses"),
        ("nor a second name", "files.py", "and state.st_nlink == 1):\n                raise OSError(errno.EINVAL", "and True):\n                raise OSError(errno.EINVAL", "unit/test_files.py", "hard"),
        ("the report is redlatch's alone", "checks/report.py", "mode=0o600", "mode=0o644", _TELLING, "redlatch_alone"),
        ("root runs nothing that redlatch chose", "checks/telling.py", "own_user(settings) if os.geteuid() == 0 else None", "None", _TELLING, "root_runs"),
        ("a store that cannot be opened is looked at", "bootstrap.py", "store = Shut(settings.database, error)", "raise error", _INSIDE, "store-unusable"),
        ("a file of somebody else's", "checks/files.py", "if state.st_uid not in (wanted.owner.uid, 0):", "if False:", _INSIDE, "file-open-owner"),
        ("a mode that lets more people in", "checks/files.py", "elif more := _more(state, wanted):", "elif more := 0:", _INSIDE, "file-open-store"),
        ("the keys, tried as Node-RED's user", "checks/keys.py", "for path in users.reachable(user, secret):", "for path in ():", _INSIDE, "keys-in-reach"),
        ("a key is its certificate's", "checks/keys.py", "if key.public_key() != x509", "if False and x509", _INSIDE, "key-other"),
        ("what is in force is this version, not one of its number", "checks/enforcement.py", 'elif published and claim.version == published["version"] and claim.digest != expected:', "elif False:", _INSIDE, "in-force-behind-other"),
        ("a clock from before this site", "checks/clock.py", "if now < at - CLOCK_TOLERANCE]", "if now < at - CLOCK_TOLERANCE * 1000]", _INSIDE, "clock-behind-site"),
    )
]  # fmt: skip
