"""Apple's configuration profiles: identity and, where it is needed, the server's root, installed in one go.

Sources: Apple, "Configuration Profile Reference" and the Device Management schema (com.apple.security.pkcs12,
com.apple.security.root); CMS: RFC 5652. What was tried: OpenSSL verifies the signature and plistlib reads the
content. No Apple device was at hand.

The .p12's password stands in the profile. It has to: typed over from a page that Safari leaves to show its
"Allow?" question, it is lost with the page; and beside the file it would protect nothing, since both come in one
answer over one TLS connection. So a profile is worth as much as the key in it, is served once and kept nowhere;
whoever saves it (a Mac does, in Downloads) deletes it after installing.
"""

from __future__ import annotations

import plistlib
import uuid
from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from redlatch.errors import InvalidInput
from redlatch.pki.certificates import ServerPair, fingerprint
from redlatch.pki.names import hidden_character, slug

MEDIA_TYPE: Final = "application/x-apple-aspen-config"
"""What makes Safari hand the file to Settings instead of showing it."""

# Everything in a profile is named from this one by name (RFC 9562, 5.5): the same device gets the same names.
_NAMESPACE: Final = uuid.UUID("6f9d3ad2-62a4-4f0c-9a5b-0f6ab3f0d7c1")


def identity_profile(
    *,
    p12: bytes,
    password: str,
    certificate: x509.Certificate,
    device_id: str,
    device: str,
    site_id: str,
    site: str,
    server_cas: Sequence[x509.Certificate],
    signer: ServerPair,
) -> bytes:
    """Return the signed profile (DER) of one device: the compatible .p12 that `certificate` is in, with its
    password, and the roots `server_cas` where the device does not trust the server without them.

    `device` and `site` are shown to people; `site_id` (UUID) names the profile, so that a renewal replaces the
    profile before it, whatever the device is called now; `device_id` (UUID) and the certificate name its content.
    The person may remove it. Raises InvalidInput for ids that are no UUID and an empty password.
    """
    if not password:
        raise InvalidInput("a profile needs the password of its .p12", hint="phones refuse an empty one")
    identifier = _identifier(site_id)
    shown, host = _shown(device, "this device"), _shown(site, "Node-RED")
    identity = {
        **_payload("com.apple.security.pkcs12", f"{identifier}.identity", f"identity {fingerprint(certificate)}"),
        "PayloadDisplayName": f"Key of {shown}",
        "PayloadDescription": f"Lets {shown} into Node-RED at {host}.",
        "PayloadCertificateFileName": f"{slug(device)}.p12",
        "PayloadContent": p12,
        "Password": password,
        # macOS: the key cannot be copied out of the keychain, and programs ask before they use it.
        "KeyIsExtractable": False,
        "AllowAllAppsAccess": False,
    }
    contents = [identity, *_roots(identifier, host, server_cas)]
    about = f"The key of {shown} to Node-RED at {host}"
    return _signed(
        _profile(identifier, f"device {_uuid(device_id)}", f"Node-RED: {shown}", f"{about}.", contents), signer
    )


def root_profile(*, server_cas: Sequence[x509.Certificate], site_id: str, site: str, signer: ServerPair) -> bytes:
    """Return the signed profile (DER) of the server's roots alone: public, and the same for everybody.

    Raises InvalidInput for a `site_id` that is no UUID.
    """
    # Another identifier than the identity's: installing this one must not take a device's key away.
    identifier, host = f"{_identifier(site_id)}.server", _shown(site, "Node-RED")
    about = f"Lets this device recognise Node-RED at {host}. It can vouch for that server's own names only."
    contents = _roots(identifier, host, server_cas)
    return _signed(_profile(identifier, "root", f"Node-RED: server of {host}", about, contents), signer)


def _identifier(site_id: str) -> str:
    return f"redlatch.site.{_uuid(site_id)}"


def _profile(identifier: str, name: str, title: str, about: str, contents: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_payload("Configuration", identifier, name),
        "PayloadDisplayName": title,
        "PayloadDescription": about,
        "PayloadOrganization": "redlatch",
        "PayloadScope": "User",  # macOS: into the keychain of the person, not of everybody at that Mac
        "PayloadRemovalDisallowed": False,
        "PayloadContent": contents,
    }


def _roots(identifier: str, host: str, server_cas: Sequence[x509.Certificate]) -> list[dict[str, Any]]:
    # Each payload has an identifier of its own; the first one's is the same whatever root it holds.
    names = [f"{identifier}.root", *(f"{identifier}.root.{fingerprint(one)[:12]}" for one in server_cas[1:])]
    return [_root(name, host, one) for name, one in zip(names, server_cas, strict=False)]


def _root(identifier: str, host: str, server_ca: x509.Certificate) -> dict[str, Any]:
    return {
        **_payload("com.apple.security.root", identifier, f"root {fingerprint(server_ca)}"),
        "PayloadDisplayName": f"Server of {host}",
        "PayloadDescription": f"Lets this device recognise Node-RED at {host}.",
        "PayloadCertificateFileName": "server-ca.crt",
        "PayloadContent": server_ca.public_bytes(Encoding.DER),
    }


def _payload(kind: str, identifier: str, name: str) -> dict[str, Any]:
    """The keys that every payload has. The UUID follows from identifier and name alone."""
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": str(uuid.uuid5(_NAMESPACE, f"{identifier} {name}")).upper(),
    }


def _signed(profile: dict[str, Any], signer: ServerPair) -> bytes:
    builder = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(plistlib.dumps(profile, fmt=plistlib.FMT_XML))
        .add_signer(signer.leaf, signer.key, SHA256())
    )
    for certificate in signer.chain:
        builder = builder.add_certificate(certificate)
    # Binary: without it every line end would be turned into CRLF, as for mail.
    return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])


def _shown(text: str, otherwise: str) -> str:
    """One line that shows what it says: XML cannot hold control characters, and nothing may reorder the text."""
    kept = "".join(" " if hidden_character(character) else character for character in text)
    return " ".join(kept.split())[:80] or otherwise


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput("the id of a site or device is a UUID") from error
