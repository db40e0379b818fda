"""Rules as a file (TOML): what is taken is written and read as the same; each rule is checked as if it were typed.

Input: the file.
"""

from __future__ import annotations

from dataclasses import replace

from fuzz.harness import Refused, attempt
from redlatch.policy import lists, toml
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import METHODS, ROLES
from redlatch.policy.paths import is_canonical, is_editors
from redlatch.policy.rules import checked, sentence


def TestOneInput(data: bytes) -> None:
    wanted = attempt(toml.read, data, source="rules.toml")
    if isinstance(wanted, Refused):
        return
    written = toml.write(wanted, heading="a\nheading")
    assert toml.read(written.encode(), source="again") == wanted, "what is written is read as the same"
    assert all(line.isprintable() for line in written.split("\n")), "one value stays on its line"
    for network in wanted.networks.values():
        if network.entries is not None:
            attempt(lists.given, network.entries)
    for rule in wanted.rules[:50]:
        found = attempt(checked, rule, roles=ROLES, networks=BUILTIN, admin_root="/")
        if isinstance(found, Refused):
            continue
        assert checked(found, roles=ROLES, networks=BUILTIN, admin_root="/") == found, "checked once is checked"
        assert set(found.methods) <= set(METHODS)
        assert found.roles or found.devices or found.any_device or found.anyone, "a rule for nobody"
        assert found.path is None or (is_canonical(found.path) and not is_editors(found.path, "/")), found.path
        plain = replace(found, devices=())
        assert "\n" not in sentence(plain, {}), sentence(plain, {})
