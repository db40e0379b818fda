"""Checks on what a file says, found or proved by fuzzing: the check taken away, and the test that has to go red."""

from __future__ import annotations

from tests.faults.fault import Fault

SNAPSHOT = "unit/policy/test_snapshot.py"
FUZZ = "unit/test_fuzz.py"

FAULTS = [
    Fault("the fields of a snapshot, in Python", "policy/snapshot.py", "    if not all(name in body and fits(body[name]) for name, fits in _FIELDS.items()):", "    if False:", f"{SNAPSHOT} another_kind"),
    Fault("a rule's area or path, in Python", "policy/snapshot.py", '        and (value["area"] is None) != (value["path"] is None)\n', "", f"{SNAPSHOT} rule_of_another_kind"),
    Fault("a rule's path is canonical, in Python", "policy/snapshot.py", ' and value != "/" and is_canonical(value)', "", f"{SNAPSHOT} rule_of_another_kind"),
    Fault("a device stands where it is looked for, in Python", "policy/snapshot.py", "_is_digest(key) and key.startswith(prefix) and _is_row(row)", "_is_digest(key) and _is_row(row)", f"{SNAPSHOT} where_its_fingerprint"),
    Fault("a device's entry is whole, in Python", "policy/snapshot.py", "_is_digest(key) and key.startswith(prefix) and _is_row(row)", "_is_digest(key) and key.startswith(prefix)", f"{SNAPSHOT} node_of_another_form"),
    Fault("JSON as JavaScript reads it", "policy/snapshot.py", "json.loads(data.decode(), parse_constant=_no_constant)", "json.loads(data)", f"{SNAPSHOT} javascript_does_not_read"),
    Fault("text is UTF-8, in the guard", "snapshot.js", 'if (!Buffer.from(text, "utf8").equals(bytes))', "if (false)", "unit/guard snapshot"),
    Fault("a table ends behind its beginning, in Python", "policy/networks.py", "all(first <= last for first, last in intervals) and ", "", "unit/policy/test_addresses.py ends_before"),
    Fault("a zone id is one", "networks.js", "if (zone >= 0 && !ZONE.test(address.slice(zone))) return null;", "", "unit/guard decide"),
    Fault("a time that no clock shows is no line", "engines/haproxy/streams.py", ", RecursionError, OverflowError):", ", RecursionError):", "unit/haproxy/test_streams.py"),
    Fault("no blank in a link", "operations/https.py", "usable and not any(one.isspace() or not one.isprintable() for one in url.strip())", "usable", "unit/operations/test_https.py"),
    Fault("fuzzing sees a path that only Python takes", "policy/paths.py", "|/\\.\\.?(/|$)", "", f"{FUZZ} paths"),
]  # fmt: skip
