"""What a page or a program asked for, and what it gets: the same for a link and for a renewal."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from redlatch.errors import RedlatchError
from redlatch.operations.devices import Issued, KeyKind
from redlatch.pki import bundles, mobileconfig
from redlatch.pki.certificates import ServerPair, certificate_pem
from redlatch.pki.names import slug
from redlatch.service.security import TooLong

if TYPE_CHECKING:
    from starlette.requests import Request

Kind = Literal["p12", "p12-modern", "pem", "mobileconfig", "csr"]
#: What the server can make; "csr" is what it gets when the device made its own key.
FORMATS: Final = ("p12", "p12-modern", "pem", "mobileconfig")
PKCS10: Final = "application/pkcs10"  # RFC 5967
PEM: Final = "application/x-pem-file"
#: The header that tells a program where it renews its key later on.
RENEW: Final = "redlatch-renew"
_TYPES: Final = {"p12": "application/x-pkcs12", "crt": "application/x-x509-ca-cert", "pem": PEM}
#: Bytes. A request for a certificate has at most 16 KB, 22 KB of base64.
MOST: Final = 32768


class Refused(Exception):
    """A request that is answered with a status and words."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint

    @classmethod
    def of(cls, error: RedlatchError, status: int) -> Refused:
        return cls(status, error.code, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. `csr` is there exactly when `kind` is "csr"; `as_text`: a program that wants PEM."""

    kind: Kind
    token: str = field(default="", repr=False)
    csr: bytes | None = None
    key: KeyKind = "p256"
    as_text: bool = False


async def body_of(request: Request) -> bytes:
    """The body, bounded. Raises Refused."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST:
                raise Refused(413, "too-large", "that is more than a certificate request can be", "at most 16 KB")
    except TooLong:
        raise Refused(
            413, "too-large", "that is more than a certificate request can be", "at most 16 KB"
        ) from None
    return body


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def document_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises Refused for everything else."""
    if media_type(request) != "application/json":
        raise Refused(415, "media-type", "this kind of content is not taken here", "send application/json")
    try:
        sent = json.loads(await body_of(request))
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise Refused(400, "malformed", "this is no JSON object")
    return sent


async def wanted(request: Request) -> Wanted:
    """What a POST asks for: application/json of the page, or application/pkcs10 of a program. Raises Refused."""
    if media_type(request) == PKCS10:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        return Wanted("csr", bearer, await body_of(request), as_text=True)
    sent = await document_of(request)
    token, csr = text_of(sent, "token"), text_of(sent, "csr")
    if csr:
        return Wanted("csr", token, _csr(csr))
    kind, key = text_of(sent, "format"), text_of(sent, "key") or "p256"
    if kind not in FORMATS:
        raise Refused(400, "unknown-format", "this kind of file is not known", f"one of {', '.join(FORMATS)}")
    if key not in ("p256", "rsa2048"):
        raise Refused(400, "unknown-key", "this kind of key is not known", "p256 or rsa2048")
    return Wanted(cast(Kind, kind), token, key=cast(KeyKind, key))


def text_of(sent: Mapping[str, Any], name: str) -> str:
    """A member that is text; "" where it is missing. Raises Refused."""
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise Refused(400, "malformed", f"{name} is no text")
    return value


def _csr(text: str) -> bytes:
    if "-----BEGIN " in text:
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refused(400, "invalid-input", "the certificate request is neither PEM nor base64") from None


def files(
    issued: Issued, kind: Kind, *, site_id: str, site: str, signer: ServerPair
) -> tuple[dict[str, bytes], str]:
    """What a device takes home, by safe file names, and the password of its .p12 ("": there is none).

    `site_id` is the site's UUID, `site` the host that a profile shows, `signer` the pair that signs it.
    """
    roots, name = issued.server_cas, slug(issued.device.name)
    if issued.key is None or kind in ("pem", "csr"):
        return bundles.pem_files(issued.key, issued.certificate, roots), ""
    password = bundles.generate_password()
    if kind == "mobileconfig":
        # The root has a payload of its own: in the .p12 iOS would install it and not offer to trust it.
        p12 = bundles.pkcs12(issued.key, issued.certificate, [], issued.device.name, password)
        profile = mobileconfig.identity_profile(
            p12=p12,
            password=password,
            certificate=issued.certificate,
            device_id=issued.device.id,
            device=issued.device.name,
            site_id=site_id,
            site=site,
            server_cas=roots,
            signer=signer,
        )
        return {f"{name}.mobileconfig": profile}, ""
    modern = kind == "p12-modern"
    p12 = bundles.pkcs12(issued.key, issued.certificate, roots, issued.device.name, password, modern=modern)
    made = {f"{name}.p12": p12}
    for number, root in enumerate(roots, 1):
        # As a file of its own in DER, which every phone takes; inside the .p12 it is not trusted everywhere.
        made["server-ca.crt" if number == 1 else f"server-ca-{number}.crt"] = der(root)
    return made, password


def answer(
    issued: Issued,
    made: Mapping[str, bytes],
    password: str,
    *,
    receipt: str,
    next_url: str | None,
    profile: str = "",
) -> dict[str, Any]:
    """The JSON that a page gets. `profile` is where Safari fetches the profile from, once."""
    return {
        "device": issued.device.name,
        "role": issued.device.role,
        "files": [
            {"name": name, "type": type_of(name), "base64": base64.b64encode(content).decode("ascii")}
            for name, content in made.items()
        ],
        "password": password or None,
        "fingerprint": issued.fingerprint,
        "not_after": issued.not_after.isoformat(),
        "next": next_url,
        "receipt": receipt,
        "profile": profile or None,
    }


def text(issued: Issued) -> bytes:
    """The PEM that a program gets: its certificate, then the server's roots where it needs them."""
    return b"".join(map(certificate_pem, (issued.certificate, *issued.server_cas)))


def der(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded: bytes = certificate.public_bytes(Encoding.DER)
    return encoded


def type_of(name: str) -> str:
    ending = name.rpartition(".")[2]
    return mobileconfig.MEDIA_TYPE if ending == "mobileconfig" else _TYPES.get(ending, "application/octet-stream")
