"""This machine gets a key of its own by a link, keeps it in a folder, and renews it over the one it has.

Nothing here needs a site: it runs where the scripts run. The private key is made here and never leaves.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult

from redlatch.errors import Conflict, FileProblem, InvalidInput, RedlatchError
from redlatch.files import explained, make_dir, read_plain, sync_dir, write_atomic
from redlatch.operations.https import Answer, Trust, checked_pin, checked_url, post
from redlatch.pki import certificates
from redlatch.pki.keys import KeyKind, generate_key, load_private_key, private_key_pem

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key

KEY, CERT, CA, MEMORY = "key.pem", "cert.pem", "server-ca.pem", "enrolment.json"
P12, HEADER = "key.p12", "redlatch_key.h"
#: A key is renewed when less than this is left of it, or less than a third of its life where that is shorter.
RENEW_BEFORE: Final = timedelta(days=30)
_PARTIAL: Final = f".{KEY}.partial"
_TOKEN: Final = re.compile(r"[a-z2-7]{26}", re.IGNORECASE)
_PKCS10: Final = {"Content-Type": "application/pkcs10", "Accept": "application/x-pem-file"}
_MOST: Final = 1 << 20
#: Its own, the server's root, and further ones while these are rotated.
_MOST_CERTIFICATES: Final = 8


class EnrolmentRefused(RedlatchError):
    """The server answered, and gave no certificate; the message is the server's."""

    code = "enrolment-refused"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What is in the folder now. `password` opens the .p12, where one was written; `fresh` is False where there
    was nothing to renew yet.
    """

    folder: Path
    files: tuple[Path, ...]
    device: str
    fingerprint: str
    not_after: datetime
    password: str | None = None
    fresh: bool = True


def enroll(
    link: str,
    folder: Path,
    *,
    pin: str | None = None,
    ca: Path | None = None,
    kind: KeyKind = "p256",
    p12: bool = False,
    header: bool = False,
) -> Enrolled:
    """Redeems a link (https://host:port/#token) and writes key, certificate and what the server is known by.

    The server's key is pinned by `pin`, or its certificate verified against `ca`, else against this machine's
    roots. Nothing is overwritten, and where the server gives no certificate nothing is left behind.
    Errors: InvalidInput (link, pin), FileProblem, NotTrusted, Unreachable, EnrolmentRefused.
    """
    url = checked_url(link)
    token = url.fragment.strip()
    if _TOKEN.fullmatch(token) is None:
        raise InvalidInput("the link is not complete", hint="take all of it, with the 26 letters after the #")
    trust = Trust(pin=None if pin is None else checked_pin(pin), authority=None if pin is not None else ca)
    there = folder.exists()
    if there:
        _finish(folder)
    for name in (KEY, CERT, CA, MEMORY, P12, HEADER):
        _refuse_present(folder / name)
    if not there:
        make_dir(folder, mode=0o700)
    key = generate_key(kind)
    waiting = folder / _PARTIAL
    try:
        # First, so that no certificate is made for a key that then cannot be kept
        write_atomic(waiting, private_key_pem(key, None), mode=0o600)
        headers = _PKCS10 | {"Authorization": f"Bearer {token}"}
        answer = post(_at(url, "/redeem"), _csr(key), headers, trust)
        chain = _certificates(answer, key)
        memory = {
            "renew": _renew_url(answer, url),
            "pin": trust.pin,
            "server": f"https://{url.netloc}",
            "ca": str(ca) if ca else None,
        }
        made = _write(folder, key, chain, memory, p12=p12, header=header)
    except BaseException:
        with contextlib.suppress(OSError, RedlatchError):
            _finish(folder)  # the link is used up: what came of it is kept where it is complete
        waiting.unlink(missing_ok=True)
        if not there and not any(folder.iterdir()):
            folder.rmdir()
        raise
    waiting.unlink(missing_ok=True)
    return replace(made, files=(*made.files, folder / MEMORY))


def renew(
    folder: Path,
    *,
    url: str | None = None,
    now: bool = False,
    kind: KeyKind = "p256",
    p12: bool = False,
    clock: datetime | None = None,
) -> Enrolled:
    """Gets a fresh key over the certificate in `folder`, when it is time (or `now`), and puts it in its place.

    `url` is the console's address where it is another one than was said when the key was made. The old pair stays
    until the new one is complete; killed in between, the next call finishes it.
    Errors: FileProblem, InvalidInput, Conflict (expired), NotTrusted, Unreachable, EnrolmentRefused.
    """
    _finish(folder)
    memory = _memory(folder)
    present = certificates.load_certificates(_read(folder / CERT))[0]
    at = clock or datetime.now(UTC)
    begin, end = present.not_valid_before_utc, present.not_valid_after_utc
    if at >= end:
        raise Conflict(
            f"the key in {folder} ended on {end:%Y-%m-%d}", hint="ask for a new link: redlatch device invite NAME"
        )
    if not now and end - at > min(RENEW_BEFORE, (end - begin) / 3):
        return _described(folder, present, (), fresh=False)
    place = url or memory.get("renew")
    if not isinstance(place, str):
        raise InvalidInput(
            "where this key is renewed was not said when it was made",
            hint="name the console's address: redlatch enroll --renew https://HOST:1881 --out DIR",
        )
    console = checked_url(place)
    trust = _trust(folder, memory)
    key = generate_key(kind)
    target = _at(console, "/renew")
    answer = post(target, _csr(key), _PKCS10, trust, pair=(folder / CERT, folder / KEY))
    chain = _certificates(answer, key)
    header = (folder / HEADER).exists()
    if url is not None:
        memory["renew"] = target.geturl()
    return _write(folder, key, chain, memory, p12=p12, header=header)


def _trust(folder: Path, memory: Mapping[str, Any]) -> Trust:
    """For a renewal: the site's own root came with the key; a pin is good until the server's key is renewed."""
    pin, ca = memory.get("pin"), memory.get("ca")
    if (folder / CA).exists():
        authority: Path | None = folder / CA
    else:
        authority = Path(ca) if isinstance(ca, str) else None
    return Trust(checked_pin(pin) if isinstance(pin, str) and authority is not None else None, authority)


def _csr(key: Key) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    # The name is a constant: the server takes the public key and nothing else.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    return made.public_bytes(Encoding.PEM)


def _certificates(answer: Answer, key: Key) -> list[x509.Certificate]:
    """The certificate for `key`, and the server's roots where there are some. EnrolmentRefused for all else."""
    if answer.status in range(300, 400):
        raise EnrolmentRefused(
            "the server sends this request elsewhere, which is not followed", hint="is the link right?"
        )
    if answer.status != 200:
        raise EnrolmentRefused(
            answer.text or f"the server refused it, with status {answer.status}",
            hint="" if answer.text else "ask whoever runs this Node-RED",
        )
    try:
        found = certificates.load_certificates(answer.body)
    except InvalidInput:
        found = []
    if not found or len(found) > _MOST_CERTIFICATES or found[0].public_key() != key.public_key():
        raise EnrolmentRefused("what the server sent is no certificate for this key", hint="is this a redlatch?")
    return found


def _write(
    folder: Path, key: Key, chain: list[x509.Certificate], memory: Mapping[str, Any], *, p12: bool, header: bool
) -> Enrolled:
    from redlatch.pki import bundles

    leaf, authorities = chain[0], chain[1:]
    key_pem, cert_pem = private_key_pem(key, None), certificates.certificate_pem(leaf)
    ca_pem = b"".join(map(certificates.certificate_pem, authorities))
    # All are complete on the disk before any has its name, and the certificate comes last: `_finish` puts right
    # what is cut in between. Without the memory and the root that came with it no key can be renewed.
    write_atomic(_next(folder, KEY), key_pem, mode=0o600)
    write_atomic(_next(folder, MEMORY), json.dumps(memory, indent=1).encode() + b"\n", mode=0o600)
    if ca_pem:
        write_atomic(_next(folder, CA), ca_pem, mode=0o644)
    write_atomic(_next(folder, CERT), cert_pem, mode=0o644)
    _finish(folder)
    written = [folder / KEY, folder / CERT, *([folder / CA] if ca_pem else [])]
    password = None
    if p12:
        password = bundles.generate_password()
        content = bundles.pkcs12(key, leaf, authorities, _name(leaf), password, modern=True)
        write_atomic(folder / P12, content, mode=0o600)
        written.append(folder / P12)
    if header:
        texts = {"client_cert": cert_pem, "client_key": key_pem} | ({"server_ca": ca_pem} if ca_pem else {})
        write_atomic(folder / HEADER, bundles.c_header(texts), mode=0o600)
        written.append(folder / HEADER)
    return _described(folder, leaf, written, password=password)


def _finish(folder: Path) -> None:
    """Gives a complete new pair, and what came with it, their names, wherever an earlier call was cut off."""
    key, cert, *more = (_next(folder, name) for name in (KEY, CERT, MEMORY, CA))
    with explained("write", folder):
        if cert.exists():
            leaf = certificates.load_certificates(cert.read_bytes())[0]
            for one in (key, folder / KEY):
                if one.exists() and load_private_key(one.read_bytes()).public_key() == leaf.public_key():
                    for other, name in zip(more, (MEMORY, CA), strict=True):
                        if other.exists():
                            other.replace(folder / name)
                    one.replace(folder / KEY)
                    cert.replace(folder / CERT)
                    sync_dir(folder)
                    break
        for leftover in (key, cert, *more, folder / _PARTIAL):
            leftover.unlink(missing_ok=True)


def _next(folder: Path, name: str) -> Path:
    return folder / f".{name}.next"


def _described(
    folder: Path, leaf: x509.Certificate, files: Any, *, password: str | None = None, fresh: bool = True
) -> Enrolled:
    return Enrolled(
        folder=folder,
        files=tuple(files),
        device=_name(leaf),
        fingerprint=certificates.fingerprint(leaf),
        not_after=leaf.not_valid_after_utc,
        password=password,
        fresh=fresh,
    )


def _name(leaf: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    found = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else "device"


def _renew_url(answer: Answer, url: SplitResult) -> str | None:
    """Where the server says that keys are renewed; only ever at the host that was asked."""
    try:
        told = checked_url(answer.headers.get("redlatch-renew", ""))
    except InvalidInput:
        return None
    return told.geturl() if told.hostname == url.hostname else None


def _at(url: SplitResult, path: str) -> SplitResult:
    return url._replace(path=path, query="", fragment="")


def _memory(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(folder / MEMORY))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FileProblem(f"{folder / MEMORY} is garbled", hint="ask for a new link, for another folder")
    return found


def _read(path: Path) -> bytes:
    if not path.exists():
        raise FileProblem(f"there is no {path}", hint="redlatch enroll URL --out DIR makes it")
    return read_plain(path, max_bytes=_MOST)


def _refuse_present(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileProblem(
            f"{path} exists already", hint="name another folder with --out, or renew it with --renew"
        )
