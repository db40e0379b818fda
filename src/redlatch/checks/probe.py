"""The outside-in probe: knocks at Node-RED's port without a key and with one, and tells what came back."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key

SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device proves itself with."""

    key: Key
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Proof:
    """One knock: what was asked for, with what, and whether the answer is the one that should come."""

    what: str
    key: str
    expected: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Knock:
    """What is asked for: a path, perhaps as a websocket, with the device's key or without one."""

    what: str
    path: str
    websocket: bool = False
    with_key: bool = False


def prove(
    host: str, port: int, *, admin_root: str | None, identity: Identity, admits: Callable[[Knock], bool]
) -> list[Proof]:
    """Knocks at https://host:port and at its plain port, as a stranger and as a device.

    `host` is an address or name of this machine; the TLS name is not verified here, browsers do that. `admits` is
    what the rules say: the answer that should come. Never raises for what the network does: what was seen is in
    the table.
    """
    root = (admin_root or "").rstrip("/")
    knocks = [Knock("the editor", f"{root}/"), Knock("the flows", f"{root}/flows")] if admin_root else []
    knocks.append(Knock("live data (/comms)", f"{root}/comms", websocket=True))
    seen = _plain(host, port)
    return [
        *(_proof(knock, host, port, None, expected=admits(knock)) for knock in knocks),
        Proof("plain http", "no key", "refused", seen, seen != "admitted"),
        *(
            _proof(knock, host, port, identity, expected=admits(knock))
            for knock in (replace(knock, with_key=True) for knock in knocks)
        ),
    ]


def is_listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _proof(knock: Knock, host: str, port: int, identity: Identity | None, *, expected: bool) -> Proof:
    wanted = "admitted" if expected else "refused"
    try:
        status = _ask(host, port, knock.path, identity, upgrade=knock.websocket)
    except ConnectionRefusedError:
        seen = "nothing listens"
    except (OSError, ValueError):
        # Strict mode ends the connection in or right after the handshake; which error that is differs by timing.
        seen = "refused"
    else:
        admitted = status == (101 if knock.websocket else 200)
        seen = "admitted" if admitted else "refused" if status in (401, 403) else f"answered {status}"
    return Proof(knock.what, "no key" if identity is None else "first device", wanted, seen, ok=seen == wanted)


def _ask(host: str, port: int, path: str, identity: Identity | None, *, upgrade: bool) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        with _as_file(identity) as path_of_pem:
            context.load_cert_chain(path_of_pem)
    lines = [f"GET {path} HTTP/1.1", f"Host: {_host(host)}:{port}", "Accept: */*"]
    if upgrade:
        nonce = base64.b64encode(secrets.token_bytes(16)).decode()
        lines += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {nonce}",
        ]
    else:
        lines.append("Connection: close")
    with (
        socket.create_connection((host, port), timeout=SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=None) as tls,
    ):
        tls.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        head = tls.recv(64)
    if not head.startswith(b"HTTP/1.1 "):
        raise ValueError("no answer in HTTP")
    return int(head[9:12])


def _plain(host: str, port: int) -> str:
    """Plain http must never be answered by Node-RED; a redirect to https is the guard's own."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as raw:
            raw.sendall(
                f"GET / HTTP/1.1\r\nHost: {_host(host)}:{port}\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            answer = raw.recv(64)
    except OSError:
        return "refused"
    if not answer:
        return "refused"
    return "sent on to https" if answer[9:12] in (b"301", b"302", b"307", b"308") else "admitted"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
