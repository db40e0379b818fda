"""CAs, device certificates and keys that were made elsewhere: opened, judged, or refused in words.

Input: a file (PEM, DER, PKCS#7, PKCS#12).
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509

from fuzz.harness import Refused, attempt
from redlatch.operations.opening import contents
from redlatch.pki import foreign, keys

_NOW = datetime(2026, 11, 20, tzinfo=UTC)


def TestOneInput(data: bytes) -> None:
    found = attempt(contents, data, b"secret")
    if isinstance(found, Refused):
        return
    certificates = [x509.load_der_x509_certificate(one) for one in found[0]]
    for one in found[1]:
        key = keys.load_private_key(one)
        for kind in ("device", "server"):
            made = attempt(foreign.authority, kind, certificates, key, now=_NOW)
            if not isinstance(made, Refused):
                assert made.certificate.public_key() == key.public_key(), "a CA without its key"
                constraints = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
                assert constraints.value.ca is True
    if certificates:
        chain = attempt(foreign.device, certificates[0], certificates[1:], now=_NOW)
        if not isinstance(chain, Refused):
            assert chain, "its own issuer"
            foreign.check_signature(certificates[0])
