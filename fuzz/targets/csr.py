"""Certificate signing requests: only the key is taken, and what is issued for it says what the profile says.

Input: a request in PEM or DER.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fuzz.harness import Refused, attempt
from redlatch.pki.authority import Authority
from redlatch.pki.csr import public_key_from_csr
from redlatch.pki.keys import check_public_key

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ID = "00000000-0000-4000-8000-000000000001"


@cache
def _authority() -> Authority:
    return Authority.create_device("fuzz", now=_NOW)


def TestOneInput(data: bytes) -> None:
    key = attempt(public_key_from_csr, data)
    if isinstance(key, Refused):
        return
    assert check_public_key(key) is key
    certificate = _authority().issue_device(key, device_id=_ID, name="fuzz", site_host="fuzz.local", now=_NOW)
    assert certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ) == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(one) for one in names] == [x509.UniformResourceIdentifier]
