"""Names of devices, people, hosts; reasons, origins, roles: one stored form, and nothing in it hides or steers.

Input: what to read it as, then the text.
"""

from __future__ import annotations

import re
import unicodedata

from fuzz.harness import Refused, attempt, lines, pick
from redlatch.operations.origins import canonical as origin
from redlatch.operations.roles import short_name
from redlatch.pki import names
from redlatch.policy.toml import text as toml_text

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)


def TestOneInput(data: bytes) -> None:
    which, text = lines(data, 2)
    made = names.slug(text)
    assert _SLUG.fullmatch(made), made
    assert names.slug(made) in (made, f"user-{made}"), "a slug is its own"
    assert names.name_key(names.name_key(text)) == names.name_key(text), "a key is its own"
    assert toml_text(text).isprintable()
    pick(which, (_label, _host, _reason, _origin, _role))(text)


def _label(text: str) -> None:
    for kind in (names.device_name, names.person_name):
        found = attempt(kind, text)
        if isinstance(found, Refused):
            continue
        assert kind(found) == found, "the stored form is its own"
        assert 0 < len(found) <= names.MAX_NAME
        assert names.hidden_character(found) is None
        assert found == found.strip()
        assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in found)
        assert names.name_key(found) == names.name_key(text)
        found.encode()


def _host(text: str) -> None:
    found = attempt(names.host_name, text)
    if isinstance(found, Refused):
        return
    assert names.host_name(found) == found, "the stored form is its own"
    assert _HOST.fullmatch(found), found
    assert names.parse_address(found) is None, "an address for a name"
    assert ".." not in found


def _reason(text: str) -> None:
    found = attempt(names.reason_text, text)
    if not isinstance(found, Refused):
        assert names.reason_text(found) == found
        assert len(found) <= names.MAX_REASON


def _origin(text: str) -> None:
    found = attempt(origin, text)
    if not isinstance(found, Refused):
        assert origin(found) == found, "the stored form is its own"
        assert _ORIGIN.fullmatch(found), found


def _role(text: str) -> None:
    found = attempt(short_name, text, "role")
    if not isinstance(found, Refused):
        assert _SLUG.fullmatch(found), found
