"""Knocking at a door: one connection, one request, and what came back. Never raises for what the network does.

Only what comes once the connection stands is the door's word; whatever happens before that is nobody's, and
neither lets in nor refuses.
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redlatch.operations import machine

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key

SECONDS: Final = 5.0
ADMITTED, REFUSED, SILENT, NOBODY = "admitted", "refused", "no answer", "nothing listens"
UNANSWERED: Final = "let in without an answer"
_UNREACHED: Final = "could not connect"
#: What guard, gateway and service refuse with; HAProxy's and Node.js's own 400 for what is no HTTP.
_REFUSALS: Final = frozenset({400, 403, 421})
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
TLS_VERSIONS: Final = ("1.2", "1.3")


@dataclass(frozen=True, slots=True)
class Place:
    """A door: the address to connect to (one of this machine's own), and its port. `announced`: it wants to be
    told by a PROXY header who comes.
    """

    address: str
    port: int
    announced: bool = False

    @property
    def source(self) -> str:
        """The address that the door sees."""
        return machine.CHECKS_FROM if self.address == "127.0.0.1" else self.address

    @property
    def host(self) -> str:
        """As the Host header says it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a GET, perhaps as a websocket. `host` "": the door's own; `headers` are lines."""

    target: str
    websocket: bool = False
    host: str = ""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device proves itself with."""

    key: Key
    certificate: x509.Certificate


@dataclass(slots=True)
class Client:
    """One who knocks, with one certificate or none; one that `resumes` keeps its last session."""

    context: ssl.SSLContext
    resumes: bool = False
    session: ssl.SSLSession | None = field(default=None, repr=False)


def client(identity: Identity | None, *, resumes: str | None = None) -> Client:
    """`resumes` is the one version of TLS, "1.2" or "1.3", in which it resumes its sessions; without it, each
    connection begins anew in the newest one. The server's name is not verified here: browsers do that.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if resumes is not None:
        version = ssl.TLSVersion.TLSv1_2 if resumes == "1.2" else ssl.TLSVersion.TLSv1_3
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        with _as_file(identity) as path_of_pem:
            context.load_cert_chain(path_of_pem)
    return Client(context, resumes is not None)


class Pace:
    """Keeps connections apart, so that a plant is not disturbed and the guard's rationing of strangers' handshakes
    (guard/door.js) is not taken for a refusal.
    """

    def __init__(self, per_second: float) -> None:
        self._apart = 1 / per_second
        self._next = 0.0

    def wait(self) -> None:
        """Returns when the next one may begin."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._apart


def ask(place: Place, who: Client, request: Request) -> str:
    """What came back: ADMITTED, REFUSED, SILENT (no handshake), UNANSWERED, one of those that `is_nobodys` knows,
    or "answered 503" where the door let it through and nothing stood behind it. Any answer but the door's own
    refusal is Node-RED's, so it was let in, whatever it says.

    UNANSWERED was let in too: guard, gateway and service end the connection of whom they refuse, be it with a page
    or without a word, and what waits for an answer beyond that is a flow that gives none.
    """
    raw = _connected(place)
    if isinstance(raw, str):
        return raw
    shaken = False
    try:
        with raw:
            _announce(place, raw)
            with who.context.wrap_socket(raw, session=who.session) as tls:
                shaken = True
                tls.sendall(_head(place, request))
                head = tls.recv(64)
                if who.resumes and head:
                    who.session = _resumable(tls) or who.session
    except TimeoutError:
        return UNANSWERED if shaken else SILENT
    except OSError:
        # A door that answers nothing ends the connection in or right after the handshake: which error, is timing.
        return REFUSED
    return _judged(head)


def plain(place: Place, target: str, *, headers: Sequence[str] = ()) -> str:
    """The same by plain http, which Node-RED must never answer; a redirect to https is the guard's own."""
    raw = _connected(place)
    if isinstance(raw, str):
        return raw
    try:
        with raw:
            _announce(place, raw)
            raw.sendall(_head(place, Request(target, headers=tuple(headers))))
            head = raw.recv(64)
    except TimeoutError:
        return SILENT
    except OSError:
        return REFUSED
    if _status(head) in _REDIRECTS:
        return "sent on to https"
    return _judged(head)


def is_nobodys(seen: str) -> bool:
    """Whether that is no door's word: no connection came about, so nobody was let in and nobody refused."""
    return seen == NOBODY or seen.startswith(_UNREACHED)


def listens(place: Place) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((place.address, place.port), timeout=1):
            return True
    except OSError:
        return False


def _connected(place: Place) -> socket.socket | str:
    """The connection, or why there is none, as `is_nobodys` knows it."""
    whole = (place.address, place.port)
    try:
        return socket.create_connection(whole, timeout=SECONDS, source_address=(place.source, 0))
    except ConnectionRefusedError:
        return NOBODY
    except OSError as error:  # no such address here, no route, no more files: none of it is the door's doing
        return f"{_UNREACHED}: {error.strerror or error}"


def _announce(place: Place, raw: socket.socket) -> None:
    if place.announced:
        kind = "TCP6" if ":" in place.address else "TCP4"
        port = raw.getsockname()[1]
        raw.sendall(f"PROXY {kind} {place.source} {place.address} {port} {place.port}\r\n".encode("ascii"))


def _resumable(tls: ssl.SSLSocket) -> ssl.SSLSession | None:
    """Its session, where the door gave something to resume it with: a ticket, or in TLS 1.2 a number."""
    found = tls.session
    if found is None or not (found.has_ticket or (tls.version() == "TLSv1.2" and found.id)):
        return None
    return found


def _head(place: Place, request: Request) -> bytes:
    lines = [f"GET {request.target} HTTP/1.1", f"Host: {request.host or place.host}", "Accept: */*"]
    if request.websocket:
        nonce = base64.b64encode(secrets.token_bytes(16)).decode()
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines.append(f"Sec-WebSocket-Key: {nonce}")
    else:
        lines.append("Connection: close")
    return ("\r\n".join([*lines, *request.headers]) + "\r\n\r\n").encode("utf-8", "replace")


def _status(head: bytes) -> int | None:
    return int(head[9:12]) if head.startswith(b"HTTP/1.") and head[9:12].isdigit() else None


def _judged(head: bytes) -> str:
    status = _status(head)
    if status is None:
        return REFUSED if not head else ADMITTED
    if status in _REFUSALS:
        return REFUSED
    return f"answered {status}" if status >= 500 else ADMITTED


@contextmanager
def _as_file(identity: Identity) -> Iterator[str]:
    """OpenSSL wants a path: a file in memory that has no name and is gone when closed."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from redlatch.pki.keys import private_key_pem

    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, private_key_pem(identity.key, None) + identity.certificate.public_bytes(Encoding.PEM))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
