"""The probe from outside and the checks on Node-RED itself; what each of them looks at, taken away."""

from __future__ import annotations

from tests.faults.fault import Fault

_OUTSIDE = "integration/checks/test_outside.py"
_NODERED = "integration/checks/test_nodered.py"
_NAMES = "integration/checks/test_check_names.py"

FAULTS = [
    Fault(check, file, old, new, f"{place} {words}")
    for check, file, old, new, place, words in (
        ("who was let in and should not be", "checks/outside.py", "return not self.ok and self.expected == REFUSED", "return False", _OUTSIDE, "broken_guard and revoked"),
        ("who was refused and should not be", "checks/outside.py", "            return self.seen == ADMITTED\n", "            return True\n", _OUTSIDE, "refused_is_found"),
        ("the revoked one is revoked", "checks/outside.py", "            made.revoke_gone()\n", "            pass\n", _OUTSIDE, "all_green and site"),
        ("the revoked one came in before", "checks/outside.py", "                unjudged += _arrive(run)\n", "                pass\n", _OUTSIDE, "broken_guard and revoked"),
        ("no flow is run by it", "checks/outside.py", "        if surface.acts and should:\n", "        if False:\n", _OUTSIDE, "all_green and site"),
        ("another answer is Node-RED's", "checks/knocking.py", "frozenset({400, 403, 421})", "frozenset({400, 401, 403, 404, 421})", _OUTSIDE, "what_is_seen"),
        ("silence after the handshake", "checks/knocking.py", "return UNANSWERED if shaken else SILENT", "return SILENT", "integration/checks/test_knocking.py", "after_the_handshake"),
        ("what reached nobody is no row", "checks/outside.py", "if knocking.is_nobodys(row.seen):", "if False:", _OUTSIDE, "restarted"),
        ("what was not tried is told", "checks/admission.py", "if missing := probed(scene).unjudged:", "if missing := ():", _OUTSIDE, "cut"),
        ("what has no session is not resumed", "checks/outside.py", "        del run.clients[key]\n", "", _OUTSIDE, "no_session"),
        ("the ended one has ended", "operations/throwaways.py", ".not_valid_after(now - timedelta(days=1))", ".not_valid_after(now + timedelta(days=1))", _OUTSIDE, "revoked_and_audited"),
        ("nothing is left behind", "operations/throwaways.py", '        _revoke(site, [f"{mark} {kind}" for kind in orders])\n', "        pass\n", _OUTSIDE, "revoked_and_audited"),
        ("only what was made is revoked", "operations/throwaways.py", "if made.isdisjoint(names):", "if False:", "integration/operations/test_throwaways.py", "none_was_made"),
        ("nothing keeps them in use", "operations/throwaways.py", "changing(site, weighed=False)", "changing(site)", "integration/operations/test_throwaways.py", "may_go"),
        ("what was left is found", "operations/throwaways.py", 'or not Path(f"/proc/{match[1]}").exists()', "", _OUTSIDE, "killed"),
        ("what runs is left alone", "operations/throwaways.py", 'or not Path(f"/proc/{match[1]}").exists()', "or True", _OUTSIDE, "killed"),
        ("our knocks are no traffic", "operations/traffic.py", "one.address != ours and ", "", _OUTSIDE, "no_traffic"),
        ("nor are they weighed", "operations/traffic.py", "if one.address != machine.CHECKS_FROM\n        and one.at", "if one.at", _OUTSIDE, "no_traffic"),
        ("loaded and asked", "checks/nodered.py", "elif config.adopted and not found.locked_inside:", "elif config.adopted and not found.ok:", _NODERED, "fallen_off"),
        ("somebody answers for the port", "checks/nodered.py", "or looking.guard(scene) is not None:", "or True:", _NODERED, "never_restarted"),
        ("a later drop-in", "checks/nodered.py", "elif files[-1].removeprefix(\"-\") != ours:", "elif False:", _NODERED, "beaten"),
        ("passwords in plain", "engines/nodered/credentials.py", 'bool(kept) and set(kept) != {"$"}', "False", _NODERED, "passwords"),
        ("children of Node-RED listen too", "operations/ports.py", "        yield from _family(process.parent / child)\n", "        pass\n", "integration/checks/test_ports.py", "listed"),
        ("a hole has a beginning", "checks/versions.py", "number >= _number(one.since) and ", "", "integration/checks/test_versions.py", "real_versions"),
        ("a name that leads elsewhere", "checks/names.py", "if told and not told & ours:", "if False:", _NAMES, "elsewhere"),
    )
]  # fmt: skip
