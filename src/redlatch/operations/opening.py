"""Files with certificates and keys that somebody else made, opened by a process of its own with little time.

What such a file asks for is its author's choice: a PKCS#12 or an encrypted key may want two thousand million
rounds of hashing, or all memory (attack classes of the field; pyca CVE-2024-26130 is a crash by such a file). A
limit of the kernel's ends that process; redlatch says what happened and goes on.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redlatch.errors import FileProblem, InvalidInput, PassphraseNeeded, RedlatchError
from redlatch.files import read_plain

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key

MOST: Final = 1 << 20
#: Seconds of CPU time: a PKCS#12 with 600,000 rounds takes a Raspberry Pi Zero 12 of them.
CPU_SECONDS: Final = 30
_MEMORY: Final = 1 << 30
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_KINDS: Final = {"invalid-input": InvalidInput, "passphrase": PassphraseNeeded}


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in the files, in their order."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[Key, ...] = field(default=(), repr=False)


def read(files: Sequence[Path], ask: Callable[[Path], bytes], *, seconds: int = CPU_SECONDS) -> Opened:
    """Opens all of them: PEM, DER, PKCS#7 and PKCS#12. `ask(file)` gives the password of a locked one.

    Errors: FileProblem (missing, no plain file), InvalidInput (not such a file, or one that asks for too much),
    PassphraseNeeded (its password is missing or wrong).
    """
    from cryptography import x509

    from redlatch.pki.keys import load_private_key

    certificates: list[x509.Certificate] = []
    keys: list[Key] = []
    for file in files:
        data = read_plain(file, max_bytes=MOST)
        try:
            found = _opened(data, lambda: ask(file), seconds)  # noqa: B023 - called before the next one
        except (InvalidInput, PassphraseNeeded) as error:
            raise type(error)(f"{file}: {error.message}", hint=error.hint) from None
        certificates += [x509.load_der_x509_certificate(base64.b64decode(one)) for one in found["certificates"]]
        keys += [load_private_key(one.encode("ascii")) for one in found["keys"]]
    return Opened(tuple(dict.fromkeys(certificates)), tuple(keys))


def _opened(data: bytes, ask: Callable[[], bytes], seconds: int) -> dict[str, Any]:
    if b"-----BEGIN " in data and b"PRIVATE KEY" not in data:
        return _answer(data, b"")  # certificates alone ask for no work
    if b"-----BEGIN " in data:
        # a plain key is work too: the primes of a giant one are tested before anybody sees how large it is
        return _outside(data, ask() if b"ENCRYPTED" in data else b"", seconds)
    try:
        return _outside(data, b"", seconds)
    except PassphraseNeeded:
        return _outside(data, ask(), seconds)


def _answer(data: bytes, password: bytes) -> dict[str, Any]:
    certificates, keys = contents(data, password)
    return {
        "certificates": [base64.b64encode(one).decode("ascii") for one in certificates],
        "keys": [one.decode("ascii") for one in keys],
    }


def _outside(data: bytes, password: bytes, seconds: int) -> dict[str, Any]:
    """`contents` in a process of its own. What it hands back comes through a pipe and touches no disk."""
    sent = {
        "data": base64.b64encode(data).decode("ascii"),
        "password": base64.b64encode(password).decode("ascii"),
        "seconds": seconds,
    }
    try:
        done = subprocess.run(
            # -P: else the folder it is called in comes first, and a flow's json.py there would run as root
            [sys.executable, "-P", "-m", "redlatch.operations.opening"],
            input=json.dumps(sent).encode(),
            capture_output=True,
            timeout=seconds * 20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_much() from None
    except OSError as error:
        raise FileProblem(
            f"no process can be started to open it: {(error.strerror or str(error)).lower()}"
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise _too_much() from None
    if not isinstance(answer, dict):
        raise _too_much()
    if "error" in answer:
        code, message, hint = answer["error"]
        raise _KINDS.get(code, InvalidInput)(message, hint=hint)
    return answer


def _too_much() -> InvalidInput:
    return InvalidInput(
        "opening it takes more time or memory than any honest file needs, so it was given up",
        hint="write it anew: openssl pkcs12 -in OLD -out NEW.pem, or openssl pkey -in OLD -out NEW.pem",
    )


def contents(data: bytes, password: bytes) -> tuple[list[bytes], list[bytes]]:
    """DER of the certificates and plain PEM of the private keys in a file. InvalidInput, PassphraseNeeded."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from redlatch.pki.keys import check_public_key, private_key_pem

    certificates, keys = _pem(data, password) if b"-----BEGIN " in data else _der(data, password)
    for key in keys:  # before whoever asked loads it, without a limit
        check_public_key(key.public_key())
    if not certificates and not keys:
        raise InvalidInput(
            "there is neither a certificate nor a private key in it", hint="name a .pem, .crt or .p12"
        )
    return [one.public_bytes(Encoding.DER) for one in certificates], [private_key_pem(one, None) for one in keys]


