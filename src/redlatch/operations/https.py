"""One https request to a server whose key is pinned, or whose certificate is verified; nothing that it answers, or
fails to answer, gets further than words.

The pin is checked before a byte of the request is sent: the token in it is worth a key.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from redlatch.errors import InvalidInput, RedlatchError

#: Seconds to connect and shake hands, and for all of it: a server may wait 13 s for store and guard.
CONNECT = 10.0
TOTAL = 60.0
#: Bytes of an answer that are read; two certificates have 2 KB.
MOST = 65536
_PIN = re.compile(r"sha256//([A-Za-z0-9+/]{43}=)")


class Unreachable(RedlatchError):
    """Nobody answered, or what answered speaks no https."""

    code = "unreachable"


class NotTrusted(RedlatchError):
    """Who answered could not show that it is the right server; nothing was sent."""

    code = "not-trusted"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the server is known by: the pin of its key, else a CA file (PEM), else the roots of this machine.

    With both a pin and `authority`, either will do: a server renews its key, an authority its certificate.
    """

    pin: str | None = None
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The first line of the body, safe to show."""
        first = self.body.decode("utf-8", "replace").partition("\n")[0][:300]
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in first)


def checked_pin(pin: str) -> str:
    """The pin as curl takes it, sha256// and 44 characters of base64. InvalidInput for everything else."""
    if _PIN.fullmatch(pin.strip()) is None:
        raise InvalidInput("this is no pin", hint="it looks like sha256//BASE64= and comes with the link")
    return pin.strip()


def checked_url(url: str) -> SplitResult:
    """The parts of an https URL. InvalidInput for everything else; the fragment is in no message."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
        # urlsplit leaves some blanks out and others in the host name
        usable = usable and not any(one.isspace() or not one.isprintable() for one in url.strip())
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput("this is no https link", hint="take all of it, from https:// to its last letter")
    return parts


def post(
    url: SplitResult,
    body: bytes,
    headers: Mapping[str, str],
    trust: Trust,
    *,
    pair: tuple[Path, Path] | None = None,
) -> Answer:
    """Posts once; redirects are answers like any other.

    `pair` is the certificate and key (PEM files) that this side shows. Raises NotTrusted, Unreachable.
    """
    if trust.pin is not None and trust.authority is not None:
        with contextlib.suppress(NotTrusted):
            return _post(url, body, headers, Trust(authority=trust.authority), pair)
        return _post(url, body, headers, Trust(pin=trust.pin), pair)
    return _post(url, body, headers, trust, pair)


def _post(
    url: SplitResult, body: bytes, headers: Mapping[str, str], trust: Trust, pair: tuple[Path, Path] | None
) -> Answer:
    host, port = url.hostname or "", url.port or 443
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    connection = http.client.HTTPSConnection(host, port, timeout=CONNECT, context=_context(trust, pair))
    with _in_words(where), _ends(connection) as over:
        try:
            connection.connect()
            if trust.pin is not None:
                _check_pin(connection.sock, trust.pin, where)
            connection.sock.settimeout(TOTAL)
            path = url.path or "/"
            connection.request("POST", path, body=body, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            content = response.read(MOST + 1)
        except (OSError, http.client.HTTPException):
            if over.is_set():
                raise TimeoutError from None
            raise
        if over.is_set():  # what was cut off there would look complete
            raise TimeoutError
        if len(content) > MOST:
            raise Unreachable(f"{where} answers with more than {MOST >> 10} KB", hint="this is no redlatch")
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content)


def _context(trust: Trust, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if trust.authority is not None:
            context.load_verify_locations(trust.authority)
        if trust.pin is not None:
            context.check_hostname = False  # the key is known: name, issuer and dates say no more
            context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if pair is not None:
            context.load_cert_chain(*pair)
    except OSError as error:  # ssl.SSLError is one
        shown = trust.authority if pair is None else " and ".join(map(str, pair))
        raise InvalidInput(
            f"{shown} cannot be used: {(error.strerror or 'not in PEM form').lower()}", hint="name a PEM file"
        ) from error
    return context


def _check_pin(sock: ssl.SSLSocket, pin: str, where: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = sock.getpeercert(binary_form=True)
    key = x509.load_der_x509_certificate(der or b"").public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shown = "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode("ascii")
    if not hmac.compare_digest(shown, pin):
        raise NotTrusted(
            f"{where} has another key than the pinned one; nothing was sent to it",
            hint="somebody may stand in between, or the pin came with another link: ask for a new one",
        )


@contextlib.contextmanager
def _ends(connection: http.client.HTTPSConnection) -> Iterator[threading.Event]:
    """Breaks the connection off after TOTAL seconds: a server that sends a byte now and then never times out."""
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(TOTAL, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
        connection.close()


@contextlib.contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(
            f"the certificate of {where} is not trusted here: {error.verify_message}; nothing was sent to it",
            hint="give the pin that came with the link: --pin sha256//...; or --ca FILE with the server's root",
        ) from error
    except TimeoutError as error:
        raise Unreachable(f"{where} does not answer in time", hint="try again later") from error
    except socket.gaierror as error:
        raise Unreachable(
            f"the name in {where} is not known here", hint="are you in the right network?"
        ) from error
    except ConnectionRefusedError as error:
        raise Unreachable(
            f"nothing answers at {where}",
            hint="redlatch serve may not run there; the port for links is open only while there is one",
        ) from error
    except ssl.SSLError as error:
        reason = str(error.reason or "it speaks no tls").lower().replace("_", " ")
        raise Unreachable(f"the connection to {where} ended: {reason}", hint="is the address right?") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        shown = getattr(error, "strerror", None) or "the answer is none"
        raise Unreachable(f"no use of {where}: {shown.lower()}", hint="is the address right?") from error
