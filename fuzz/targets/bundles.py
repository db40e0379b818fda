"""What a device takes home, with any name that a device can have: it opens again, and says what was put in.

Input: three lines: the device's name, the site's, a password.
"""

from __future__ import annotations

import plistlib
import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12 as reader

from fuzz.harness import Refused, attempt, lines
from redlatch.pki import bundles, mobileconfig, names
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import ServerPair
from redlatch.pki.keys import generate_key, private_key_pem

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ID = "00000000-0000-4000-8000-000000000001"


@cache
def _made() -> tuple[Any, ServerPair, x509.Certificate, Authority]:
    key, other = generate_key(), generate_key()
    server = Authority.create_server("fuzz", ["fuzz.local"], now=_NOW)
    leaf = server.issue_server(other.public_key(), ["fuzz.local"], now=_NOW)
    return key, ServerPair(other, leaf, ()), server.certificate, Authority.create_device("fuzz", now=_NOW)


def TestOneInput(data: bytes) -> None:
    said, site, password = lines(data, 3)
    password = password.encode("ascii", "ignore").decode()  # redlatch makes it, of letters
    password = "".join(one for one in password if one.isprintable())
    name = attempt(names.device_name, said)
    if isinstance(name, Refused):
        return
    key, signer, root, authority = _made()
    leaf = authority.issue_device(key.public_key(), device_id=_ID, name=name, site_host="fuzz.local", now=_NOW)
    common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert name.encode().startswith(str(common).encode()), "the label is the name, perhaps cut"

    p12 = attempt(bundles.pkcs12, key, leaf, [root], name, password)
    if not isinstance(p12, Refused):
        found = reader.load_pkcs12(p12, password.encode())
        assert found.cert is not None
        assert found.cert.certificate == leaf
        assert found.key is not None
        assert [one.certificate for one in found.additional_certs] == [root]
        label = (found.cert.friendly_name or b"").decode()
        assert label.isprintable(), label
    signed = attempt(
        mobileconfig.identity_profile, p12=b"p12", password=password, certificate=leaf, device_id=_ID, device=name,
        site_id=_ID, site=site, server_cas=[root], signer=signer,
    )  # fmt: skip
    if not isinstance(signed, Refused):
        _profile(signed, password)
    header = bundles.c_header({"key": private_key_pem(key, None)}).decode("ascii")
    assert all(line.isprintable() for line in header.split("\n"))


def _profile(signed: bytes, password: str) -> None:
    """The property list inside of the CMS structure: one document, with the values in their places."""
    begin, end = signed.index(b"<?xml"), signed.index(b"</plist>") + len(b"</plist>")
    body = plistlib.loads(signed[begin:end])
    identity, root = body["PayloadContent"]
    assert identity["Password"] == password
    assert identity["PayloadContent"] == b"p12"
    assert root["PayloadType"] == "com.apple.security.root"
    assert re.fullmatch(r"[a-z0-9-]{1,40}\.p12", identity["PayloadCertificateFileName"])
    for text in (body["PayloadDisplayName"], identity["PayloadDescription"]):
        assert names.hidden_character(text) is None, text