def _pem(data: bytes, password: bytes) -> tuple[list[x509.Certificate], list[Key]]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs7

    from redlatch.pki.keys import load_private_key

    certificates: list[x509.Certificate] = []
    keys: list[Key] = []
    for match in _BLOCK.finditer(data):
        label, block = match[1], match[0] + b"\n"
        if label in (b"CERTIFICATE", b"X509 CERTIFICATE"):
            body = block.replace(b"X509 CERTIFICATE", b"CERTIFICATE")
            certificates.append(_parsed(x509.load_pem_x509_certificate, body, "a certificate"))
        elif label == b"PKCS7":
            certificates += _parsed(pkcs7.load_pem_pkcs7_certificates, block, "PKCS#7")
        elif label.endswith(b"PRIVATE KEY"):
            keys.append(load_private_key(block, password or None))
    return certificates, keys


def _der(data: bytes, password: bytes) -> tuple[list[x509.Certificate], list[Key]]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs7, pkcs12

    if _is_pkcs12(data):
        try:
            found = pkcs12.load_pkcs12(data, password or None)
        except (ValueError, TypeError) as error:
            raise _does_not_open() from error
        key = found.key
        if key is not None and not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise InvalidInput(f"a key of type {type(key).__name__} is of no use here", hint="use P-256 or RSA")
        first = [found.cert.certificate] if found.cert is not None else []
        return [*first, *(one.certificate for one in found.additional_certs)], [] if key is None else [key]
    with contextlib.suppress(Exception):
        return [x509.load_der_x509_certificate(data)], []
    with contextlib.suppress(Exception):
        return pkcs7.load_der_pkcs7_certificates(data), []
    with contextlib.suppress(ValueError):
        try:
            key = load_der_private_key(data, None)
        except TypeError:  # it is under a password; nothing was tried yet
            if not password:
                raise PassphraseNeeded("the private key is encrypted", hint="give its password") from None
            try:
                key = load_der_private_key(data, password)
            except ValueError as error:
                raise _does_not_open() from error
        if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            return [], [key]
    raise InvalidInput(
        "this is no certificate, no private key and no PKCS#12", hint="name a .pem, .crt, .key or .p12 file"
    )


def _does_not_open() -> PassphraseNeeded:
    return PassphraseNeeded(
        "it does not open with this password", hint="check the password; if it is right, the file is damaged"
    )


def _parsed(load: Callable[[bytes], Any], block: bytes, what: str) -> Any:
    try:
        return load(block)
    except Exception as error:  # whatever a library makes of bytes that somebody else chose
        raise InvalidInput(f"what stands in it as {what} is malformed") from error


def _is_pkcs12(data: bytes) -> bool:
    """PFX (RFC 7292, 4): a SEQUENCE that begins with the version, 3."""
    if len(data) < 8 or data[0] != 0x30:
        return False
    skip = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
    return data[skip : skip + 3] == b"\x02\x01\x03"


def main() -> None:
    """The process: reads what `_outside` sends, limits itself, answers."""
    from cryptography.exceptions import InternalError

    sent = json.loads(sys.stdin.buffer.read())
    seconds = int(sent["seconds"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        answer = _answer(base64.b64decode(sent["data"]), base64.b64decode(sent["password"]))
    except RedlatchError as error:
        answer = {"error": [error.code, error.message, error.hint]}
    except (MemoryError, InternalError):  # the latter is what cryptography makes of OpenSSL's "malloc failure"
        return  # no answer says that it was too much
    except Exception as error:  # noqa: BLE001 - what a parser makes of it is the file's fault, and told as that
        answer = {"error": ["invalid-input", f"it is malformed ({type(error).__name__})", ""]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
