"""What keeps people from locking themselves out, and a trial from lasting: each taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_LOCKOUT = "integration/operations/test_lockout.py"
_TRIALS = "integration/operations/test_trials.py"
_CONSOLE = "integration/service/test_console_trial.py"
_PURE = "unit/policy/test_impact.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("a change that locks out is refused", "operations/weighing.py", "if lost and not site.insist:", "if False:", _LOCKOUT, "undo"),
        ("it is judged after the change", "operations/weighing.py", "lockout.judge(before, lockout.look(site, tx))", "lockout.judge(before, before)", _LOCKOUT, "undo"),
        ("an owner is left", "policy/lockout.py", "if any(was.owner and not will.owner for was, will in pairs):", "if False:", _LOCKOUT, "undo or revoke"),
        ("somebody reaches the editor", "policy/lockout.py", "if any(was.editor and not will.editor for was, will in pairs):", "if False:", _LOCKOUT, "undo"),
        ("a certificate that ends is no owner", "operations/lockout.py", "for at in (now, now + A_WHILE)", "for at in (now, now)", _LOCKOUT, "minutes"),
        ("a rule for nobody lets nobody in", "policy/lockout.py", "reaches_editor([rule]) and holds(rule)", "reaches_editor([rule])", _PURE, "stands"),
        ("an empty network lets nobody in", "policy/lockout.py", "if not (rule.networks and empty.issuperset(rule.networks))", "if True", _LOCKOUT, "undo"),
        ("the visitor's own device", "service/context.py", "maker=maker)", "maker=None)", _CONSOLE, "whom_it_cuts"),
        ("the visitor's address", "operations/lockout.py", "address=site.maker.address", 'address="192.168.1.7"', _LOCKOUT, "acts"),
        ("a rehearsal changes nothing", "operations/weighing.py", "raise Rehearsed\n", "return\n", _LOCKOUT, "rehearsal"),
        ("beside a trial there is no other change", "operations/weighing.py", "trials.refuse_beside(tx, asked=site.trial)", "pass", _TRIALS, "beside"),
        ("a revocation is on no trial", "operations/trials.py", "if event.kind not in TRIABLE:", "if False:", _TRIALS, "revocation"),
        ("a trial ends by uptime", "operations/trials.py", "return not before[\"begun\"] <= uptime() < before[\"over\"]", "return not before[\"begun\"] <= uptime()", _TRIALS, "comes_back"),
        ("a restart ends it", "operations/trials.py", "return not before[\"begun\"] <= uptime() < before[\"over\"]", "return not uptime() < before[\"over\"]", _TRIALS, "clock"),
        ("a watcher sees the change that started it", "operations/trial_watch.py", "    _stand_in_line(site)\n", "", _TRIALS, "watcher_waits"),
        ("the next command takes it back", "bootstrap.py", "trials.settle(site)", "pass", _TRIALS, "comes_back"),
        ("the service takes it back", "service/serve.py", "                await self._settle()\n", "", "cli/test_trial.py", "killed"),
        ("kept over a new connection", "operations/trials.py", "connected <= _before(row)[\"begun\"]", "False", _CONSOLE, "new_connection"),
        ("the connection's own time", "service/origin.py", "\"since\": uptime()", "\"since\": float(\"inf\")", _CONSOLE, "new_connection"),
        ("kept by an owner", "operations/trials.py", "if maker is not None and not maker.manages:", "if False:", _TRIALS, "owner"),
        ("rules keep their numbers", "operations/trials.py", "tx.restore_rule(rule)", "tx.add_rule(rule)", _TRIALS, "comes_back"),
        ("the way back in ends the trial", "operations/emergency.py", "trials.restored(tx)", "pass", _TRIALS, "way_back"),
        ("the way back in is short", "operations/emergency.py", "if not 1 <= days <= DAYS:", "if False:", _LOCKOUT, "short"),
        ("a closed port lets nobody in", "policy/impact.py", "if by_open_port and snapshot.open_port != before.open_port:", "if False:", _PURE, "open_port"),
    )
]  # fmt: skip
